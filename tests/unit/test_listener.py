"""Tornado's view of the loop, and its HTTP server, with pairs of sockets instead of a network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from tornado_ovms.http import listener
from tornado_ovms.http.listener import MAX_LINGERING, Door, LazyLoop, Listener, parse_head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc"


class Echo(httputil.HTTPServerConnectionDelegate):
    """Answers what it got; keeps the streams that it was asked through."""

    def start_request(self, server_conn: object, request_conn: Any) -> httputil.HTTPMessageDelegate:  # noqa: ARG002
        """See Tornado."""
        return EchoMessage(request_conn)


class EchoMessage(httputil.HTTPMessageDelegate):
    """One request."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.body = b""

    def data_received(self, chunk: bytes) -> None:
        """See Tornado."""
        self.body += chunk

    def finish(self) -> None:
        """See Tornado."""
        self.connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.body), self.body))
        self.connection.finish()


def serve(talk: Callable[[LazyLoop, IOStream, IOStream], Awaitable[None]]) -> None:
    """Let a client talk to a server over a pair of sockets."""

    async def main() -> None:
        loop = LazyLoop()
        assert IOLoop.current() is loop
        ours, theirs = socket.socketpair()
        server, stream, client = Listener(Echo()), IOStream(ours), IOStream(theirs)
        server.handle_stream(stream, ("", 0))
        await talk(loop, stream, client)
        client.close()
        await server.close_all_connections()
        assert not loop.handlers

    asyncio.run(main())


async def turns() -> None:
    """Let the loop look at its sockets a few times."""
    for _ in range(10):
        await asyncio.sleep(0)


async def ask(client: IOStream) -> bytes:
    """One request over the connection; the body of its answer."""
    await client.write(REQUEST)
    await client.read_until(b"\r\n\r\n")
    return await client.read_bytes(3)


def test_between_requests_nothing_is_registered_anew(monkeypatch: Any) -> None:
    """The second request of a connection finds its socket registered."""
    registered: list[int] = []

    async def talk(loop: LazyLoop, stream: IOStream, client: IOStream) -> None:
        add_reader = loop.asyncio_loop.add_reader

        def watch(fd: Any, *rest: Any) -> None:
            registered.append(fd)
            add_reader(fd, *rest)

        monkeypatch.setattr(loop.asyncio_loop, "add_reader", watch)
        for _ in range(3):
            assert await ask(client) == b"abc"
        assert registered.count(stream.fileno()) <= 1

    serve(talk)


def test_what_nobody_waits_for_is_not_reported_again_and_again() -> None:
    """A socket that is readable while nobody reads is taken off the list once, and put on it again when somebody does."""

    async def main() -> None:
        loop = LazyLoop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        seen: list[int] = []
        loop.add_handler(ours.fileno(), lambda _, events: seen.append(events), IOLoop.READ)
        loop.update_handler(ours.fileno(), IOLoop.ERROR)
        assert ours.fileno() in loop.readers
        theirs.send(b"x")
        await turns()
        assert ours.fileno() not in loop.readers
        assert seen == []
        loop.update_handler(ours.fileno(), IOLoop.READ)
        await turns()
        assert seen[0] == IOLoop.READ
        loop.remove_handler(ours.fileno())
        assert not loop.handlers
        ours.close()
        theirs.close()

    asyncio.run(main())


HEADS = st.lists(
    st.tuples(st.sampled_from(["x-b", "x-a", "Content-Length", "X-A"]), st.text("ab, 1", max_size=9)), max_size=4
).map(
    lambda lines: "POST / HTTP/1.1\r\nHost: x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
)


@given(
    st.one_of(
        HEADS.map(str.encode),
        st.binary(max_size=60),
        st.just(b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"a" * 3000 + b"\r\n\r\n"),
    )
)
def test_a_head_that_is_known_reads_as_any_other(head: bytes) -> None:
    """The second time as the first, and as Tornado reads it; what is refused is refused again."""

    def read(parse: Callable[[bytes], tuple[str, httputil.HTTPHeaders]]) -> object:
        try:
            line, headers = parse(head)
        except httputil.HTTPInputError as error:
            return str(error)
        return line, list(headers.get_all())

    found = read(parse_head)
    assert found == read(parse_head)
    tornado_s = read(lambda data: HTTP1Connection._parse_headers(None, data))  # type: ignore[arg-type]
    assert found == tornado_s or isinstance(found, str)


