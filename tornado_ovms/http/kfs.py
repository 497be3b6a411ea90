"""Endpoints of the KServe v2 API: so far health and readiness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornado_ovms.http.routes import Request, route

if TYPE_CHECKING:
    from tornado_ovms.serving.dataplane import DataPlane, Reply


def live(plane: DataPlane, _request: Request) -> Reply:
    """``GET /v2/health/live``."""
    return plane.live()


def ready(plane: DataPlane, _request: Request) -> Reply:
    """``GET /v2/health/ready``."""
    return plane.ready()


def model_ready(plane: DataPlane, request: Request) -> Reply:
    """``GET /v2/models/NAME[/versions/V]/ready``."""
    return plane.model_ready(request.name, request.number)


ROUTES: Final = (
    route("GET", r"/v2/health/live", live),
    route("GET", r"/v2/health/ready", ready),
    route("GET", r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>\d+))?/ready", model_ready),
)
