"""The sequences of one stateful model version: each has its own copy of the model's states.

``Sequences`` runs the requests of a sequence one after the other, with the states that the one before has left, in whatever
infer request is free. Rules and sentences are the reference's (``src/sequence_manager.cpp``). Everything here belongs to the
event loop.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tornado_ovms.core.sequences import Control, Step
from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from tornado_ovms.engine.base import Executable, Inference, States


def draw_id() -> int:
    """An id for a sequence whose client has chosen none: not 0, and exact in a double, as JavaScript reads it."""
    return random.randint(1, 2**53 - 1)  # noqa: S311 - ids are no secrets: clients choose their own


class _Sequence:
    """What is kept between two requests. ``line`` is held by the request that runs."""

    __slots__ = ("is_ending", "is_idle", "line", "states")

    def __init__(self) -> None:
        self.states: States | None = None
        self.line = asyncio.Lock()
        self.is_ending = False
        self.is_idle = False


class Sequences:
    """The open sequences.

    Args:
        executable: runs the model.
        limit: how many sequences may be open.
        draw: chooses an id.
    """

    def __init__(self, executable: Executable, limit: int, draw: Callable[[], int] = draw_id) -> None:
        self._executable = executable
        self._limit = limit
        self._draw = draw
        self._open: dict[int, _Sequence] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def infer(self, step: Step, arrays: Mapping[str, np.ndarray]) -> tuple[int, Inference]:
        """Run one request of a sequence, after those of the same sequence that came before.

        It should not be cancelled: the sequence would be left behind its client.

        Returns:
            The sequence's id, and what the inference gave.

        Raises:
            Failure: SEQUENCE_MISSING, SEQUENCE_EXISTS, SEQUENCE_ENDING or TOO_MANY_SEQUENCES; INFERENCE. A request that
                fails leaves the states as they were; one that fails at the start leaves no sequence.
        """
        number = self._start(step.sequence) if step.control is Control.START else step.sequence
        sequence = self._find(number)
        sequence.is_ending = step.control is Control.END
        sequence.is_idle = False
        return number, await self._take(number, sequence, step.control, arrays)

    def clean(self) -> int:
        """Remove the sequences that nobody has used since the last call; how many they were."""
        idle = [number for number, sequence in self._open.items() if sequence.is_idle]
        for number in idle:
            del self._open[number]
        for sequence in self._open.values():
            sequence.is_idle = not sequence.line.locked()
        return len(idle)

    def _start(self, number: int) -> int:
        if len(self._open) >= self._limit:
            raise Failure(Code.TOO_MANY_SEQUENCES)
        if number in self._open:
            raise Failure(Code.SEQUENCE_ENDING if self._open[number].is_ending else Code.SEQUENCE_EXISTS)
        while not number or number in self._open:
            number = self._draw()
        self._open[number] = _Sequence()
        return number

    def _find(self, number: int) -> _Sequence:
        found = self._open.get(number)
        if found is None:
            raise Failure(Code.SEQUENCE_MISSING)
        if found.is_ending:
            raise Failure(Code.SEQUENCE_ENDING)
        return found

    async def _take(
        self, number: int, sequence: _Sequence, control: Control, arrays: Mapping[str, np.ndarray]
    ) -> Inference:
        async with sequence.line:
            if self._open.get(number) is not sequence:
                raise Failure(Code.SEQUENCE_MISSING)  # its first request has failed while this one waited
            try:
                inference, sequence.states = await self._executable.infer_with_states(arrays, sequence.states)
            except Failure:
                if control is Control.START:
                    del self._open[number]
                elif control is Control.END:
                    sequence.is_ending = False
                raise
            if control is Control.END:
                del self._open[number]
            return inference
