"""What is counted of HTTP, and the access log: one place that hears of every answer. Belongs to the event loop."""

from __future__ import annotations

import logging
import re
import secrets
import string
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from tornado_ovms.core import metric_families as families
from tornado_ovms.core.status import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.metrics import Counter, Metrics
    from tornado_ovms.serving.observation import Timing

log = logging.getLogger("access")

OTHER: Final = "other"
"""The route of a path that none matches, and the method of a request whose own is not one of those that are known."""

REASONS: Final[Mapping[Code, str]] = {
    Code.BODY_TOO_LARGE: "body_bytes",
    Code.UNAUTHORIZED: "api_key",
    Code.TOO_MANY_REQUESTS: "requests",
    Code.TOO_MANY_BYTES: "bytes",
    Code.QUEUE_FULL: "queue",
    Code.TOO_MANY_CONNECTIONS: "connections",
    Code.DEADLINE_EXCEEDED: "request_timeout",
    Code.CLIENT_TOO_SLOW: "client_timeout",
    Code.JSON_TOO_DEEP: "json_depth",
    Code.IMAGE_TOO_LARGE: "image_pixels",
    Code.STRINGS_TOO_LARGE: "text_bytes",
    Code.TOO_MANY_SEQUENCES: "sequences",
}
"""Refusals because of a limit, in a word."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})

SERVER_ERROR: Final = 500

_TAKEN_OVER = re.compile(r"[!-~]{1,128}", re.ASCII)


class Answered(NamedTuple):
    """A request and its answer, as the access log tells of them. The path comes without its query, which may hold secrets."""

    request_id: str
    method: str
    path: str
    route: str
    status: int
    received: int
    sent: int
    seconds: float
    timing: Timing | None


class Traffic:
    """Counts answers, and logs them.

    Args:
        metrics: where they are counted.
        log_every: one of so many answers is logged, and every one with a status from 500 on; 0: none.
    """

    def __init__(self, metrics: Metrics, log_every: int = 0) -> None:
        self._metrics = metrics
        self._log_every = log_every
        self._count = 0
        self._responses: dict[tuple[str, str, int], Counter] = {}
        self._received: dict[str, Counter] = {}
        self._sent: dict[str, Counter] = {}
        self._refused = {code: metrics.counter(families.REFUSED, reason=reason) for code, reason in REASONS.items()}
        self._prefix = secrets.token_hex(4)
        self._numbers = count(1)

    def request_id(self, given: str | None) -> str:
        """The id of a request: the client's if it can stand in a log, else one of ours."""
        if given is not None and _TAKEN_OVER.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}"

    def refused(self, code: Code) -> None:
        """A request was refused; those that met a limit are counted."""
        if code in self._refused:
            self._refused[code].value += 1

    def answered(self, answer: Answered) -> None:
        """An answer has been written."""
        route, method = answer.route, answer.method
        key = route, method if method in METHODS else OTHER, answer.status
        if key not in self._responses:
            self._add(*key)
        self._responses[key].value += 1
        self._received[route].value += answer.received
        self._sent[route].value += answer.sent
        if self._log_every:
            self._count += 1
            if answer.status >= SERVER_ERROR or self._count >= self._log_every:
                self._count = 0
                _log(answer)

    def _add(self, route: str, method: str, status: int) -> None:
        metrics = self._metrics
        labels = {"route": route, "method": method, "code": str(status)}
        self._responses[route, method, status] = metrics.counter(families.HTTP_RESPONSES, **labels)
        self._received[route] = metrics.counter(families.HTTP_REQUEST_BYTES, route=route)
        self._sent[route] = metrics.counter(families.HTTP_RESPONSE_BYTES, route=route)


def _log(answer: Answered) -> None:
    path = quote(answer.path, safe=string.punctuation, encoding="latin-1")  # no terminal takes it for a command
    fields = {**answer._asdict(), "path": path, "ms": round(answer.seconds * 1000, 3)}
    del fields["seconds"], fields["timing"]
    if answer.timing is not None:
        fields |= {f"{stage}_ms": round(seconds * 1000, 3) for stage, seconds in answer.timing._asdict().items()}
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    log.info("%s", text, extra={"fields": fields})
