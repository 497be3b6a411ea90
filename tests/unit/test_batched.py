"""Requests of several callers in one inference, on a loop whose time is set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fakes import FakeExecutable, FakeLoop, spec
from tornado_ovms.core.batching import BatchAxes
from tornado_ovms.core.settings import Batching
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import Inference
from tornado_ovms.engine.batched import IN_THREAD_BYTES, Batched

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

WIDTH = 3
INFER_S = 0.004
"""How long an inference takes on the fake loop."""


class Doubler(FakeExecutable):
    """b -> a = 2 b, after 4 ms; refuses every batch with a value of 13. ``batches`` are the first columns that it was given."""

    def __init__(self, requests: int = 1) -> None:
        super().__init__()
        self.requests = requests
        self.batches: list[list[float]] = []
        self.started: list[float] = []

    async def infer(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable``."""
        b = arrays["b"]
        self.batches.append(b[:, 0].tolist())
        self.started.append(asyncio.get_running_loop().time())
        await asyncio.sleep(INFER_S)
        if 13 in b:
            raise Failure(Code.INFERENCE, f"13 of {len(b)}")
        return Inference([b * 2], 0.001, INFER_S)


class Play:
    """A loop, what infers on it, and what joins."""

    def __init__(
        self, max_batch: int = 4, delay_ms: float = 0.0, requests: int = 1, axes: BatchAxes | None = None
    ) -> None:
        self.loop = FakeLoop()
        self.inner = Doubler(requests)
        specs = {"b": spec("b", (1, WIDTH))}
        found = axes or BatchAxes({"b": 0}, [0])
        self.batched = Batched(self.inner, specs, [spec("a")], found, Batching(max_batch, delay_ms), self.loop)

    def ask(self, value: float, rows: int = 1, width: int = WIDTH) -> asyncio.Task[Inference]:
        """A request whose numbers are all the same."""
        array = np.full((rows, width), value, np.float32)
        return self.loop.create_task(self.batched.infer({"b": array}))

    async def answers(self, *tasks: asyncio.Task[Inference]) -> list[Any]:
        """The numbers that came back, each the same throughout; or the failures."""
        found: list[Any] = []
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Inference):
                (array,) = result.outputs
                (number,) = set(array.ravel().tolist())
                found.append(number)
            else:
                found.append(result)
        return found

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Play a test; the device is idle at its end, and nobody waits."""

        async def checked() -> None:
            await test()
            await asyncio.sleep(1)
            assert self.batched._idle == self.inner.requests
            assert self.batched.stats().waiting == 0
            assert not self.batched._tasks
            assert self.batched._timer is None

        self.loop.play(checked())


def test_those_of_one_turn_are_joined() -> None:
    """Without a delay: each gets its own answer, and no time passes before the start."""
    play = Play()

    async def test() -> None:
        assert await play.answers(play.ask(1), play.ask(2), play.ask(3)) == [2, 4, 6]
        assert play.inner.batches == [[1, 2, 3]]
        assert play.inner.started == [1000.0]

    play.run(test)


def test_one_alone_is_handed_through() -> None:
    """Without a copy of what goes in or comes out."""
    play = Play()

    async def test() -> None:
        inference = await play.ask(1)
        assert (inference.wait_s, inference.infer_s, inference.window_s, inference.batch_rows) == (0.001, INFER_S, 0, 1)
        assert inference.outputs[0].shape == (1, WIDTH)

    play.run(test)


def test_it_waits_so_long_for_others() -> None:
    """From the first request on; times are told to each, the rows to one."""
    play = Play(delay_ms=2)

    async def test() -> None:
        first = play.ask(1)
        await asyncio.sleep(0.0015)
        second = play.ask(2, rows=2)
        assert await play.answers(first, second) == [2, 4]
        assert play.inner.batches == [[1, 2, 2]]
        assert play.inner.started == pytest.approx([1000.002])
        inferences = first.result(), second.result()
        assert [inference.window_s for inference in inferences] == pytest.approx([0.002, 0.0005])
        assert [inference.wait_s for inference in inferences] == pytest.approx([0.003, 0.0015])
        assert [inference.batch_rows for inference in inferences] == [3, 0]

    play.run(test)


def test_a_full_batch_does_not_wait() -> None:
    """There is nobody to wait for."""
    play = Play(delay_ms=2)

    async def test() -> None:
        assert await play.answers(*(play.ask(value) for value in range(4))) == [0, 2, 4, 6]
        assert play.inner.started == [1000.0]

    play.run(test)


def test_a_batch_grows_while_nothing_is_idle() -> None:
    """Whoever comes before it starts is in it, up to its size; the rest is the next."""
    play = Play()

    async def test() -> None:
        tasks = [play.ask(1)]
        await asyncio.sleep(0.001)
        for value in (2, 3, 4):
            tasks.append(play.ask(value))
            await asyncio.sleep(0.0005)
        tasks += [play.ask(5), play.ask(6)]
        await asyncio.sleep(0)
        assert play.batched.stats().waiting == 5
        assert await play.answers(*tasks) == [2, 4, 6, 8, 10, 12]
        assert play.inner.batches == [[1], [2, 3, 4, 5], [6]]
        assert max(task.result().window_s for task in tasks) == 0

    play.run(test)


def test_a_delay_that_is_over_is_not_waited_for_again() -> None:
    """Who has waited for the device starts when it is idle; the window counts as far as the delay goes."""
    play = Play(delay_ms=2)

    async def test() -> None:
        first = play.ask(1)
        await asyncio.sleep(0.003)
        second = play.ask(2)
        assert await play.answers(first, second) == [2, 4]
        assert play.inner.started == pytest.approx([1000.002, 1000.006])
        assert second.result().window_s == pytest.approx(0.002)
        assert second.result().wait_s == pytest.approx(0.004)

    play.run(test)


def test_every_infer_request_is_used() -> None:
    """As many batches run at a time."""
    play = Play(requests=2)

    async def test() -> None:
        await play.answers(*(play.ask(value) for value in range(10)))
        assert play.inner.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert play.inner.started == pytest.approx([1000.0, 1000.0, 1000.0 + INFER_S])

    play.run(test)


def test_other_shapes_are_served_in_turn() -> None:
    """They are joined among themselves."""
    play = Play(max_batch=2)

    async def test() -> None:
        wide = [play.ask(value) for value in range(1, 5)]
        narrow = [play.ask(value, width=2) for value in (5, 6)]
        assert await play.answers(*wide, *narrow) == [2, 4, 6, 8, 10, 12]
        assert play.inner.batches == [[1, 2], [5, 6], [3, 4]]

    play.run(test)


def test_more_rows_than_a_batch_has_run_alone() -> None:
    """So does what has no rows."""
    play = Play()

    async def test() -> None:
        large, small, empty = play.ask(1, rows=9), play.ask(2), play.ask(3, rows=0)
        await asyncio.gather(large, small, empty)
        assert play.inner.batches == [[1] * 9, [], [2]]
        assert [task.result().outputs[0].shape for task in (large, small, empty)] == [(9, 3), (1, 3), (0, 3)]

    play.run(test)


def test_who_goes_away_before_the_start_is_left_out() -> None:
    """Also if that is everybody."""
    play = Play(delay_ms=1)

    async def test() -> None:
        gone, stays = play.ask(1), play.ask(2)
        await asyncio.sleep(0)
        gone.cancel()
        assert await play.answers(stays) == [4]
        assert play.inner.batches == [[2]]
        alone = play.ask(3)
        await asyncio.sleep(0)
        alone.cancel()
        await asyncio.sleep(1)
        assert play.inner.batches == [[2]]

    play.run(test)


def test_who_goes_away_while_it_runs_leaves_the_others_their_answer() -> None:
    """The rows are told to the next."""
    play = Play()

    async def test() -> None:
        gone, stays = play.ask(1), play.ask(2)
        await asyncio.sleep(0.001)
        gone.cancel()
        assert await play.answers(stays) == [4]
        assert play.inner.batches == [[1, 2]]
        assert stays.result().batch_rows == 2

    play.run(test)


def test_a_fault_is_that_of_one() -> None:
    """A batch that fails is run again, each alone: the neighbours are answered, the one at fault hears of itself alone."""
    play = Play()

    async def test() -> None:
        one, bad, other = await play.answers(play.ask(1), play.ask(13), play.ask(3))
        assert (one, other) == (2, 6)
        assert isinstance(bad, Failure)
        assert (bad.code, bad.detail) == (Code.INFERENCE, "13 of 1")
        assert play.inner.batches == [[1, 13, 3], [1], [13], [3]]

    play.run(test)


def test_outputs_that_do_not_follow_are_not_split() -> None:
    """Each runs alone then, and gets what the model gives."""
    play = Play(axes=BatchAxes({"b": 0}, [1]))

    async def test() -> None:
        assert await play.answers(play.ask(1), play.ask(2)) == [2, 4]
        assert play.inner.batches == [[1, 2], [1], [2]]

    play.run(test)


def test_no_answer_is_part_of_another_one() -> None:
    """A caller may do with its own what it wants, and keeps no more alive than that."""
    play = Play()

    async def test() -> None:
        one, other = play.ask(1), play.ask(2)
        await asyncio.gather(one, other)
        (mine,), (theirs,) = one.result().outputs, other.result().outputs
        assert mine.base is None
        assert not np.shares_memory(mine, theirs)

    play.run(test)


@pytest.mark.parametrize(("width", "in_threads"), [(WIDTH, 0), (IN_THREAD_BYTES // 8 + 1, 2)])
def test_much_is_joined_and_split_in_a_thread(width: int, in_threads: int) -> None:
    """Little is not: the thread would cost more."""
    play = Play()

    async def test() -> None:
        assert await play.answers(play.ask(1, width=width), play.ask(2, width=width)) == [2, 4]
        assert play.loop.in_threads == in_threads

    play.run(test)


def test_nothing_is_inferred_for_those_who_have_gone_while_they_were_joined() -> None:
    """The model may be closed by then: no lease holds it any more."""
    play = Play()
    joined: list[asyncio.Future[Any]] = []

    def in_thread(_executor: Any, _function: Any, *_: Any) -> asyncio.Future[Any]:
        joined.append(play.loop.create_future())
        return joined[-1]

    play.loop.run_in_executor = in_thread  # type: ignore[assignment,method-assign]

    async def test() -> None:
        tasks = [play.ask(value, width=IN_THREAD_BYTES) for value in (1, 2)]
        await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        joined[0].set_result({"b": np.zeros((2, IN_THREAD_BYTES), np.float32)})
        await asyncio.sleep(1)
        assert play.inner.batches == []

    play.run(test)


def test_it_shows_the_model_that_it_is_around() -> None:
    """Closing it closes that, too."""
    play = Play()

    async def test() -> None:
        assert play.batched.info is play.inner.info
        assert not play.batched.is_quick
        assert play.batched.inputs["b"].shape.is_fixed
        play.batched.close()
        assert play.inner.closed.is_set()

    play.run(test)
