"""Models elsewhere: listed where they are, copied here before they are loaded.

What changes while it is copied is not taken. Calls block, ``close`` ends them; any thread but the event loop's. There are no two
calls for one base path, or for one version, at a time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tornado_ovms.core.repositories import Item, parse_address, reason, scrub, sort_out
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.storage.archives import ArchiveError, NoRoomError, Stamp, Web, unpack
from tornado_ovms.storage.base import Found, VersionFolder
from tornado_ovms.storage.listings import Listings
from tornado_ovms.storage.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tornado_ovms.core.lifecycle import Blueprint, Fingerprint
    from tornado_ovms.core.repositories import Address
    from tornado_ovms.storage.copies import Copies
    from tornado_ovms.storage.local import LocalStorage

YOUNG_S: Final = 2.0
"""A version with a file younger than this may still be uploaded: it is looked at again so long after it was copied."""

CONTENT: Final = "content"
"""What the folder of an unpacked archive is called."""

NO_FOLDER_AROUND: Final = (
    "the version folders (1, 2, ...) have to be at the top of the archive, without a folder around them"
)
"""The likeliest mistake: somebody has packed the folder of the model."""

EXTRAS: Final = ("s3", "gs", "az")
"""Schemes of stores; each needs the extra of that name."""

MISSING: Final = 404

UNREADABLE: Final = (AttributeError, TypeError, ValueError, OSError, ArchiveError, Failure, CancelledError)
"""What comes of a listing that another release has written, and of the end."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


