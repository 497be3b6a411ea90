"""Log lines in the reference's form and as JSON, and the thread that writes them."""

from __future__ import annotations

import json
import logging
import re
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms import logs
from tornado_ovms.core.options import LOG_LEVELS
from tornado_ovms.core.settings import LogFormat
from tornado_ovms.logs import LEVELS, TRACE, JsonFormatter, ReferenceFormatter, configure, in_background

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


def test_a_full_disk_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback, and the lines are on stdout."""
    configure("INFO", "/dev/full")
    for number in range(3):
        logging.getLogger("serving").info("line %d", number)
    (file,) = (handler for handler in logging.getLogger().handlers if isinstance(handler, logs.LogFile))
    with pytest.raises(OSError, match="No space"):  # the last try, after which it is closed
        file.close()
    out, err = capsys.readouterr()
    assert [line.rpartition("] ")[2] for line in out.splitlines() if "line " in line] == ["line 0", "line 1", "line 2"]
    assert out.count("Lines are lost, the log file cannot be written: No space left on device") == 1
    assert err == ""


def test_a_folder_that_goes_and_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines come into the file again, also through the thread that writes them; the next time it is told again."""
    folder = tmp_path / "logs"
    folder.mkdir()
    configure("INFO", str(folder / "log"))
    for name in ("first", "second"):
        folder.rename(tmp_path / name)
        with in_background():
            for _ in range(3):
                say_something()
        folder.mkdir()
        with in_background():
            say_something()
        assert "at 40" in (folder / "log").read_text("utf-8")
    out, err = capsys.readouterr()
    assert out.count("Lines are lost, the log file cannot be written: No such file or directory") == 2
    assert err == ""


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


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """An object a line, with what a text line says; the time is in UTC."""
    configure("INFO", None, LogFormat.JSON)
    begun = datetime.now(timezone.utc)
    say_something("modelmanager")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "at 20"), ("warning", "at 30"), ("error", "at 40"),
    ]  # fmt: skip
    line = lines[0]
    assert line.keys() == {"time", "level", "logger", "thread", "place", "message"}
    assert (line["logger"], line["thread"]) == ("modelmanager", threading.get_ident())
    assert re.fullmatch(r"test_logs\.py:\d+", line["place"])
    assert abs((datetime.fromisoformat(line["time"]) - begun).total_seconds()) < 60


def test_fields_are_members_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """So that nobody has to take a sentence apart."""
    configure("INFO", None, LogFormat.JSON)
    logging.getLogger("access").info("status=200 ms=1.5", extra={"fields": {"status": 200, "ms": 1.5}})
    line = json.loads(capsys.readouterr().out)
    assert (line["status"], line["ms"], "message" in line) == (200, 1.5, False)


def test_a_traceback_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A text line has it behind it, as Python writes it."""
    configure("INFO", None, LogFormat.JSON)
    try:
        1 // 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("serving").exception("Unforeseen")
    [text] = capsys.readouterr().out.splitlines()
    assert json.loads(text)["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")


@given(st.text(), st.text())
def test_any_text_is_a_json_line(name: str, text: str) -> None:
    """Line feeds, quotes, and names that are not UTF-8."""
    record = logging.LogRecord(name, logging.INFO, "/x/a.py", 1, "%s", (text,), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line.encode("ascii"))
    assert (found["logger"], found["message"]) == (name, text)


class Gate(logging.Handler):
    """Writes nothing until it is opened; then it keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.threads: set[int] = set()
        self.began = threading.Event()
        self.opened = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``Handler``."""
        self.began.set()
        self.opened.wait()
        self.texts.append(record.getMessage())
        self.threads.add(threading.get_ident())


@pytest.fixture
def gate() -> Gate:
    """A handler, beside those of pytest."""
    handler, root = Gate(), logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler


def test_lines_are_written_by_a_thread(gate: Gate) -> None:
    """In their order, and all of them before the block is left; nobody waits meanwhile."""
    log, handlers = logging.getLogger("serving"), logging.getLogger().handlers[:]
    with in_background():
        for number in range(100):
            log.info("line %d", number)
        assert gate.texts == []
        gate.opened.set()
    assert gate.texts == [f"line {number}" for number in range(100)]
    assert threading.get_ident() not in gate.threads
    assert logging.getLogger().handlers == handlers
    log.info("after")
    assert (gate.texts[-1], threading.get_ident() in gate.threads) == ("after", True)


def test_handlers_are_back_after_an_error(gate: Gate) -> None:
    """What is logged about it is written."""
    gate.opened.set()
    handlers = logging.getLogger().handlers[:]
    with pytest.raises(ZeroDivisionError), in_background():
        raise ZeroDivisionError
    assert logging.getLogger().handlers == handlers


def test_lines_that_nobody_reads_are_lost_and_counted(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait up to a limit; the loss is told in their place once there is room, and at the end at the latest."""
    monkeypatch.setattr(logs, "MAX_LINES", 10)
    log = logging.getLogger("serving")
    with in_background():
        log.info("taken out")
        gate.began.wait()
        for number in range(30):
            log.info("line %d", number)
        opened = threading.Timer(0, gate.opened.set)
        opened.start()  # leaving waits for room, and so for the writer
    opened.join()
    kept = [f"line {number}" for number in range(10)]
    assert gate.texts == ["taken out", *kept, "20 lines were lost: whoever reads the log was too slow"]


def test_a_loss_is_told_when_there_is_room(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """In front of the next line, once."""
    monkeypatch.setattr(logs, "MAX_LINES", 10)
    log, seen = logging.getLogger("serving"), threading.Event()

    class Tell(logging.Handler):
        """Tells when the last of the first lines was written."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "line 9":
                seen.set()

    logging.getLogger().addHandler(Tell())
    with in_background():
        log.info("taken out")
        gate.began.wait()
        for number in range(13):
            log.info("line %d", number)
        gate.opened.set()
        seen.wait()
        log.info("later")
        log.info("last")
    assert gate.texts[-4:] == ["line 9", "3 lines were lost: whoever reads the log was too slow", "later", "last"]


def test_the_line_about_a_loss_is_like_any_other(gate: Gate) -> None:
    """Tools that read the log by a pattern understand it."""
    handover = logs._Handover(logs.queue.Queue(1))
    handover.lost = 3
    assert gate.texts == []
    found = LINE.fullmatch(ReferenceFormatter().format(handover.take_loss()))
    assert found is not None
    assert (found["logger"], found["level"], found["file"]) == ("serving", "warning", "logs.py")
    assert handover.lost == 0


@pytest.mark.parametrize(("level", "count"), [("INFO", 1), ("DEBUG", 4)])
def test_clients_that_speak_something_else_fill_no_log(
    level: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless somebody looks for what is wrong."""
    configure(level, None)
    general = logging.getLogger("tornado.general")
    general.warning("SSL Error on %d", 7)
    general.info("Malformed HTTP message from %s: %s", "here", "no colon in header line")
    general.info("Unsatisfiable read, closing connection: %s", "delimiter not found")
    general.info("something else")
    assert len(capsys.readouterr().out.splitlines()) == count
