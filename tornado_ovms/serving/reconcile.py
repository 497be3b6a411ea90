"""From what should be served to what is served: loads and retires versions until the two agree.

``Reconciler.converge`` asks the pure ``plan`` what to do next and does it, again and again. Loading and closing block,
so they run in loader threads; a version that lies elsewhere is copied before, which may go on beside the passes. Everything else
here belongs to the event loop. Only one ``converge`` may run at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from tornado_ovms import allocator
from tornado_ovms.core.lifecycle import Blueprint, Event, Key, Load, Retire, State, aspire, plan
from tornado_ovms.core.settings import LatestVersions, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.servable import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Executor

    from tornado_ovms.engine.base import Engine, Executable
    from tornado_ovms.serving.elsewhere import Elsewhere
    from tornado_ovms.serving.registry import Registry, Version
    from tornado_ovms.serving.warmup import Arrays, WarmUp
    from tornado_ovms.storage.base import Found

log = logging.getLogger("modelmanager")

T = TypeVar("T")

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
"""A version that failed is tried again after 1, 2, 4 … 60 s, unless its files change or somebody asks for a reload."""


UNLOADING_WAIT_S: Final = 10.0
"""How long a pass waits for the last requests of what it has retired; after that they go on beside the next passes."""


LATER: Final = Failure(Code.VERSION_NOT_LOADED_YET)
"""Stands for the load of a version that is still being copied."""


class Wish(NamedTuple):
    """What is wanted of one model: its settings, and the versions on disk, or why they cannot be seen.

    A model whose versions cannot be seen stays as it is. Of one for which only what was seen before is known, versions come and
    are replaced by that, and none goes that it does not tell of.
    """

    settings: ModelSettings
    found: Found | Failure


@dataclass(frozen=True, slots=True)
class Converged:
    """What a round of loading and retiring came to.

    ``failures`` are those of versions with the names of their models, in the order in which they came; ``last_failures`` those
    of the last round only, after substitutes had been tried.
    """

    changed: bool = False
    failures: tuple[tuple[str, Failure], ...] = ()
    last_failures: tuple[tuple[str, Failure], ...] = ()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A load that failed: of what, why, and when it may be tried again."""

    blueprint: Blueprint
    failure: Failure
    delay_s: float
    due_s: float


