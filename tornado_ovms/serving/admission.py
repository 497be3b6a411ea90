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
    """A request that has been taken on.

    Attributes:
        size: the bytes that are counted for it.
        version: in whose line it is; None if that has none.
        timeout_s: in which it is answered; 0: no limit.
    """

    __slots__ = ("size", "timeout_s", "version")

    def __init__(self, size: int, version: Version | None, timeout_s: float) -> None:
        self.size = size
        self.version = version
        self.timeout_s = timeout_s


class Admission:
    """Counts what is taken on.

    Args:
        load: the limits, as far as a model has none of its own.
        registry: knows how many infer requests a version has.
    """

    def __init__(self, load: LoadLimits, registry: Registry) -> None:
        self._load = load
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
            Failure: TOO_MANY_REQUESTS, TOO_MANY_BYTES or QUEUE_FULL; BODY_TOO_LARGE if there is never room for it.
        """
        load = self._load
        if load.requests and self._requests >= load.requests:
            raise Failure(Code.TOO_MANY_REQUESTS, f"Expected: {load.requests} at most")
        self._check_bytes(size, 0)
        found = self._find(name, version)
        timeout_s: float = load.request_timeout_s
        if found is not None:
            settings = found.blueprint.settings
            if settings.request_timeout_s is not None:
                timeout_s = settings.request_timeout_s
            longest = load.queue if settings.max_queue is None else settings.max_queue
            if longest:
                self._line_up(found, longest)
            else:
                found = None
        self._requests += 1
        self._bytes += size
        return Ticket(size, found, timeout_s)

    def grow(self, ticket: Ticket, size: int) -> None:
        """More of a body has come than was announced.

        Args:
            ticket: of its request.
            size: all that has come.

        Raises:
            Failure: as ``enter``.
        """
        self._check_bytes(size, ticket.size)
        self._bytes += size - ticket.size
        ticket.size = size

    def leave(self, ticket: Ticket) -> None:
        """A request has been answered, or given up."""
        self._requests -= 1
        self._bytes -= ticket.size
        self.step_out(ticket)

    def step_out(self, ticket: Ticket) -> None:
        """Nothing is inferred for a request any more; its client may take its time for the answer."""
        version, ticket.version = ticket.version, None
        if version is not None:
            self._in_line[version] -= 1
            if not self._in_line[version]:
                del self._in_line[version]

    def _check_bytes(self, size: int, counted: int) -> None:
        most = self._load.bytes
        if most and self._bytes + size - counted > most:
            if size > most:
                raise Failure(Code.BODY_TOO_LARGE, f"Expected: {most} bytes at most; Actual: {size}")
            others = self._bytes - counted
            raise Failure(Code.TOO_MANY_BYTES, f"Expected: {most} at most; Actual: {size}, and {others} of others")

    def _find(self, name: str, version: int | None) -> Version | None:
        """The version asked for; None if there is none, which is told once the request is read."""
        model = self._registry.find(name)
        return None if model is None else model.find(version)

    def _line_up(self, version: Version, longest: int) -> None:
        count = self._in_line.get(version, 0)
        at_work = 0 if version.instance is None else version.instance.at_once
        if count >= at_work + longest:
            raise Failure(Code.QUEUE_FULL, f"Expected: {longest} at most beyond the {at_work} that are inferred")
        self._in_line[version] = count + 1
