"""Looks at, and copies from, repositories elsewhere: both may take long, so they go on beside the passes.

Who asks waits for a while; what has not come by then is told of by ``on_late`` when it has. Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.repositories import is_remote, scrub
from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from concurrent.futures import Executor

    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.storage.base import Found
    from tornado_ovms.storage.remote import RemoteStorage

LOOK_WAIT_S: Final = 2.0
"""How long a pass waits for stores to answer. A listing takes 0.05 to 0.5 s."""

FETCH_WAIT_S: Final = 10.0
"""How long a pass that was asked for waits for copies; others do not."""


def _nobody() -> None:
    """Nobody wants to know."""


class Elsewhere:
    """Listings, one at a time of each repository, and copies, one at a time of each version.

    Args:
        storage: what lists and copies; it blocks.
        listers: the threads for the one.
        fetchers: those for the other, which may be busy for long.
        comes_back: whether a pass follows when ``on_late`` is called; without one everything is waited for.
    """

    def __init__(self, storage: RemoteStorage, listers: Executor, fetchers: Executor, *, comes_back: bool) -> None:
        self._storage = storage
        self._listers = listers
        self._fetchers = fetchers
        self.comes_back = comes_back
        self.on_late: Callable[[], None] = _nobody
        self._looks: dict[str, asyncio.Future[Found]] = {}
        self._last: dict[str, Found | Failure] = {}
        self._wanted: frozenset[str] = frozenset()
        self._fetches: dict[str, asyncio.Future[None]] = {}
        self._here: set[str] = set()
        self._has_swept = False

    async def folders(self, base_paths: Collection[str], wait_s: float | None) -> Mapping[str, Found | Failure]:
        """What repositories hold, or why that cannot be seen; what was seen last of one that does not answer in time.

        Args:
            base_paths: all that are wanted; ``keep`` forgets others.
            wait_s: how long their answers are waited for; None if as long as it takes.
        """
        self._wanted = frozenset(base_paths)
        begun = self._begin(path for path in base_paths if path not in self._looks)
        awaited = [self._looks[path] for path in base_paths] if wait_s is None else begun
        if awaited:
            _, pending = await asyncio.wait(awaited, timeout=wait_s)
            for look in pending:
                look.add_done_callback(self._tell)
        await self._take(base_paths)
        return {
            path: self._last.get(path) or Failure(Code.REPOSITORY, f"{scrub(path)}: no answer yet")
            for path in base_paths
        }

    async def arrivals(self, base_paths: Collection[str]) -> Mapping[str, Found | Failure]:
        """The same at the start: each repository is looked at once, and those that have not answered are left out.

        None is waited for; ``on_late`` tells when another one has answered.
        """
        self._wanted = frozenset(base_paths)
        for look in self._begin(path for path in base_paths if path not in self._looks.keys() | self._last.keys()):
            look.add_done_callback(self._tell)
        await self._take(base_paths)
        return {path: self._last[path] for path in base_paths if path in self._last}

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way, or has ended and was not asked for since."""
        return bool(self._looks or self._fetches)

    def _begin(self, base_paths: Iterable[str]) -> list[asyncio.Future[Found]]:
        """Look at repositories."""
        loop = asyncio.get_running_loop()
        begun = {path: loop.run_in_executor(self._listers, self._storage.versions, path) for path in base_paths}
        self._looks.update(begun)
        return list(begun.values())

    async def _take(self, base_paths: Iterable[str]) -> None:
        """Note what looks that have ended have found."""
        for path in base_paths:
            if path in self._looks and self._looks[path].done():
                self._last[path] = await _outcome(self._looks.pop(path))

    def is_under_way(self, blueprint: Blueprint) -> bool:
        """Whether a version is being copied."""
        fetch = self._fetches.get(blueprint.path)
        return fetch is not None and not fetch.done()

    async def fetch(self, blueprint: Blueprint, wait_s: float | None) -> bool:
        """Copy a version, unless it lies here anyway; whether that has ended within the time.

        Raises:
            Failure: why it cannot be copied.
        """
        if not is_remote(blueprint.settings.base_path):
            return True
        path = blueprint.path
        if path not in self._fetches:
            loop = asyncio.get_running_loop()
            self._fetches[path] = loop.run_in_executor(self._fetchers, self._storage.fetch, blueprint)
        fetch = self._fetches[path]
        await asyncio.wait([fetch], timeout=wait_s)
        if not fetch.done():
            fetch.add_done_callback(self._tell)
            return False
        self._fetches.pop(path, None)  # of two models that share it one comes second
        fetch.result()
        self._here.add(path)
        return True

    async def keep(self, paths: Collection[str]) -> None:
        """Remove the copies of versions and archives that are not wanted any more; ``paths`` are those of all other versions.

        What killed processes have left goes, too, once nothing is under way for the first time.
        """
        for path in self._fetches.keys() - set(paths):
            if self._fetches[path].done() and self._fetches.pop(path).exception() is None:
                self._here.add(path)
        gone = self._here - set(paths)
        self._here -= gone
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(self._listers, self._storage.release, path) for path in gone),
            *(loop.run_in_executor(self._listers, self._storage.forget, path) for path in self._forget()),
        )
        if self._last and not (self.is_busy or self._has_swept):  # what this process wants of it is taken by now
            self._has_swept = True
            await loop.run_in_executor(self._listers, self._storage.sweep)

    def _forget(self) -> list[str]:
        """Forget repositories that are not wanted any more, and tell which; one that is being looked at comes later."""
        gone = [
            path
            for path in (self._looks.keys() | self._last.keys()) - self._wanted
            if path not in self._looks or self._looks[path].done()
        ]
        for path in gone:
            if look := self._looks.pop(path, None):
                look.exception()  # of no interest, as asyncio is told hereby
            self._last.pop(path, None)
        return gone

    def _tell(self, _ended: object) -> None:
        self.on_late()


async def _outcome(look: asyncio.Future[Found]) -> Found | Failure:
    try:
        return await look
    except Failure as failure:
        return failure
