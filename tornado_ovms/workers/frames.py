"""What goes over the line between a worker and the supervisor: one frame after another.

A frame is the lengths of head and payload, four bytes each in network order, the head as JSON, and the payload. Both ends are
processes of one server, so that what comes is trusted.
"""

from __future__ import annotations

import asyncio
import json
import struct
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter


class Kind(Enum):
    """What a frame is: a question, an answer to one, all answers to one, or news that nobody answers."""

    ASK = "ask"
    ANSWER = "answer"
    ANSWERS = "answers"
    TELL = "tell"


class Topic(Enum):
    """What a frame is about."""

    RELOAD = "reload"
    LOAD = "load"
    UNLOAD = "unload"
    UNLOADED = "unloaded"
    METRICS = "metrics"
    PREDICT = "predict"
    INFER = "infer"
    WAKE = "wake"
    STARTED = "started"
    ALL_STARTED = "all_started"
    PING = "ping"


class Frame(NamedTuple):
    """One message.

    Attributes:
        kind: what it is.
        topic: what it is about.
        number: of the question, as whoever sent it counts.
        to: the worker that is asked; None for all others.
        seconds: how long answers are waited for.
        sizes: of ANSWERS: the workers that have answered, and how many bytes of the payload are theirs; -1 stands for
            those that are gone, None for no answer.
        payload: whatever the topic wants.
    """

    kind: Kind
    topic: Topic
    number: int = 0
    to: int | None = None
    seconds: float = 0.0
    sizes: tuple[tuple[int, int | None], ...] = ()
    payload: bytes = b""


GONE: Final = -1
"""In place of a worker's number: all those that have ended."""

_LENGTHS: Final = struct.Struct("!II")


async def read_frame(reader: StreamReader) -> Frame | None:
    """The next frame; None if the other end is gone."""
    try:
        head_length, payload_length = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        head = json.loads(await reader.readexactly(head_length))
        payload = await reader.readexactly(payload_length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    kind, topic, number, to, seconds, sizes = head
    return Frame(Kind(kind), Topic(topic), number, to, seconds, tuple((who, size) for who, size in sizes), payload)


def write_frame(writer: StreamWriter, frame: Frame) -> None:
    """Send a frame. Nobody waits until it has been read: workers read what comes at once."""
    head = json.dumps((frame.kind.value, frame.topic.value, *frame[2:6])).encode()
    if not writer.is_closing():
        writer.write(_LENGTHS.pack(len(head), len(frame.payload)) + head + frame.payload)


def join(answers: dict[int, bytes | None]) -> tuple[tuple[tuple[int, int | None], ...], bytes]:
    """Several answers as ``sizes`` and ``payload`` of one frame."""
    sizes = tuple((who, None if answer is None else len(answer)) for who, answer in answers.items())
    return sizes, b"".join(answer for answer in answers.values() if answer is not None)


def split(frame: Frame) -> dict[int, bytes | None]:
    """The answers in a frame, by worker."""
    answers: dict[int, bytes | None] = {}
    start = 0
    for who, size in frame.sizes:
        answers[who] = None if size is None else frame.payload[start : start + size]
        start += size or 0
    return answers