def test_heads_are_remembered(monkeypatch: Any) -> None:
    """Tornado asks a connection for it, by the name that it has in this release."""
    asked: list[bytes] = []

    def watch(head: bytes) -> tuple[str, httputil.HTTPHeaders]:
        asked.append(head)
        return parse_head(head)

    async def talk(_loop: LazyLoop, _stream: IOStream, client: IOStream) -> None:
        monkeypatch.setattr(listener, "parse_head", watch)
        for _ in range(2):
            assert await ask(client) == b"abc"

    before = listener._parse_known.cache_info().hits
    serve(talk)
    assert listener._parse_known.cache_info().hits > before
    assert len(asked) >= 1


def test_a_client_that_hangs_up_is_noticed() -> None:
    """Also between two requests."""

    async def talk(_loop: LazyLoop, stream: IOStream, client: IOStream) -> None:
        assert await ask(client) == b"abc"
        client.close()
        await turns()
        assert stream.closed()

    serve(talk)


def test_a_full_server_tells_connections_why() -> None:
    """Each is told, whatever it has sent; of too many that linger the oldest goes, and all go with the door."""

    async def main() -> None:
        LazyLoop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            refused: list[None] = []
            door = Door(listening, lambda: True, partial(refused.append, None), b"no")
            listening.setblocking(False)
            clients = []
            for _ in range(MAX_LINGERING + 10):
                clients.append(socket.create_connection(listening.getsockname()))
                clients[-1].sendall(REQUEST)
                with pytest.raises(ConnectionAbortedError):
                    door.accept()
            with pytest.raises(BlockingIOError):
                door.accept()
            assert len(door._lingering) == MAX_LINGERING
            door.close()
        assert not door._lingering
        for client in clients:
            with client:
                assert client.makefile("rb").read() == b"no"
        assert len(refused) == len(clients)

    asyncio.run(main())


def test_a_connection_that_no_file_is_left_for_is_refused() -> None:
    """At once, in the place of the file that is kept open for that, which is there again afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refused: list[None] = []
        door = Door(listening, lambda: False, partial(refused.append, None), b"no")
        for _ in range(2):
            with socket.create_connection(listening.getsockname()) as client:
                with few_files(), pytest.raises(ConnectionAbortedError):
                    door.accept()
                assert client.recv(10) == b"no"
        with socket.create_connection(listening.getsockname()):
            connection, _ = door.accept()
            connection.close()
        door.close()
    assert len(refused) == 2


def test_a_spare_file_that_another_thread_has_taken_is_found_again() -> None:
    """In the place of the next connection, if there is no other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refused: list[None] = []
        door = Door(listening, lambda: False, partial(refused.append, None), b"no")
        door._give_spare()
        with socket.create_connection(listening.getsockname()) as client:
            with few_files(more=1), pytest.raises(ConnectionAbortedError):
                door.accept()
            assert client.recv(10) == b"no"
        door._give_spare()
        with socket.create_connection(listening.getsockname()):
            connection, _ = door.accept()
            connection.close()
        assert door._spare is not None
        door.close()
    assert len(refused) == 1


def test_processes_take_turns() -> None:
    """One connection, and then none until the loop has looked again: another process may have been told of it, too."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        door = Door(listening, lambda: False, lambda: None, b"", takes_turns=True)
        with contextlib.ExitStack() as clients:
            for _ in range(2):
                clients.enter_context(socket.create_connection(listening.getsockname()))
            for _ in range(2):
                connection, _ = door.accept()
                connection.close()
                with pytest.raises(BlockingIOError):
                    door.accept()
        door.close()


@contextlib.contextmanager
def few_files(more: int = 0) -> Iterator[None]:
    """No file can be opened that is not closed for it, or only so many more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as lowest:  # noqa: PTH123 - the lowest number that is free
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
