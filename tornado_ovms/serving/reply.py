"""What a request is answered with, whatever the transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
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


EMPTY: Final = Reply(200, [], TEXT)


ADVICE: Final[Mapping[int, Headers]] = MappingProxyType({
    HTTPStatus.TOO_MANY_REQUESTS: (("Retry-After", "1"),),
    HTTPStatus.UNAUTHORIZED: (("WWW-Authenticate", "Bearer"),),
})
"""What clients are told to do about a refusal: to come again, in the least time that HTTP can say; to bring a key."""


def refusal(failure: Failure) -> Reply:
    """The answer to a request that failed."""
    headers = ADVICE.get(failure.http, ())
    return Reply(failure.http, [tfs.write_error(failure.text)], headers=headers, is_packable=False)
