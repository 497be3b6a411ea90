"""Clients that are too slow, on streams that are none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tornado_ovms.core import metric_families as families
from tornado_ovms.http.patience import LEAST_BYTES, PARTS, Patience
from tornado_ovms.http.traffic import Traffic
from tornado_ovms.metrics import Metrics

LIMIT_S = 10


class FakeStream:
    """A connection: bytes of a head that have come, bytes of an answer that the client takes, or has taken before."""

    def __init__(self, *, head: int = 0, taken: int | None = None) -> None:
        self._read_buffer_size = head
        self._total_write_done_index = taken or 0
        self._is_taking = taken is not None
        self.is_closed = False

    def take(self, count: int) -> None:
        """The client takes so many bytes of its answer."""
        self._total_write_done_index += count

    def writing(self) -> bool:
        """See Tornado."""
        return self._is_taking

    def close(self) -> None:
        """See Tornado."""
        self.is_closed = True


class FakeExchange:
    """A request of which ``received`` bytes of the body have come; ``task`` is set once it is answered."""

    def __init__(self, stream: FakeStream, received: int = 0, announced: int = 0, task: Any = None) -> None:
        self.stream, self.received, self.announced, self.task = stream, received, announced, task
        self.told = ""

    def give_up(self, detail: str) -> None:
        """See ``Exchange``."""
        self.told = detail


class Watch:
    """A ``Patience`` with its clock."""

    def __init__(self, stream: FakeStream, exchange: FakeExchange | None = None) -> None:
        self.metrics, self.stream, self.now = Metrics(), stream, 0.0
        self.edge: Any = SimpleNamespace(
            streams={stream}, open={exchange} if exchange else set(), traffic=Traffic(self.metrics)
        )
        self._patience = Patience(self.edge, LIMIT_S, lambda: self.now)
        self._patience.look()

    def wait(self, seconds: float) -> None:
        """Time passes, and it is looked again."""
        self.now += seconds
        self._patience.look()

    @property
    def refused(self) -> float:
        """How many connections were counted as too slow."""
        return self.metrics.counter(families.REFUSED, reason="client_timeout").value


def test_a_head_has_to_be_complete_in_time() -> None:
    """However much of it comes meanwhile: that is how such attacks work."""
    watch = Watch(stream := FakeStream(head=1))
    stream._read_buffer_size = 9000
    watch.wait(LIMIT_S - 1)
    assert not stream.is_closed
    watch.wait(1)
    assert (stream.is_closed, watch.refused) == (True, 1)


def test_a_handshake_has_to_be_complete_in_time() -> None:
    """Also if nothing of it comes, which would be an idle connection after it."""
    watch = Watch(stream := FakeStream())
    stream._ssl_accepting = True
    watch.wait(1)
    watch.wait(LIMIT_S - 1)
    assert not stream.is_closed
    stream._ssl_accepting = False
    watch.wait(1)
    watch.wait(LIMIT_S)
    assert not stream.is_closed
    stream._ssl_accepting = True
    watch.wait(1)
    watch.wait(LIMIT_S)
    assert (stream.is_closed, watch.refused) == (True, 1)


def test_idle_connections_stay() -> None:
    """As in the reference."""
    watch = Watch(stream := FakeStream())
    watch.wait(LIMIT_S * 9)
    assert not stream.is_closed


def test_the_time_for_a_head_begins_anew_with_each() -> None:
    """An idle while between two heads, if it is seen, ends the first."""
    watch = Watch(stream := FakeStream(head=1))
    watch.wait(LIMIT_S - 1)
    stream._read_buffer_size = 0
    watch.wait(1)
    stream._read_buffer_size = 1
    watch.wait(1)
    watch.wait(LIMIT_S - 1)
    assert not stream.is_closed


def test_requests_without_a_pause() -> None:
    """The next head is always there when it is looked, but each time it is another one."""
    watch = Watch(stream := FakeStream(head=1))
    for _ in range(9):
        stream.take(150)
        watch.wait(LIMIT_S - 1)
    assert not stream.is_closed
    watch.wait(LIMIT_S)
    assert stream.is_closed


def test_bodies_without_a_pause() -> None:
    """Each has time of its own."""
    exchange = FakeExchange(stream := FakeStream(head=7))
    watch = Watch(stream, exchange)
    for _ in range(9):
        watch.wait(LIMIT_S - 1)
        exchange = FakeExchange(stream)
        watch.edge.open = {exchange}
        watch.wait(1)
    assert not exchange.told
    watch.wait(LIMIT_S)
    assert exchange.told


def test_a_body_has_to_make_progress() -> None:
    """It is answered, as its client may read that."""
    exchange = FakeExchange(stream := FakeStream(head=7))
    watch = Watch(stream, exchange)
    for _ in range(3):
        exchange.received += LEAST_BYTES
        watch.wait(LIMIT_S - 1)
    assert not exchange.told
    exchange.received += LEAST_BYTES - 1
    watch.wait(LIMIT_S)
    assert exchange.told == f"Expected: {LEAST_BYTES} bytes in {LIMIT_S} s; Actual: {4 * LEAST_BYTES - 1} in all"
    assert not stream.is_closed


def test_a_body_has_to_come_in_so_many_parts() -> None:
    """Room is kept for all of it: one that drips must not keep that for days."""
    exchange = FakeExchange(stream := FakeStream(head=7), announced=PARTS * 10 * LEAST_BYTES)
    watch = Watch(stream, exchange)
    exchange.received = 10 * LEAST_BYTES
    watch.wait(LIMIT_S - 1)
    exchange.received += 10 * LEAST_BYTES - 1
    watch.wait(LIMIT_S - 1)
    assert not exchange.told
    watch.wait(1)
    assert exchange.told.startswith(f"Expected: {10 * LEAST_BYTES} bytes in {LIMIT_S} s")


def test_a_request_that_is_being_answered_is_ours_to_end() -> None:
    """The next head may be there already."""
    exchange = FakeExchange(stream := FakeStream(head=7), task=object())
    watch = Watch(stream, exchange)
    watch.wait(LIMIT_S * 9)
    assert not exchange.told
    assert not stream.is_closed


def test_an_answer_has_to_be_taken() -> None:
    """In pieces, if they are not too small."""
    watch = Watch(stream := FakeStream(taken=0))
    for _ in range(3):
        stream.take(LEAST_BYTES)
        watch.wait(LIMIT_S - 1)
    stream.take(1)
    watch.wait(LIMIT_S)
    assert (stream.is_closed, watch.refused) == (True, 1)
