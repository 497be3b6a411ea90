"""Copies of versions on this machine's disk: complete or not there, shared by the processes of a server.

Each copy lies in a slot, a folder which is its lock, too: who fills or removes it locks it alone, who needs it shares the lock.
The system gives locks back when a process dies, so that what a killed one has left can be told from what is in use. Any thread;
no two may take or give up one slot at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRIVATE: Final = 0o700

PARTIAL: Final = "partial"
"""What a copy is called while it is made; then it is renamed."""

PAUSE_S: Final = 0.02
"""A slot that another process is about to fill, or has removed, is looked at again after so long."""


class Copies:
    """The copies of a user, in a folder below the temporary one that only this user may enter.

    Its name tells the user, so that all processes find it; one that is not ours, or open to others, is not used.

    Args:
        parent: the folder for temporary files.
        pause: lets time pass.
    """

    def __init__(self, parent: str | None = None, pause: Callable[[float], None] = time.sleep) -> None:
        self._parent = Path(parent or tempfile.gettempdir())
        self._pause = pause
        self._is_stopped = False
        self._held: dict[Path, int] = {}
        self._root: Path | None = None

    def slot(self, key: str) -> Path:
        """Where the copy with a content is, or will be; ``key`` stands for the content.

        Raises:
            OSError: there is no folder for copies, and none can be made.
        """
        if self._root is None:
            self._root = _open_root(self._parent)
        return self._root / key

    def free_bytes(self) -> int:
        """How much room there is."""
        return shutil.disk_usage(self._root or self._parent).free

    def take(self, slot: Path, name: str, fill: Callable[[Path], None]) -> None:
        """Make sure that a copy is there, and stays until it is given up. Waits for another process that makes it.

        Args:
            slot: as ``slot`` gave it.
            name: what the folder with the content is called in it.
            fill: makes the content in a folder that is empty; what it raises goes on, and leaves nothing.

        Raises:
            CancelledError: it was waited for until ``stop``.
        """
        path = slot / name
        if slot in self._held and path.exists():
            return
        descriptor = self._held.pop(slot, None)
        if descriptor is not None:  # somebody has removed it
            os.close(descriptor)
        while (descriptor := _take(slot, path, fill)) is None:
            if self._is_stopped:
                raise CancelledError
            self._pause(PAUSE_S)
        self._held[slot] = descriptor

    def hold(self, slot: Path) -> None:
        """Make sure that a slot is there, and stays until it is given up; what is put into it is left to who holds it."""
        self.take(slot, ".", _add_nothing)

    def sweep(self) -> None:
        """Remove what killed processes have left. Until then it may be taken."""
        if self._root is not None:
            for slot in _folders(self._root):
                with contextlib.suppress(OSError):
                    descriptor = os.open(slot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    try:
                        _remove_if_unused(slot, descriptor)
                    finally:
                        os.close(descriptor)

    def stop(self) -> None:
        """Wait for no other process any more. Any thread, also the event loop's."""
        self._is_stopped = True

    def give_up(self, slot: Path) -> None:
        """A copy is not needed any more: it is removed, unless another process needs it."""
        descriptor = self._held.pop(slot, None)
        if descriptor is not None:
            _remove_if_unused(slot, descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Give up all of them."""
        if self._root is not None:
            for slot in list(self._held):
                self.give_up(slot)
            with contextlib.suppress(OSError):  # another process has copies in it
                self._root.rmdir()


def _open_root(parent: Path) -> Path:
    root = parent / f"tornado-ovms-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        root.mkdir(PRIVATE)
    found = root.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return root if is_ours else Path(tempfile.mkdtemp(prefix="tornado-ovms-", dir=parent))


def _take(slot: Path, path: Path, fill: Callable[[Path], None]) -> int | None:
    """A descriptor of the folder, with a shared lock on it; None if another process is about to make or remove the content."""
    descriptor = _open(slot)
    is_ours = False
    try:
        if _lock(descriptor, fcntl.LOCK_SH):
            if not path.exists() and _lock(descriptor, fcntl.LOCK_EX) and _is_there(slot, descriptor):
                _make(slot, path, fill)
            # Its way back to a shared lock lets others in between.
            is_ours = _lock(descriptor, fcntl.LOCK_SH) and path.exists() and _is_there(slot, descriptor)
    finally:
        if not is_ours:
            os.close(descriptor)
    return descriptor if is_ours else None


def _add_nothing(_folder: Path) -> None:
    """Leave a slot as it is."""


def _open(slot: Path) -> int:
    while True:
        slot.parent.mkdir(PRIVATE, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            slot.mkdir(PRIVATE, exist_ok=True)
            return os.open(slot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _lock(descriptor: int, kind: int) -> bool:
    """Lock a folder if that needs no waiting, which nothing could end."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(slot: Path, descriptor: int) -> bool:
    """Whether an open folder still has its name."""
    return slot.exists() and os.path.samestat(slot.stat(), os.fstat(descriptor))


def _make(slot: Path, path: Path, fill: Callable[[Path], None]) -> None:
    if path.exists():  # another process was quicker
        return
    partial = slot / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(PRIVATE)
    try:
        fill(partial)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(slot, ignore_errors=True)
        raise


def _remove_if_unused(slot: Path, descriptor: int) -> None:
    if _lock(descriptor, fcntl.LOCK_EX):
        shutil.rmtree(slot, ignore_errors=True)


def _folders(root: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from list(root.iterdir())
