"""Log lines in the reference's form."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest

from tornado_ovms.core.options import LOG_LEVELS
from tornado_ovms.logs import LEVELS, TRACE, ReferenceFormatter, configure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("own_logging")

LINE = re.compile(
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\]"
    r"\[\d+\]\[(?P<logger>[\w.]+)\]\[(?P<level>[a-z]+)\]\[(?P<file>\w+\.py):\d+\] (?P<text>.*)"
)


def say_something(name: str = "serving") -> None:
    """A line of each level."""
    logger = logging.getLogger(name)
    for level in LEVELS.values():
        logger.log(level, "at %d", level)


def test_a_line_is_the_reference_s(capsys: pytest.CaptureFixture[str]) -> None:
    """Time with milliseconds, thread, logger, level in small letters, place, text."""
    configure("INFO", None)
    logging.getLogger("modelmanager").info("Loading model: %s", "m")
    out, err = capsys.readouterr()
    found = LINE.fullmatch(out.rstrip("\n"))
    assert found is not None
    assert found.groupdict() == {
        "logger": "modelmanager", "level": "info", "file": "test_logs.py", "text": "Loading model: m",
    }  # fmt: skip
    assert err == ""


def test_the_time_is_that_of_the_record() -> None:
    """Milliseconds are behind a point and have three digits."""
    record = logging.LogRecord("serving", logging.WARNING, "/x/modelinstance.py", 923, "TEXT", (), None)
    record.created, record.msecs, record.thread = 1763882701.007, 7.0, 140
    line = ReferenceFormatter().format(record)
    assert re.fullmatch(
        r"\[2025-11-2\d \d\d:\d5:01\.007\]\[140\]\[serving\]\[warning\]\[modelinstance\.py:923\] TEXT", line
    )


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("TRACE", ["trace", "debug", "info", "warning", "error"]),
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_a_level_hides_those_below(level: str, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Words are spdlog's; TRACE lies below DEBUG."""
    configure(level, None)
    say_something()
    lines = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["level"] for line in lines if line] == shown
    assert len(lines) == len(shown)


def test_every_level_of_the_command_line_is_known() -> None:
    """No more and no fewer, in ascending order."""
    assert tuple(LEVELS) == LOG_LEVELS
    assert sorted(LEVELS.values()) == list(LEVELS.values())
    assert logging.NOTSET < TRACE < logging.DEBUG


def test_a_file_gets_the_same_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Besides standard output; what was in it stays."""
    path = tmp_path / "log"
    path.write_text("before\n")
    configure("INFO", str(path))
    say_something()
    assert path.read_text("utf-8") == "before\n" + capsys.readouterr().out


def test_a_file_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    """Logrotate needs no signal."""
    path = tmp_path / "log"
    configure("INFO", str(path))
    logging.getLogger("serving").info("one")
    path.rename(tmp_path / "log.1")
    logging.getLogger("serving").info("two")
    assert (tmp_path / "log.1").read_text("utf-8").endswith("] one\n")
    assert path.read_text("utf-8").endswith("] two\n")


def test_any_text_comes_into_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a path that is not UTF-8: the line is not lost."""
    path = tmp_path / "log"
    configure("INFO", str(path))
    logging.getLogger().removeHandler(logging.getLogger().handlers[0])
    logging.getLogger("serving").info("from path: %s", "/m\udcff/ü")
    assert path.read_text("utf-8").endswith("] from path: /m\\udcff/ü\n")
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The caller hears of it, and nothing has changed."""
    before = logging.getLogger().handlers[:]
    with pytest.raises(OSError, match="No such file"):
        configure("INFO", str(tmp_path / "none" / "log"))
    assert logging.getLogger().handlers == before


def test_what_was_configured_before_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """A line is never written twice."""
    configure("DEBUG", None)
    configure("INFO", None)
    say_something()
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(("level", "shown"), [("TRACE", 2), ("INFO", 2), ("ERROR", 1)])
def test_asyncio_does_not_chatter(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its debug lines are of no use to an operator, its warnings are."""
    configure(level, None)
    say_something("asyncio")
    assert len(capsys.readouterr().out.splitlines()) == shown
