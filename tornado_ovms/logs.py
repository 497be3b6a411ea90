"""Log lines in the reference's form, ``[2025-11-23 07:25:01.123][THREAD][serving][info][file.py:923] TEXT``, or as JSON.

``configure`` is called once, before anything else logs. Source: ``src/logging.cpp`` of OpenVINO Model Server.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import queue
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.settings import LogFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE: Final = 5
"""Below DEBUG: the reference has this level and Python has not."""

LEVELS: Final = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}

MAX_LINES: Final = 10_000
"""So many lines may wait to be written."""

_FORMAT: Final = "[%(asctime)s.%(msecs)03d][%(thread)d][%(name)s][%(level)s][%(filename)s:%(lineno)d] %(message)s"


class ReferenceFormatter(logging.Formatter):
    """Writes level names in small letters, as spdlog does."""

    def __init__(self) -> None:
        super().__init__(_FORMAT, "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record.level = record.levelname.lower()
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """Writes an object a line; what a record has in ``fields`` becomes members of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        tree = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.thread,
            "place": f"{record.filename}:{record.lineno}",
        }
        fields = getattr(record, "fields", None)
        tree |= fields if fields is not None else {"message": record.getMessage()}
        if record.exc_info:
            tree["exception"] = self.formatException(record.exc_info)
        return json.dumps(tree, default=str)


class LogFile(logging.handlers.WatchedFileHandler):
    """Looks before each line whether the file was moved, so that logrotate needs no signal.

    The disk may be full, or the folder gone: the line that cannot be written is lost, which is told once on stdout until lines
    are written again. Python would print a traceback for each, or end the thread that writes if the file cannot be opened anew.
    """

    _has_failed = _was_told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self._has_failed = False
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)
        self._was_told = self._has_failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class calls it so
        """See ``logging.Handler``."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._has_failed = True
        if not self._was_told:
            self._was_told = True  # this line may come here, too
            logging.getLogger("serving").error("Lines are lost, the log file cannot be written: %s", error.strerror)


def configure(level: str, path: str | None, form: LogFormat = LogFormat.TEXT) -> None:
    """Log to stdout, and into a file if there is one.

    Raises:
        OSError: the file cannot be opened.
    """
    logging.addLevelName(TRACE, "TRACE")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if path:
        # Paths in a line need not be UTF-8.
        handlers.append(LogFile(path, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else ReferenceFormatter())
    logging.basicConfig(level=LEVELS[level], handlers=handlers, force=True)
    if LEVELS[level] > logging.DEBUG:
        logging.getLogger("tornado.general").addFilter(_is_no_client_s_fault)
    logging.getLogger("asyncio").setLevel(max(LEVELS[level], logging.WARNING))


_CLIENT_S_FAULTS: Final = ("SSL Error", "Malformed HTTP message", "Unsatisfiable read")
"""What Tornado's messages about a client that speaks neither TLS nor HTTP begin with."""


def _is_no_client_s_fault(record: logging.LogRecord) -> bool:
    """Tornado tells of each client that does not speak TLS or HTTP: whoever scans ports would fill the disk."""
    return not str(record.msg).startswith(_CLIENT_S_FAULTS)


class _Handover(logging.handlers.QueueHandler):
    """Hands records to the thread that writes them. When that cannot keep up, lines are lost and counted, not memory."""

    def __init__(self, lines: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self.lines = lines
        self.lost = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as it is: it does not leave the process."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a record over."""
        if self.lost and self.lines.qsize() < MAX_LINES // 2:
            self.lines.put_nowait(self.take_loss())
        try:
            self.lines.put_nowait(record)
        except queue.Full:
            self.lost += 1

    def flush(self) -> None:
        """Wait until the lines have been written that wait now."""
        self.lines.join()

    def take_loss(self) -> logging.LogRecord:
        """A line about those that were lost since the last one."""
        lost, self.lost = self.lost, 0
        text = "%d lines were lost: whoever reads the log was too slow"
        return logging.LogRecord("serving", logging.WARNING, __file__, 0, text, (lost,), None)


class _Writer(logging.handlers.QueueListener):
    """Writes records in a thread of its own."""

    def enqueue_sentinel(self) -> None:
        """Tell the thread to end, once there is room to tell it."""
        self.queue.put(None)  # type: ignore[attr-defined]


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """Let a thread write the lines, so that nobody waits for a disk, or for a pipe that nobody reads."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    handover = _Handover(queue.Queue(MAX_LINES))
    writer = _Writer(handover.lines, *handlers)
    root.handlers[:] = [handover]
    writer.start()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        writer.stop()
        if handover.lost:
            root.handle(handover.take_loss())
