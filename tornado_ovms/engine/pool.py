"""A pool of OpenVINO infer requests, used from the event loop.

``RequestPool`` owns the requests of one compiled model. A caller gets the next idle one or waits in line, first come
first served. A request comes back when OpenVINO says that it is done, through ``Completions``; since OpenVINO calls
back neither for a failed inference nor for a cancelled one, a timer (the reaper) looks at those that run for long.

All methods belong to the event loop, except ``close``, which a loader thread calls.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import openvino as ov

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import ExecutableStats, Inference, States
from tornado_ovms.engine.bridge import Completions
from tornado_ovms.engine.tensors import is_small, to_array, to_tensor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.quick import Quick

REAP_S: Final = 0.05
"""How often running requests are asked whether they have failed: a look costs 4 µs."""

NO_INFO: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_STATES: Final[States] = MappingProxyType({})

ON_LOOP_BYTES: Final = 1 << 20
"""Outputs of more than this are copied in a thread: 1 MiB takes 0.1 to 0.3 ms, and joined requests have many times that."""


@dataclass(slots=True, eq=False)
class _Job:
    """One inference that somebody waits for."""

    arrays: Sequence[np.ndarray]
    future: asyncio.Future[tuple[Inference, States]]
    has_states: bool
    states: States | None
    begun: float = field(default_factory=time.perf_counter)
    wait_s: float = 0.0


class _Slot:
    """One infer request. ``job`` is set while it runs, and keeps the arrays alive that OpenVINO reads."""

    __slots__ = ("ended", "job", "own", "request", "started")

    def __init__(self, request: ov.InferRequest, inputs: Sequence[TensorSpec]) -> None:
        self.request = request
        self.job: _Job | None = None
        self.started = self.ended = 0.0
        self.own = [request.get_input_tensor(i).data if is_small(spec) else None for i, spec in enumerate(inputs)]

    def start(self, job: _Job) -> None:
        """Fill the inputs and start; whatever OpenVINO raises is the caller's."""
        self.job = job
        if job.has_states:
            self._recall(job.states)
        self.fill(job.arrays)
        self.started = time.perf_counter()
        job.wait_s = self.started - job.begun
        self.request.start_async()

    def fill(self, arrays: Sequence[np.ndarray]) -> None:
        """Hand over the inputs: small ones are copied, the others shared."""
        for index, (array, own) in enumerate(zip(arrays, self.own, strict=True)):
            if own is not None:
                own[...] = array
            else:
                self.request.set_input_tensor(index, to_tensor(array))

    def _recall(self, states: States | None) -> None:
        """Set the model's states, to those that it begins with if none are given."""
        for state in self.request.query_state():
            if states is None:
                state.reset()
            else:
                state.state = ov.Tensor(states[state.name])

    def states(self) -> States:
        """Copies of the model's states."""
        return {state.name: np.array(state.state.data) for state in self.request.query_state()}

    def outputs(self, indices: Sequence[int]) -> list[ov.Tensor]:
        """The outputs; their memory is written anew by the next inference."""
        return [self.request.get_output_tensor(index) for index in indices]


def _copy_all(tensors: Sequence[ov.Tensor]) -> list[np.ndarray]:
    return [to_array(tensor) for tensor in tensors]


