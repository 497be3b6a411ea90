"""Keeps what is served in step with the configuration and the disk.

A *pass* looks at the configuration file and the version folders (in the scan thread), works out what each model should
be, and lets the ``Reconciler`` bring that about. There is only ever one pass at a time. Passes are made at start, by
the poll timer, and when somebody asks for a reload. Everything but the looking belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from tornado_ovms.core import config as configuration
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.reconcile import Converged, Reconciler, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from tornado_ovms.core.config import Config
    from tornado_ovms.core.settings import MetricsSettings, ModelSettings
    from tornado_ovms.engine.base import Engine
    from tornado_ovms.serving.registry import Registry
    from tornado_ovms.storage import Found, LocalStorage

log = logging.getLogger("modelmanager")

T = TypeVar("T")

READS: Final = 3
PAUSE_S: Final = 0.01
"""A configuration file that cannot be used is read again: its writer may be half done (``src/modelmanager.cpp``)."""


class Source(NamedTuple):
    """Where the models come from: a configuration file, or settings that are fixed.

    With fixed settings a model that cannot be served stops the start.
    """

    config_path: str | None
    models: tuple[ModelSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass came to: whether anything changed, and the first fault with the stage that it belongs to."""

    changed: bool
    stage: Code = Code.VERSIONS_RELOAD
    failure: Failure | None = None


class Look(NamedTuple):
    """The configuration as one look finds it; ``faults`` are entries that cannot be served as written."""

    config: Config
    models: tuple[ModelSettings, ...]
    faults: tuple[tuple[str, Failure], ...]


