"""Log lines in the reference's form: ``[2025-11-23 07:25:01.123][THREAD][serving][info][file.py:923] TEXT``.

``configure`` is called once, before anything else logs. Source: ``src/logging.cpp`` of OpenVINO Model Server.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import Final

TRACE: Final = 5
"""Below DEBUG: the reference has this level and Python has not."""

LEVELS: Final = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}

_FORMAT: Final = "[%(asctime)s.%(msecs)03d][%(thread)d][%(name)s][%(level)s][%(filename)s:%(lineno)d] %(message)s"


class ReferenceFormatter(logging.Formatter):
    """Writes level names in small letters, as spdlog does."""

    def __init__(self) -> None:
        super().__init__(_FORMAT, "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record.level = record.levelname.lower()
        return super().format(record)


def configure(level: str, path: str | None) -> None:
    """Log to stdout, and into a file if there is one.

    Raises:
        OSError: the file cannot be opened.
    """
    logging.addLevelName(TRACE, "TRACE")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if path:
        # Looks before each line whether the file was moved, so that logrotate needs no signal.
        # Paths in a line need not be UTF-8.
        file = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
        handlers.append(file)
    for handler in handlers:
        handler.setFormatter(ReferenceFormatter())
    logging.basicConfig(level=LEVELS[level], handlers=handlers, force=True)
    logging.getLogger("asyncio").setLevel(max(LEVELS[level], logging.WARNING))
