"""The line between workers: frames, the hub, and the end that each worker has."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.workers import hub
from tornado_ovms.workers.frames import GONE, Frame, Kind, Topic, join, read_frame, split, write_frame
from tornado_ovms.workers.hub import Hub
from tornado_ovms.workers.link import Link, Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

FRAMES = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.sampled_from(Topic),
    st.integers(0, 2**40),
    st.one_of(st.none(), st.integers(0, 63)),
    st.floats(0, 1000),
    st.lists(st.tuples(st.integers(-1, 63), st.one_of(st.none(), st.integers(0, 99)))).map(tuple),
    st.binary(max_size=200),
)


@given(st.lists(FRAMES, max_size=4))
def test_frames_are_read_back(frames: list[Frame]) -> None:
    """One after another, and then the end."""

    async def play() -> list[Frame]:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        reader, other = await asyncio.open_connection(sock=theirs)
        for frame in frames:
            write_frame(writer, frame)
        writer.close()
        found: list[Frame] = []
        while (frame := await read_frame(reader)) is not None:
            found.append(frame)
        other.close()
        await turns()
        return found

    assert asyncio.run(play()) == frames


@given(st.dictionaries(st.integers(-1, 63), st.one_of(st.none(), st.binary(max_size=9))))
def test_answers_are_taken_apart(answers: dict[int, bytes | None]) -> None:
    """No answer is another thing than an empty one."""
    sizes, payload = join(answers)
    assert split(Frame(Kind.ANSWERS, Topic.RELOAD, sizes=sizes, payload=payload)) == answers


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("sockets", [(), (5,), (5, 12)])
def test_a_place_is_read_back(is_late: bool, sockets: tuple[int, ...]) -> None:  # noqa: FBT001
    """From the environment; other processes have none."""
    place = Place(3, 12, 7, is_late, sockets)
    assert Place.read({"TORNADO_OVMS_WORKER": place.write()}) == place
    assert Place.read({}) is None


class Worker:
    """One worker: what it was asked and told, and its link. ``says`` is its answer; None: never, an exception: that."""

    def __init__(self, index: int, says: bytes | Exception | None) -> None:
        self.index = index
        self.says = says
        self.asked: list[tuple[Topic, bytes]] = []
        self.heard: list[Topic] = []
        self.link: Link
        self.line: asyncio.Task[None]

    async def answer(self, topic: Topic, payload: bytes) -> bytes:
        """See ``Link.open``."""
        self.asked.append((topic, payload))
        if isinstance(self.says, Exception):
            raise self.says
        if self.says is None:
            await asyncio.Event().wait()
        return self.says or b""

    async def join(self, center: Hub, count: int) -> None:
        """Connect it."""
        ours, theirs = socket.socketpair()
        self.link = Link(Place(self.index, count, os.dup(theirs.fileno()), is_late=False))
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        self.line = asyncio.ensure_future(center.serve(self.index, reader, writer))
        await self.link.open(self.answer, self.heard.append)

    async def leave(self) -> None:
        """End it, as seen by the hub."""
        self.link.close()
        await asyncio.wait((self.line,))


def longest(texts: Sequence[bytes]) -> bytes:
    """Stands for the sum of what has been counted."""
    return b"+".join(texts)


@asynccontextmanager
async def team(*says: bytes | Exception | None) -> AsyncIterator[list[Worker]]:
    """Connected workers, by their answers."""
    center = Hub(len(says), longest)
    workers = [Worker(index, each) for index, each in enumerate(says)]
    for worker in workers:
        await worker.join(center, len(says))
    await turns()
    try:
        yield workers
    finally:
        for worker in workers:
            await worker.leave()


async def turns() -> None:
    """Let everything come to rest."""
    for _ in range(30):
        await asyncio.sleep(0)


def run(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine; sockets that it has closed are let go before the loop is."""

    async def main() -> None:
        await play()
        await turns()

    asyncio.run(main())


def test_a_question_goes_to_all_others() -> None:
    """And their answers come back with their numbers."""

    async def play() -> None:
        async with team(b"zero", b"one", b"") as workers:
            answers = await workers[0].link.ask(Topic.LOAD, b"m", seconds=99)
            assert answers == {1: b"one", 2: b""}
            assert [worker.asked for worker in workers] == [[], [(Topic.LOAD, b"m")], [(Topic.LOAD, b"m")]]

    run(play)


def test_a_question_may_be_for_one() -> None:
    """Nobody else hears of it."""

    async def play() -> None:
        async with team(b"zero", b"one", b"two") as workers:
            assert await workers[1].link.ask(Topic.PREDICT, b"x", to=2, seconds=99) == {2: b"two"}
            assert workers[0].asked == []

    run(play)


def test_who_cannot_answer_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """An error is logged where it happens, and the asker does not wait."""

    async def play() -> None:
        async with team(b"", ValueError("broken"), b"two") as workers:
            assert await workers[0].link.ask(Topic.RELOAD, seconds=99) == {1: None, 2: b"two"}

    run(play)
    assert "broken" in caplog.text


