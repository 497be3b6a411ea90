"""Stand-ins for what a unit test must not use: an engine without OpenVINO, folders without a disk, a clock that is set."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Layout, Precision, Shape, TensorSpec
from tornado_ovms.engine.base import ExecutableStats
from tornado_ovms.storage import Found, VersionFolder

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.core.settings import ModelSettings


def spec(name: str = "b", shape: Sequence[int] = (1, 10), precision: Precision = Precision.FP32) -> TensorSpec:
    """A tensor of fixed sizes."""
    return TensorSpec(name, precision, Shape.of(shape), Layout.default(len(shape)))


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


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
    """b -> a = b + version; waits at ``gate`` if there is one."""

    def __init__(self, version: int = 1) -> None:
        self.inputs: Mapping[str, TensorSpec] = {"b": spec("b")}
        self.outputs: Sequence[TensorSpec] = [spec("a")]
        self.version = version
        self.is_quick = False
        self.closed = threading.Event()
        self.gate: asyncio.Event | None = None

    async def infer(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See ``Executable``."""
        if self.gate is not None:
            await self.gate.wait()
        return self.infer_now(arrays)

    def infer_now(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See ``Executable``."""
        return [arrays["b"] + np.float32(self.version)]

    def stats(self) -> ExecutableStats:
        """See ``Executable``."""
        return ExecutableStats(1, 1, 0, 0)

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
    """Folders as a mapping of base path to versions, each with a stamp that stands for its files."""

    def __init__(self, config: bytes = b"") -> None:
        self.config: bytes | Failure = config
        self.folders: dict[str, dict[int, int]] = {}

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
                number: VersionFolder(f"{base_path}/{number}", (("model.xml", 1, stamp),))
                for number, stamp in self.folders[base_path].items()
            },
            (),
        )
