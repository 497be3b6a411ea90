"""Results as tables in Markdown."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from tools.benchmark.thresholds import THRESHOLDS, Ratio, Threshold
from tools.benchmark.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tools.benchmark.rows import Results


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells between bars."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Three digits that say something; nothing for what was not measured.

    >>> number(12345.6), number(123.4), number(9.876), number(0.0123)
    ('12,346', '123', '9.88', '0.012')
    """
    if not value:
        return ""
    if value >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"


def figure(threshold: Threshold, value: float) -> str:
    """A figure of a threshold with its unit."""
    return f"{value:+.0f}{threshold.unit}" if threshold.unit else f"{value:.2f}"


def mark(threshold: Threshold, value: float) -> str:
    """A mark as one reads it."""
    return f"{'≤' if threshold.is_ceiling else '≥'} {figure(threshold, value)}"


def measured(results: Results) -> list[tuple[Threshold, Ratio | None]]:
    """All thresholds with what was found."""
    return [(threshold, threshold.measure(results)) for threshold in THRESHOLDS]


def thresholds(results: Results) -> str:
    """The table that counts."""
    rows = []
    for threshold, ratio in measured(results):
        start = [threshold.work, mark(threshold, threshold.mark), mark(threshold, threshold.goal)]
        if ratio is None:
            rows.append([*start, "", "", "not measured", ""])
            continue
        span = f"{figure(threshold, min(ratio.values))} to {figure(threshold, max(ratio.values))}"
        verdict = threshold.verdict(ratio.middle)
        rows.append([*start, f"**{figure(threshold, ratio.middle)}**", span, verdict, ratio.note])
    return table(["work", "threshold", "goal", "measured", "over the rounds", "verdict", "of what"], rows)


def work(results: Results, name: str) -> str:
    """All servers with one workload."""
    loads = dict.fromkeys(row.load for row in results.rows if row.work == name)
    rows = []
    for server, title in results.titles.items():
        for load in loads:
            if not (found := [row for row in results.rows if (row.server, row.work, row.load) == (server, name, load)]):
                continue
            middle = [median(getattr(row, key) for row in found) for key in ("per_s", "p50_ms", "p99_ms", "cpu_ms")]
            others = median(row.other_cores for row in found)
            failed = sum(row.failed for row in found)
            rows.append([title, load, *map(number, middle), f"{others:.2f}", str(failed or "")])
    head = ["server", "load", "requests/s", "p50 ms", "p99 ms", "CPU ms a request", "others' cores", "failed"]
    return table(head, sorted(rows, key=lambda cells: list(loads).index(cells[1])))


def footprint(results: Results) -> str:
    """Memory and start."""
    names = dict.fromkeys(figure.name for figure in results.figures)
    return table(
        ["", "median", "over the rounds"],
        (
            [name, number(median(values)), f"{number(min(values))} to {number(max(values))}"]
            for name in names
            if (values := list(results.figure(name).values()))
        ),
    )


def machine(results: Results) -> str:
    """What it was measured on."""
    return table(["", ""], ([name, value] for name, value in results.machine.items()))


TITLES = {
    "dummy": "10 floats in JSON (the overhead alone)",
    "light": "1x3x224x224 floats in JSON (1.6 MB), light model",
    "binary": "The same floats as a binary tensor (0.6 MB)",
    "resnet": "The same floats in JSON, model of more than 30 ms",
    "long": "A number in, a number out, more than 30 ms between",
    "image": "JPEG in base64",
    "mixed": "10 floats at a fixed rate, alone and beside bodies of 2 MB",
    "batching": "Small dense model, micro-batching on and off",
}


def works(results: Results) -> str:
    """A section for each workload that has run."""
    names = [name for name in (*WORKLOADS, "mixed") if any(row.work == name for row in results.rows)]
    return "\n\n".join(f"#### {TITLES[name]}\n\n{work(results, name)}" for name in names)
