"""Archives that web servers have: asked whether they have changed, downloaded, unpacked.

With the standard library alone: its HTTP client knows proxies, redirects and certificates, and one request at a time is all that
is wanted. Calls block: any thread but the event loop's.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from concurrent.futures import CancelledError
from stat import S_ISLNK
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms.core.repositories import MAX_FILES, is_safe

if TYPE_CHECKING:
    from pathlib import Path

SILENCE_S: Final = 10.0
"""A server that says nothing for so long is given up."""

CHUNK: Final = 1 << 20

NO_HEAD: Final = (403, 405, 501)
"""What servers say that want to be asked otherwise: a signature may be for ``GET`` alone."""


class Stamp(NamedTuple):
    """By what an archive is known again: what its server says of it."""

    tag: str
    changed: str
    size: str


class ArchiveError(Exception):
    """An archive that is not taken, with the reason."""


class NoRoomError(ArchiveError):
    """One that does not fit on the disk."""


class Web:
    """Downloads archives."""

    def __init__(self) -> None:
        self._is_closed = False
        # What build_opener adds besides would let a redirect lead to FTP.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
            urllib.request.HTTPRedirectHandler(), urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(), urllib.request.UnknownHandler(),
        ):  # fmt: skip
            self._opener.add_handler(handler)

    def stamp(self, url: str) -> Stamp:
        """What the server says of an archive now, without its content.

        Raises:
            OSError: it is not there (HTTPError), or its server cannot be reached.
        """
        try:
            with self._open(url, "HEAD") as answer:
                return _stamp(answer)
        except urllib.error.HTTPError as error:
            if error.code not in NO_HEAD:
                raise
        with self._open(url, "GET", Range="bytes=0-0") as answer:
            return _stamp(answer)

    def download(self, url: str, target: Path, expected: Stamp, room: int) -> None:
        """Copy an archive to disk.

        Raises:
            OSError: it did not come, or does not fit.
            ArchiveError: it is another one than expected, or came short.
        """
        with self._open(url, "GET") as answer, target.open("wb") as file:
            if _stamp(answer) != expected:
                raise ArchiveError("the archive has changed while it was fetched")
            if expected.size and int(expected.size) > room:
                raise NoRoomError(f"the archive has {expected.size} bytes, {room} are free on disk")
            while chunk := answer.read1(CHUNK):  # what has come by now; read() waits until it is so much
                if self._is_closed:
                    raise CancelledError
                file.write(chunk)
            if expected.size and file.tell() != int(expected.size):
                raise ArchiveError(f"the archive came short: expected {expected.size} bytes, found {file.tell()}")

    def close(self) -> None:
        """Give up downloads, as soon as something comes, or nothing has for ``SILENCE_S``. Any thread."""
        self._is_closed = True

    def _open(self, url: str, method: str, **headers: str) -> Any:
        if self._is_closed:
            raise CancelledError
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        plain = parts._replace(netloc=host, fragment="").geturl()
        request = urllib.request.Request(plain, headers=headers, method=method)  # noqa: S310
        if parts.username is not None:
            user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            # Unredirected: a redirect to another host does not take it along.
            request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        return contextlib.closing(self._opener.open(request, timeout=SILENCE_S))


def _stamp(answer: Any) -> Stamp:
    headers = answer.headers
    whole = headers.get("Content-Range", "").rpartition("/")[2]  # of an answer that has a part
    return Stamp(headers.get("ETag", ""), headers.get("Last-Modified", ""), whole or headers.get("Content-Length", ""))


def unpack(archive: Path, folder: Path, room: int) -> None:
    """Unpack an archive of which everything stays in the folder.

    Args:
        archive: a zip or tar file, by its content.
        folder: an empty one.
        room: how many bytes it may come to.

    Raises:
        ArchiveError: it holds a name that leads out, a link or a device, is too large, or is broken.
        OSError: the disk is full.
    """
    try:
        (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, folder, _Budget(room))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"the archive cannot be read: {error}") from error


class _Budget:
    """What an archive may hold; ``spend`` refuses a member that is too much or has a name that leads out."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._files = 0

    def spend(self, name: str, size: int) -> str:
        """Count a member; its name without a leading ``./``."""
        plain = name.removeprefix("./").rstrip("/")
        if plain not in ("", ".") and not is_safe(plain):
            raise ArchiveError(f"a name in the archive leads out of it: {name!r}")
        self._room -= size
        self._files += 1
        if self._room < 0:
            raise NoRoomError("the archive unpacked is larger than what is free on disk")
        if self._files > MAX_FILES:
            raise ArchiveError(f"the archive has more than {MAX_FILES} files")
        return plain


def _unzip(archive: Path, folder: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            budget.spend(member.orig_filename, member.file_size)
            if S_ISLNK(member.external_attr >> 16):
                raise ArchiveError(f"{member.filename!r} in the archive is a link")
        for member in source.infolist():
            source.extract(member, folder)  # checks sizes and sums


def _untar(archive: Path, folder: Path, budget: _Budget) -> None:
    with tarfile.open(archive) as source:
        for member in source:
            plain = budget.spend(member.name, member.size)
            if member.isdir():
                (folder / plain).mkdir(parents=True, exist_ok=True)
                continue
            content = source.extractfile(member) if member.isreg() else None
            if content is None:
                raise ArchiveError(f"{member.name!r} in the archive is neither a file nor a folder")
            target = folder / plain
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("xb") as file:
                shutil.copyfileobj(content, file, CHUNK)
