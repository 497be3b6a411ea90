"""What a request is answered with, whatever the transport."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.codec import tfs

if TYPE_CHECKING:
    from tornado_ovms.core.status import Failure
    from tornado_ovms.serving.observation import Timing

Body = Sequence[bytes | memoryview]
Headers = tuple[tuple[str, str], ...]

JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"


class Reply(NamedTuple):
    """An answer: its HTTP status, its body in pieces, what the body is, what else the head says, how long it took.

    ``is_packable`` is whether it may be compressed for clients that say to take that. tritonclient for asyncio always says so,
    and unpacks nothing but the answers to inferences.
    """

    status: int
    body: Body
    content_type: str = JSON
    headers: Headers = ()
    timing: Timing | None = None
    is_packable: bool = True


RETRY_AFTER: Final[Headers] = (("Retry-After", "1"),)
"""Seconds, the least that HTTP can say: what is refused for load is soon welcome again."""


def refusal(failure: Failure) -> Reply:
    """The answer to a request that failed."""
    headers = RETRY_AFTER if failure.http == HTTPStatus.TOO_MANY_REQUESTS else ()
    return Reply(failure.http, [tfs.write_error(failure.text)], headers=headers, is_packable=False)
