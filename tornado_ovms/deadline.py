"""The end of a process that does not end by itself.

Python waits for all threads of its pools, and one of them may be held by an inference, a custom node, a model that
compiles or a file system.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Final

log = logging.getLogger("serving")

GRACE_S: Final = 5.0
"""How long threads are waited for when nobody waits for them any more: models are given back in less."""

TELL_S: Final = 1.0
"""How long the log is waited for, which may be a pipe that nobody reads."""


class Deadline:
    """When the process ends at the latest; there is no limit until it is set."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def set(self, seconds: float, code: int) -> None:
        """End the process after so long, unless it has ended by then or this is set anew.

        Args:
            seconds: from now on.
            code: the exit code.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, _end, (code,))
        self._timer.daemon = True
        self._timer.start()


def _end(code: int) -> None:
    teller = threading.Thread(target=_tell, daemon=True)
    teller.start()
    teller.join(TELL_S)
    os._exit(code)


def _tell() -> None:
    log.warning("Some threads do not end: the process ends without them")
    for handler in logging.getLogger().handlers:
        handler.flush()
