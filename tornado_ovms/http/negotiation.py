"""What the head of a request asks of its answer: how soon, in which coding, over which connection; and what HTTP itself refuses.

Functions of values, without state.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from tornado_ovms.codec.compression import CODINGS
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.dataplane import MAX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_BYTES: Final = 64 * 1024
"""The longest path that is looked at, with its query (drogon's limit of the request line in the reference)."""

CLOSE: Final = "close"

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"

LONGEST_S: Final = 86400.0
"""A client that waits for longer than a day may as well wait for ever; timers have a limit, too."""

_NONE_AT_ALL: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")


def read_timeout(text: str | None, longest_s: float) -> float:
    """In how many seconds a request has to be answered; 0: no limit.

    Args:
        text: what the client says: whole milliseconds. None if it says nothing.
        longest_s: what the server allows; 0: no limit.

    Raises:
        Failure: TIMEOUT_INVALID.
    """
    if text is None:
        return longest_s
    if not (text.isdecimal() and len(text) < MAX_DIGITS and int(text)):
        raise Failure(
            Code.TIMEOUT_INVALID, f"Expected: a whole number of milliseconds above 0; Actual: {text[:MAX_DIGITS]}"
        )
    wanted_s = int(text) / 1000
    return min(wanted_s, longest_s) if longest_s else min(wanted_s, LONGEST_S)


def refuse_head(path: str, headers: Mapping[str, str]) -> int:
    """The status, without a body, of a request that HTTP itself has no answer for; 0 for most of them."""
    if len(path) > LINE_BYTES:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    if headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        return HTTPStatus.NOT_IMPLEMENTED
    if headers.get("Expect", "100-continue").lower() != "100-continue":
        return HTTPStatus.EXPECTATION_FAILED
    return 0


def choose_coding(headers: Mapping[str, str]) -> str:
    """The coding that the client takes (RFC 9110 §12.5.3), the best of ours; weights other than none at all do not matter."""
    takes = {}
    for item in headers.get("Accept-Encoding", "").split(","):
        coding, _, weight = item.lower().partition(";")
        takes[coding.strip()] = not _NONE_AT_ALL.fullmatch(weight)
    others = takes.get("*", False)
    return next((coding for coding in CODINGS if takes.get(coding, others)), "")


def persistence(version: str, wish: str) -> str:
    """What an answer has to say in ``Connection`` so that the client knows what becomes of it (RFC 9112 §9.3).

    Args:
        version: of HTTP, as in the request line.
        wish: what the request says in ``Connection``: several words, perhaps. In HTTP/1.0 Tornado takes only one.

    Returns:
        ``CLOSE`` if this is the last answer; empty if there is nothing to be said.
    """
    wish = wish.lower()
    if version == "HTTP/1.1":
        return CLOSE if CLOSE in (word.strip() for word in wish.split(",")) else ""
    return "Keep-Alive" if wish == "keep-alive" else ""
