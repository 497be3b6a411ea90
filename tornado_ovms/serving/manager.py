"""Keeps what is served in step with the configuration and the disk.

A *pass* looks at the configuration file and the version folders (in the scan thread), works out what each model should
be, and lets the ``Reconciler`` bring that about. There is only ever one pass at a time. Passes are made at start, when
somebody asks for a reload, by the poll timer, and when the watcher tells of a change. Everything but the looking belongs to
the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from tornado_ovms.core import config as configuration
from tornado_ovms.core.repositories import is_grave, is_remote
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.elsewhere import FETCH_WAIT_S, LOOK_WAIT_S
from tornado_ovms.serving.observation import Reloads
from tornado_ovms.serving.reconcile import Converged, Reconciler, Wish
from tornado_ovms.storage.local import FRESH_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor

    from tornado_ovms.core.config import Config
    from tornado_ovms.core.settings import MetricsSettings, ModelSettings
    from tornado_ovms.engine.base import Engine
    from tornado_ovms.serving.clock import Clock
    from tornado_ovms.serving.lookout import Lookout, Looks
    from tornado_ovms.serving.pipelines import Pipelines
    from tornado_ovms.serving.registry import Registry
    from tornado_ovms.serving.warmup import WarmUp

log = logging.getLogger("modelmanager")

T = TypeVar("T")

READS: Final = 3
PAUSE_S: Final = 0.01
"""A configuration file that cannot be used is read again: its writer may be half done (``src/modelmanager.cpp``)."""


SETTLE_S: Final = 0.05
MAX_SETTLES: Final = 10
"""After a change a pass waits until nothing has changed for so long, and no longer than so many times that: an editor or a
copying tool makes several changes at once."""

MAX_LOOKS: Final = 20
"""Who asks for a reload waits for versions that are still being written so many times ``FRESH_S``; then they are taken as they
are."""


UNSEEN: Final = frozenset({Code.PATH_INVALID, Code.REPOSITORY, Code.NOT_SUPPORTED_HERE})
"""Why the versions of a model cannot be seen; gone as soon as they can."""


def _ignore(_metrics: MetricsSettings | None) -> None:
    """Nobody wants to know."""


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

    text: bytes
    config: Config
    models: tuple[ModelSettings, ...]
    faults: tuple[configuration.Fault, ...]


class Manager:
    """Makes passes.

    Args:
        source: what to serve.
        registry: where it becomes visible.
        engine: what loads it.
        lookout: what looks at the disk.
        loaders: the threads for loading.
        pipelines: what is made of models and custom nodes.
        warmup: what comes between loading a version and serving it.
        clock: the time.
    """

    def __init__(
        self,
        source: Source,
        registry: Registry,
        engine: Engine,
        lookout: Lookout,
        pipelines: Pipelines,
        loaders: Executor,
        warmup: WarmUp,
        clock: Clock,
    ) -> None:
        self._source = source
        self._registry = registry
        self._engine = engine
        self._lookout = lookout
        self._pipelines = pipelines
        self._clock = clock
        self._reconciler = Reconciler(registry, engine, loaders, clock, warmup, lookout.elsewhere, self.wake)
        lookout.elsewhere.on_late = self.wake
        self._reloads = Reloads(registry.metrics)
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._reload: asyncio.Task[Outcome] | None = None
        self._text: bytes | None = None
        self._config_failed = False
        self._models: dict[str, ModelSettings] = {}
        self._places: Mapping[str, int] = {}
        self._unloaded: set[str] = set()
        self._warned: dict[str, tuple[str, ...]] = {}
        self._unread: Failure | None = None
        self._unusable: Failure | None = None
        self.is_ready = False
        self.is_draining = False

    async def start(self, on_metrics: Callable[[MetricsSettings | None], None] = _ignore) -> None:
        """Make the first pass.

        Args:
            on_metrics: told what the configuration says about metrics, before the first model is loaded.

        Raises:
            Failure: the configuration file cannot be used, or (with fixed settings) a model cannot be served; what
                ``on_metrics`` raises.
        """
        async with self._lock:
            if self._source.config_path is None:
                on_metrics(None)
                await self._start_fixed()
                is_good = True
            else:
                await self._lookout.watch_config()
                text = await self._lookout.read_config(self._source.config_path)
                look = await self._look(self._source.config_path, text)
                on_metrics(look.config.metrics)
                is_good = (await self._load(look, is_patient=True, is_first=True)).failure is None
            self._reloads.ended(changed=False, failed=not is_good, asked_for=False)
        self.is_ready = True

    async def _start_fixed(self) -> None:
        for settings in self._source.models:
            await self._lookout.scan(self._engine.check, settings)
            self._models[settings.name] = settings
        found, done = await self._converge(retry=True, is_patient=True)
        serves = any(model.available for model in self._registry.models.values())  # though its store may not answer
        for _, failure in (*(() if serves else found), *done.last_failures):
            raise failure

    @property
    def failure(self) -> Failure | None:
        """What is wrong with the configuration file as a whole: it cannot be read, or its text cannot be used."""
        return self._unread or self._unusable

    async def reload(self) -> Outcome:
        """Make a pass now, and try again what has failed before. Callers that wait for the same pass share it."""
        if self._reload is None:
            self._reload = asyncio.ensure_future(self._begin_reload())
        return await asyncio.shield(self._reload)

    async def _begin_reload(self) -> Outcome:
        async with self._lock:
            self._reload = None  # who comes from now on may have changed something that this pass does not see
            return await self._pass(asked_for=True)

    @property
    def names(self) -> list[str]:
        """The models of the configuration, also those that were unloaded by request."""
        return sorted(self._models)

    @property
    def unloaded(self) -> list[str]:
        """Those of them that were unloaded by request."""
        return sorted(self._unloaded)

    async def load(self, name: str) -> None:
        """Serve a model that was unloaded by request, and try again what has failed of any.

        Raises:
            Failure: MODEL_MISSING if the configuration does not name it; if none of its versions serves, why.
        """
        await self._want(name, wanted=True)
        model = self._registry.add_model(name)
        if not model.available:
            failures = [version.failure for version in model.versions.values() if version.failure is not None]
            raise next(iter([*failures, model.failure]), None) or Failure(Code.VERSION_MISSING)

    async def unload(self, name: str) -> None:
        """Stop serving a model of the configuration, until ``load``.

        Raises:
            Failure: MODEL_MISSING if the configuration does not name it.
        """
        await self._want(name, wanted=False)

    async def _want(self, name: str, *, wanted: bool) -> None:
        if name not in self._models:
            raise Failure(Code.MODEL_MISSING)
        async with self._lock:
            (self._unloaded.discard if wanted else self._unloaded.add)(name)
            await self._converge(retry=wanted, is_patient=wanted)
            await self._pipelines.revalidate()

    def wake(self) -> None:
        """Something may have changed: let ``run`` make a pass soon."""
        self._changed.set()

    async def run(self, poll_s: float) -> None:
        """Make a pass after each change, and every so often, for ever."""
        while True:
            if await self._clock.happens(self._changed, poll_s):
                await self._calm()
            self._changed.clear()
            try:
                async with self._lock:
                    await self._pass(asked_for=False)
            except Exception:
                log.exception("Unforeseen error while looking for changes")

    async def _calm(self) -> None:
        """Wait until the changes have come to an end, or for a while at most."""
        for _ in range(MAX_SETTLES):
            self._changed.clear()
            if not await self._clock.happens(self._changed, SETTLE_S):
                return

    async def retire_all(self) -> None:
        """Retire everything, at the end of the process."""
        async with self._lock:
            await self._pipelines.retire_all()
            await self._reconciler.converge({}, retry=False, wait_s=0)

    async def _pass(self, *, asked_for: bool) -> Outcome:
        outcome = await self._make_pass(asked_for=asked_for)
        failed = outcome.failure is not None or self.failure is not None
        self._reloads.ended(changed=outcome.changed, failed=failed, asked_for=asked_for)
        return outcome

    async def _make_pass(self, *, asked_for: bool) -> Outcome:
        if self._source.config_path is not None:
            try:
                text = await self._lookout.read_config(self._source.config_path)
            except Failure as failure:
                self._unread = failure
                if asked_for:
                    return Outcome(False, Code.CONFIG_FILE_MISSING, failure)
            else:
                self._unread = None
                if text != self._text or (asked_for and self._config_failed):
                    outcome = await self._reload_config(self._source.config_path, text, asked_for=asked_for)
                    if asked_for or outcome.failure is None:
                        return outcome
        found, done = await self._converge(retry=asked_for, is_patient=asked_for)
        invalid = await self._pipelines.revalidate()
        first = next(iter((*self._in_order((), found, done), *invalid)), None)
        return Outcome(done.changed, Code.VERSIONS_RELOAD, first)

    async def _reload_config(self, path: str, text: bytes, *, asked_for: bool) -> Outcome:
        """Load a configuration file that has changed, or failed before. A broken one changes nothing."""
        try:
            look = await self._look(path, text)
        except Failure as failure:
            log.error("%s", failure.text)
            self._text, self._config_failed, self._unusable = text, True, failure
            return Outcome(False, Code.CONFIG_RELOAD, failure)
        return await self._load(look, is_patient=asked_for)

    async def _look(self, path: str, text: bytes) -> Look:
        """What a configuration says. A text that cannot be used is read again, before it is called broken."""
        for _ in range(READS - 1):
            try:
                return await self._lookout.scan(self._interpret, path, text)
            except Failure:
                await self._clock.pause(PAUSE_S)
                text = await self._lookout.read_config(path)
        return await self._lookout.scan(self._interpret, path, text)

    def _interpret(self, path: str, text: bytes) -> Look:
        """Read a configuration and check its entries against the devices. Scan thread."""
        try:
            config = configuration.parse(text, _folder(path))
        except Failure as failure:
            raise Failure(failure.code, f"{failure.detail}; in {path}") from failure
        models, faults = [], list(config.faults)
        for settings in config.models:
            try:
                self._engine.check(settings)
                models.append(settings)
            except Failure as failure:
                faults.append(configuration.Fault(settings.name, failure, config.places[settings.name]))
        return Look(text, config, tuple(models), tuple(faults))

    async def _load(self, look: Look, *, is_patient: bool, is_first: bool = False) -> Outcome:
        """Make a configuration the one in force, and bring it about."""
        changed = look.text != self._text
        self._text, self._unusable = look.text, None
        self._warn("", look.config.warnings)
        faults = self._adopt(look)
        converged = self._arrive(look.config) if is_first else self._converge(retry=True, is_patient=is_patient)
        found, done = await converged
        invalid = await self._pipelines.adopt(look.config)
        failure = next(iter((*self._in_order(faults, found, done), *invalid)), None)
        self._config_failed = failure is not None
        return Outcome(changed or done.changed, Code.CONFIG_RELOAD, failure)

    async def _arrive(self, config: Config) -> tuple[list[tuple[str, Failure]], Converged]:
        """Serve what is on this machine at once, and what is elsewhere as it comes, until all of that has come or failed."""
        found, done = await self._converge(retry=True, is_patient=True, is_first=True)
        if self._lookout.elsewhere.is_busy:
            await self._pipelines.adopt(self._without_remote(config))
        while self._lookout.elsewhere.is_busy:
            await self._changed.wait()
            self._changed.clear()
            found, more = await self._converge(retry=False, is_patient=True, is_first=True)
            done = Converged(done.changed or more.changed, done.failures + more.failures)
        return found, done

    def _without_remote(self, config: Config) -> Config:
        """A configuration without the pipelines for which a model from elsewhere is needed."""
        remote = {name for name, settings in self._models.items() if is_remote(settings.base_path)}
        pipelines = (each for each in config.pipelines if not any(node.target in remote for node in each.nodes))
        return replace(config, pipelines=tuple(pipelines))

    def _adopt(self, look: Look) -> list[configuration.Fault]:
        """Take over the settings of a configuration.

        An entry that cannot be served as written leaves a model that serves as it was.
        """
        fresh = {settings.name: settings for settings in look.models}
        faults, places = list(look.faults), look.config.places
        for name in fresh.keys() & self._registry.pipelines.keys():
            failure = Failure(Code.MODEL_NAME_OCCUPIED, f"{name} is the name of a pipeline")
            faults.append(configuration.Fault(name, failure, places[name]))
            del fresh[name]
        for name, settings in fresh.items():
            old = self._models.get(name)
            if old is not None and old.stateful != settings.stateful:
                faults.append(configuration.Fault(name, Failure(Code.MODEL_TYPE_CHANGED, name), places[name]))
                fresh[name] = old
        for name, failure, _ in faults:
            log.error("Model %s: %s", name, failure.text)
            if name not in fresh and name in self._models:
                fresh[name] = self._models[name]
        self._models, self._places = fresh, places
        for name in fresh:
            self._registry.add_model(name).failure = None
        for name, failure, _ in faults:
            if name in fresh:
                self._registry.models[name].failure = failure
        return faults

    async def _converge(
        self, *, retry: bool, is_patient: bool, is_first: bool = False
    ) -> tuple[list[tuple[str, Failure]], Converged]:
        """Look at the version folders and bring about what they and the settings ask for.

        Versions that are being written are waited for if somebody is patient; else they are left for a pass to come soon.
        The first time nothing elsewhere is waited for, as the caller comes back until all has come.
        """
        models = [settings for name, settings in self._models.items() if name not in self._unloaded]
        waits_for_all = not (self.is_ready and self._lookout.elsewhere.comes_back)
        look_s = None if waits_for_all else LOOK_WAIT_S
        look = partial(self._lookout.arrivals, models) if is_first else partial(self._lookout.folders, models, look_s)
        found = await look()
        if is_patient:
            for _ in range(MAX_LOOKS):
                if not _is_fresh(found):
                    break
                await self._clock.pause(FRESH_S)
                found = await look()
            found = {name: each if isinstance(each, Failure) else each.as_it_is() for name, each in found.items()}
        failures = []
        for name, each in found.items():
            model = self._registry.add_model(name)
            failure, warnings = (each, ()) if isinstance(each, Failure) else (each.failure, each.warnings)
            if failure is not None:
                failures.append((name, failure))
                if model.failure is None or model.failure.text != failure.text:
                    log.error("Model %s: %s", name, failure.text)
                model.failure = failure
            else:
                self._warn(name, warnings)
                if model.failure is not None and model.failure.code in UNSEEN:
                    model.failure = None
        wishes = {settings.name: Wish(settings, found[settings.name]) for settings in models if settings.name in found}
        fetch_s = 0 if is_first else None if waits_for_all else FETCH_WAIT_S if is_patient else 0
        done = await self._reconciler.converge(wishes, retry=retry, wait_s=fetch_s)
        if _is_fresh(found):
            self.wake()
        return failures, done

    def _in_order(
        self, faults: Iterable[configuration.Fault], found: Iterable[tuple[str, Failure]], done: Converged
    ) -> list[Failure]:
        """What is wrong with models, in the order of the configuration: with entries, with folders, with versions."""
        placed = [(fault.place, fault.failure) for fault in faults]
        placed += [(self._places.get(name, 0), failure) for name, failure in (*found, *done.failures)]
        return [failure for _, failure in sorted(placed, key=itemgetter(0))]

    def _warn(self, about: str, warnings: tuple[str, ...]) -> None:
        """Tell the operator what the last look has not told already."""
        before = self._warned.get(about, ())
        self._warned[about] = warnings
        for warning in warnings:
            if warning not in before:
                log.log(logging.ERROR if is_grave(warning) else logging.WARNING, "%s", warning)


def _folder(path: str) -> str:
    """The folder of a file, as relative paths in it are read."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def _is_fresh(found: Looks) -> bool:
    """Whether any version may still be written."""
    return any(not isinstance(each, Failure) and each.is_fresh for each in found.values())
