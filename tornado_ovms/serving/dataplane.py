"""Predictions and inferences without their transport: bytes in, ``Reply`` out.

Every method belongs to the event loop. What takes long (big bodies, pictures, big answers) runs in the pool of decode
threads; small bodies are read on the loop, since a thread costs about 50 µs and they take less.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from tornado_ovms.codec import kfs, tfs
from tornado_ovms.core import sequences
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving import requests
from tornado_ovms.serving.observation import INFER, PREDICT
from tornado_ovms.serving.reply import Body, Headers, Reply
from tornado_ovms.serving.servable import Lease
from tornado_ovms.serving.siblings import ALONE, Siblings
from tornado_ovms.workers.frames import Topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from tornado_ovms.codec.encoded import Encoded
    from tornado_ovms.core.settings import Limits, NonFinite
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.base import Inference
    from tornado_ovms.serving.observation import Call
    from tornado_ovms.serving.registry import Registry, Version
    from tornado_ovms.serving.sequences import Sequences
    from tornado_ovms.serving.servable import Instance

    Outputs = Sequence[tuple[TensorSpec, np.ndarray]]
    Write = Callable[[Outputs], tuple[Body, Headers]]

T = TypeVar("T")

ON_LOOP_BYTES: Final = 65536
"""Bodies and arrays up to this size are read and written on the loop (well under a millisecond)."""

MAX_DIGITS: Final = 20
"""Longer numbers than this are not read before they have been refused."""


async def _take_step(
    lease: Lease, open_sequences: Sequences, step: sequences.Step, arrays: Mapping[str, np.ndarray]
) -> tuple[int, Inference]:
    """One request of a sequence: its id, and what came of it."""
    with lease:
        return await open_sequences.infer(step, arrays)


def _json_bytes(body: bytes | memoryview, header: str | None) -> int:
    """How much of a body is JSON, as far as its header can be believed."""
    return int(header) if header is not None and header.isdecimal() and len(header) < MAX_DIGITS else len(body)


class DataPlane:
    """Answers requests.

    Args:
        registry: what is served.
        pool: threads for what takes long.
        limits: what a request may cost.
        non_finite: how NaN and the infinities are written.
        siblings: the other workers.
    """

    def __init__(
        self,
        registry: Registry,
        pool: Executor,
        limits: Limits,
        non_finite: NonFinite,
        siblings: Siblings = ALONE,
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._limits = limits
        self._non_finite = non_finite
        self._siblings = siblings

    def predict(self, name: str, version: int | None, body: bytes) -> Reply | Awaitable[Reply]:
        """Answer a TensorFlow Serving prediction: at once if that takes less time than a task and a thread would cost.

        An awaitable holds a lease on the model, so it has to be awaited.

        Args:
            name: the model's name.
            version: the version, None for the default one.
            body: the request's body, without its content coding.

        Raises:
            Failure: whatever is wrong with the request, the model or the inference.
        """
        found = self._registry.version(name, version)
        if found.is_stateful and (owner := self._siblings.owner(name)) is not None:
            asked = {"name": name, "version": version}
            return self._siblings.forward(Topic.PREDICT, owner, asked, body)
        with found.cells.begin(PREDICT) as call:
            if len(body) > ON_LOOP_BYTES or found.is_loading:
                return self._predict_later(call, found, body)
            instance = found.serving()
            order, request = requests.read_predict(body, instance, self._limits)
            return self._answer(call, instance, request, partial(self._write_predictions, order))

    async def _predict_later(self, call: Call, found: Version, body: bytes) -> Reply:
        """Answer a prediction that has to wait: for a version that is being loaded, for a large body to be read."""
        with call, await found.lease_when_loaded() as instance:
            order, request = await self._in_pool(requests.read_predict, body, instance, self._limits)
            return await self._finish(call, instance, request, partial(self._write_predictions, order))

    def infer(
        self, name: str, version: int | None, body: bytes | memoryview, header: str | None
    ) -> Reply | Awaitable[Reply]:
        """Answer a KServe v2 inference; see ``predict``.

        Args:
            name: the model's name.
            version: the version, None for the default one.
            body: the request's body, without its content coding; writeable if binary data in it is to be used without a copy.
            header: the header ``codec.kfs.HEADER``, or None.

        Raises:
            Failure: whatever is wrong with the request, the model or the inference.
        """
        kfs.check_header(header)  # counted as nothing, as in the reference
        model = self._registry.find(name)
        found = model.find(version) if model is not None else None
        if found is None:  # the reference reads the body before it looks for the model
            return self._refuse_inference(name, version, body, header)
        if found.is_stateful and (owner := self._siblings.owner(name)) is not None:
            asked_for = {"name": name, "version": version, "header": header}
            return self._siblings.forward(Topic.INFER, owner, asked_for, body)
        with found.cells.begin(INFER) as call:
            if _json_bytes(body, header) > ON_LOOP_BYTES or found.is_loading:
                return self._infer_later(call, found, body, header)
            asked = requests.read_infer(body, header, self._limits)
            instance = found.serving()
            if asked.loose_bytes > ON_LOOP_BYTES:
                return self._fit_later(call, Lease(instance), asked)
            request = requests.fit_infer(asked, instance)
            return self._answer(call, instance, request, partial(self._write_inference, instance, asked))

    async def _infer_later(self, call: Call, found: Version, body: bytes | memoryview, header: str | None) -> Reply:
        """Answer an inference that has to wait."""
        with call:
            asked = await self._in_pool(requests.read_infer, body, header, self._limits)
            with await found.lease_when_loaded() as instance:
                request = await self._in_pool(requests.fit_infer, asked, instance)
                return await self._finish(call, instance, request, partial(self._write_inference, instance, asked))

    async def _fit_later(self, call: Call, lease: Lease, asked: kfs.InferRequest) -> Reply:
        """Answer an inference with much binary data that cannot be used where it lies, such as strings."""
        with call, lease as instance:
            request = await self._in_pool(requests.fit_infer, asked, instance)
            return await self._finish(call, instance, request, partial(self._write_inference, instance, asked))

    async def _refuse_inference(
        self, name: str, version: int | None, body: bytes | memoryview, header: str | None
    ) -> Reply:
        """Say what is wrong with the body, or that there is no such model or version."""
        await self._in_pool(requests.read_infer, body, header, self._limits)
        self._registry.version(name, version)
        raise Failure(Code.VERSION_NOT_LOADED_YET)  # it has appeared meanwhile

    def _answer(
        self, call: Call, instance: Instance, request: requests.Request, write: Write
    ) -> Reply | Awaitable[Reply]:
        """Answer a request that has been read: at once, or by an awaitable that holds a lease."""
        executable, arrays = instance.executable, request.values
        if request.step is not None or not executable.is_quick or not requests.are_arrays(arrays):
            return self._finish_leased(call, Lease(instance), request, write)
        call.decoded()
        inference = executable.infer_now(arrays)
        call.inferred(inference)
        body, headers = write(list(zip(executable.outputs, inference.outputs, strict=True)))
        return Reply(200, body, headers=headers, timing=call.succeed())

    async def _finish_leased(self, call: Call, lease: Lease, request: requests.Request, write: Write) -> Reply:
        with call, lease as instance:
            return await self._finish(call, instance, request, write)

    async def _finish(self, call: Call, instance: Instance, request: requests.Request, write: Write) -> Reply:
        """Answer a request that has been read; pictures and texts are decoded, large answers written in a thread."""
        outputs = await self._run(call, instance, request)
        if sum(array.nbytes for _, array in outputs) > ON_LOOP_BYTES:
            body, headers = await self._in_pool(write, outputs)
        else:
            body, headers = write(outputs)
        return Reply(200, body, headers=headers, timing=call.succeed())

    async def _run(self, call: Call, instance: Instance, request: requests.Request) -> Outputs:
        """The outputs of a request."""
        executable, values = instance.executable, request.values
        arrays = values if requests.are_arrays(values) else await self._decode(instance, values)
        call.decoded()
        if instance.sequences is None or request.step is None:
            inference = await instance.infer(arrays, call.method)
            call.inferred(inference)
            return list(zip(executable.outputs, inference.outputs, strict=True))
        # Whoever goes away does not take a step of its sequence back.
        step = _take_step(Lease(instance), instance.sequences, request.step, arrays)
        number, inference = await asyncio.shield(step)
        call.inferred(inference)
        told = sequences.SPECS[sequences.ID], np.array([number], np.uint64)
        return [*zip(executable.outputs, inference.outputs, strict=True), told]

    async def _decode(self, instance: Instance, values: Mapping[str, np.ndarray | Encoded]) -> Mapping[str, np.ndarray]:
        """Arrays of all values; of several pictures each may be decoded in a thread of its own."""
        arrays, batches = await self._in_pool(requests.begin_decoding, values, instance, self._limits)
        rest = [(batch, index) for batch in batches for index in batch.rest]
        done = await asyncio.gather(
            *(self._in_pool(batch.place, index) for batch, index in rest), return_exceptions=True
        )
        for failure in done:
            if failure is not None:
                raise failure
        return arrays

    def _write_predictions(self, order: tfs.Order, outputs: Outputs) -> tuple[Body, Headers]:
        return tfs.write_predictions(order, outputs, self._non_finite), ()

    def _write_inference(self, instance: Instance, asked: kfs.InferRequest, outputs: Outputs) -> tuple[Body, Headers]:
        name, version = instance.blueprint.key
        body, length = kfs.write_inference(asked, name, version, outputs, self._non_finite)
        return body, () if length is None else ((kfs.HEADER, str(length)),)

    async def _in_pool(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
