"""OpenVINO behind the ``Engine`` protocol: reads, prepares and compiles a version, and gives it a pool of requests.

``load`` is called in loader threads, ``check`` in any thread; OpenVINO's ``Core`` is safe for both.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import openvino as ov
from openvino._offline_transformations import apply_low_latency_transformation

from tornado_ovms.core.model_files import MAPPING_FILE, NameMapping, find_model_files, parse_mapping
from tornado_ovms.core.plugin_config import translate
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine import quick
from tornado_ovms.engine.batched import Batched
from tornado_ovms.engine.open_batch import check_rows, open_batch, time_rows
from tornado_ovms.engine.pool import RequestPool, by_name, find_property, reason
from tornado_ovms.engine.preparation import Prepared, prepare
from tornado_ovms.engine.tensors import is_small

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping, Sequence

    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.core.settings import Batching, ModelSettings
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.base import Executable
    from tornado_ovms.engine.quick import Quick

log = logging.getLogger("modelmanager")

MAX_NIREQ: Final = 100000

INFO: Final = "model_info"
"""The part of a model's runtime information that clients see."""

MMAP: Final = "ENABLE_MMAP"
"""Off unless ``plugin_config`` says otherwise. Weights that OpenVINO maps are those of the file as it is now: one that is copied
over changes the model that serves, and the process dies of SIGBUS while the file is shorter than it was."""

LOCK: Final = ".lock"
"""A file in the cache folder."""

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

UNJOINED_S: Final = 0.000075
"""A model that infers in less time than this (0.05 ms of it is the trial's own) is run on the loop at once. With 10 numbers in
and out (0.01 ms) joining answers 1.0 to 1.1 times as many requests of 32 connections, but 0.5 times as many of one: waiting
for others costs a task, a turn of the loop and OpenVINO's threads. With 0.03 ms (four layers of 256) joining answers 1.1 to
1.6 times as many."""

JOINED_ROWS: Final = 8

WORTH: Final = 0.75
"""Requests are joined if so many rows together take less than this part of the time that they take one by one. Layers of weights
take 0.2 to 0.5, convolutions 0.95 to 1: these would only wait for each other (0.66 times as many requests were answered on a busy
machine). What cannot be tried on zeros is joined, since the operator says so."""

ALWAYS_KNOWN: Final = frozenset({"CACHE_DIR", MMAP, "DEVICE_PROPERTIES"})
"""Keys that OpenVINO takes for every device, although the devices do not list them."""


