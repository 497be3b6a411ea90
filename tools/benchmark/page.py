"""The page about performance: a generated part between two comments, and what people have written around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.benchmark import picture, tables

if TYPE_CHECKING:
    from pathlib import Path

    from tools.benchmark.rows import Results

BEGIN: Final = "<!-- written by tools/bench: changes between here and the end mark are lost -->"
END: Final = "<!-- end of what tools/bench writes -->"
PAGE: Final = "docs/performance.md"
FOOTPRINT: Final = "Memory and start with one model (ResNet-50's kind)"


def generated(results: Results) -> str:
    """All that is measured."""
    rounds = len({row.round for row in results.rows})
    left_out = "\n".join(f"- {line}" for line in results.left_out)
    command, date = (results.machine.get(key, "") for key in ("command", "date"))
    parts = [
        f"`{command}` has made the tables and the picture on {date}: medians and spans over the rounds ({rounds}).",
        tables.thresholds(results),
        "![Ratios measured, as multiples of their thresholds](performance.svg)",
        "### The machine",
        tables.machine(results),
        *(["### Left out", left_out] if left_out else []),
        "### All servers",
        tables.works(results),
        *([f"#### {FOOTPRINT}", tables.footprint(results)] if results.figures else []),
    ]
    return "\n\n".join(parts)


def replaced(text: str, part: str) -> str:
    """A page with the generated part made anew; at its end if it had none."""
    before, begun, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not begun:
        before = before.rstrip("\n") + "\n\n" if before.strip() else ""
        after = "\n"
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def write(results: Results, path: Path) -> None:
    """Write the page, and its picture beside it."""
    text = path.read_text("utf-8") if path.exists() else ""
    path.write_text(replaced(text, generated(results)), "utf-8")
    drawn = picture.draw(tables.measured(results), results.machine.get("date", ""))
    path.with_suffix(".svg").write_text(drawn, "utf-8")
