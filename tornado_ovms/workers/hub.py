"""The supervisor's end of all lines: carries questions to the workers they are for, and the answers back.

It remembers what each worker has last told of its metrics, so that no counter ever goes back: a worker that does not answer in
time is counted as it was, and what one has counted that has ended stays. Belongs to the supervisor's event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

from tornado_ovms.workers.frames import GONE, Frame, Kind, Topic, join, read_frame, split, write_frame

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable, Sequence


PENDING_BYTES: Final = 64 << 20
"""A worker that has so much left to read is asked nothing more: it is stuck, and what is meant for it would pile up here."""


@dataclass(slots=True)
class _Question:
    """A question under way: whose, as it is numbered there, and who has still to answer."""

    asker: int
    number: int
    topic: Topic
    waiting: set[int]
    answers: dict[int, bytes | None] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Hub:
    """Knows every worker that is there.

    Args:
        size: how many workers there are to be.
        add: adds what several workers have told of their metrics; of those that have ended.
        on_started: called once every worker has been ready to serve.
    """

    def __init__(
        self, size: int, add: Callable[[Sequence[bytes]], bytes], on_started: Callable[[], None] = lambda: None
    ) -> None:
        self._size = size
        self._add = add
        self._on_started = on_started
        self._lines: dict[int, StreamWriter] = {}
        self._numbers = count(1)
        self._questions: dict[int, _Question] = {}
        self._started: set[int] = set()
        self._seen: dict[int, bytes] = {}
        self._ended: bytes | None = None
        self._pings: dict[int, int] = {}

    @property
    def have_all_started(self) -> bool:
        """Whether every worker has once been ready to serve."""
        return len(self._started) == self._size

    def ping(self) -> dict[int, int]:
        """Ask every worker whether its loop goes on.

        Returns:
            How often each has been asked before without a word from it since. Those that have never said anything are not there:
            they import their modules, for as long as that takes.
        """
        self._tell(self._lines, Frame(Kind.TELL, Topic.PING))
        before = self._pings.copy()
        for index in before:
            self._pings[index] += 1
        return before

    async def serve(self, index: int, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry what a worker says, until it is gone."""
        self._lines[index] = writer
        if self.have_all_started:
            write_frame(writer, Frame(Kind.TELL, Topic.ALL_STARTED))
        try:
            while (frame := await read_frame(reader)) is not None:
                self._pings[index] = 0
                if frame.topic is not Topic.PING:
                    self._take(index, frame)
        finally:
            writer.close()
            self._leave(index)

    def _take(self, index: int, frame: Frame) -> None:
        if frame.kind is Kind.ASK:
            self._ask(index, frame)
        elif frame.kind is Kind.ANSWER:
            self._answer(index, frame)
        elif frame.topic is Topic.STARTED:
            before = self.have_all_started
            self._started.add(index)
            if self.have_all_started and not before:
                self._tell(self._lines, Frame(Kind.TELL, Topic.ALL_STARTED))
                self._on_started()
        else:
            self._tell([other for other in self._lines if other != index], frame)

    def _tell(self, to: Sequence[int] | dict[int, StreamWriter], frame: Frame) -> None:
        for index in to:
            write_frame(self._lines[index], frame)

    def _ask(self, index: int, frame: Frame) -> None:
        others = [
            other
            for other, line in self._lines.items()
            if other != index and frame.to in (None, other) and _pending(line) < PENDING_BYTES
        ]
        number = next(self._numbers)
        question = _Question(index, frame.number, frame.topic, set(others))
        self._questions[number] = question
        if frame.topic is Topic.METRICS:
            self._seen[index] = frame.payload
        self._tell(others, frame._replace(number=number))
        if question.waiting:
            question.timer = asyncio.get_running_loop().call_later(frame.seconds, self._finish, number)
        else:
            self._finish(number)

    def _answer(self, index: int, frame: Frame) -> None:
        (answer,) = split(frame).values()
        if frame.topic is Topic.METRICS and answer is not None:
            self._seen[index] = answer
        self._settle(frame.number, index, answer)

    def _settle(self, number: int, index: int, answer: bytes | None) -> None:
        question = self._questions.get(number)
        if question is None or index not in question.waiting:
            return  # it came too late
        question.answers[index] = answer
        question.waiting.discard(index)
        if not question.waiting:
            self._finish(number)

    def _finish(self, number: int) -> None:
        """Give the asker what has come."""
        question = self._questions.pop(number)
        if question.timer is not None:
            question.timer.cancel()
        answers = {**dict.fromkeys(question.waiting), **question.answers}
        if question.topic is Topic.METRICS:
            answers = {who: self._seen.get(who) if answer is None else answer for who, answer in answers.items()}
            if self._ended is not None:
                answers[GONE] = self._ended
        if question.asker in self._lines:
            sizes, payload = join(answers)
            frame = Frame(Kind.ANSWERS, question.topic, question.number, sizes=sizes, payload=payload)
            write_frame(self._lines[question.asker], frame)

    def _leave(self, index: int) -> None:
        """A worker is gone: nobody waits for its answers, and what it has counted stays."""
        del self._lines[index]
        self._pings.pop(index, None)
        last = self._seen.pop(index, None)
        if last is not None:
            self._ended = self._add([last] if self._ended is None else [self._ended, last])
        for number, question in list(self._questions.items()):
            if question.asker == index:
                del self._questions[number]
                if question.timer is not None:
                    question.timer.cancel()
            else:
                self._settle(number, index, None)


def _pending(line: StreamWriter) -> int:
    """How many bytes a worker has not read yet."""
    size: int = line.transport.get_write_buffer_size()
    return size
