"""Where models lie: the configuration file and the version folders, as one look at the disk finds them.

``LocalStorage`` only looks; what follows from it is decided elsewhere. Its methods block: they are called in the scan
thread.
"""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.paths import climbs
from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tornado_ovms.core.lifecycle import Fingerprint

INT64_MAX: Final = 2**63 - 1
REMOTE: Final = re.compile(r"(s3|gs|az|azfs)://")

MAX_DEPTH: Final = 4
"""How far below a version folder files are looked at; a SavedModel needs one. Bounded, as links can run in a ring."""

FRESH_S: Final = 0.1
"""A version is left alone until none of its files has changed for so long; copying tools pause less between two writes."""

_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


class VersionFolder(NamedTuple):
    """A version on disk. One that ``is_fresh`` has changed a moment ago, so that somebody may still be writing it."""

    path: str
    fingerprint: Fingerprint
    is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a model's folder holds.

    Attributes:
        versions: by number.
        warnings: what an operator should know about the rest of it.
        folders: every folder that was looked into.
    """

    versions: Mapping[int, VersionFolder]
    warnings: tuple[str, ...]
    folders: tuple[str, ...] = ()

    @property
    def is_fresh(self) -> bool:
        """Whether any version may still be written."""
        return any(folder.is_fresh for folder in self.versions.values())

    def as_it_is(self) -> Found:
        """The same for somebody who does not want to wait until nothing is written any more."""
        versions = {number: folder._replace(is_fresh=False) for number, folder in self.versions.items()}
        return replace(self, versions=versions)


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

    def versions(self, base_path: str) -> Found:
        """The version folders of a model.

        Raises:
            Failure: PATH_INVALID, if the folder is not there, cannot be listed, is remote, or its path climbs with
                ``..``.
        """
        if climbs(base_path):
            raise Failure(Code.PATH_INVALID, f"Path {base_path} escape with .. is forbidden.")
        if REMOTE.match(base_path):
            raise Failure(Code.PATH_INVALID, f"{base_path}: only folders of this machine can be served")
        try:
            with os.scandir(base_path) as entries:
                children = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Failure(Code.PATH_INVALID, f"Directory does not exist: {base_path}") from error
        except OSError as error:
            raise Failure(Code.PATH_INVALID, f"Cannot list {base_path}: {error.strerror}") from error
        versions, warnings, folders = {}, [], [base_path]
        for name, is_folder in children:
            if not is_folder:
                continue
            if warning := _refuse(name):
                warnings.append(warning)
            else:
                path = os.path.join(base_path, name)  # noqa: PTH118 - keeps the form in which the path was given
                versions[int(name)] = self._look_into(path, folders)
        if not versions:
            warnings.append(f"No version found for model in path: {base_path}")
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


def _refuse(name: str) -> str:
    """Why a folder is no version, in the reference's words; empty if it is one."""
    if not re.fullmatch(r"-?[0-9]+", name, re.ASCII):
        return f"Expected version directory name to be in number format. Got: {name}"
    if not _VERSION.fullmatch(name):
        return f"Expected version directory name to be a number greater than 0. Got: {name}"
    if int(name) > INT64_MAX:
        return f"Directory name is out of range for supported version format. Got: {name}"
    return ""


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
