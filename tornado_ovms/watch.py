"""Tells at once that something has changed on disk, through inotify; what has changed is for somebody else to find out.

``Watcher.watch`` says which paths matter, and is called again after each look: watches of what is gone are given up, new ones
are added. Where inotify is missing, or has no watches left, the poll timer is all there is; so it is on file systems that tell
nothing (NFS and other network mounts, changes made below an overlay).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from inotify_simple import INotify, flags, parse_events

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger("modelmanager")

MASK: Final = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.CLOSE_WRITE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
)
"""Not MODIFY: a file that is being written is of no use before it is closed."""

MAX_LINKS: Final = 40
"""So many symbolic links in a row the kernel follows, too."""

READ_BYTES: Final = 1 << 16

_LEFT_TO_POLLING: Final = "%s; changes are found by polling only (--file_system_poll_wait_seconds)"
_OUT_OF_WATCHES: Final = "inotify has no watches left; raise the sysctl fs.inotify.max_user_watches"
_NO_INOTIFY: Final = "inotify cannot be used: %s"


class Watcher:
    """Watches paths and calls back when any of them has changed.

    ``start``, ``close`` and the callback belong to the event loop, ``watch`` to one other thread. The two share the kernel's
    object only: the loop reads events, the other thread adds and removes watches.
    """

    def __init__(self) -> None:
        self._watches: set[int] = set()
        self._is_short = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            log.warning(_LEFT_TO_POLLING, _NO_INOTIFY % error.strerror)

    def start(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Begin to call back, also for what has changed since the first ``watch``; many events may make one call."""
        if self._inotify is not None:
            self._loop = loop
            loop.add_reader(self._inotify.fileno(), self._read, changed)

    def close(self) -> None:
        """Stop calling back, and give up all watches."""
        if self._inotify is not None and self._loop is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def watch(self, paths: Iterable[str]) -> bool:
        """Watch these paths and no others.

        A file is watched with its folder, and with those of all symbolic links that lead to it: editors, ConfigMaps and
        releases of a whole repository are put in place by a rename or by another link. Instead of what is not there the
        nearest folder above it is watched.

        Returns:
            Whether there are new watches: then what was seen before may have changed unseen, and another look is due.
        """
        inotify = self._inotify
        if inotify is None:
            return False
        watches: set[int] = set()
        for path in paths:
            try:
                watches.update(inotify.add_watch(place, MASK) for place in _places(path))
            except FileNotFoundError:
                continue  # it went away just now; its folder will tell
            except OSError as error:
                self._tell(error)
        for gone in self._watches - watches:
            with contextlib.suppress(OSError):  # the kernel has dropped the watch of what was deleted
                inotify.rm_watch(gone)
        fresh = watches - self._watches
        self._watches = watches
        return bool(fresh)

    def _tell(self, error: OSError) -> None:
        """Warn once that a path is not watched."""
        if not self._is_short:
            self._is_short = True
            log.warning(
                _LEFT_TO_POLLING, _OUT_OF_WATCHES if error.errno == errno.ENOSPC else _NO_INOTIFY % error.strerror
            )

    def _read(self, changed: Callable[[], None]) -> None:
        """Take the events that there are. The end of a watch, which our own giving up brings about, is no change."""
        if self._inotify is None:
            return
        try:
            data = os.read(self._inotify.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        if any(not event.mask & flags.IGNORED for event in parse_events(data)):
            changed()


def _places(path: str) -> Iterator[str]:
    """What to watch so that no change of a path goes unseen: itself, and the folder of each link on the way to it."""
    for link in islice(_links(Path(path).absolute()), MAX_LINKS):
        folder = link if link.is_dir() else link.parent
        while not folder.is_dir():
            folder = folder.parent
        yield str(folder)
        if folder != link and link.exists():  # a file that is mounted by itself has no folder that tells
            yield str(link)


def _links(path: Path) -> Iterator[Path]:
    """A path, and what it stands for if any part of it is a link, as long as one is; with the folder of each link."""
    yield path
    for part in (*reversed(path.parents), path):
        if part.is_symlink():
            yield part.parent
            yield from _links(part.parent / part.readlink() / path.relative_to(part))
            return
