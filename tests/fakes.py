"""Stand-ins for what a unit test must not use: an engine without OpenVINO, folders without a disk, a clock that is set."""

from __future__ import annotations

import asyncio
import selectors
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Layout, Precision, Shape, TensorSpec
from tornado_ovms.engine.base import ExecutableStats, Inference
from tornado_ovms.serving.clock import Clock
from tornado_ovms.serving.elsewhere import Elsewhere
from tornado_ovms.storage.base import Found, VersionFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.core.settings import ModelSettings
    from tornado_ovms.engine.base import States

T = TypeVar("T")


def spec(name: str = "b", shape: Sequence[int] = (1, 10), precision: Precision = Precision.FP32) -> TensorSpec:
    """A tensor of fixed sizes."""
    return TensorSpec(name, precision, Shape.of(shape), Layout.default(len(shape)))


NEVER_S = 1e5
"""So long a time does not pass for a fake clock."""


class FakeClock(Clock):
    """Seconds that pass when somebody waits, or when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """See ``Clock``."""
        return self.now

    async def pause(self, seconds: float) -> None:
        """See ``Clock``."""
        self.now += seconds
        await asyncio.sleep(0)

    async def happens(self, event: asyncio.Event, within_s: float) -> bool:
        """See ``Clock``."""
        if within_s > NEVER_S:
            await event.wait()
        elif not event.is_set():
            await self.pause(within_s)
        return event.is_set()


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting it lets the time of its loop pass."""

    def __init__(self, pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See ``selectors``."""
        if timeout is None:
            raise AssertionError("the loop would wait for ever")
        self._pass_time(max(timeout, 0))
        return super().select(0)


class FakeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when nothing else is to be done; ``in_threads`` counts what goes there.

    It has no threads: what is meant for one is done at once.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.in_threads = 0
        super().__init__(_JumpingSelector(self._pass))

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        """See ``asyncio.AbstractEventLoop``."""
        return self.now

    def run_in_executor(self, _executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """See ``asyncio.AbstractEventLoop``."""
        self.in_threads += 1
        future = self.create_future()
        future.set_result(function(*args))
        return future

    def play(self, test: Coroutine[Any, Any, T]) -> T:
        """Run a test to its end, and close the loop."""
        try:
            return self.run_until_complete(test)
        finally:
            self.close()


class InlineExecutor(Executor):
    """Runs at once what it is given, on the thread that gives it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See ``Executor``."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is handed over
            future.set_exception(error)
        return future


class FakeExecutable:
    """b -> a = b + version; waits at ``gate`` if there is one, and fails if it has a ``failure``."""

    def __init__(self, version: int = 1) -> None:
        self.inputs: Mapping[str, TensorSpec] = {"b": spec("b")}
        self.outputs: Sequence[TensorSpec] = [spec("a")]
        self.version = version
        self.is_quick = False
        self.info: Mapping[str, Any] = {}
        self.closed = threading.Event()
        self.gate: asyncio.Event | None = None
        self.failure: Failure | None = None
        self.requests = 1
        self.inferred = 0

    async def infer(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable``."""
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.inferred += 1
        return self.infer_now(arrays)

    def infer_now(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable``."""
        return Inference([arrays["b"] + np.float32(self.version)], 0.25, 0.5)

    async def infer_with_states(
        self, arrays: Mapping[str, np.ndarray], states: States | None
    ) -> tuple[Inference, States]:
        """See ``Executable``: the state is the sum of b so far, and the output."""
        total = arrays["b"] + (0 if states is None else states["total"])
        await self.infer(arrays)
        return Inference([total], 0.25, 0.5), {"total": total}

    def stats(self) -> ExecutableStats:
        """See ``Executable``."""
        return ExecutableStats(1, self.requests, 0, 0)

    def close(self) -> None:
        """See ``Executable``."""
        self.closed.set()


class FakeEngine:
    """Loads everything but what ``broken`` names: versions (name, number), or folders by their path."""

    def __init__(self) -> None:
        self.broken: set[object] = set()
        self.unknown_keys: set[str] = set()
        self.loaded: list[Blueprint] = []
        self.executables: list[FakeExecutable] = []

    def check(self, settings: ModelSettings) -> None:
        """See ``Engine``."""
        for key in settings.plugin_config:
            if key in self.unknown_keys:
                raise Failure(Code.MODEL_CONFIG_INVALID, f"Plugin config key: {key}")

    def load(self, blueprint: Blueprint) -> FakeExecutable:
        """See ``Engine``."""
        self.loaded.append(blueprint)
        if blueprint.key in self.broken or blueprint.path in self.broken:
            raise Failure(Code.MODEL_UNREADABLE, "broken")
        executable = FakeExecutable(blueprint.key.version)
        self.executables.append(executable)
        return executable


class FakeStorage:
    """Folders as a mapping of base path to versions, each with a stamp that stands for its files; ``fresh`` has paths."""

    def __init__(self, config: bytes = b"") -> None:
        self.config: bytes | Failure = config
        self.folders: dict[str, dict[int, int]] = {}
        self.fresh: set[str] = set()
        self.warnings: tuple[str, ...] = ()

    def read_config(self, _path: str) -> bytes:
        """See ``LocalStorage``."""
        if isinstance(self.config, Failure):
            raise self.config
        return self.config

    def versions(self, base_path: str) -> Found:
        """See ``LocalStorage``."""
        if base_path not in self.folders:
            raise Failure(Code.PATH_INVALID, f"Directory does not exist: {base_path}")
        return Found(
            {
                number: VersionFolder(path := f"{base_path}/{number}", (("model.xml", 1, stamp),), path in self.fresh)
                for number, stamp in self.folders[base_path].items()
            },
            self.warnings,
            (base_path, *(f"{base_path}/{number}" for number in self.folders[base_path])),
        )


class FakeRemote:
    """Versions elsewhere, by URL: a stamp for each that stands for its files, or why they cannot be seen.

    What is fetched waits at ``gate``; ``broken`` has the paths of versions that cannot be fetched; ``recalled`` says of which
    URLs the versions are those of an earlier look, and why.
    """

    def __init__(self) -> None:
        self.folders: dict[str, dict[int, int] | Failure] = {}
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.here: set[str] = set()
        self.fetched: list[str] = []
        self.forgotten: list[str] = []
        self.recalled: dict[str, Failure] = {}
        self.sweeps = 0

    def versions(self, base_path: str) -> Found:
        """See ``RemoteStorage``."""
        found = self.folders[base_path]
        if isinstance(found, Failure):
            raise found
        return Found(
            {
                number: VersionFolder(f"/copies/{number}-{stamp}", (("model.xml", 1, stamp),))
                for number, stamp in found.items()
            },
            (),
            failure=self.recalled.get(base_path),
        )

    def fetch(self, blueprint: Blueprint) -> None:
        """See ``RemoteStorage``."""
        self.gate.wait()
        if blueprint.path in self.broken:
            raise Failure(Code.REPOSITORY, blueprint.path)
        self.fetched.append(blueprint.path)
        self.here.add(blueprint.path)

    def release(self, path: str) -> None:
        """See ``RemoteStorage``."""
        self.here.remove(path)

    def forget(self, base_path: str) -> None:
        """See ``RemoteStorage``."""
        self.forgotten.append(base_path)

    def sweep(self) -> None:
        """See ``RemoteStorage``."""
        self.sweeps += 1


class SlowRemote(FakeRemote):
    """Listings wait at ``gate``, too, unless it ``lists_at_once``; ``looks`` counts them."""

    looks = 0
    lists_at_once = False

    def versions(self, base_path: str) -> Found:
        """See ``RemoteStorage``."""
        self.looks += 1
        if not self.lists_at_once:
            self.gate.wait()
        return super().versions(base_path)


def elsewhere(remote: FakeRemote, threads: Executor | None = None) -> Elsewhere:
    """What looks there and copies from there, at once unless there are threads for it."""
    inline = threads or InlineExecutor()
    return Elsewhere(remote, inline, inline, comes_back=True)  # type: ignore[arg-type]


class FakeWatcher:
    """Remembers what it is asked to watch."""

    def __init__(self) -> None:
        self.watched: set[str] = set()

    def watch(self, paths: Iterable[str]) -> bool:
        """See ``Watcher``."""
        before, self.watched = self.watched, set(paths)
        return bool(self.watched - before)
