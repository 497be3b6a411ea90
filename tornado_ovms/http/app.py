"""The HTTP edge: one delegate reads every request and writes every answer.

It works below Tornado's ``RequestHandler``, on ``HTTPMessageDelegate``: nothing of a handler (templates, cookies,
arguments, ETags) is wanted here, and it would cost 70 µs of the 150 µs that Tornado takes for a small request. One path
for all routes keeps what every answer has (CORS headers, compression, the form of errors, limits) in one place.

Everything here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from tornado import httputil

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.http import admin, kfs, tfs
from tornado_ovms.http.exchange import Exchange
from tornado_ovms.http.heads import Heads
from tornado_ovms.http.routes import METHODS, REFUSED_METHODS, Route, Target, find
from tornado_ovms.serving.reply import EMPTY, TEXT, Reply, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from tornado.iostream import IOStream

    from tornado_ovms.core.access import Guard
    from tornado_ovms.core.settings import CorsSettings
    from tornado_ovms.http.traffic import Traffic
    from tornado_ovms.serving.admission import Admission
    from tornado_ovms.serving.planes import Planes

ROUTES: Final = (*tfs.ROUTES, *kfs.ROUTES, *admin.ROUTES)
MANAGED_ROUTES: Final = (*kfs.MANAGED_ROUTES, *ROUTES)

KNOWN: Final = 1024
KNOWN_BYTES: Final = 256
"""So many paths are remembered, of this length at most: clients ask for the same few again and again, and those that do not must
not fill the memory."""


class Edge(httputil.HTTPServerConnectionDelegate):
    """Makes an ``Exchange`` for each request.

    Args:
        planes: what answers.
        cors: the headers of every answer.
        body_bytes: the largest body that is read.
        pool: threads for the compression of large answers.
        traffic: what hears of every answer.
        admission: decides which predictions and inferences are taken on.
        is_managed: whether clients may load and unload models.
        tells_timing: whether answers say how long they took (``Server-Timing``).

    Attributes:
        streams: the open connections.
        open: the requests of which the head has come, and that are not answered yet.
        guard: the keys that are needed; None if there are none.
        is_draining: set when the server is about to end: then clients are told to close their connections.
    """

    def __init__(
        self,
        planes: Planes,
        cors: CorsSettings,
        body_bytes: int,
        pool: Executor,
        traffic: Traffic,
        admission: Admission,
        *,
        is_managed: bool = False,
        tells_timing: bool = False,
    ) -> None:
        self.planes = planes
        self.body_bytes = body_bytes
        self.pool = pool
        self.traffic = traffic
        self.admission = admission
        self.tells_timing = tells_timing
        self.heads = Heads(cors)
        self.guard: Guard | None = None
        self.is_draining = False
        self.streams: set[IOStream] = set()
        self.open: set[Exchange] = set()
        self._idle: asyncio.Future[None] | None = None
        self._find = partial(_find, MANAGED_ROUTES if is_managed else ROUTES)
        self._find_known = lru_cache(maxsize=KNOWN)(self._find)

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> Exchange:  # noqa: ARG002
        """See Tornado."""
        return Exchange(self, request_conn)

    def find(self, method: str, path: str) -> Target | Reply:
        """Where a request goes, or what it is answered without looking further."""
        return (self._find if len(method) + len(path) > KNOWN_BYTES else self._find_known)(method, path)

    def leave(self, exchange: Exchange) -> None:
        """A request has been answered, or given up."""
        self.open.discard(exchange)
        exchange.leave()
        if self._idle is not None and not self.open:
            self._idle.set_result(None)
            self._idle = None

    async def idle(self) -> None:
        """Wait until no request is being received or answered."""
        if self.open:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)


def _find(routes: Sequence[Route], method: str, path: str) -> Target | Reply:
    """As ``Edge.find``."""
    try:
        return find(routes, method, path)
    except Failure as failure:
        if failure.code is not Code.PATH_INVALID:
            if method == "OPTIONS":
                return EMPTY
            if method not in METHODS | REFUSED_METHODS | {"HEAD"}:
                return Reply(405, [], TEXT)
        return refusal(failure)
