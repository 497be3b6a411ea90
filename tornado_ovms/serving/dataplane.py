"""The API without its transport: bytes in, ``Reply`` out.

Every method belongs to the event loop. What takes long (big bodies, pictures, big answers) runs in the pool of decode
threads; small bodies are read on the loop, since a thread costs about 50 µs and they take less.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np

from tornado_ovms.codec import tfs
from tornado_ovms.core import sequences
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import ExecutableStats
from tornado_ovms.serving import requests
from tornado_ovms.serving.servable import Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from tornado_ovms.core.settings import Limits, NonFinite
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.metrics import Metrics
    from tornado_ovms.serving.manager import Manager, Outcome
    from tornado_ovms.serving.registry import Model, Registry
    from tornado_ovms.serving.sequences import Sequences
    from tornado_ovms.serving.servable import Instance

    Outputs = tuple[Sequence[TensorSpec], list[np.ndarray]]

T = TypeVar("T")

ON_LOOP_BYTES: Final = 65536
"""Bodies and arrays up to this size are read and written on the loop (well under a millisecond)."""

JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"


class Reply(NamedTuple):
    """An answer: its HTTP status, its body in pieces, and what the body is."""

    status: int
    body: Sequence[bytes]
    content_type: str = JSON


def refusal(failure: Failure) -> Reply:
    """The answer to a request that failed."""
    return Reply(failure.http, [tfs.write_error(failure.text)])


async def _take_step(
    lease: Lease, open_sequences: Sequences, step: sequences.Step, arrays: Mapping[str, np.ndarray]
) -> Outputs:
    """One request of a sequence; the answer tells its id."""
    with lease as instance:
        number, outputs = await open_sequences.infer(step, arrays)
        specs = (*instance.executable.outputs, sequences.SPECS[sequences.ID])
        return specs, [*outputs, np.array([number], np.uint64)]


class DataPlane:
    """Answers requests.

    Args:
        registry: what is served.
        manager: what keeps it up to date.
        metrics: what is counted.
        pool: threads for what takes long.
        limits: what a request may cost.
        non_finite: how NaN and the infinities are written.
    """

    def __init__(
        self,
        registry: Registry,
        manager: Manager,
        metrics: Metrics,
        pool: Executor,
        limits: Limits,
        non_finite: NonFinite,
    ) -> None:
        self._metrics = metrics
        self._registry = registry
        self._manager = manager
        self._pool = pool
        self._limits = limits
        self._non_finite = non_finite

    def predict(self, name: str, version: int | None, body: bytes, encoding: str = "") -> Reply | Awaitable[Reply]:
        """Answer a TensorFlow Serving prediction: at once if that takes less time than a task and a thread would cost.

        An awaitable holds a lease on the model, so it has to be awaited.

        Args:
            name: the model's name.
            version: the version, None for the default one.
            body: the request's body as received.
            encoding: its ``Content-Encoding``.

        Raises:
            Failure: whatever is wrong with the request, the model or the inference.
        """
        model = self._registry.model(name)
        if encoding or len(body) > ON_LOOP_BYTES or model.is_loading(version):
            return self._predict(model, version, body, encoding)
        instance = model.instance(version)
        executable = instance.executable
        request = requests.read(body, encoding, instance, self._limits)
        arrays = request.values
        if request.step is not None or not executable.is_quick or not requests.are_arrays(arrays):
            return self._infer_leased(Lease(instance), request)
        return Reply(200, self._write(request.order, executable.outputs, executable.infer_now(arrays)))

    async def _predict(self, model: Model, version: int | None, body: bytes, encoding: str) -> Reply:
        """Answer a prediction that has to wait: for a version that is being loaded, for a large body to be read."""
        with await model.lease_when_loaded(version) as instance:
            request = await self._in_pool(requests.read, body, encoding, instance, self._limits)
            return await self._infer_leased(Lease(instance), request)

    async def _infer_leased(self, lease: Lease, request: requests.Request) -> Reply:
        """Answer a request that has been read; pictures and texts are decoded, large answers written in a thread."""
        with lease as instance:
            specs, outputs = await self._infer(instance, request)
            if sum(array.nbytes for array in outputs) > ON_LOOP_BYTES:
                return Reply(200, await self._in_pool(self._write, request.order, specs, outputs))
            return Reply(200, self._write(request.order, specs, outputs))

    async def _infer(self, instance: Instance, request: requests.Request) -> Outputs:
        """The outputs of a request, and what they are."""
        executable, values = instance.executable, request.values
        if requests.are_arrays(values):
            arrays = values
        else:
            arrays = await self._in_pool(requests.decode, values, instance, self._limits)
        if instance.sequences is None or request.step is None:
            return executable.outputs, await executable.infer(arrays)
        # Whoever goes away does not take a step of its sequence back.
        return await asyncio.shield(_take_step(Lease(instance), instance.sequences, request.step, arrays))

    def _write(self, order: tfs.Order, specs: Sequence[TensorSpec], outputs: Sequence[np.ndarray]) -> list[bytes]:
        return tfs.write_predictions(order, list(zip(specs, outputs, strict=True)), self._non_finite)

    def status(self, name: str, version: int | None) -> Reply:
        """The status of a model's versions, or of one.

        Raises:
            Failure: MODEL_MISSING or VERSION_MISSING.
        """
        return Reply(200, [tfs.write_status(self._registry.model(name).statuses(version))])

    def metadata(self, name: str, version: int | None) -> Reply:
        """What a version takes and gives.

        Raises:
            Failure: MODEL_MISSING, VERSION_MISSING, VERSION_NOT_LOADED_YET or VERSION_RETIRED.
        """
        instance = self._registry.model(name).instance(version)
        executable = instance.executable
        specs = executable.inputs.values(), executable.outputs
        return Reply(200, [tfs.write_metadata(name, instance.version, *specs)])

    def config_status(self, *, verbose: bool = False) -> Reply:
        """The status of everything that was ever known; with reasons of failures if ``verbose`` (ours)."""
        models = self._registry.models
        statuses = {name: model.statuses() for name, model in models.items()}
        if not verbose:
            return Reply(200, [tfs.write_config_status(statuses)])
        reasons = {
            name: {number: version.failure.text for number, version in model.versions.items() if version.failure}
            for name, model in models.items()
        }
        faults = {name: model.failure.text for name, model in models.items() if model.failure}
        fault = self._manager.failure
        return Reply(200, [tfs.write_config_report(statuses, reasons, faults, fault.text if fault else None)])

    async def reload(self) -> Reply:
        """Look for changes now: 201 if there were any, 200 if not; the status of everything.

        Raises:
            Failure: never; a fault is answered with its own HTTP status and the sentence of the stage that it belongs
                to.
        """
        outcome: Outcome = await self._manager.reload()
        if outcome.failure is None:
            return self.config_status()._replace(status=201 if outcome.changed else 200)
        sentence = Failure(outcome.stage, "" if outcome.stage is Code.CONFIG_FILE_MISSING else outcome.failure.text)
        return refusal(sentence)._replace(status=outcome.failure.http)

    def metrics(self) -> Reply:
        """The metrics of everything that was ever served, those of retired versions being 0.

        Raises:
            Failure: INVALID_URL while metrics are off, as in the reference.
        """
        if not self._metrics.is_enabled:
            raise Failure(Code.INVALID_URL)
        for name, model in self._registry.models.items():
            for number, version in model.versions.items():
                stats = version.instance.executable.stats() if version.instance else ExecutableStats(0, 0, 0, 0)
                self._metrics.set_version(
                    name,
                    number,
                    streams=stats.streams,
                    current_requests=stats.running + stats.waiting,
                    infer_req_queue_size=stats.requests,
                    infer_req_active=stats.running,
                )
        return Reply(200, [self._metrics.expose()], TEXT)

    def live(self) -> Reply:
        """Whether the process answers."""
        return Reply(200, [])

    def ready(self) -> Reply:
        """Whether the first models have been loaded, or have failed to.

        Raises:
            Failure: SERVER_NOT_READY.
        """
        if not self._manager.is_ready:
            raise Failure(Code.SERVER_NOT_READY)
        return Reply(200, [])

    def model_ready(self, name: str, version: int | None) -> Reply:
        """Whether a version serves. Unlike elsewhere 0 is no word for the default version.

        Raises:
            Failure: MODEL_MISSING, VERSION_MISSING, or VERSION_NOT_LOADED_YET, also for one that is retired.
        """
        model = self._registry.model(name)
        if version == 0:
            raise Failure(Code.VERSION_MISSING)
        try:
            model.instance(version)
        except Failure as failure:
            if failure.code is Code.VERSION_RETIRED:
                raise Failure(Code.VERSION_NOT_LOADED_YET) from None
            raise
        return Reply(200, [])

    async def _in_pool(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