class RemoteStorage:
    """Stores and archives.

    Args:
        local: what looks into unpacked archives.
        copies: where copies are.
        open_store: makes a store's client.
        clock: seconds since 1970.
        pause: lets time pass.
    """

    def __init__(
        self,
        local: LocalStorage,
        copies: Copies,
        open_store: Callable[[Address], ObjectStore] = ObjectStore,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._local = local
        self._copies = copies
        self._listings = Listings(copies)
        self._open_store = open_store
        self._clock = clock
        self._pause = pause
        self._stores: dict[tuple[str, str], ObjectStore] = {}
        self._web = Web()
        self._archives: dict[str, Path] = {}
        self._is_closed = False

    def versions(self, base_path: str) -> Found:
        """The versions at a URL. Their paths are those of copies, which need not be there before ``fetch``.

        If they cannot be seen, what was listed last counts, as far as complete copies are here; ``failure`` says so.

        Raises:
            Failure: PATH_INVALID if there is nothing; REPOSITORY if that cannot be told; NOT_SUPPORTED_HERE, also if a
                library is not installed.
        """
        address = parse_address(base_path)
        try:
            if address.scheme in EXTRAS:
                return self._list(address, base_path)
            return self._look_into(self._archive(base_path), scrub(base_path))
        except (Exception, CancelledError) as error:
            failure = _failure(error, base_path, address.scheme)
            found = None if self._is_closed else self._recall(address, base_path)
            if found is None:
                raise failure from error
            return replace(found, failure=failure)

    def fetch(self, blueprint: Blueprint) -> None:
        """Make sure that a version is on disk, complete and as it was listed.

        Raises:
            Failure: REPOSITORY, and nothing is left on disk.
        """
        base_path = blueprint.settings.base_path
        address = parse_address(base_path)
        if address.scheme not in EXTRAS:
            return  # unpacked when it was listed
        number, fingerprint = blueprint.key.version, blueprint.fingerprint
        try:
            path = Path(blueprint.path)
            self._take(path.parent, path.name, lambda to: self._copy(address, number, fingerprint, to))
        except (Exception, CancelledError) as error:
            raise _failure(error, f"{base_path} version {number}", address.scheme) from error

    def release(self, path: str) -> None:
        """The copy of a version is not wanted any more; one out of an archive stays with that."""
        self._copies.give_up(Path(path).parent)

    def forget(self, base_path: str) -> None:
        """The versions at a URL are not asked for any more: if it is an archive, its copy goes."""
        self._listings.forget(base_path)
        if slot := self._archives.pop(base_path, None):
            self._copies.give_up(slot)

    def sweep(self) -> None:
        """Remove what killed processes have left, after all that is wanted of it has been listed or fetched."""
        self._copies.sweep()

    def close(self) -> None:
        """End calls that are under way; none may follow. Any thread, also the event loop's."""
        self._is_closed = True
        self._web.close()
        self._copies.stop()
        for store in list(self._stores.values()):
            store.close()

    def remove(self) -> None:
        """Remove all copies, in the end."""
        self._copies.close()

    def _store(self, address: Address) -> ObjectStore:
        place = address.scheme, address.endpoint
        if place not in self._stores:
            self._stores.setdefault(place, self._open_store(address))  # another thread may have been quicker
        if self._is_closed:
            raise CancelledError
        return self._stores[place]

    def _list(self, address: Address, base_path: str) -> Found:
        items = self._store(address).list(address.path)
        if not items:
            raise FileNotFoundError
        found, warnings = sort_out(items)
        fingerprints = {number: _fingerprint(files) for number, files in found.items()}
        self._listings.remember(base_path, fingerprints)
        if not found:
            warnings.append(f"No version found for model in path: {scrub(base_path)}")
        return Found(self._folders(base_path, fingerprints), tuple(warnings))

    def _folders(self, base_path: str, fingerprints: Mapping[int, Fingerprint]) -> dict[int, VersionFolder]:
        """Where the copies of versions in a store are, or will be."""
        folders = {}
        for number, fingerprint in fingerprints.items():
            key = blake2b(repr((base_path, fingerprint)).encode(), digest_size=16).hexdigest()
            folders[number] = VersionFolder(str(self._copies.slot(key) / str(number)), fingerprint)
        return folders

    def _recall(self, address: Address, base_path: str) -> Found | None:
        """What was listed last, as far as it is here; None if that is nothing."""
        try:
            listing = self._listings.recall(base_path)
            found = None if listing is None else self._find(address, base_path, listing)
        except UNREADABLE:  # or its copy has gone meanwhile
            return None
        return found if found and found.versions else None

    def _find(self, address: Address, base_path: str, listing: Any) -> Found | None:
        """What is here of that which was listed."""
        if address.scheme in EXTRAS:
            fingerprints = {int(number): tuple(map(tuple, files)) for number, files in listing.items()}
            folders = self._folders(base_path, fingerprints)
            return Found({number: folder for number, folder in folders.items() if Path(folder.path).is_dir()}, ())
        stamp = Stamp(*listing)
        is_here = (self._archive_slot(base_path, stamp) / CONTENT).is_dir()
        return self._look_into(self._unpacked(base_path, stamp), scrub(base_path)) if is_here else None

    def _take(self, slot: Path, name: str, fill: Callable[[Path], None]) -> None:
        """Take a copy. If there is no room for it, what killed processes have left goes first."""
        try:
            self._copies.take(slot, name, fill)
        except (NoRoomError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_ROOM:
                raise
            self._copies.sweep()
            self._copies.take(slot, name, fill)

    def _copy(self, address: Address, number: int, fingerprint: Fingerprint, folder: Path) -> None:
        """Copy a version; what has changed since it was listed is refused."""
        store, path = self._store(address), f"{address.path}/{number}"
        files = self._unchanged(store, address, number, fingerprint)
        needed, room = sum(item.size for item in files), self._copies.free_bytes()
        if needed > room:
            raise NoRoomError(f"it has {needed} bytes, {room} are free on disk")
        for item in files:
            target = folder / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            store.copy(f"{path}/{item.name}", target)
            if (size := target.stat().st_size) != item.size:
                raise ArchiveError(f"{item.name} came short: expected {item.size} bytes, found {size}")
            if item.md5 and _md5(target) != item.md5:
                raise ArchiveError(f"{item.name} did not come as it is stored: its MD5 is another one")
        if abs(self._clock() - max(item.changed_s for item in files)) < YOUNG_S:
            self._pause(YOUNG_S)
        self._unchanged(store, address, number, fingerprint)

    def _unchanged(self, store: ObjectStore, address: Address, number: int, fingerprint: Fingerprint) -> list[Item]:
        prefix = f"{number}/"
        path = f"{address.path}/{number}"
        files, _ = sort_out(item._replace(name=prefix + item.name) for item in store.list(path))
        found = files.get(number, [])
        if _fingerprint(found) != fingerprint:
            raise ArchiveError("it has changed while it was fetched")
        return found

    def _look_into(self, folder: Path, shown: str) -> Found:
        """The versions in an archive."""
        found = self._local.versions(str(folder), shown)
        if found.versions:
            return found
        return replace(found, warnings=(*found.warnings, f"{shown}: {NO_FOLDER_AROUND}"))

    def _archive(self, url: str) -> Path:
        """The folder with the newest content of an archive."""
        stamp = self._web.stamp(url)
        folder = self._unpacked(url, stamp)
        self._listings.remember(url, stamp)
        return folder

    def _unpacked(self, url: str, stamp: Stamp) -> Path:
        """The folder with a content of an archive, which takes the place of the one before."""
        slot = self._archive_slot(url, stamp)
        self._take(slot, CONTENT, lambda folder: self._unpack(url, stamp, folder))
        before = self._archives.get(url, slot)
        self._archives[url] = slot
        if before != slot:
            self._copies.give_up(before)
        return slot / CONTENT

    def _archive_slot(self, url: str, stamp: Stamp) -> Path:
        return self._copies.slot(blake2b(repr((url, stamp)).encode(), digest_size=16).hexdigest())

    def _unpack(self, url: str, stamp: Stamp, folder: Path) -> None:
        archive = folder.with_name("archive")
        self._web.download(url, archive, stamp, self._copies.free_bytes())
        unpack(archive, folder, self._copies.free_bytes())
        archive.unlink()


def _fingerprint(files: list[Item]) -> Fingerprint:
    return tuple((item.name, item.size, item.stamp) for item in files)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _failure(error: BaseException, where: str, scheme: str) -> Failure:
    """What an operator is told of whatever befell a repository; nothing secret."""
    shown = scrub(where)
    if isinstance(error, Failure):
        return error
    if isinstance(error, ImportError):
        return Failure(
            Code.NOT_SUPPORTED_HERE,
            f"{shown}: its client is not installed: pip install 'tornado-ovms[{scheme}]'",
        )
    if isinstance(error, FileNotFoundError) or getattr(error, "code", None) == MISSING:
        return Failure(Code.PATH_INVALID, f"Directory does not exist: {shown}")
    if isinstance(error, CancelledError):
        return Failure(Code.REPOSITORY, f"{shown}: the server is about to end")
    if isinstance(error, ArchiveError):
        return Failure(Code.REPOSITORY, f"{shown}: {error}")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, PermissionError):
        return Failure(Code.REPOSITORY, f"{shown}: {scrub(os.strerror(error.errno))}")
    return Failure(Code.REPOSITORY, f"{shown}: {reason(error)}")
