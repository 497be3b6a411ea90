"""How long clients may take: connections that are held by doing next to nothing are closed, those that are idle are not.

Instead of a timer for each request, which a small one would pay for, all connections are looked at now and then. Belongs to the
event loop.
"""

from __future__ import annotations

import asyncio
import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms.core.status import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado_ovms.http.app import Edge
    from tornado_ovms.http.exchange import Exchange

LEAST_BYTES: Final = 4096
PARTS: Final = 16
"""What has to come, or to be taken, in the time allowed: so much, and such a part of a body whose size was announced. Room is
kept for all of it from then on (``serving.admission``)."""

LOOKS: Final = 10
"""How often is looked in the time allowed, so that it is exceeded by a tenth at most."""


class Waiting(Enum):
    """What a connection waits for its client to do."""

    HANDSHAKE = auto()
    HEAD = auto()
    BODY = auto()
    TAKING = auto()


class _Seen(NamedTuple):
    """What a connection waited for when it was looked at, and since when.

    ``of`` tells one head or body from the next: a client that sends one after the other is not slow.
    """

    waiting: Waiting
    of: object
    bytes: float
    since: float


class Patience:
    """Looks at the connections of an edge, and closes those whose clients are too slow.

    Args:
        edge: what answers.
        limit_s: seconds for a handshake, for a head, and for each ``LEAST_BYTES`` or part of a body; 0: no limit.
        clock: seconds that never go back.
    """

    def __init__(self, edge: Edge, limit_s: float, clock: Callable[[], float]) -> None:
        self._edge = edge
        self._limit_s = limit_s
        self._clock = clock
        self._seen: dict[Any, _Seen] = {}

    async def run(self) -> None:
        """Look again and again, for ever; not at all without a limit."""
        while self._limit_s:
            await asyncio.sleep(self._limit_s / LOOKS)
            self.look()

    def look(self) -> None:
        """Look at all connections once."""
        now = self._clock()
        exchanges = {exchange.stream: exchange for exchange in self._edge.open}
        before, self._seen = self._seen, {}
        for stream in list(self._edge.streams):
            found = _waits(stream, exchanges.get(stream))
            if found is None:
                continue
            waiting, of, count = found
            seen = before.get(stream)
            if seen is None or (seen.waiting, seen.of) != (waiting, of) or count >= seen.bytes + _least(of):
                seen = _Seen(waiting, of, count, now)
            if now - seen.since < self._limit_s:
                self._seen[stream] = seen
            else:
                self._close(stream, exchanges.get(stream), waiting)

    def _close(self, stream: Any, exchange: Exchange | None, waiting: Waiting) -> None:
        """A body that does not come is answered; who sends half a head, or takes no answer, would not read one."""
        if waiting is Waiting.BODY and exchange is not None:
            exchange.give_up(
                f"Expected: {_least(exchange)} bytes in {self._limit_s:g} s; Actual: {exchange.received} in all"
            )
        else:
            self._edge.traffic.refused(Code.CLIENT_TOO_SLOW)
            stream.close()


def _least(of: object) -> int:
    """Bytes that have to come in the time allowed, of the body of a request or of something else."""
    return max(LEAST_BYTES, getattr(of, "announced", 0) // PARTS)


def _waits(stream: Any, exchange: Exchange | None) -> tuple[Waiting, object, float] | None:
    """What a connection waits for, of which request, and how many bytes of it there are; None if it is idle, or our turn.

    A head belongs to no request yet: it is known by what has been written before it. Tornado tells the sizes of its buffers, and
    of a handshake, by attributes that are not public; a release without them is never found waiting.
    """
    if getattr(stream, "_ssl_accepting", False):
        return Waiting.HANDSHAKE, None, 0
    written = getattr(stream, "_total_write_done_index", math.inf)
    if stream.writing():
        return Waiting.TAKING, None, written
    if exchange is not None:
        return (Waiting.BODY, exchange, exchange.received) if exchange.task is None else None
    return (Waiting.HEAD, written, 0) if getattr(stream, "_read_buffer_size", 0) else None
