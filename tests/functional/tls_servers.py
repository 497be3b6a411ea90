"""Servers that speak HTTPS, and clients that ask them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING

from tests.functional.servers import Server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class TlsServer(Server):
    """One that nobody can ask by HTTP whether it is ready."""

    def _wait(self, _path: str) -> None:
        """The tests wait."""


@contextlib.contextmanager
def connect(server: Server, context: ssl.SSLContext) -> Iterator[http.client.HTTPSConnection]:
    """A connection inside a ``with`` block."""
    with contextlib.closing(
        http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)
    ) as connection:
        yield connection


def request(
    server: Server, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None
) -> tuple[int, object]:
    """One request on a connection of its own; its status, and what its answer says in JSON."""
    with connect(server, context) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")


def is_ready(server: Server, context: ssl.SSLContext) -> bool:
    """Whether it answers that it is."""
    with contextlib.suppress(OSError):
        return request(server, context, "GET", "/v2/health/ready")[0] == 200
    return False


def subject(server: Server, context: ssl.SSLContext) -> str:
    """The name in the certificate that the server shows."""
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        found = client.getpeercert()
        assert found is not None
        return dict(pair for ((pair),) in found["subject"])["commonName"]  # type: ignore[misc,index]
