"""One request and its answer: the delegate that Tornado gives the pieces of a request to.

Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from tornado import httputil, iostream

from tornado_ovms.codec.compression import Unpacker, pack
from tornado_ovms.codec.kfs import HEADER
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.http.heads import GIVEN_REQUEST_ID, flatten
from tornado_ovms.http.listener import LARGE_READ, SMALL_READ
from tornado_ovms.http.negotiation import (
    CLOSE,
    LINE_BYTES,
    TIMEOUT_HEADER,
    choose_coding,
    persistence,
    read_timeout,
    refuse_head,
)
from tornado_ovms.http.routes import Request, Target
from tornado_ovms.http.traffic import OTHER, Answered
from tornado_ovms.serving.dataplane import MAX_DIGITS, ON_LOOP_BYTES
from tornado_ovms.serving.observation import Timing
from tornado_ovms.serving.reply import EMPTY, TEXT, Reply, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from tornado_ovms.http.app import Edge
    from tornado_ovms.serving.admission import Ticket
    from tornado_ovms.serving.planes import Planes

log = logging.getLogger("serving")

PACK_BYTES: Final = 1024
"""Answers of this size and more are compressed for clients that take gzip (drogon's threshold in the reference)."""

SMALL_DIGITS: Final = 5
"""A body whose size has more digits than this is read in large pieces."""

LINGER_S: Final = 10.0
LINGER_BYTES: Final = 64 * 1024 * 1024
"""How long, and for how much more, is read from a client that is sending a body that has been refused. Many read no answer before
they have sent all, and a connection that is closed with something unread is reset: then they never get to read it."""

ALIGNMENT: Final = 16
"""What allocators give, too; OpenVINO reads numbers in groups of that size."""

WANTED_KEY: Final = "Expected: Authorization: Bearer KEY"

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

_SERVER_TIMING: Final = ", ".join(f"{stage};dur=%.3f" for stage in Timing._fields)


class Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer. ``task`` is set while it is being answered.

    Answers are written with their heads, past Tornado's ``write_headers``: it allows that, and takes 20 µs for the same.
    """

    __slots__ = (
        "_arrived", "_begun", "_chunks", "_connection", "_edge", "_headers", "_is_refused", "_late", "_method",
        "_path", "_persistence", "_query", "_request_id", "_room", "_size", "_target", "_ticket", "_timer", "task",
    )  # fmt: skip

    def __init__(self, edge: Edge, connection: httputil.HTTPConnection) -> None:
        self._edge = edge
        self._connection: Any = connection  # HTTP1Connection, whose write() Tornado's base class does not promise
        self._chunks: list[bytes] = []
        self._size = 0
        self._arrived = time.perf_counter()
        self._request_id = ""
        self._method = ""
        self._path = ""
        self._query = ""
        self._headers: Mapping[str, str] = _NO_HEADERS
        self._persistence = ""
        self._target: Target | Reply = EMPTY
        self._room = 0
        self._is_refused = False
        self._late: Failure | None = None
        self._ticket: Ticket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self.task: asyncio.Task[None] | None = None

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """The request's head is there: find out where it goes, and refuse what is too large before it is sent."""
        self._edge.open.add(self)
        self._method = start_line.method
        self._path, _, self._query = start_line.path.partition("?")
        self._headers = flat = flatten(headers)
        if "Connection" in flat:
            self._persistence = persistence(start_line.version, flat["Connection"])
        self._request_id = self._edge.traffic.request_id(flat.get(GIVEN_REQUEST_ID))
        # Nearly no request has one of these.
        if (len(start_line.path) > LINE_BYTES or "Transfer-Encoding" in flat or "Expect" in flat) and (
            status := refuse_head(start_line.path, flat)
        ):
            self._refuse(Reply(status, [], TEXT), lingers=False)
            return
        self._target = self._edge.find(self._method, self._path)
        length = flat.get("Content-Length", "")
        self._connection.stream.read_chunk_size = LARGE_READ if len(length) > SMALL_DIGITS else SMALL_READ
        guard, target = self._edge.guard, self._target
        if isinstance(target, Target):
            if guard is not None and not guard.admits(target.access, flat.get("Authorization")):
                self._turn_away(target, Failure(Code.UNAUTHORIZED, WANTED_KEY), length)
                return
            self._room = target.body_bytes
        if length.isdecimal() and (len(length) >= MAX_DIGITS or int(length) > self._edge.body_bytes):
            self._refuse_size(length[:MAX_DIGITS])
        elif isinstance(target, Target) and target.is_inference:
            try:
                self._take_on(target, int(length) if length.isdecimal() else 0)
            except Failure as failure:
                self._turn_away(target, failure, length)

    def _turn_away(self, target: Target, failure: Failure, length: str) -> None:
        """Refuse a request by its head. A small body is on its way already: dropping it costs less than a new connection."""
        if len(length) <= SMALL_DIGITS and "Transfer-Encoding" not in self._headers:
            self._target = target._replace(endpoint=partial(_fail, failure))
            self._room = 0
        else:
            self._refuse(self._explain(failure))

    def _take_on(self, target: Target, size: int) -> None:
        """Count a prediction or inference, and begin to measure its time."""
        try:
            version = target.version
        except Failure:
            version = None  # it is told of once the body has come, as everywhere
        self._ticket = self._edge.admission.enter(target.name, version, size)
        timeout_s = read_timeout(self._headers.get(TIMEOUT_HEADER), self._ticket.timeout_s)
        if timeout_s:
            self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expire, timeout_s)

    @property
    def stream(self) -> iostream.IOStream:
        """The connection's."""
        return cast("iostream.IOStream", self._connection.stream)

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return self._size

    @property
    def announced(self) -> int:
        """Bytes of the body that are to come in all; 0 if that is not known, or of no consequence."""
        return 0 if self._ticket is None else self._ticket.size

    def give_up(self, detail: str) -> None:
        """The client sends the rest of its request too slowly."""
        self._refuse(self._explain(Failure(Code.CLIENT_TOO_SLOW, detail)), lingers=False)

    def leave(self) -> None:
        """It has been answered, or given up: it is not counted any more."""
        self._stop_timer()
        if self._ticket is not None:
            self._edge.admission.leave(self._ticket)
            self._ticket = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, timeout_s: float) -> None:
        """The time for an answer is up; what has not been begun for it will not be."""
        failure = Failure(Code.DEADLINE_EXCEEDED, f"Expected: {timeout_s:g} s at most")
        if self.task is None:
            self._refuse(self._explain(failure))
        elif self._begun:
            self._late = failure
            self.task.cancel()
        else:  # see on_connection_close
            self._timer = asyncio.get_running_loop().call_later(0, self._expire, timeout_s)

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body; what nobody is going to read is not kept."""
        self._size += len(chunk)
        if self._is_refused:
            if self._size > self._room:
                self._connection.close()
        elif self._size > self._edge.body_bytes:
            self._refuse_size(f"more than {self._edge.body_bytes}")
        elif self._ticket is not None and self._size > self._ticket.size and not self._grow(self._ticket):
            return
        elif self._size <= self._room:
            self._chunks.append(chunk)
        elif self._room:
            self._refuse_size(f"more than {self._room}")

    def _grow(self, ticket: Ticket) -> bool:
        """More has come than was announced; whether it may."""
        try:
            self._edge.admission.grow(ticket, self._size)
        except Failure as failure:
            self._refuse(self._explain(failure))
            return False
        return True

    def finish(self) -> None:
        """The request is complete: answer it, without a task if that can be done at once."""
        if self._is_refused:
            self._stop_timer()
            self._end(is_last=True)
            return
        encoding, ticket = self._headers.get("Content-Encoding"), self._ticket
        if encoding and ticket is not None:
            found: Reply | Awaitable[Reply] = self._unpack_and_ask(encoding, ticket)
        else:
            found = self._ask(self._take_body())
        if isinstance(found, Reply):
            size = _size(found.body)
            if size < PACK_BYTES or (size <= ON_LOOP_BYTES and not self._coding(found, size)):
                self._write(found, size, close=found.status == HTTPStatus.METHOD_NOT_ALLOWED)
                return
        self.task = asyncio.ensure_future(self._answer(found))
        self.task.add_done_callback(self._done)
        # Without that Tornado tells only of connections that close before their request is complete.
        self._connection.set_close_callback(self.on_connection_close)

    def on_connection_close(self) -> None:
        """The client is gone: nobody waits for the answer any more.

        A task that has not begun is left to: what it is going to await may hold a lease, which it would never give
        back.
        """
        if self.task is None:
            self._edge.leave(self)
        elif self._begun:
            self.task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._edge.leave(self)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("An answer could not be written", exc_info=error)

    def _refuse_size(self, found: str) -> None:
        most = min(self._edge.body_bytes, self._room or self._edge.body_bytes)
        detail = f"Expected: {most} bytes at most; Actual: {found}"
        self._refuse(self._explain(Failure(Code.BODY_TOO_LARGE, detail)))

    def _refuse(self, reply: Reply, *, lingers: bool = True) -> None:
        """Answer at once, and close the connection: if it lingers, when all of the body has come, or has had its chance to."""
        self._is_refused = True
        self._chunks.clear()
        size = _size(reply.body)
        length = self._headers.get("Content-Length", "")
        if not lingers or "Expect" in self._headers or len(length) >= MAX_DIGITS:
            # A client that expects 100 sends nothing before that; Tornado, too, would refuse such a length, in its own words.
            self._write(reply, size, close=True)
            return
        self._room = self._size + LINGER_BYTES
        sent = self._send(reply, size, is_last=True)
        self._tell(reply, sent)
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._connection.close)

    async def _unpack_and_ask(self, encoding: str, ticket: Ticket) -> Reply:
        """Let the endpoint answer a body that is compressed. What comes out of it is counted like what is received."""
        edge, loop = self._edge, asyncio.get_running_loop()
        unpacker = Unpacker(b"".join(self._chunks), encoding, edge.body_bytes)
        self._chunks.clear()
        is_done = False
        while not is_done:
            is_done = await loop.run_in_executor(edge.pool, unpacker.work)
            edge.admission.grow(ticket, self._size + unpacker.size)
        found = self._ask(unpacker.body)
        return found if isinstance(found, Reply) else await found

    def _ask(self, body: bytes | memoryview) -> Reply | Awaitable[Reply]:
        """Let the endpoint answer; what it raises is an answer, too."""
        target = self._target
        if isinstance(target, Reply):
            return target
        try:
            return target.endpoint(self._edge.planes, Request(target, self._query, self._headers, body))
        except Exception as error:  # noqa: BLE001 - it is answered, and logged unless foreseen
            return self._explain(error)

    def _take_body(self) -> bytes | memoryview:
        """The whole body. Binary data in it can be used where it lies: it may be written, and begins at a multiple of 16."""
        chunks, self._chunks = self._chunks, []
        if HEADER not in self._headers:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        length = self._headers[HEADER]
        padding = -int(length) % ALIGNMENT if length.isdecimal() and len(length) < MAX_DIGITS else 0
        return memoryview(bytearray().join((bytes(padding), *chunks)))[padding:]

    async def _answer(self, found: Reply | Awaitable[Reply]) -> None:
        """Wait for an answer, and send it as fast as the client takes it."""
        self._begun = True
        try:
            reply = found if isinstance(found, Reply) else await found
        except asyncio.CancelledError:
            if self._late is None:
                raise
            reply = self._explain(self._late)
        except Exception as error:  # noqa: BLE001 - as above
            reply = self._explain(error)
        self._stop_timer()
        if self._ticket is not None:
            self._edge.admission.step_out(self._ticket)
        size = _size(reply.body)
        if coding := self._coding(reply, size):
            packed = await asyncio.get_running_loop().run_in_executor(self._edge.pool, pack, reply.body, coding)
            reply = reply._replace(body=packed, headers=(*reply.headers, ("Content-Encoding", coding)))
            size = _size(packed)
        if size <= ON_LOOP_BYTES:
            self._write(reply, size)
            return
        sent = 0 if self._method == "HEAD" else size
        is_last = self._is_last
        try:
            await self._connection.write(self._head(reply, size, is_last=is_last))
            if sent:
                for chunk in reply.body:
                    await self._connection.write(chunk)
            self._end(is_last=is_last)
        except iostream.StreamClosedError:
            return  # the client went away meanwhile
        self._tell(reply, sent)

    def _coding(self, reply: Reply, size: int) -> str:
        """The content coding of an answer; empty if it is sent as it is."""
        return choose_coding(self._headers) if reply.is_packable and size >= PACK_BYTES else ""

    @property
    def _is_last(self) -> bool:
        """Whether this is the last answer of its connection, because its client or the server wants to end."""
        return self._edge.is_draining or self._persistence == CLOSE

    def _head(self, reply: Reply, size: int, *, is_last: bool) -> bytes:
        headers = reply.headers
        if self._edge.tells_timing and reply.timing is not None:
            told = _SERVER_TIMING % tuple(seconds * 1000 for seconds in reply.timing)
            headers = (*headers, ("Server-Timing", told))
        return self._edge.heads.write(
            reply.status,
            reply.content_type,
            self._request_id,
            None if reply.status == HTTPStatus.NO_CONTENT else size,
            headers,
            CLOSE if is_last else self._persistence,
        )

    def _write(self, reply: Reply, size: int, *, close: bool = False) -> None:
        """Answer a request that is complete, or that nothing more is read of; nobody waits until the client has taken it."""
        is_last = close or self._is_last
        sent = self._send(reply, size, is_last=is_last)
        self._end(is_last=is_last)
        self._tell(reply, sent)

    def _send(self, reply: Reply, size: int, *, is_last: bool) -> int:
        """Write a small answer; the bytes of its body."""
        sent = 0 if self._method == "HEAD" else size
        head = self._head(reply, size, is_last=is_last)
        self._connection.write(b"".join((head, *reply.body)) if sent else head)
        return sent

    def _end(self, *, is_last: bool) -> None:
        """Let Tornado read the next request, or close the connection as soon as all has been written."""
        if is_last:
            self._connection._disconnect_on_finish = True  # noqa: SLF001 - there is no other way to say it that waits for that
        self._connection.finish()

    def _explain(self, error: Exception) -> Reply:
        """The answer to a request that failed; what was not foreseen is logged and not shown."""
        if isinstance(error, Failure):
            self._edge.traffic.refused(error.code)
            return refusal(error)
        log.error("Unforeseen error while answering request %s", self._request_id, exc_info=error)
        return refusal(Failure(Code.INTERNAL))

    def _tell(self, reply: Reply, sent: int) -> None:
        """Let it be counted, and logged."""
        if self.task is None:
            self._edge.leave(self)
        route = self._target.template if isinstance(self._target, Target) else OTHER
        self._edge.traffic.answered(
            Answered(
                self._request_id,
                self._method,
                self._path,
                route,
                reply.status,
                self._size,
                sent,
                time.perf_counter() - self._arrived,
                reply.timing,
            )
        )


def _fail(failure: Failure, _planes: Planes, _request: Request) -> Reply:
    """The endpoint of a request that has been refused by its head."""
    raise failure


def _size(body: Iterable[bytes | memoryview]) -> int:
    return sum(map(len, body))
