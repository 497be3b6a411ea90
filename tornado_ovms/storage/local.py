"""The configuration file and version folders of this machine, as one look at the disk finds them.

``LocalStorage`` only looks; what follows from it is decided elsewhere. Its methods block: they are called in the scan
thread.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.paths import climbs
from tornado_ovms.core.repositories import version_fault
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.storage.base import Found, VersionFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DEPTH: Final = 4
"""How far below a version folder files are looked at; a SavedModel needs one. Bounded, as links can run in a ring."""

SHOWN: Final = 3
"""Names of files in a message."""

FRESH_S: Final = 0.1
"""A version is left alone until none of its files has changed for so long; copying tools pause less between two writes."""


class LocalStorage:
    """Models on a file system of this machine.

    Args:
        clock: seconds since 1970, as file systems count them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def read_config(self, path: str) -> bytes:
        """The configuration file's bytes; those of a folder are none, as in the reference.

        Raises:
            Failure: CONFIG_UNREADABLE.
        """
        try:
            return Path(path).read_bytes()
        except IsADirectoryError:
            return b""
        except OSError as error:
            raise Failure(Code.CONFIG_UNREADABLE, f"Configuration file is invalid {path}: {error.strerror}") from error

    def versions(self, base_path: str, shown: str = "") -> Found:
        """The version folders of a model.

        Args:
            base_path: the folder.
            shown: what operators know it by, if that is something else.

        Raises:
            Failure: PATH_INVALID, if the folder is not there, cannot be listed, or its path climbs with ``..``.
        """
        shown = shown or base_path
        if climbs(base_path):
            raise Failure(Code.PATH_INVALID, f"Path {shown} escape with .. is forbidden.")
        try:
            with os.scandir(base_path) as entries:
                children = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Failure(Code.PATH_INVALID, f"Directory does not exist: {shown}") from error
        except OSError as error:
            raise Failure(Code.PATH_INVALID, f"Cannot list {shown}: {error.strerror}") from error
        versions, warnings, folders = {}, [], [base_path]
        for name, is_folder in children:
            if not is_folder:
                continue
            if warning := version_fault(name):
                warnings.append(warning)
            else:
                path = os.path.join(base_path, name)  # noqa: PTH118 - keeps the form in which the path was given
                versions[int(name)] = self._look_into(path, folders)
        if not versions:
            warnings.append(f"No version found for model in path: {shown}")
            if files := [name for name, is_folder in children if not is_folder]:
                warnings.append(
                    f"{shown}: the files of a model belong into a folder named by its version, such as {shown}/1; "
                    f"found here: {', '.join(files[:SHOWN])}"
                )
        return Found(versions, tuple(warnings), tuple(folders))

    def _look_into(self, path: str, folders: list[str]) -> VersionFolder:
        """One version; the folders in it are added to those that were looked into."""
        files = tuple(sorted(_files(path, "", MAX_DEPTH, folders)))
        changed_s = max((changed_ns / 1e9 for _, _, changed_ns in files), default=-math.inf)
        return VersionFolder(path, files, is_fresh=abs(self._clock() - changed_s) < FRESH_S)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _files(folder: str, prefix: str, depth: int, folders: list[str]) -> Iterator[tuple[str, int, int]]:
    """The files below a version folder, as parts of its fingerprint.

    The time is that of the inode, too: what comes out of an archive or is copied with its times may have those of the file
    that it replaces. One that vanishes meanwhile is left out: the next look will tell.
    """
    folders.append(folder)
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        try:
            if entry.is_dir():
                if depth:
                    yield from _files(entry.path, f"{prefix}{entry.name}/", depth - 1, folders)
            else:
                stat = entry.stat()
                yield f"{prefix}{entry.name}", stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)
        except OSError:
            continue
