"""Where requests come from: the network, where TLS may be spoken, and Unix sockets, where it is not needed.

Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from tornado_ovms import systemd
from tornado_ovms.http.listener import Listener
from tornado_ovms.sockets import BACKLOG, bind_path, hold_off, tell_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado_ovms.core.settings import ServerSettings
    from tornado_ovms.http.app import Edge
    from tornado_ovms.workers.link import Place

log = logging.getLogger("serving")

HEADER_BYTES: Final = 128 * 1024
"""Request line and headers together; the reference allows 64 KiB a line."""

ARRIVAL_S: Final = 0.1
"""How long a connection that has begun may take to come, and then a request on it. Those without one are closed."""

FLUSH_S: Final = 0.01
"""How often is looked whether clients have taken their answers, before connections are closed."""


class Ports:
    """What listens; on nothing yet when it is made.

    Args:
        settings: what the command line says.
        place: which worker this process is; None if it serves alone.
        edge: what answers.
        on_refusal: hears of each connection for which there is no room.

    Attributes:
        network: what comes from there.
        local: what comes through Unix sockets.
    """

    def __init__(
        self, settings: ServerSettings, place: Place | None, edge: Edge, on_refusal: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._place = place
        self._edge = edge
        self.network, self.local = (
            Listener(
                edge,
                streams=edge.streams,
                max_connections=settings.load.connections,
                on_refusal=on_refusal,
                max_header_size=HEADER_BYTES,
                max_body_size=sys.maxsize,  # the edge has the limits, and answers those who exceed them
            )
            for _ in range(2)
        )

    def listen(self) -> bool:
        """Open all of them, but for what systemd or the supervisor has opened; whether they could be. The log tells of both."""
        given = self._take()
        return self._open_path() and (any(each.family != socket.AF_UNIX for each in given) or self._open_addresses())

    def _take(self) -> list[socket.socket]:
        """What has been opened for this process."""
        place = self._place
        if place is None:
            given = systemd.take_sockets(os.environ, os.getpid())
        else:
            given = [socket.socket(fileno=number) for number in place.sockets]
        for each in given:
            each.setblocking(False)
            port = self.local if each.family == socket.AF_UNIX else self.network
            port.add_sockets([each], is_given=True, takes_turns=place is not None)
            log.info("REST server listening on %s, which was opened for it", each.getsockname())
        return given

    def _open_path(self) -> bool:
        path = self._settings.unix_socket
        if path is None or self._place is not None:
            return True
        try:
            self.local.add_sockets([bind_path(path)])
        except OSError as error:
            tell_refusal(path, error)
            return False
        log.info("Started REST server at %s", path)
        return True

    def _open_addresses(self) -> bool:
        settings = self._settings
        for address in settings.addresses:
            try:
                sockets = bind_sockets(settings.rest_port, address, backlog=BACKLOG, reuse_port=self._place is not None)
            except OSError as error:
                tell_refusal(f"{address}:{settings.rest_port}", error)
                return False
            self.network.add_sockets(sockets)
            log.info(
                "REST server listening on port %d with %d unary threads and 0 streaming threads",
                settings.rest_port, settings.rest_workers,
            )  # fmt: skip
            log.info("Started REST server at %s:%d", address, settings.rest_port)
        return True

    async def close(self) -> None:
        """Stop listening, wait until requests have ended that have begun to come, as long as they may, and close connections."""
        for each in (*self.network.listening, *self.local.listening):
            hold_off(each)
        await asyncio.sleep(ARRIVAL_S)
        for port in (self.network, self.local):
            port.stop()
        await self._drain(self._settings.drain_timeout)
        for port in (self.network, self.local):
            await port.close_all_connections()

    async def _drain(self, timeout_s: float) -> None:
        """Wait until all requests have been answered, and their clients have the answers, within a limit."""
        edge = self._edge
        if edge.open:
            log.info("Waiting for %d requests to end, %.0f s at most", len(edge.open), timeout_s)
        try:
            await asyncio.wait_for(_settled(edge), timeout_s)
        except asyncio.TimeoutError:
            count = max(len(edge.open), sum(map(IOStream.writing, edge.streams)))
            log.warning("%d requests have not ended in %.0f s: they are given up", count, timeout_s)


async def _settled(edge: Edge) -> None:
    await asyncio.sleep(ARRIVAL_S)
    await edge.idle()
    while any(map(IOStream.writing, edge.streams)):  # noqa: ASYNC110 - Tornado has no event for it
        await asyncio.sleep(FLUSH_S)
