"""Which endpoint answers a request: routes as tables, and the order in which a request is looked at.

Each module of endpoints ends in its own ``ROUTES``. Pure; the order of the checks is the reference's
(``src/http_rest_api_handler.cpp``).
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tornado_ovms.core.access import Access
from tornado_ovms.core.paths import climbs
from tornado_ovms.core.repositories import INT64_MAX
from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from tornado_ovms.serving.planes import Planes
    from tornado_ovms.serving.reply import Reply

INT64_DIGITS: Final = 19
SMALL_BODY: Final = 65536
ANY_BODY: Final = sys.maxsize
METHODS: Final = frozenset({"GET", "POST"})
REFUSED_METHODS: Final = frozenset({"PUT", "DELETE", "PATCH"})
"""Answered with 406; methods that HTTP servers seldom know get 405 and no body."""


class Request(NamedTuple):
    """What an endpoint sees of a request.

    Attributes:
        target: where its path leads.
        query: what is behind the question mark.
        headers: by name, in the usual spelling (``Content-Type``).
        body: without its content coding; a view of memory that may be written if binary data is in it.
    """

    target: Target
    query: str
    headers: Mapping[str, str]
    body: bytes | memoryview

    @property
    def name(self) -> str:
        """The model's name; empty if the path has none."""
        return self.target.name

    @property
    def number(self) -> int | None:
        """See ``Target.number``."""
        return self.target.number

    @property
    def version(self) -> int | None:
        """See ``Target.version``."""
        return self.target.version


if TYPE_CHECKING:
    Endpoint = Callable[[Planes, Request], Reply | Awaitable[Reply]]


class Route(NamedTuple):
    """An endpoint, and the method and path that lead to it."""

    method: str
    pattern: re.Pattern[str]
    endpoint: Endpoint
    template: str
    access: Access
    body_bytes: int
    is_inference: bool


def route(
    method: str,
    pattern: str,
    endpoint: Endpoint,
    template: str = "",
    *,
    access: Access = Access.INFERENCE,
    body_bytes: int = 0,
    is_inference: bool = False,
) -> Route:
    """A route whose whole path must match; one character may stand before it, as in the reference (``//v1/config``).

    Args:
        method: GET or POST.
        pattern: of the path, with the groups ``name`` and ``version``.
        endpoint: what answers.
        template: the path as metrics name it; the pattern if it has no groups.
        access: which key is needed.
        body_bytes: largest body that it reads; 0: none, and what is sent is dropped.
        is_inference: whether a model has to work for the answer, so that limits of load hold; it reads any body.
    """
    most = ANY_BODY if is_inference else body_bytes
    path = re.compile(f".?{pattern}", re.ASCII)
    return Route(method, path, endpoint, template or pattern, access, most, is_inference)


VERSION: Final = r"(?:/versions/(?P<version>\d+)|/labels/\w+)?"
"""The part of a path that names a version or a label."""


class Target(NamedTuple):
    """Where a request goes.

    Attributes:
        endpoint: what answers.
        name: of the model; empty if the path has none.
        digits: of the version, as they stand in the path.
        template: the path as metrics name it.
        access: see ``route``.
        body_bytes: see ``route``.
        is_inference: see ``route``.
    """

    endpoint: Endpoint
    name: str
    digits: str | None
    template: str
    access: Access = Access.INFERENCE
    body_bytes: int = 0
    is_inference: bool = False

    @property
    def number(self) -> int | None:
        """The version's number as it stands in the path; None if there is none.

        Raises:
            Failure: VERSION_MISSING for a number beyond int64.
        """
        text = self.digits
        if text is None:
            return None
        if (len(text) > INT64_DIGITS and len(text := text.lstrip("0")) > INT64_DIGITS) or int(text or 0) > INT64_MAX:
            raise Failure(Code.VERSION_MISSING)
        return int(text or 0)

    @property
    def version(self) -> int | None:
        """The version asked for; None for the default one, which 0 and labels ask for, too.

        Raises:
            Failure: VERSION_MISSING for a number beyond int64.
        """
        return None if self.digits is None else self.number or None


def _decode(name: str) -> str:
    """A name out of a path, URL-decoded; ``%`` without two hexadecimal digits behind it stays as it is."""
    return unquote_to_bytes(name.encode("latin-1")).decode("utf-8", "replace")


def find(routes: Sequence[Route], method: str, path: str) -> Target:
    """The endpoint of a request.

    Args:
        routes: all of them.
        method: HEAD counts as GET.
        path: as sent, without the query.

    Raises:
        Failure: PATH_INVALID, UNSUPPORTED_METHOD or INVALID_URL, in this order.
    """
    if climbs(path):
        raise Failure(Code.PATH_INVALID)
    method = "GET" if method == "HEAD" else method
    if method not in METHODS:
        raise Failure(Code.UNSUPPORTED_METHOD)
    other = False
    for each in routes:
        if found := each.pattern.fullmatch(path):
            if each.method == method:
                groups = found.groupdict()
                name = _decode(groups.get("name") or "")
                return Target(each.endpoint, name, groups.get("version"), *each[3:])
            other = True
    raise Failure(Code.UNSUPPORTED_METHOD if other else Code.INVALID_URL)