class Manager:
    """Makes passes.

    Args:
        source: what to serve.
        registry: where it becomes visible.
        engine: what loads it.
        storage: where it lies.
        loaders: threads for loading; ``scanner``: the thread for looking.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        source: Source,
        registry: Registry,
        engine: Engine,
        storage: LocalStorage,
        loaders: Executor,
        scanner: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._registry = registry
        self._engine = engine
        self._storage = storage
        self._scanner = scanner
        self._reconciler = Reconciler(registry, engine, loaders, clock)
        self._lock = asyncio.Lock()
        self._text: bytes | None = None
        self._config_failed = False
        self._models: dict[str, ModelSettings] = {}
        self._warned: dict[str, tuple[str, ...]] = {}
        self.metrics: MetricsSettings | None = None
        self.failure: Failure | None = None
        self.is_ready = False

    async def start(self) -> None:
        """Make the first pass.

        Raises:
            Failure: the configuration file cannot be used, or (with fixed settings) a model cannot be served.
        """
        async with self._lock:
            if self._source.config_path is None:
                await self._start_fixed()
            else:
                text = await self._scan(self._storage.read_config, self._source.config_path)
                look = await self._scan(self._look, self._source.config_path, text)
                self.metrics = look.config.metrics
                await self._load(text, look)
        self.is_ready = True

    async def _start_fixed(self) -> None:
        for settings in self._source.models:
            await self._scan(self._engine.check, settings)
            self._models[settings.name] = settings
        found, done = await self._converge(retry=True)
        for failure in (*found, *done.last_failures):
            raise failure

    async def reload(self) -> Outcome:
        """Make a pass now, and try again what has failed before."""
        return await self._pass(asked_for=True)

    async def poll(self, wait_s: float) -> None:
        """Make a pass every so often, for ever."""
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._pass(asked_for=False)
            except Exception:
                log.exception("Looking for changes failed")

    async def retire_all(self) -> None:
        """Retire everything, at the end of the process."""
        async with self._lock:
            await self._reconciler.converge({}, retry=False)

    async def _pass(self, *, asked_for: bool) -> Outcome:
        async with self._lock:
            if self._source.config_path is not None:
                try:
                    text = await self._scan(self._storage.read_config, self._source.config_path)
                except Failure as failure:
                    self.failure = failure
                    if asked_for:
                        return Outcome(False, Code.CONFIG_FILE_MISSING, failure)
                else:
                    if text != self._text or (asked_for and self._config_failed):
                        outcome = await self._reload_config(self._source.config_path, text)
                        if asked_for or outcome.failure is None:
                            return outcome
            found, done = await self._converge(retry=asked_for)
            return Outcome(done.changed, Code.VERSIONS_RELOAD, next(iter((*found, *done.failures)), None))

    async def _reload_config(self, path: str, text: bytes) -> Outcome:
        """Load a configuration file that has changed, or failed before. A broken one changes nothing."""
        try:
            look = await self._scan(self._look, path, text)
        except Failure as failure:
            log.error("%s", failure.text)
            self._text, self._config_failed, self.failure = text, True, failure
            return Outcome(False, Code.CONFIG_RELOAD, failure)
        return await self._load(text, look)

    def _look(self, path: str, text: bytes) -> Look:
        """Read the configuration and check its entries against the devices. Scan thread."""
        for attempt in range(READS):
            try:
                config = configuration.parse(text, _folder(path))
                break
            except Failure:
                if attempt == READS - 1:
                    raise
                time.sleep(PAUSE_S)
                text = self._storage.read_config(path)
        models, faults = [], [(fault.name, fault.failure) for fault in config.faults]
        for settings in config.models:
            try:
                self._engine.check(settings)
                models.append(settings)
            except Failure as failure:
                faults.append((settings.name, failure))
        return Look(config, tuple(models), tuple(faults))

    async def _load(self, text: bytes, look: Look) -> Outcome:
        """Make a configuration the one in force, and bring it about."""
        changed = text != self._text
        self._text, self.failure = text, None
        self._warn("", look.config.warnings)
        faults = self._adopt(look)
        found, done = await self._converge(retry=True)
        failure = next(iter((*faults, *found, *done.failures)), None)
        self._config_failed = failure is not None
        return Outcome(changed or done.changed, Code.CONFIG_RELOAD, failure)

    def _adopt(self, look: Look) -> list[Failure]:
        """Take over the settings of a configuration.

        An entry that cannot be served as written leaves a model that serves as it was.
        """
        fresh = {settings.name: settings for settings in look.models}
        faults = list(look.faults)
        for name, settings in fresh.items():
            old = self._models.get(name)
            if old is not None and old.stateful != settings.stateful:
                faults.append((name, Failure(Code.MODEL_TYPE_CHANGED, name)))
                fresh[name] = old
        for name, failure in faults:
            log.error("Model %s: %s", name, failure.text)
            if name not in fresh and name in self._models:
                fresh[name] = self._models[name]
        self._models = fresh
        for name in fresh:
            self._registry.add_model(name).failure = None
        for name, failure in faults:
            if name in fresh:
                self._registry.models[name].failure = failure
        return [failure for _, failure in faults]

    async def _converge(self, *, retry: bool) -> tuple[list[Failure], Converged]:
        """Look at the version folders and bring about what they and the settings ask for."""
        found: Mapping[str, Found | Failure] = await self._scan(self._list, tuple(self._models.values()))
        failures = []
        for name, each in found.items():
            model = self._registry.add_model(name)
            if isinstance(each, Failure):
                failures.append(each)
                if model.failure is None or model.failure.text != each.text:
                    log.error("Model %s: %s", name, each.text)
                model.failure = each
            else:
                self._warn(name, each.warnings)
                if model.failure is not None and model.failure.code is Code.PATH_INVALID:
                    model.failure = None
        wishes = {name: Wish(settings, found[name]) for name, settings in self._models.items()}
        return failures, await self._reconciler.converge(wishes, retry=retry)

    def _list(self, models: tuple[ModelSettings, ...]) -> dict[str, Found | Failure]:
        """Look at the version folders. Scan thread."""
        found: dict[str, Found | Failure] = {}
        for settings in models:
            try:
                found[settings.name] = self._storage.versions(settings.base_path)
            except Failure as failure:
                found[settings.name] = failure
        return found

    def _warn(self, about: str, warnings: tuple[str, ...]) -> None:
        """Tell the operator what the last look has not told already."""
        before = self._warned.get(about, ())
        self._warned[about] = warnings
        for warning in warnings:
            if warning not in before:
                log.warning("%s", warning)

    async def _scan(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._scanner, function, *args)


def _folder(path: str) -> str:
    """The folder of a file, as relative paths in it are read."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