def test_nobody_waits_for_ever() -> None:
    """After the time that the asker gives, what is there counts."""

    async def play() -> None:
        async with team(b"", None) as workers:
            assert await workers[0].link.ask(Topic.RELOAD, seconds=0) == {1: None}

    run(play)


def test_who_reads_nothing_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what is meant for it would fill the supervisor's memory."""
    monkeypatch.setattr(hub, "PENDING_BYTES", 0)

    async def play() -> None:
        async with team(b"", b"one") as workers:
            assert await workers[0].link.ask(Topic.PREDICT, b"x", to=1, seconds=99) == {}
            assert workers[1].asked == []

    run(play)


def test_nobody_waits_for_the_dead() -> None:
    """A worker that ends owes no answers."""

    async def play() -> None:
        async with team(b"", None, b"two") as workers:
            question = asyncio.ensure_future(workers[0].link.ask(Topic.RELOAD, seconds=99))
            await turns()
            assert not question.done()
            await workers[1].leave()
            assert await question == {1: None, 2: b"two"}

    run(play)


def test_alone_there_is_nobody_to_ask() -> None:
    """The answer comes at once."""

    async def play() -> None:
        async with team(b"") as workers:
            assert await workers[0].link.ask(Topic.RELOAD, seconds=99) == {}

    run(play)


def test_news_is_heard_by_all_others() -> None:
    """Not by who tells it."""

    async def play() -> None:
        async with team(b"", b"", b"") as workers:
            workers[1].link.tell(Topic.WAKE)
            await turns()
            assert [worker.heard for worker in workers] == [[Topic.WAKE], [], [Topic.WAKE]]

    run(play)


def test_all_hear_when_the_last_has_started() -> None:
    """Whoever joins later hears it, too."""

    async def play() -> None:
        async with team(b"", b"") as workers:
            workers[0].link.tell(Topic.STARTED)
            await turns()
            assert not any(worker.link.all_started.is_set() for worker in workers)
            workers[1].link.tell(Topic.STARTED)
            await turns()
            assert all(worker.link.all_started.is_set() for worker in workers)

        lonely = Hub(1, longest)
        first, again = Worker(0, b""), Worker(0, b"")
        await first.join(lonely, 1)
        first.link.tell(Topic.STARTED)
        await turns()
        await first.leave()
        await again.join(lonely, 1)
        await turns()
        assert again.link.all_started.is_set()
        await again.leave()

    run(play)


def test_counters_never_go_back() -> None:
    """One that does not answer is counted as it last was, and one that has ended for ever."""

    async def play() -> None:
        async with team(b"", b"1", b"2") as workers:
            assert await workers[0].link.ask(Topic.METRICS, b"0", seconds=99) == {1: b"1", 2: b"2"}
            workers[1].says = ValueError("busy")
            assert await workers[0].link.ask(Topic.METRICS, b"0", seconds=99) == {1: b"1", 2: b"2"}
            await workers[1].leave()
            assert await workers[0].link.ask(Topic.METRICS, b"0", seconds=99) == {2: b"2", GONE: b"1"}
            assert await workers[2].link.ask(Topic.METRICS, b"2", seconds=99) == {0: b"", GONE: b"1"}
            await workers[0].leave()
            assert await workers[2].link.ask(Topic.METRICS, b"2", seconds=99) == {GONE: b"1+"}

    run(play)


def test_who_has_not_answered_is_counted() -> None:
    """From its first word on: who has said nothing yet may still be starting."""

    async def play() -> None:
        center = Hub(2, longest)
        worker = Worker(0, b"")
        await worker.join(center, 2)
        ours, theirs = socket.socketpair()
        line = asyncio.ensure_future(center.serve(1, *await asyncio.open_connection(sock=ours)))
        _, writer = await asyncio.open_connection(sock=theirs)

        async def ping() -> dict[int, int]:
            found = center.ping()
            await turns()
            return found

        assert [await ping() for _ in range(3)] == [{}, {0: 0}, {0: 0}]
        write_frame(writer, Frame(Kind.TELL, Topic.STARTED))
        await turns()
        assert [await ping() for _ in range(3)] == [{0: 0, 1: 0}, {0: 0, 1: 1}, {0: 0, 1: 2}]
        write_frame(writer, Frame(Kind.TELL, Topic.PING))
        await turns()
        assert [await ping() for _ in range(2)] == [{0: 0, 1: 0}, {0: 0, 1: 1}]
        writer.close()
        await line
        assert await ping() == {0: 0}
        assert worker.heard == []
        await worker.leave()

    run(play)


def test_a_worker_notices_that_the_supervisor_is_gone() -> None:
    """It ends then, and nobody waits for answers any more."""

    async def play() -> None:
        async with team(b"", None) as workers:
            question: Awaitable[dict[int, bytes | None]] = asyncio.ensure_future(
                workers[0].link.ask(Topic.RELOAD, seconds=99)
            )
            await turns()
            workers[0].line.cancel()
            await turns()
            assert workers[0].link.is_cut.is_set()
            assert await question == {}

    run(play)