class OpenVinoEngine:
    """The ``Engine`` that serves.

    Args:
        loop: the event loop that infers.
        cache_dir: where compiled models are kept, or None.
        defaults: properties of the CPU that hold unless ``plugin_config`` names them. OpenVINO's own look at the host, not
            at the container.
        nireq: infer requests of models that do not say; 0 for what OpenVINO finds best.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cache_dir: str | None,
        defaults: Mapping[str, Any] = NOTHING,
        nireq: int = 0,
    ) -> None:
        self._loop = loop
        self._cache_dir = cache_dir
        self._defaults = defaults
        self._nireq = nireq
        self._core = ov.Core()

    @property
    def devices(self) -> Sequence[str]:
        """The devices of this machine."""
        devices: Sequence[str] = self._core.available_devices
        return devices

    def add_extension(self, path: str) -> None:
        """Load a library with more layers for the CPU.

        Raises:
            Failure: MODEL_LOAD with what OpenVINO says.
        """
        try:
            self._core.add_extension(path)
        except Exception as error:
            raise Failure(Code.MODEL_LOAD, reason(error)) from error

    def check(self, settings: ModelSettings) -> None:
        """See ``Engine.check``. A device that is not there passes: it is found out when the model is compiled."""
        config, _ = translate(settings.plugin_config)
        known = self._known_keys(settings.target_device)
        unknown = sorted(config.keys() - known - ALWAYS_KNOWN)
        if known and unknown:
            device = settings.target_device
            log.error("Plugin config key: %s not found in supported config keys for device: %s.", unknown[0], device)
            log.error("Plugin config contains unsupported keys")
            raise Failure(
                Code.MODEL_CONFIG_INVALID,
                f"Plugin config key: {unknown[0]} not found in supported config keys for device: {device}",
            )

    def _known_keys(self, target: str) -> frozenset[str]:
        """The union over the devices that a target such as ``AUTO:GPU,CPU`` or ``MULTI:GPU(4)`` names."""
        keys: set[str] = set()
        for device in re.split(r"[:,]", re.sub(r"\(\d+\)", "", target)):
            try:
                keys.update(self._core.get_property(device, "SUPPORTED_PROPERTIES"))
            except RuntimeError:
                continue
        return frozenset(keys)

    def load(self, blueprint: Blueprint) -> Executable:
        """See ``Engine.load``."""
        settings, (name, version) = blueprint.settings, blueprint.key
        device = settings.target_device
        log.info(
            "Loading model: %s, version: %d, from path: %s, with target device: %s ...",
            name, version, blueprint.path, device,
        )  # fmt: skip
        if settings.custom_loader is not None:
            raise Failure(Code.NOT_SUPPORTED_HERE, f"custom loader {settings.custom_loader!r}")
        if settings.nireq > MAX_NIREQ:
            raise Failure(Code.NIREQ_TOO_HIGH, "Exceeded allowed nireq value")
        model = self._read(blueprint)
        info = model.get_rt_info([INFO]).value if model.has_rt_info([INFO]) else {}
        if settings.stateful and settings.low_latency_transformation:
            _turn_loops_into_states(model)
        prepared = prepare(model, settings, _read_mapping(blueprint))
        batching = settings.batching
        if batching is None:
            executable: Executable = self._pool(prepared, self._compile(prepared, settings), settings, info)
        else:
            executable = self._batched(prepared, settings, batching, info)
        _log_loaded(blueprint, prepared, executable)
        return executable

    def _pool(
        self, prepared: Prepared, compiled: ov.CompiledModel, settings: ModelSettings, info: Mapping[str, Any]
    ) -> RequestPool:
        return RequestPool(
            compiled,
            prepared.inputs,
            prepared.outputs,
            settings.nireq or self._nireq or int(find_property(compiled, "OPTIMAL_NUMBER_OF_INFER_REQUESTS", 1)),
            self._loop,
            Code.RESHAPE if settings.has_auto else Code.INFERENCE,
            info,
            self._find_quick(compiled, prepared, settings),
        )

    def _batched(
        self, prepared: Prepared, settings: ModelSettings, batching: Batching, info: Mapping[str, Any]
    ) -> Executable:
        """A pool that takes any batch, and what joins requests before it; a plain one if that does not pay.

        Raises:
            Failure: BATCHING.
        """
        opened = open_batch(prepared, batching.max_batch)
        compiled = self._compile(opened.prepared, settings)
        request = compiled.create_infer_request()
        check_rows(request, opened)
        one = time_rows(request, opened, 1)
        is_quick = all(map(is_small, prepared.inputs)) and one < UNJOINED_S
        many = min(JOINED_ROWS, batching.max_batch)
        if is_quick or time_rows(request, opened, many) > one * many * WORTH:
            log.info("Requests are not joined, since it does not pay here: %s takes %.6f s", settings.name, one)
            del request, compiled
            return self._pool(prepared, self._compile(prepared, settings), settings, info)
        pool = self._pool(opened.prepared, compiled, settings, info)
        return Batched(pool, by_name(prepared.inputs), pool.outputs, opened.axes, batching, self._loop)

    def _read(self, blueprint: Blueprint) -> ov.Model:
        """Read the model's files.

        Raises:
            Failure: MODEL_FILES_MISSING or MODEL_UNREADABLE.
        """
        name, version = blueprint.key
        files = find_model_files(path for path, _, _ in blueprint.fingerprint if "/" not in path)
        if files is None:
            raise Failure(
                Code.MODEL_FILES_MISSING,
                f"Could not find file for model: {name} version: {version} in path: {blueprint.path}",
            )
        try:
            config = {MMAP: blueprint.settings.plugin_config.get(MMAP, False)}
            weights = None if files.weights is None else str(Path(blueprint.path, files.weights))
            return self._core.read_model(str(Path(blueprint.path, files.model)), weights, config=config)
        except Exception as error:
            raise Failure(Code.MODEL_UNREADABLE, reason(error)) from error

    def _find_quick(self, compiled: ov.CompiledModel, prepared: Prepared, settings: ModelSettings) -> Quick | None:
        """What runs the model on the loop, compiled once more for that; None for most models."""
        if settings.target_device != "CPU" or quick.find(compiled, prepared.inputs, prepared.outputs) is None:
            return None
        return quick.find(self._compile(prepared, settings, quick.ON_LOOP), prepared.inputs, prepared.outputs)

    def _compile(
        self, prepared: Prepared, settings: ModelSettings, otherwise: Mapping[str, Any] = NOTHING
    ) -> ov.CompiledModel:
        """Compile for the device; ``otherwise`` holds where the settings say nothing.

        Raises:
            Failure: COMPILE.
        """
        config: dict[str, Any]
        translated, warnings = translate(settings.plugin_config)
        for warning in warnings:
            log.warning("%s", warning)
        defaults = self._defaults if settings.target_device == "CPU" else NOTHING
        config = {**defaults, **otherwise, **translated}
        if self._cache_dir is not None and (settings.allow_cache or not settings.has_auto):
            config.setdefault("CACHE_DIR", self._cache_dir)
        try:
            with _alone(config.get("CACHE_DIR")):
                return self._core.compile_model(prepared.model, settings.target_device, config)
        except Exception as error:
            raise Failure(Code.COMPILE, f"{settings.target_device}: {reason(error)}") from error


@contextlib.contextmanager
def _alone(cache_dir: str | None) -> Iterator[None]:
    """Keep other processes from compiling into the same folder: OpenVINO writes where another one may be reading.

    Who waits finds the model there afterwards, so that several workers come to compile it once.
    """
    if cache_dir is None:
        yield
        return
    try:
        descriptor = os.open(Path(cache_dir, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # a folder that can only be read
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_mapping(blueprint: Blueprint) -> NameMapping:
    """The version's new names of tensors; a file that cannot be used is told of and ignored, as in the reference."""
    name = blueprint.key.name
    if all(path != MAPPING_FILE for path, _, _ in blueprint.fingerprint):
        return NameMapping()
    try:
        return parse_mapping(Path(blueprint.path, MAPPING_FILE).read_bytes())
    except (OSError, ValueError) as error:
        log.error("Model: %s mapping configuration file is not a valid JSON file. Error: %s", name, error)
        return NameMapping()


