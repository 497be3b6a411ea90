"""A worker's end of the line to its siblings. Belongs to the event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from tornado_ovms.workers.frames import Frame, Kind, Topic, read_frame, split, write_frame

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable, Mapping

    Answer = Callable[[Topic, bytes], Awaitable[bytes]]

log = logging.getLogger("serving")

VARIABLE: Final = "TORNADO_OVMS_WORKER"
"""Says to a process that it is a worker, and which."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker a process is.

    Attributes:
        index: from 0.
        count: of all workers.
        descriptor: of the socket to the supervisor.
        is_late: whether others serve already: then it takes no request before its models are loaded.
        sockets: descriptors of those that all workers listen on.
    """

    index: int
    count: int
    descriptor: int
    is_late: bool
    sockets: tuple[int, ...] = ()

    def write(self) -> str:
        """As the text of ``VARIABLE``."""
        listening = "".join(f",{number}" for number in self.sockets)
        return f"{self.index}/{self.count}:{self.descriptor}{listening}{'+' if self.is_late else ''}"

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Place | None:
        """The place that the environment tells; None for a process that is no worker."""
        text = environment.get(VARIABLE)
        if text is None:
            return None
        where, _, descriptors = text.rstrip("+").partition(":")
        index, _, of = where.partition("/")
        line, *listening = map(int, descriptors.split(","))
        return cls(int(index), int(of), line, text.endswith("+"), tuple(listening))


class Link:
    """Asks siblings, tells them news, and answers what they ask.

    Attributes:
        place: which worker this is.
        all_started: set once every worker has loaded its models for the first time.
        is_cut: set when the supervisor is gone.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.all_started = asyncio.Event()
        self.is_cut = asyncio.Event()
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[dict[int, bytes | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: StreamWriter | None = None

    async def open(self, answer: Answer, on_news: Callable[[Topic], None]) -> None:
        """Begin to listen.

        Args:
            answer: what answers a sibling's question.
            on_news: hears what siblings tell.
        """
        reader, self._writer = await asyncio.open_connection(sock=socket.socket(fileno=self.place.descriptor))
        self._keep(self._listen(reader, answer, on_news))

    async def ask(
        self, topic: Topic, payload: bytes = b"", *, to: int | None = None, seconds: float
    ) -> dict[int, bytes | None]:
        """The answers of one sibling or of all, by their numbers; None for one that gave none in time.

        Args:
            topic: what is asked.
            payload: what belongs to it.
            to: whom; None for all siblings.
            seconds: how long answers are waited for.
        """
        number = next(self._numbers)
        future: asyncio.Future[dict[int, bytes | None]] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._send(Frame(Kind.ASK, topic, number, to, seconds, payload=payload))
            return await future
        finally:
            del self._asked[number]

    def tell(self, topic: Topic) -> None:
        """Let all siblings know; of PING only the supervisor."""
        self._send(Frame(Kind.TELL, topic))

    def close(self) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        if self._writer is not None:
            self._writer.close()

    def _send(self, frame: Frame) -> None:
        if self._writer is not None:
            write_frame(self._writer, frame)

    async def _listen(self, reader: StreamReader, answer: Answer, on_news: Callable[[Topic], None]) -> None:
        while (frame := await read_frame(reader)) is not None:
            if frame.kind is Kind.ASK:
                self._keep(self._answer(frame, answer))
            elif frame.kind is Kind.ANSWERS:
                future = self._asked.get(frame.number)
                if future is not None and not future.done():
                    future.set_result(split(frame))
            elif frame.topic is Topic.ALL_STARTED:
                self.all_started.set()
            elif frame.topic is Topic.PING:
                self.tell(Topic.PING)
            else:
                on_news(frame.topic)
        self.is_cut.set()
        for future in self._asked.values():
            if not future.done():
                future.set_result({})

    async def _answer(self, frame: Frame, answer: Answer) -> None:
        sizes: tuple[tuple[int, int | None], ...] = ()
        payload = b""
        try:
            payload = await answer(frame.topic, frame.payload)
            sizes = ((self.place.index, len(payload)),)
        except Exception:
            log.exception("A question of another worker could not be answered: %s", frame.topic.value)
            sizes = ((self.place.index, None),)
        self._send(Frame(Kind.ANSWER, frame.topic, frame.number, sizes=sizes, payload=payload))

    def _keep(self, coroutine: Awaitable[None]) -> None:
        """Run it beside; asyncio itself forgets tasks that nobody holds."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
