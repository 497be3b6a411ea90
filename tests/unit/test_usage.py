"""The text of the help."""

from __future__ import annotations

import pytest

from tornado_ovms.core.options import OPTIONS, TABLE, TASK_OPTIONS, Group, Kind, Option
from tornado_ovms.core.usage import WIDTH, default_text, help_text

HEAD, *SECTIONS = help_text().split("\n\n")


def section(group: Group) -> str:
    """The part of the help below a heading, as one line."""
    (found,) = [text for text in SECTIONS if text.startswith(f"{group.value}:\n")]
    return " ".join(found.split())


def test_every_group_has_its_heading() -> None:
    """In the order of the table, and the text ends with a line end."""
    headings = [text.partition(":\n")[0] for text in SECTIONS]
    assert headings[-len(TABLE) :] == [group.value for group in TABLE]
    assert help_text().endswith("\n")
    assert set(TABLE) == set(Group)


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group, options in TABLE.items() for option in options],
    ids=lambda value: value.name,
)
def test_every_option_is_explained(group: Group, option: Option) -> None:
    """What it takes, what it does, and its default in square brackets, if it has one."""
    number = {Kind.FLAG: "", Kind.TEXT: " TEXT"}.get(option.kind, " NUMBER")
    takes = f" {'|'.join(option.choices)}" if option.choices else number
    default = default_text(option)
    entry = f"--{option.name}{takes} {option.help}" + (f" [{default}]" if default else "")
    assert entry in section(group)
    assert option.help.endswith(".")


def test_each_option_begins_one_line() -> None:
    """Options of a task, which have no effect, are left out."""
    lines = [line.split()[0] for line in help_text().splitlines() if line.startswith("  --")]
    assert sorted(lines) == sorted(f"--{option.name}" for option in OPTIONS.values())
    assert not set(lines) & {f"--{name}" for name in TASK_OPTIONS}


def test_the_table_fits_a_terminal() -> None:
    """Explanations are wrapped; nothing is cut."""
    lines = help_text().split("General:\n")[1].splitlines()
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (Option("x", Kind.TEXT, ""), ""),
        (Option("x", Kind.TEXT, "", ""), ""),
        (Option("x", Kind.TEXT, "", "CPU"), "CPU"),
        (Option("x", Kind.U32, "", 0), "0"),
        (Option("x", Kind.U64, "", 1 << 30), "1073741824"),
        (Option("x", Kind.FLAG, "", default=True), "true"),
        (Option("x", Kind.FLAG, ""), ""),
        (Option("x", Kind.U32, "", 0, shown="none"), "none"),
    ],
)
def test_defaults_in_words(option: Option, text: str) -> None:
    """As they would be written on a command line, unless the table has words of its own."""
    assert default_text(option) == text


def test_the_ways_to_start_come_first() -> None:
    """Each mode has a line that can be copied."""
    for mode in ("--demo", "--model_name", "--config_path", "--list_models", "--add_to_config", "--remove_from_config"):
        assert any(mode in line for line in help_text().split("General:")[0].splitlines() if "tornado-ovms --" in line)
