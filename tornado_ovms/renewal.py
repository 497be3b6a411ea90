"""Files that are read again when they change: certificates and keys are renewed while a server runs.

They are looked at now and then instead of watched: there are few of them, a second does not matter, and secrets that Kubernetes
mounts change by a link three folders above.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Stamp = tuple[tuple[int, ...] | None, ...]

T = TypeVar("T")

log = logging.getLogger("serving")

PAUSE_S: Final = 1.0
"""Between two looks. What has changed is read at the look after that, if it has not changed again: it may still be written."""


class Renewed(Generic[T]):
    """What some files hold. One thread at a time may call it; all methods block.

    Args:
        what: it is called in the log.
        paths: the files.
        load: reads them; what it raises (OSError, ValueError) keeps what was read before.
    """

    def __init__(self, what: str, paths: Sequence[str], load: Callable[[], T]) -> None:
        self.what = what
        self._paths = paths
        self._load = load
        self._read: Stamp = ()
        self._seen: Stamp = ()
        self._refused: Stamp = ()

    def first(self) -> T:
        """What they hold at the start.

        Raises:
            OSError, ValueError: they cannot be used.
        """
        self._read = self._seen = self._stamp()
        return self._load()

    def look(self) -> T | None:
        """What they hold, if they have changed and can be used; None if not. Until they can, each look tries, and tells once."""
        before, self._seen = self._seen, self._stamp()
        if self._seen == self._read or self._seen != before:
            return None
        try:
            value = self._load()
        except (OSError, ValueError) as error:
            if self._refused != self._seen:
                log.error("%s cannot be used, what was read before stays in use: %s", self.what, error)
            self._refused = self._seen
            return None
        self._read = self._seen
        log.info("%s read again", self.what)
        return value

    def _stamp(self) -> Stamp:
        """Tells whether any of the files has been changed, replaced or removed."""
        return tuple(map(_stamp, self._paths))


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 - a Path would have to be made for each look
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
