"""Sequences of a stateful model: what a request says about them, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fakes import FakeExecutable
from tornado_ovms.codec.encoded import Encoded
from tornado_ovms.core.sequences import CONTROL, ID, Control, Step, read_step
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.sequences import Sequences, draw_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Play = Callable[["Stage"], Awaitable[None]]


def one(number: int) -> np.ndarray:
    """A list of one number."""
    return np.array([number], np.uint64)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ({ID: one(5)}, Step(5, Control.CONTINUE)),
        ({ID: one(5), CONTROL: one(0)}, Step(5, Control.CONTINUE)),
        ({ID: one(2**64 - 1), CONTROL: one(1)}, Step(2**64 - 1, Control.START)),
        ({ID: one(5), CONTROL: one(2), "b": np.zeros(3)}, Step(5, Control.END)),
        ({CONTROL: one(1)}, Step(0, Control.START)),
        ({ID: one(0), CONTROL: one(1)}, Step(0, Control.START)),
    ],
)
def test_steps_are_read(values: dict[str, Any], step: Step) -> None:
    """An absent input is as good as 0."""
    assert read_step(values) == step


@pytest.mark.parametrize(
    ("values", "code", "detail"),
    [
        ({}, Code.SEQUENCE_ID_MISSING, ""),
        ({ID: one(0)}, Code.SEQUENCE_ID_MISSING, ""),
        ({CONTROL: one(2)}, Code.SEQUENCE_ID_MISSING, ""),
        ({ID: one(1), CONTROL: one(3)}, Code.SEQUENCE_CONTROL_VALUE, "Actual: 3"),
        ({CONTROL: one(7)}, Code.SEQUENCE_CONTROL_VALUE, "Actual: 7"),
        ({ID: np.array(1, np.uint64)}, Code.SEQUENCE_INPUT_WITHOUT_SHAPE, "Required shape for sequence_id is: (1)"),
        ({ID: np.zeros(2)}, Code.SHAPE, "Required shape for sequence_id is: (1)"),
        ({ID: np.zeros(0)}, Code.SHAPE, "Required shape for sequence_id is: (1)"),
        ({ID: np.zeros((1, 1))}, Code.SHAPE, "Required shape for sequence_id is: (1)"),
        ({ID: one(1), CONTROL: np.zeros(2)}, Code.SHAPE, "Required shape for sequence_control_input is: (1)"),
        ({ID: Encoded((b"x",), (1,))}, Code.SEQUENCE_ID_TYPE, ""),
        ({ID: one(1), CONTROL: Encoded((b"x",), (1,))}, Code.SEQUENCE_CONTROL_TYPE, ""),
    ],
)
def test_steps_that_cannot_be_taken(values: dict[str, Any], code: Code, detail: str) -> None:
    """Each with the reference's sentence."""
    with pytest.raises(Failure) as caught:
        read_step(values)
    assert caught.value.code is code
    assert detail in caught.value.detail


class Stage:
    """The sequences of a model that adds up its inputs; of two sequences at most."""

    def __init__(self) -> None:
        self.executable = FakeExecutable()
        self.ids = iter([11, 11, 12])
        self.sequences = Sequences(self.executable, 2, lambda: next(self.ids))

    async def take(self, number: int, value: float, control: Control = Control.CONTINUE) -> tuple[int, float]:
        """One request: the id and the sum that come back."""
        array = np.full((1, 10), value, np.float32)
        found, inference = await self.sequences.infer(Step(number, control), {"b": array})
        return found, float(inference.outputs[0][0, 0])

    async def refusal(self, number: int, control: Control = Control.CONTINUE) -> Code:
        """The code of a request that fails."""
        with pytest.raises(Failure) as caught:
            await self.take(number, 1, control)
        return caught.value.code


def play(script: Play) -> None:
    """Run a script on a stage of its own."""

    async def main() -> None:
        await script(Stage())

    asyncio.run(main())


def test_each_sequence_has_a_sum_of_its_own() -> None:
    """Interleaved, and over when it ends."""

    async def script(stage: Stage) -> None:
        assert await stage.take(1, 1, Control.START) == (1, 1)
        assert await stage.take(2, 10, Control.START) == (2, 10)
        assert await stage.take(1, 2) == (1, 3)
        assert await stage.take(2, 20) == (2, 30)
        assert await stage.take(1, 5, Control.END) == (1, 8)
        assert await stage.refusal(1) is Code.SEQUENCE_MISSING
        assert await stage.take(1, 7, Control.START) == (1, 7)

    play(script)


def test_the_server_chooses_an_id_that_is_free() -> None:
    """If the client gives none."""

    async def script(stage: Stage) -> None:
        assert (await stage.take(0, 1, Control.START))[0] == 11
        assert (await stage.take(0, 1, Control.START))[0] == 12

    play(script)
    assert 0 < draw_id() < 2**53


