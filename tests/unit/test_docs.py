"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tornado_ovms import demo
from tornado_ovms.core.lifecycle import TRANSITIONS, VersionStatus

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def diagram() -> str:
    """The transition table in Mermaid's notation."""

    def name(status: VersionStatus) -> str:
        return "FAILED" if status.has_failed else status.state.name

    lines = ["stateDiagram-v2", f"    [*] --> {name(VersionStatus())}"]
    lines += [f"    {name(before)} --> {name(after)}: {event.name}" for (before, event), after in TRANSITIONS.items()]
    return "\n".join(lines) + "\n"


def test_the_state_diagram_is_the_transition_table() -> None:
    """A reader of the diagram knows every step; paste what `diagram` returns when the table has changed."""
    assert re.findall(r"```mermaid\n(.*?)```", ARCHITECTURE, re.DOTALL) == [diagram()]


def test_the_list_of_modules_is_complete() -> None:
    """Every module has its line in the table of modules, and no line is left over."""
    package = ROOT / "tornado_ovms"
    table = ARCHITECTURE.split("## Modules")[1].split("\n## ")[0]
    names = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    listed = set(re.findall(r"`([\w/]+\.py)`", " ".join(names)))
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.read_text("utf-8").strip()}
    assert listed == {name for name in there if name == "demo/__init__.py" or not name.endswith("__init__.py")}


def test_every_dependency_is_explained() -> None:
    """A line says why it is there, and none is left over from one that is gone."""
    rows = re.findall(r"^\| \[([\w-]+)\]", (ROOT / "docs/dependencies.md").read_text("utf-8"), re.MULTILINE)
    requires = (ROOT / "setup.py").read_text("utf-8").split("REQUIRES = [")[1].split("]")[0]
    assert sorted(rows) == sorted(re.findall(r'"([\w-]+)>=', requires))


def test_the_first_request_of_the_readme_is_that_of_the_demo() -> None:
    """Who follows the page instead of the program's words sends the same picture."""
    assert demo.curl("http://127.0.0.1:8000") in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """A file that a page links to is there."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", path.read_text("utf-8"))
    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []
