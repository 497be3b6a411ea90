"""The head of an answer as bytes, and the head of a request as a plain dictionary.

Tornado's ``HTTPHeaders`` looks for the usual spelling of a name at each look-up, and checks each header of an answer against a
pattern: together 30 µs of the 250 µs that a small request took. What is the same in all answers of one kind is put together
once here, and only what changes is written for each.

Belongs to the event loop.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http.client import responses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornado.httputil import HTTPHeaders

    from tornado_ovms.core.settings import CorsSettings

REQUEST_ID: Final = "X-Request-ID"
GIVEN_REQUEST_ID: Final = "X-Request-Id"
"""The same in Tornado's spelling, which is that of ``flatten``."""

_LINE_ENDS: Final = re.compile(r"[\r\n]+")

KINDS: Final = 256
"""So many kinds of answers are remembered; there are about 30."""


class Heads:
    """Writes the heads of answers.

    Args:
        cors: the headers of every answer; line ends in them become blanks, and what Latin-1 has not a question mark.
    """

    def __init__(self, cors: CorsSettings) -> None:
        headers = {
            "Access-Control-Allow-Origin": cors.origins,
            "Access-Control-Allow-Methods": cors.methods,
            "Access-Control-Allow-Headers": cors.headers,
            "Access-Control-Allow-Credentials": "true" if cors.credentials else "",
        }
        self._fixed = "".join(f"{name}: {_LINE_ENDS.sub(' ', value)}\r\n" for name, value in headers.items() if value)
        self._begin = lru_cache(maxsize=KINDS)(self._begin_kind)

    def write(
        self,
        status: int,
        content_type: str,
        request_id: str,
        length: int | None,
        headers: Iterable[tuple[str, str]] = (),
        connection: str = "",
    ) -> bytes:
        """The head of one answer, up to the empty line.

        Args:
            status: its HTTP status.
            content_type: what the body is.
            request_id: told back to the client.
            length: of the body in bytes; None if there is none (RFC 9110 §8.6).
            headers: of this answer alone; whoever makes them takes care that there is no line end in them.
            connection: ``close`` or ``Keep-Alive`` if the client has to be told, else empty.
        """
        head = f"{self._begin(status, content_type)}{request_id}\r\n"
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        if length is not None:
            head += f"Content-Length: {length}\r\n"
        if connection:
            head += f"Connection: {connection}\r\n"
        return f"{head}\r\n".encode("latin-1", "replace")

    def _begin_kind(self, status: int, content_type: str) -> str:
        reason = responses.get(status, "Unknown")
        return f"HTTP/1.1 {status} {reason}\r\n{self._fixed}Content-Type: {content_type}\r\n{REQUEST_ID}: "


def flatten(headers: HTTPHeaders) -> dict[str, str]:
    """The headers of a request by their names in the usual spelling (``Content-Type``); repeated ones joined by commas."""
    flat: dict[str, str] = {}
    for name, value in headers.get_all():
        flat[name] = f"{flat[name]},{value}" if name in flat else value
    return flat
