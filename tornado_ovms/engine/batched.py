"""An executable that joins the requests of several callers, so that one inference answers them all.

It pays where an inference of several rows takes little longer than one of one: where weights have to be read for each
inference, or where starting one costs more than computing it.

``Batched`` belongs to the event loop, as the executable that it is around does. Joining and splitting of much data is done
in a thread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tornado_ovms.core.batching import Groups
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import ExecutableStats, Inference

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from tornado_ovms.core.batching import BatchAxes
    from tornado_ovms.core.settings import Batching
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.base import Executable, States

    Arrays = Mapping[str, np.ndarray]

T = TypeVar("T")

log = logging.getLogger("modelmanager")

IN_THREAD_BYTES: Final = 262144
"""More than this is joined and split in a thread, which costs 50 µs; copying so much takes as long."""


@dataclass(slots=True, eq=False)
class _Member:
    """A request that somebody waits for; ``begun`` is when it came, on the loop's clock."""

    arrays: Arrays
    rows: int
    future: asyncio.Future[Inference]
    begun: float


class Batched:
    """An ``Executable`` around another one, which takes any number of rows.

    A request waits until its batch is full or ``delay_ms`` have passed, and then until an infer request is idle. What a batch
    is made of is settled only when it starts: while all infer requests are busy, those that come are joined to it. Without
    a delay a batch starts at the end of the loop's turn, with all that have been read in it.

    The requests of a batch that fails are run again, each alone: only those that are at fault fail then.

    Args:
        inner: what infers.
        inputs: those that clients see, by name.
        outputs: those that clients see.
        axes: where the batch is in them.
        batching: how much is joined, and how long waited for it.
        loop: the event loop that callers run on.
    """

    is_quick: Final = False

    def __init__(
        self,
        inner: Executable,
        inputs: Mapping[str, TensorSpec],
        outputs: Sequence[TensorSpec],
        axes: BatchAxes,
        batching: Batching,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._inner = inner
        self._axes = axes
        self._delay_s = batching.delay_ms / 1000
        self._loop = loop
        self._idle = inner.stats().requests
        self._groups: Groups[_Member] = Groups(batching.max_batch, _is_wanted)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_looking = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def info(self) -> Mapping[str, Any]:
        """See ``Executable.info``."""
        return self._inner.info

    def infer_now(self, arrays: Arrays) -> Inference:
        """See ``Executable``; what waits for others is never quick."""
        raise NotImplementedError

    async def infer(self, arrays: Arrays) -> Inference:
        """See ``Executable.infer``. A caller that stops waiting before its batch starts is left out of it."""
        now = self._loop.time()
        rows = self._axes.count_rows(arrays)
        member = _Member(arrays, rows or 1, self._loop.create_future(), now)
        if rows is None:
            self._groups.add(object(), member, 1, now)
        else:
            self._groups.add(self._axes.key(arrays), member, rows, now + self._delay_s)
        self._look_soon()
        return await member.future

    async def infer_with_states(self, arrays: Arrays, states: States | None) -> tuple[Inference, States]:
        """See ``Executable``; models with states are not batched."""
        raise NotImplementedError

    def stats(self) -> ExecutableStats:
        """See ``Executable.stats``."""
        stats = self._inner.stats()
        return stats._replace(waiting=stats.waiting + sum(map(_is_wanted, self._groups)))

    def close(self) -> None:
        """See ``Executable.close``."""
        self._inner.close()

    def _look_soon(self) -> None:
        """Start what is due, after the callbacks that are ready now: they may bring more to be joined."""
        if not self._is_looking:
            self._is_looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Start what is due, as long as infer requests are idle; look again when the next is due."""
        self._is_looking = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle and (members := self._groups.take(self._loop.time())):
            self._idle -= 1
            task = self._loop.create_task(self._run(members))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        deadline = self._groups.deadline
        if self._idle and deadline is not None:
            self._timer = self._loop.call_at(deadline, self._look)

    async def _run(self, members: Sequence[_Member]) -> None:
        """Infer for all members, and answer those that still wait."""
        started = self._loop.time()
        try:
            try:
                arrays = await self._join(members)
                if not any(map(_is_wanted, members)):
                    return  # while they were joined; the model may be closed by now
                inferring = self._loop.time()
                inference = await self._inner.infer(arrays)
            finally:
                self._idle += 1
                self._look_soon()  # before the answers are split: the device need not wait for that
            answers = await self._split(members, inference.outputs)
        except Exception as error:  # noqa: BLE001 - it is the members'
            self._fail(members, error)
            return
        told = sum(member.rows for member in members)
        for member, outputs in zip(members, answers, strict=True):
            if _is_wanted(member):
                wait_s = inferring - member.begun + inference.wait_s
                window_s = min(started - member.begun, self._delay_s)
                member.future.set_result(Inference(outputs, wait_s, inference.infer_s, window_s, told))
                told = 0

    async def _join(self, members: Sequence[_Member]) -> Arrays:
        """The inputs of all members; those of one alone as they are."""
        first = members[0].arrays
        if len(members) == 1:
            return first
        size = sum(array.nbytes for member in members for array in member.arrays.values())
        return await self._do(size, self._axes.join, [member.arrays for member in members])

    async def _split(self, members: Sequence[_Member], outputs: Sequence[np.ndarray]) -> Sequence[Sequence[np.ndarray]]:
        """The outputs of each member.

        Raises:
            Failure: BATCHING, if an output does not have a row for each that went in.
        """
        if len(members) == 1:
            return [outputs]
        rows = [member.rows for member in members]
        if not self._axes.follow(outputs, sum(rows)):
            raise Failure(Code.BATCHING, f"outputs of {[array.shape for array in outputs]} for {sum(rows)} rows")
        return await self._do(sum(array.nbytes for array in outputs), self._axes.split, outputs, rows)

    async def _do(self, size: int, function: Callable[..., T], *args: object) -> T:
        """Call a function that copies so many bytes, in a thread if they are many."""
        if size > IN_THREAD_BYTES:
            return await self._loop.run_in_executor(None, function, *args)
        return function(*args)

    def _fail(self, members: Sequence[_Member], error: Exception) -> None:
        """Hand an error to the one member, or let each of several try alone."""
        if len(members) > 1:
            log.debug("A batch of %d requests failed, each is run again alone: %s", len(members), error)
            now = self._loop.time()
            for member in members:
                self._groups.add(object(), member, member.rows, now)
            self._look_soon()
        elif _is_wanted(members[0]):
            members[0].future.set_exception(error)


def _is_wanted(member: _Member) -> bool:
    return not member.future.done()