class Reconciler:
    """Loads and retires versions.

    Args:
        registry: where versions become visible.
        engine: what loads them.
        loaders: the threads in which loading and closing block.
        clock: seconds, never going back.
        warmup: what comes between loading a version and serving it.
        elsewhere: what brings versions that do not lie on this machine.
        on_late_end: called when a version has been unloaded after the pass that retired it: it may be wanted again.
    """

    def __init__(
        self,
        registry: Registry,
        engine: Engine,
        loaders: Executor,
        clock: Callable[[], float],
        warmup: WarmUp,
        elsewhere: Elsewhere,
        on_late_end: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._loaders = loaders
        self._clock = clock
        self._warmup = warmup
        self._elsewhere = elsewhere
        self._on_late_end = on_late_end
        self._failed: dict[Key, _Attempt] = {}
        self._disposals: set[asyncio.Task[None]] = set()

    async def converge(self, wishes: Mapping[str, Wish], *, retry: bool, wait_s: float | None) -> Converged:
        """Load and retire until nothing is left to do.

        Args:
            wishes: what should be served, by model; every other model is retired.
            retry: try failed versions at once, not only when their time has come or their files have changed.
            wait_s: how long copies of versions from elsewhere are waited for; None if as long as it takes.
        """
        done = Converged()
        tried: set[Key] = set()
        late = frozenset(self._disposals)
        while True:
            aspired, kept = self._aspired(wishes, tried, retry=retry)
            actions = plan(aspired, kept, self._registry.current())
            loads = [action for action in actions if isinstance(action, Load)]
            if loads:
                results = await asyncio.gather(*(self._load(load, wait_s) for load in loads))
                tried |= {load.blueprint.key for load in loads}
                failures = tuple(
                    (load.blueprint.key.name, failure)
                    for load, failure in zip(loads, results, strict=True)
                    if failure is not None and failure is not LATER
                )
                changed = done.changed or None in results
                done = Converged(changed, done.failures + failures, failures)
            elif actions:
                for action in actions:
                    if isinstance(action, Retire):
                        self._retire(action.key)
                done = dataclasses.replace(done, changed=True)
            else:
                break
        if ours := self._disposals - late:
            _, pending = await asyncio.wait(ours, timeout=UNLOADING_WAIT_S)
            for disposal in pending:
                disposal.add_done_callback(lambda _: self._on_late_end())
        await self._elsewhere.keep(
            {there.blueprint.path for there in self._registry.current().values() if there.status.state is not State.END}
            | {attempt.blueprint.path for attempt in self._failed.values()}
        )
        return done

    def _aspired(self, wishes: Mapping[str, Wish], tried: set[Key], *, retry: bool) -> tuple[list[Blueprint], set[Key]]:
        """What should be served, and the versions that are left as they are."""
        aspired: list[Blueprint] = []
        kept: set[Key] = set()
        current = self._registry.current()
        for name, (settings, found) in wishes.items():
            if isinstance(found, Failure):
                kept |= {key for key in current if key.name == name}
                continue
            bare = dataclasses.replace(settings, version_policy=LatestVersions())
            blueprints = {
                version: Blueprint(Key(name, version), bare, folder.path, folder.fingerprint)
                for version, folder in found.versions.items()
            }
            held = {
                each.key
                for version, each in blueprints.items()
                if found.versions[version].is_fresh or self._stands_failed(each, tried, retry=retry)
            }
            serving = {key for key in held if key in current and current[key].status.state is State.AVAILABLE}
            wanted, struck = aspire(settings.version_policy, blueprints, {key.version for key in held - serving})
            if found.failure is not None:
                kept |= {key for key in current if key.name == name and key.version not in blueprints}
            aspired += [blueprints[version] for version in wanted]
            kept |= serving | {Key(name, version) for version in struck}
            if coming := {version for version in wanted if self._elsewhere.is_under_way(blueprints[version])}:
                # What they will take the place of serves until they are there.
                kept |= {key for key in current if key.name == name and key.version not in wanted}
                kept |= {Key(name, version) for version in coming}
        return aspired, kept

    def _stands_failed(self, blueprint: Blueprint, tried: set[Key], *, retry: bool) -> bool:
        """Whether a version has failed and is not to be tried (again) now."""
        attempt = self._failed.get(blueprint.key)
        if attempt is None or attempt.blueprint != blueprint:
            return False
        return blueprint.key in tried or (not retry and self._clock() < attempt.due_s)

    async def _load(self, action: Load, wait_s: float | None) -> Failure | None:
        """Load a version; why it failed, or ``LATER``."""
        blueprint = action.blueprint
        key = blueprint.key
        version = self._registry.add_version(blueprint)
        if not action.replaces:
            version.blueprint = blueprint
            if not version.is_loading:
                self._registry.advance(key, Event.LOAD)
        begun = self._clock()
        try:
            if not await self._elsewhere.fetch(blueprint, wait_s):
                return LATER
            instance = await self._bring_up(blueprint)
        except Exception as error:
            failure = error if isinstance(error, Failure) else Failure(Code.INTERNAL, repr(error))
            if failure is not error:
                log.error("Unforeseen error while loading model: %s; version: %d", *key, exc_info=error)
            self._note_failure(blueprint, version, failure)
            return failure
        self._failed.pop(key, None)
        version.cells.loaded(self._clock() - begun, is_good=True)
        self._swap(version, instance)
        return None

    async def _bring_up(self, blueprint: Blueprint) -> Instance:
        """Load a version and warm it up."""
        instance, arrays = await self._in_loader(self._load_and_read, blueprint)
        if arrays is not None:
            try:
                await self._warmup.run(instance, arrays)
            except BaseException:
                await self._in_loader(_close, instance.executable)
                raise
        return instance

    def _load_and_read(self, blueprint: Blueprint) -> tuple[Instance, Arrays | None]:
        """Load a version, and read what it is warmed up with. In a loader thread, and in one go: other models wait for it."""
        instance = Instance(blueprint, self._engine.load(blueprint))
        try:
            return instance, self._warmup.read_arrays(instance)
        except BaseException:
            _close(instance.executable)
            raise

    def _swap(self, version: Version, fresh: Instance) -> None:
        """Let a version be served by a fresh instance; the one that did so before goes when its requests are done."""
        old, version.instance = version.instance, fresh
        version.blueprint = fresh.blueprint
        version.failure = None
        self._registry.advance(fresh.blueprint.key, Event.LOADED)
        if old is not None:
            self._begin(self._dispose(old))

    def _note_failure(self, blueprint: Blueprint, version: Version, failure: Failure) -> None:
        before = self._failed.get(blueprint.key)
        again = before is not None and before.blueprint == blueprint
        delay_s = min(before.delay_s * 2, LAST_RETRY_S) if again and before is not None else FIRST_RETRY_S
        self._failed[blueprint.key] = _Attempt(blueprint, failure, delay_s, self._clock() + delay_s)
        version.failure = failure
        version.cells.loaded(0, is_good=False)
        name, number = blueprint.key
        log.error("Error occurred while loading model: %s; version: %d; error: %s", name, number, failure.text)
        self._registry.advance(blueprint.key, Event.FAILED)

    def _retire(self, key: Key) -> None:
        version = self._registry.models[key.name].versions[key.version]
        log.info("Will unload model: %s; version: %d ...", *key)
        self._failed.pop(key, None)
        version.failure = None
        self._registry.advance(key, Event.RETIRE)
        instance, version.instance = version.instance, None
        if instance is not None:
            self._begin(self._unload(key, instance))

    async def _unload(self, key: Key, instance: Instance) -> None:
        await self._dispose(instance)
        self._registry.advance(key, Event.UNLOADED)

    def _begin(self, disposal: Coroutine[Any, Any, None]) -> None:
        """Let a disposal go on by itself: requests may take their time, and the next pass should not wait for them."""
        task = asyncio.ensure_future(disposal)
        self._disposals.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._disposals.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A version could not be unloaded", exc_info=error)

    async def _dispose(self, instance: Instance) -> None:
        """Wait until nobody uses an instance, then give its memory back."""
        if instance.leases:
            log.info(
                "Waiting to unload model: %s version: %d. Blocked by: %d inferences in progress.",
                *instance.blueprint.key, instance.leases,
            )  # fmt: skip
        await instance.idle()
        await self._in_loader(_close, instance.executable)

    async def _in_loader(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loaders, function, *args)


def _close(executable: Executable) -> None:
    """Close, and give the memory back to the system. Loader thread."""
    executable.close()
    allocator.give_back()
