"""Looks at the disk for the manager, in the scan thread, and keeps watch on all that was seen there; lets others look elsewhere.

Watches are added before it is looked, and it is looked again when there are new ones, so that no change falls between the two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from tornado_ovms.core.repositories import is_remote
from tornado_ovms.core.status import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
    from concurrent.futures import Executor

    from tornado_ovms.core.settings import ModelSettings
    from tornado_ovms.serving.elsewhere import Elsewhere
    from tornado_ovms.storage.base import Found
    from tornado_ovms.storage.local import LocalStorage
    from tornado_ovms.watch import Watcher

    Looks = Mapping[str, Found | Failure]

T = TypeVar("T")

MAX_WATCHES: Final = 5
"""Folders may appear while watches are added; so many times they are looked at again."""


class Lookout:
    """The configuration file and the version folders, as one look finds them. Belongs to the event loop.

    Args:
        config_path: the configuration file, or None.
        storage: what looks.
        watcher: what keeps watch; None if nobody does.
        scanner: the one thread in which both block.
        elsewhere: what looks at models that are not on this machine.
    """

    def __init__(
        self,
        config_path: str | None,
        storage: LocalStorage,
        watcher: Watcher | None,
        scanner: Executor,
        elsewhere: Elsewhere,
    ) -> None:
        self._config_path = config_path
        self._storage = storage
        self._watcher = watcher
        self._scanner = scanner
        self.elsewhere = elsewhere

    async def read_config(self, path: str) -> bytes:
        """The configuration file's bytes.

        Raises:
            Failure: CONFIG_UNREADABLE.
        """
        return await self.scan(self._storage.read_config, path)

    async def folders(self, models: Collection[ModelSettings], wait_s: float | None) -> Looks:
        """What the folder of each model holds, or why that cannot be seen; by the model's name.

        Args:
            models: all that are wanted.
            wait_s: how long those elsewhere are waited for; None if as long as it takes.
        """
        return await self._folders(models, lambda paths: self.elsewhere.folders(paths, wait_s))

    async def arrivals(self, models: Collection[ModelSettings]) -> Looks:
        """The same at the start, without models elsewhere of which nothing has come yet."""
        return await self._folders(models, self.elsewhere.arrivals)

    async def _folders(
        self,
        models: Collection[ModelSettings],
        look_elsewhere: Callable[[Collection[str]], Awaitable[Mapping[str, Found | Failure]]],
    ) -> Looks:
        remote = {settings.name: settings.base_path for settings in models if is_remote(settings.base_path)}
        local = tuple(settings for settings in models if settings.name not in remote)
        here, there = await asyncio.gather(self.scan(self._list, local), look_elsewhere(set(remote.values())))
        return {**here, **{name: there[path] for name, path in remote.items() if path in there}}

    async def scan(self, function: Callable[..., T], *args: object) -> T:
        """Call what blocks, in the scan thread."""
        return await asyncio.get_running_loop().run_in_executor(self._scanner, function, *args)

    async def watch_config(self) -> None:
        """Watch the configuration file, before it is read for the first time."""
        await self.scan(self._watch, ())

    def _list(self, models: Iterable[ModelSettings]) -> Looks:
        found: dict[str, Found | Failure] = {}
        for _ in range(MAX_WATCHES):
            paths: list[str] = []
            for settings in models:
                found[settings.name] = each = self._look_at(settings.base_path)
                paths += [settings.base_path] if isinstance(each, Failure) else each.folders
            if not self._watch(paths):
                break
        return found

    def _look_at(self, base_path: str) -> Found | Failure:
        try:
            return self._storage.versions(base_path)
        except Failure as failure:
            return failure

    def _watch(self, paths: Iterable[str]) -> bool:
        """Watch the configuration file and these folders; whether another look is due."""
        if self._watcher is None:
            return False
        return self._watcher.watch([*paths, self._config_path] if self._config_path is not None else paths)
