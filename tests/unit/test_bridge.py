"""The door from foreign threads into the loop."""

from __future__ import annotations

import asyncio
import threading

from tornado_ovms.engine.bridge import BATCH, Completions


def test_a_burst_wakes_the_loop_once() -> None:
    """Many items, one call of call_soon_threadsafe; all are handled in order."""

    async def play() -> tuple[list[int], int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        wakes = 0
        real = loop.call_soon_threadsafe

        def counting(*args: object) -> asyncio.Handle:
            nonlocal wakes
            wakes += 1
            return real(*args)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counting  # type: ignore[method-assign,assignment]
        door: Completions[int] = Completions(loop, seen.append)
        count = BATCH * 3 + 5
        for number in range(count):
            door.done(number)
        while len(seen) < count:  # noqa: ASYNC110 - each turn of the loop is what is tested
            await asyncio.sleep(0)
        return seen, wakes

    seen, wakes = asyncio.run(play())
    assert seen == list(range(len(seen)))
    assert wakes == 1


def test_other_callbacks_get_their_turn() -> None:
    """A long line of items is handled in batches, with the loop's other work between them."""

    async def play() -> int:
        seen: list[int] = []
        door: Completions[int] = Completions(asyncio.get_running_loop(), seen.append)
        for number in range(BATCH * 2):
            door.done(number)
        await asyncio.sleep(0)
        return len(seen)

    assert asyncio.run(play()) == BATCH


def test_nothing_is_lost_between_threads() -> None:
    """Four threads hand over items while the loop empties the deque: every item arrives."""
    threads, each = 4, 2000

    async def play() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        complete = asyncio.Event()

        def handle(item: tuple[int, int]) -> None:
            seen.append(item)
            if len(seen) == threads * each:
                complete.set()

        door: Completions[tuple[int, int]] = Completions(asyncio.get_running_loop(), handle)

        def hand_over(thread: int) -> None:
            for number in range(each):
                door.done((thread, number))

        workers = [threading.Thread(target=hand_over, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        await complete.wait()
        for worker in workers:
            worker.join()
        return seen

    seen = asyncio.run(play())
    for thread in range(threads):
        assert [number for origin, number in seen if origin == thread] == list(range(each))


def test_a_closed_loop_is_no_error() -> None:
    """What OpenVINO calls back after the end of the process's loop goes nowhere, silently."""
    loop = asyncio.new_event_loop()
    door: Completions[int] = Completions(loop, lambda _: None)
    loop.close()
    door.done(1)
    door.done(2)
