"""Tornado's HTTP server, relieved of what a small request pays for without needing it: 55 µs of 200.

Nearly all of it is done through what Tornado lets subclasses replace, and none of it changes what is sent. What is accepted is
less than Tornado accepts: see ``framing``. Everything here belongs to the event loop.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.platform.asyncio import AsyncIOMainLoop

from tornado_ovms.http.framing import check_headers, check_lines

if TYPE_CHECKING:
    from collections.abc import Callable

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


REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 33\r\n\r\n"
    b'{"error": "Too many connections"}'
)

LINGER_S: Final = 1.0
MAX_LINGERING: Final = 100
"""A connection that is refused stays open for a moment, so that its client can read why; so many at a time."""


class Listener(HTTPServer):
    """The HTTP server. As in the reference no connection is closed for being idle, so that no request needs a timer for it.

    Besides what Tornado's server takes, ``max_connections`` is how many may be open at once (0: any number), and ``on_refusal``
    is called for each that may not.

    Attributes:
        streams: the open connections.
    """

    def initialize(
        self, *args: Any, max_connections: int = 0, on_refusal: Callable[[], None] | None = None, **settings: Any
    ) -> None:
        """See Tornado."""
        super().initialize(*args, **settings)
        self.streams: set[IOStream] = set()
        self._max_connections = max_connections
        self._on_refusal = on_refusal
        self._lingering = 0
        self.conn_params.chunk_size = LARGE_READ
        self.conn_params.header_timeout = None

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """See Tornado. Its method for reading a head is not public: a release without it reads all heads itself."""
        if _parse_headers is not None:
            request_conn._parse_headers = parse_head  # noqa: SLF001 - see above
        return super().start_request(server_conn, request_conn)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """A client has connected. What is written to it is sent at once: each answer, and each piece of one, is complete."""
        if self._max_connections and len(self.streams) >= self._max_connections:
            self._refuse(stream)
            return
        self.streams.add(stream)
        stream.read_chunk_size = SMALL_READ  # until a head announces more
        stream.set_nodelay(True)
        stream.set_nodelay = _leave_it  # type: ignore[method-assign,assignment] # Tornado turns it on and off for each answer
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """See Tornado."""
        self.streams.discard(server_conn.stream)
        super().on_close(server_conn)

    def _refuse(self, stream: IOStream) -> None:
        """Say that there are too many connections."""
        if self._on_refusal is not None:
            self._on_refusal()
        if self._lingering >= MAX_LINGERING:
            stream.close()
            return
        self._lingering += 1
        stream.write(REFUSAL)
        IOLoop.current().call_later(LINGER_S, self._end_lingering, stream)

    def _end_lingering(self, stream: IOStream) -> None:
        self._lingering -= 1
        stream.close()


def _leave_it(_value: bool) -> None:  # noqa: FBT001 - Tornado's signature
    """Instead of ``set_nodelay``."""
