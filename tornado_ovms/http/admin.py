"""Endpoints for operators: status of everything, reload, and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from tornado_ovms.core.access import Access
from tornado_ovms.http.routes import Request, route

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tornado_ovms.serving.planes import Planes
    from tornado_ovms.serving.reply import Reply


def config_status(planes: Planes, request: Request) -> Reply:
    """``GET /v1/config``; ``?verbose=1`` adds the reasons of failures (ours)."""
    verbose = parse_qs(request.query).get("verbose", ["0"])[-1]
    return planes.control.config_status(verbose=verbose not in ("0", "false"))


def reload(planes: Planes, _request: Request) -> Awaitable[Reply]:
    """``POST /v1/config/reload``; the body is ignored."""
    return planes.control.reload()


def metrics(planes: Planes, request: Request) -> Awaitable[Reply]:
    """``GET /metrics``, in the format that the client asks for."""
    return planes.control.metrics(openmetrics="application/openmetrics-text" in request.headers.get("Accept", ""))


ROUTES: Final = (
    route("GET", r"/metrics", metrics, access=Access.MANAGEMENT),
    route("GET", r"/v1/config", config_status, access=Access.MANAGEMENT),
    route("POST", r"/v1/config/reload", reload, access=Access.MANAGEMENT),
)
