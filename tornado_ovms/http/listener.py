"""Tornado's HTTP server, relieved of what a small request pays for without needing it: 55 µs of 200.

Nearly all of it is done through what Tornado lets subclasses replace, and none of it changes what is sent. What is accepted is
less than Tornado accepts: see ``framing``. Everything here belongs to the event loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPInputError
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.platform.asyncio import AsyncIOMainLoop

from tornado_ovms.http.framing import check_headers, check_lines

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from tornado.httputil import HTTPHeaders, HTTPMessageDelegate
    from tornado.iostream import IOStream


SMALL_READ: Final = 64 * 1024
LARGE_READ: Final = 1024 * 1024
"""How much is read from a socket at once, of small requests and of large bodies. Tornado takes memory of that size, and fills it
with zeros, for each read. For a body of 1.6 MB large reads save 6 % of all that its request costs."""


class LazyLoop(AsyncIOMainLoop):
    """Tornado's view of the running event loop; to be made once, before anything else of Tornado is.

    Tornado stops listening to a socket when the head of a request has come, and begins again after the answer: two system
    calls. Here a socket stays registered until something comes that nobody waits for, which seldom happens.
    """

    def initialize(self, **settings: Any) -> None:  # type: ignore[override] # it fits none of the classes above it
        """See Tornado."""
        self._wanted: dict[int, int] = {}
        super().initialize(**settings)

    def add_handler(self, fd: Any, handler: Callable[..., None], events: int) -> None:
        """See Tornado."""
        number, _ = self.split_fd(fd)
        self._wanted[number] = events

        def handle(socket: Any, found: int) -> None:
            wanted = self._wanted[number]
            if found & wanted:
                handler(socket, found)
            else:
                super(LazyLoop, self).update_handler(number, wanted)

        super().add_handler(fd, handle, events)

    def update_handler(self, fd: Any, events: int) -> None:
        """See Tornado."""
        number, _ = self.split_fd(fd)
        self._wanted[number] = events
        super().update_handler(number, events | IOLoop.READ if number in self.readers else events)

    def remove_handler(self, fd: Any) -> None:
        """See Tornado."""
        number, _ = self.split_fd(fd)
        self._wanted.pop(number, None)
        super().remove_handler(number)


HEAD_BYTES: Final = 2048
HEADS: Final = 256
"""So many heads of requests are remembered, of this size at most."""

_parse_headers: Any = getattr(HTTP1Connection, "_parse_headers", None)


def _parse(head: bytes) -> tuple[str, HTTPHeaders]:
    check_lines(head)
    parsed: tuple[str, HTTPHeaders] = _parse_headers(None, head)
    check_headers(*parsed)
    return parsed


_parse_known = lru_cache(maxsize=HEADS)(_parse)


def parse_head(head: bytes) -> tuple[str, HTTPHeaders]:
    """The request line and the headers of a request, which are not to be changed.

    A client that keeps its connection sends the same head again and again, unless it gives each request an id: reading it took an
    eighth of a small request's time. What is refused is refused each time anew.

    Raises:
        HTTPInputError: as Tornado's own method does, which this stands in for, and as those of ``framing`` do.
    """
    return (_parse if len(head) > HEAD_BYTES else _parse_known)(head)


MALFORMED: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""What a head that is none is answered; Tornado's own answer has no headers."""

REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 33\r\n\r\n"
    b'{"error": "Too many connections"}'
)

LINGER_S: Final = 1.0
MAX_LINGERING: Final = 256
"""A connection that is refused stays open for a moment, so that its client can read why; of too many the oldest goes."""

REQUEST_BYTES: Final = 64 * 1024

OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)