def test_starts_that_are_refused() -> None:
    """The limit counts before the id, as in the reference."""

    async def script(stage: Stage) -> None:
        await stage.take(1, 1, Control.START)
        assert await stage.refusal(1, Control.START) is Code.SEQUENCE_EXISTS
        await stage.take(2, 1, Control.START)
        assert await stage.refusal(1, Control.START) is Code.TOO_MANY_SEQUENCES
        assert await stage.refusal(3, Control.START) is Code.TOO_MANY_SEQUENCES
        await stage.take(2, 1, Control.END)
        await stage.take(3, 1, Control.START)

    play(script)


def test_requests_of_one_sequence_take_their_turn() -> None:
    """Each begins where the one before has ended; when the last one is under way nobody may follow."""

    async def script(stage: Stage) -> None:
        await stage.take(1, 1, Control.START)
        stage.executable.gate = asyncio.Event()
        second = asyncio.ensure_future(stage.take(1, 2))
        third = asyncio.ensure_future(stage.take(1, 3))
        last = asyncio.ensure_future(stage.take(1, 4, Control.END))
        await asyncio.sleep(0)
        assert await stage.refusal(1) is Code.SEQUENCE_ENDING
        assert await stage.refusal(1, Control.START) is Code.SEQUENCE_ENDING
        stage.executable.gate.set()
        assert await asyncio.gather(second, third, last) == [(1, 3), (1, 6), (1, 10)]
        assert len(stage.sequences) == 0

    play(script)


def test_a_request_that_fails_changes_nothing() -> None:
    """The sum stays; a sequence whose first request fails is not there; one whose last one fails goes on."""

    async def script(stage: Stage) -> None:
        await stage.take(1, 1, Control.START)
        stage.executable.failure = Failure(Code.INFERENCE)
        assert await stage.refusal(1) is Code.INFERENCE
        assert await stage.refusal(2, Control.START) is Code.INFERENCE
        assert await stage.refusal(1, Control.END) is Code.INFERENCE
        stage.executable.failure = None
        assert await stage.refusal(2) is Code.SEQUENCE_MISSING
        assert await stage.take(1, 1) == (1, 2)

    play(script)


def test_idle_sequences_are_removed() -> None:
    """Those that nobody has used between two rounds; one that is being computed is not idle."""

    async def script(stage: Stage) -> None:
        await stage.take(1, 1, Control.START)
        await stage.take(2, 1, Control.START)
        assert stage.sequences.clean() == 0
        await stage.take(1, 1)
        assert stage.sequences.clean() == 1
        assert await stage.refusal(2) is Code.SEQUENCE_MISSING
        stage.executable.gate = asyncio.Event()
        running = asyncio.ensure_future(stage.take(1, 1))
        await asyncio.sleep(0)
        assert [stage.sequences.clean(), stage.sequences.clean()] == [0, 0]
        stage.executable.gate.set()
        assert await running == (1, 3)

    play(script)


def test_who_waits_for_a_start_that_fails() -> None:
    """It finds no sequence, and leaves alone the one that has been started under the same id meanwhile."""

    async def script(stage: Stage) -> None:
        stage.executable.gate = asyncio.Event()
        stage.executable.failure = Failure(Code.INFERENCE)
        first = asyncio.ensure_future(stage.refusal(1, Control.START))
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(stage.refusal(1, control)) for control in (Control.CONTINUE, Control.END)]
        await asyncio.sleep(0)
        stage.executable.gate.set()
        assert await first is Code.INFERENCE
        stage.executable.failure = None
        assert await stage.take(1, 5, Control.START) == (1, 5)
        assert await asyncio.gather(*others) == [Code.SEQUENCE_MISSING] * 2
        assert await stage.take(1, 1) == (1, 6)

    play(script)


def test_a_request_that_fails_before_the_last_one() -> None:
    """The sequence ends all the same: nobody may come in behind the last request."""

    async def script(stage: Stage) -> None:
        await stage.take(1, 1, Control.START)
        gates = asyncio.Event(), asyncio.Event()
        stage.executable.gate = gates[0]
        stage.executable.failure = Failure(Code.INFERENCE)
        failing = asyncio.ensure_future(stage.refusal(1))
        await asyncio.sleep(0)
        last = asyncio.ensure_future(stage.take(1, 2, Control.END))
        await asyncio.sleep(0)
        stage.executable.gate = gates[1]
        gates[0].set()
        assert await failing is Code.INFERENCE
        stage.executable.failure = None
        assert await stage.refusal(1) is Code.SEQUENCE_ENDING
        gates[1].set()
        assert await last == (1, 3)
        assert len(stage.sequences) == 0

    play(script)