class RequestPool:
    """The infer requests of one compiled model; an ``Executable``."""

    def __init__(
        self,
        model: ov.CompiledModel,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[tuple[int, TensorSpec]],
        size: int,
        loop: asyncio.AbstractEventLoop,
        refusal: Code = Code.INFERENCE,
        info: Mapping[str, Any] = NO_INFO,
        quick: Quick | None = None,
    ) -> None:
        """Create the requests. May be called in a loader thread, before anybody else knows the pool.

        Args:
            model: the compiled model; the pool is its only owner from now on.
            inputs: in the model's order.
            outputs: those that are answered, with their index in the model.
            size: how many inferences may run at a time.
            loop: the event loop that callers run on.
            refusal: the code for an inference that fails.
            info: see ``Executable.info``.
            quick: what runs it on the loop, if it is so quick that this pays.
        """
        self.inputs: Mapping[str, TensorSpec] = by_name(inputs)
        self.outputs: Sequence[TensorSpec] = [spec for _, spec in outputs]
        self.info = info
        self._order = [spec.name for spec in inputs]
        self._indices = [index for index, _ in outputs]
        self._refusal = refusal
        self._loop = loop
        self._completions: Completions[_Slot] = Completions(loop, self._finished)
        self._model: ov.CompiledModel | None = model
        self._streams = int(find_property(model, "NUM_STREAMS", 1))
        self._slots = [_Slot(model.create_infer_request(), inputs) for _ in range(size)]
        for slot in self._slots:
            slot.request.set_callback(self._called_back, slot)
        self._quick = quick
        self._idle = list(self._slots)
        self._waiting: deque[_Job] = deque()
        self._reaper: asyncio.TimerHandle | None = None

    @property
    def is_quick(self) -> bool:
        """See ``Executable.is_quick``."""
        return self._quick is not None

    def infer_now(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable.infer_now``."""
        if self._quick is None:
            raise ValueError("infer_now needs is_quick")
        try:
            outputs, infer_s = self._quick.infer(arrays)
        except Exception as error:  # see _start
            raise self._failure(error) from error
        return Inference(outputs, 0.0, infer_s)

    async def infer(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable.infer``. A caller that stops waiting leaves the line; what runs already is let finish."""
        inference, _ = await self._run(arrays)
        return inference

    async def infer_with_states(
        self, arrays: Mapping[str, np.ndarray], states: States | None
    ) -> tuple[Inference, States]:
        """See ``Executable.infer_with_states``."""
        return await self._run(arrays, has_states=True, states=states)

    def _run(
        self, arrays: Mapping[str, np.ndarray], *, has_states: bool = False, states: States | None = None
    ) -> asyncio.Future[tuple[Inference, States]]:
        """Start an inference, or put it in the line."""
        job = _Job([arrays[name] for name in self._order], self._loop.create_future(), has_states, states)
        if self._idle:
            self._start(self._idle.pop(), job)
        else:
            self._waiting.append(job)
        return job.future

    def stats(self) -> ExecutableStats:
        """See ``Executable.stats``."""
        waiting = sum(not job.future.done() for job in list(self._waiting))  # metrics are read in a thread
        return ExecutableStats(self._streams, len(self._slots), len(self._slots) - len(self._idle), waiting)

    def close(self) -> None:
        """See ``Executable.close``.

        The model goes first and the requests last: dropping the last reference to a compiled model holds the GIL (15 to
        86 ms for 0.3 to 2.7 GB), dropping the last request does not.
        """
        self._model = None
        self._quick = None
        while self._slots:
            slot = self._slots.pop()
            with contextlib.suppress(RuntimeError):  # it failed, and nobody waits for its answer
                slot.request.wait()
            # A callback holds its slot, which holds the request: a ring through C++ that Python cannot collect.
            slot.request.set_callback(_nothing, None)
            # The pool, with its slots, is a ring, too: Python would collect it some time, and the model's memory with it.
            del slot.request

    def _start(self, slot: _Slot, job: _Job) -> None:
        try:
            slot.start(job)
        except Exception as error:  # noqa: BLE001 - pybind11 turns C++ exceptions into several Python types
            self._end(slot, self._failure(error))
            return
        if self._reaper is None:
            self._reaper = self._loop.call_later(REAP_S, self._reap)

    def _called_back(self, slot: _Slot) -> None:
        """OpenVINO is done with a slot; its own thread says so."""
        slot.ended = time.perf_counter()
        self._completions.done(slot)

    def _finished(self, slot: _Slot) -> None:
        """OpenVINO is done with a slot."""
        if slot.job is None:
            return  # the reaper was quicker
        if slot.job.future.done():
            self._end(slot, None)
            return
        job = slot.job
        try:
            tensors = slot.outputs(self._indices)
            states = slot.states() if job.has_states else _NO_STATES
            if sum(tensor.byte_size for tensor in tensors) > ON_LOOP_BYTES:
                copying = self._loop.run_in_executor(None, _copy_all, tensors)
                copying.add_done_callback(partial(self._copied, slot, job, states))
                return
            arrays = _copy_all(tensors)
        except Exception as error:  # noqa: BLE001 - see _start
            self._end(slot, self._failure(error))
        else:
            self._answer(slot, job, arrays, states)

    def _copied(self, slot: _Slot, job: _Job, states: States, copying: asyncio.Future[list[np.ndarray]]) -> None:
        """Outputs have been copied in a thread."""
        error = copying.exception()
        if error is not None:
            self._end(slot, self._failure(error))
        else:
            self._answer(slot, job, copying.result(), states)

    def _answer(self, slot: _Slot, job: _Job, arrays: list[np.ndarray], states: States) -> None:
        self._end(slot, (Inference(arrays, job.wait_s, slot.ended - slot.started), states))

    def _end(self, slot: _Slot, result: tuple[Inference, States] | Failure | None) -> None:
        """Give a slot to whoever waits longest, and answer its job, if the answer is still wanted.

        In this order: the device need not wait until the answer has been written.
        """
        job, slot.job = slot.job, None
        self._pass_on(slot)
        if job is not None and not job.future.done():
            if isinstance(result, Failure):
                job.future.set_exception(result)
            elif result is not None:
                job.future.set_result(result)

    def _pass_on(self, slot: _Slot) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                # Not a direct call: a line of jobs that all fail to start must not nest.
                self._loop.call_soon(self._start, slot, waiting)
                return
        self._idle.append(slot)

    def _reap(self) -> None:
        """Find running requests that have failed: ``wait_for`` raises for these, and no callback ever comes."""
        self._reaper = None
        for slot in self._slots:
            if slot.job is None:
                continue
            try:
                slot.request.wait_for(0)
            except RuntimeError as error:
                self._end(slot, self._failure(error))
        if len(self._idle) < len(self._slots):
            self._reaper = self._loop.call_later(REAP_S, self._reap)

    def _failure(self, error: BaseException) -> Failure:
        return Failure(self._refusal, reason(error))


def by_name(inputs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    """Inputs as ``Executable.inputs`` has them: in the order of names."""
    return {spec.name: spec for spec in sorted(inputs, key=lambda spec: spec.name)}


def find_property(model: ov.CompiledModel, name: str, otherwise: Any) -> Any:
    """A property of a compiled model; not every device has every one."""
    try:
        return model.get_property(name)
    except RuntimeError:
        return otherwise


def _nothing(_: None) -> None:
    """A callback that holds nothing."""


def reason(error: BaseException) -> str:
    """What OpenVINO says, without the places in its source: the last line that is not one of them."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [""])[-1][:500]
