"""Which predictions and inferences are taken on: decided by their heads, before anything is read or computed for them.

A request is counted from its head to its answer, so that what is being received, decoded and inferred is bounded as much as what
waits. Everything here belongs to the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from tornado_ovms.core.settings import LoadLimits
    from tornado_ovms.serving.registry import Registry, Version


class Ticket:
    """A request that has been taken on: the bytes that are counted for it, and the version that it is for, if that has a line."""

    __slots__ = ("size", "version")

    def __init__(self, size: int, version: Version | None) -> None:
        self.size = size
        self.version = version


class Admission:
    """Counts what is taken on.

    Args:
        load: the limits.
        registry: knows how many infer requests a version has.

    Attributes:
        timeout_s: in which they are answered; 0: no limit.
    """

    def __init__(self, load: LoadLimits, registry: Registry) -> None:
        self._load = load
        self.timeout_s = load.request_timeout_s
        self._registry = registry
        self._requests = 0
        self._bytes = 0
        self._in_line: dict[Version, int] = {}

    def enter(self, name: str, version: int | None, size: int) -> Ticket:
        """Take a request on; ``leave`` has to be called for it.

        Args:
            name: of the model.
            version: of the model; None for the default one.
            size: bytes of the body; 0 if they are not announced.

        Raises:
            Failure: TOO_MANY_REQUESTS, TOO_MANY_BYTES or QUEUE_FULL.
        """
        load = self._load
        if load.requests and self._requests >= load.requests:
            raise Failure(Code.TOO_MANY_REQUESTS, f"Expected: {load.requests} at most")
        self._check_bytes(size)
        found = self._find(name, version) if load.queue else None
        if found is not None:
            self._line_up(found)
        self._requests += 1
        self._bytes += size
        return Ticket(size, found)

    def grow(self, ticket: Ticket, size: int) -> None:
        """More of a body has come than was announced.

        Args:
            ticket: of its request.
            size: all that has come.

        Raises:
            Failure: TOO_MANY_BYTES.
        """
        more = size - ticket.size
        self._check_bytes(more)
        self._bytes += more
        ticket.size = size

    def leave(self, ticket: Ticket) -> None:
        """A request has been answered, or given up."""
        self._requests -= 1
        self._bytes -= ticket.size
        if ticket.version is not None:
            self._in_line[ticket.version] -= 1
            if not self._in_line[ticket.version]:
                del self._in_line[ticket.version]

    def _check_bytes(self, more: int) -> None:
        if self._load.bytes and self._bytes + more > self._load.bytes:
            raise Failure(
                Code.TOO_MANY_BYTES, f"Expected: {self._load.bytes} at most; Actual: {self._bytes} and {more} more"
            )

    def _find(self, name: str, version: int | None) -> Version | None:
        """The version asked for; None if there is none, which is told once the request is read."""
        model = self._registry.find(name)
        return None if model is None else model.find(version)

    def _line_up(self, version: Version) -> None:
        count = self._in_line.get(version, 0)
        at_work = 0 if version.instance is None else version.instance.at_once
        if count >= at_work + self._load.queue:
            raise Failure(
                Code.QUEUE_FULL, f"Expected: {self._load.queue} at most beyond the {at_work} that are inferred"
            )
        self._in_line[version] = count + 1