class Door:
    """A listening socket, as far as Tornado uses one, that refuses connections for half of what a ``Listener`` would pay for it.

    Also those that come when no file can be opened any more. Tornado would be told of them again and again, with a traceback
    each time; here one file is kept open whose place such a connection can have.

    Args:
        listening: the socket.
        is_full: whether there are enough connections.
        on_refusal: is called for each that is refused.
        answer: what those are told.
        takes_turns: whether other processes accept from the socket, too: one that took all that wait would leave them nothing.
    """

    def __init__(
        self,
        listening: socket.socket,
        is_full: Callable[[], bool],
        on_refusal: Callable[[], None],
        answer: bytes,
        *,
        takes_turns: bool = False,
    ) -> None:
        self.listening = listening
        self._is_full = is_full
        self._on_refusal = on_refusal
        self._answer = answer
        self._takes_turns = takes_turns
        self._has_taken = False
        self._spare: int | None = None
        self._reserve()
        self._lingering: deque[tuple[float, socket.socket]] = deque()
        self.fileno = listening.fileno

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection.

        Raises:
            BlockingIOError: there is none, or it is another process's turn.
            ConnectionAbortedError: it was refused; Tornado goes on with the next.
        """
        if self._takes_turns:
            self._has_taken = not self._has_taken
            if not self._has_taken:
                raise BlockingIOError
        try:
            connection, address = self.listening.accept()
        except OSError as error:
            if error.errno not in OUT_OF_FILES:
                raise
            self._refuse_without_files()
            raise ConnectionAbortedError from error
        if self._spare is None and not self._reserve():
            self._refuse_for_spare(connection)
        elif self._is_full():
            self._refuse(connection)
            self._linger(connection)
        else:
            return connection, address
        raise ConnectionAbortedError

    def close(self) -> None:
        """Do not listen any more."""
        self.listening.close()
        self._give_spare()
        while self._lingering:
            self._end()

    def _refuse(self, connection: socket.socket) -> None:
        self._on_refusal()
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(self._answer)

    def _refuse_without_files(self) -> None:
        self._give_spare()
        with contextlib.suppress(OSError):  # another thread was quicker, and has taken the place
            connection, _ = self.listening.accept()
            self._refuse_for_spare(connection)

    def _refuse_for_spare(self, connection: socket.socket) -> None:
        """Refuse a connection whose place is wanted, at once."""
        with connection:
            self._refuse(connection)
        self._reserve()

    def _reserve(self) -> bool:
        """Keep a file open; whether there is one to be had."""
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)
        return self._spare is not None

    def _give_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _linger(self, connection: socket.socket) -> None:
        loop = IOLoop.current()
        if not self._lingering:
            loop.call_later(LINGER_S, self._end_old)
        self._lingering.append((loop.time() + LINGER_S, connection))
        if len(self._lingering) > MAX_LINGERING:
            self._end()

    def _end_old(self) -> None:
        loop = IOLoop.current()
        while self._lingering and self._lingering[0][0] <= loop.time():
            self._end()
        if self._lingering:
            loop.call_at(self._lingering[0][0], self._end_old)

    def _end(self) -> None:
        _, connection = self._lingering.popleft()
        with connection, contextlib.suppress(OSError):
            # With something unread the connection would break off, and might take the answer with it.
            connection.recv(REQUEST_BYTES)


class Listener(HTTPServer):
    """The HTTP server. As in the reference no connection is closed for being idle, so that no request needs a timer for it.

    Besides what Tornado's server takes, ``streams`` are the open connections, which several listeners may share,
    ``max_connections`` is how many may be open at once (0: any number), and ``on_refusal`` is called for each that may not.
    """

    def initialize(
        self,
        *args: Any,
        streams: set[IOStream] | None = None,
        max_connections: int = 0,
        on_refusal: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> None:
        """See Tornado."""
        super().initialize(*args, **settings)
        self._streams = set() if streams is None else streams
        self._max_connections = max_connections
        self._on_refusal = on_refusal
        self._doors: list[Door] = []  # that are not given
        self.conn_params.chunk_size = LARGE_READ
        self.conn_params.header_timeout = None

    def add_sockets(
        self, sockets: Iterable[socket.socket], *, is_given: bool = False, takes_turns: bool = False
    ) -> None:
        """See Tornado, and ``Door`` of ``takes_turns``; sockets that are given stay open when this process has ended."""
        answer = REFUSAL if self.ssl_options is None else b""  # a handshake would cost more than a prediction
        door = partial(Door, is_full=self._is_full, on_refusal=self._on_refusal, answer=answer, takes_turns=takes_turns)
        doors = list(map(door, sockets))
        if not is_given:
            self._doors += doors
        super().add_sockets(doors)  # type: ignore[arg-type] # all that Tornado uses of a socket

    @property
    def listening(self) -> list[socket.socket]:
        """The sockets that end with this process."""
        return [door.listening for door in self._doors]

    def stop(self) -> None:
        """See Tornado. Connections that wait in the kernel are taken up first: they would be reset."""
        for door in self._doors:
            while True:
                try:
                    self._handle_connection(*door.accept())
                except ConnectionAbortedError:
                    continue
                except OSError:
                    break
        super().stop()

    def _is_full(self) -> bool:
        return 0 < self._max_connections <= len(self._streams)

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """See Tornado. Its method for reading a head is not public: a release without it reads all heads itself."""
        if _parse_headers is not None:
            request_conn._parse_headers = partial(_parse_or_refuse, request_conn.stream)  # noqa: SLF001 - see above
        return super().start_request(server_conn, request_conn)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """A client has connected. What is written to it is sent at once: each answer, and each piece of one, is complete."""
        self._streams.add(stream)
        stream.read_chunk_size = SMALL_READ  # until a head announces more
        stream.set_nodelay(True)
        stream.set_nodelay = _leave_it  # type: ignore[method-assign,assignment] # Tornado turns it on and off for each answer
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """See Tornado."""
        self._streams.discard(server_conn.stream)
        super().on_close(server_conn)


def _parse_or_refuse(stream: IOStream, head: bytes) -> tuple[str, HTTPHeaders]:
    """As ``parse_head``; what is refused is answered, and Tornado told that the connection is closed."""
    try:
        return parse_head(head)
    except HTTPInputError as error:
        stream.write(MALFORMED).add_done_callback(lambda _: stream.close())
        raise StreamClosedError from error


def _leave_it(_value: bool) -> None:  # noqa: FBT001 - Tornado's signature
    """Instead of ``set_nodelay``."""