def _turn_loops_into_states(model: ov.Model) -> None:
    """OpenVINO's LowLatency2: what a loop carries from one step to the next becomes a state of the model.

    Raises:
        Failure: MODEL_UNREADABLE with what OpenVINO says.
    """
    try:
        apply_low_latency_transformation(model)
    except Exception as error:
        raise Failure(Code.MODEL_UNREADABLE, f"low_latency_transformation: {reason(error)}") from error


def _log_loaded(blueprint: Blueprint, prepared: Prepared, executable: Executable) -> None:
    """The lines about a loaded model that operators' scripts look for."""
    for kind, specs in (("Input", prepared.inputs), ("Output", [spec for _, spec in prepared.outputs])):
        for spec in specs:
            log.info(
                "%s name: %s; mapping_name: %s; shape: %s; precision: %s; layout: %s",
                kind, spec.name, spec.name, spec.shape, spec.precision.value, spec.layout,
            )  # fmt: skip
    batch = _batch(prepared.inputs[0])
    requests = executable.stats().requests
    log.info("Loaded model %s; version: %d; batch size: %s; No of InferRequests: %d", *blueprint.key, batch, requests)


def _batch(spec: TensorSpec) -> str:
    axis = spec.batch_axis
    return "none" if axis is None else str(spec.shape[axis])
