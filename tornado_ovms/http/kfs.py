"""Endpoints of the KServe v2 API: health, metadata, inference; and its model repository, where that may be managed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornado_ovms.codec.kfs import HEADER
from tornado_ovms.http.routes import Request, route

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tornado_ovms.serving.dataplane import DataPlane
    from tornado_ovms.serving.reply import Reply


def live(plane: DataPlane, _request: Request) -> Reply:
    """``GET /v2/health/live``."""
    return plane.live()


def ready(plane: DataPlane, _request: Request) -> Reply:
    """``GET /v2/health/ready``."""
    return plane.ready()


def model_ready(plane: DataPlane, request: Request) -> Reply:
    """``GET /v2/models/NAME[/versions/V]/ready``."""
    return plane.model_ready(request.name, request.number)


def server(plane: DataPlane, _request: Request) -> Reply:
    """``GET /v2``."""
    return plane.server_metadata()


def managed_server(plane: DataPlane, _request: Request) -> Reply:
    """``GET /v2`` of a server whose repository may be managed."""
    return plane.server_metadata(("model_repository", "model_repository(unload_dependents)"))


def metadata(plane: DataPlane, request: Request) -> Reply:
    """``GET /v2/models/NAME[/versions/V][/]``."""
    return plane.model_metadata(request.name, request.number)


def infer(plane: DataPlane, request: Request) -> Reply | Awaitable[Reply]:
    """``POST /v2/models/NAME[/versions/V]/infer``."""
    headers = request.headers
    return plane.infer(
        request.name, request.version, request.body, headers.get(HEADER), headers.get("Content-Encoding", "")
    )


def index(plane: DataPlane, request: Request) -> Reply:
    """``POST /v2/repository/index``."""
    return plane.repository_index(bytes(request.body))


def load(plane: DataPlane, request: Request) -> Awaitable[Reply]:
    """``POST /v2/repository/models/NAME/load``."""
    return plane.load_model(request.name, bytes(request.body))


def unload(plane: DataPlane, request: Request) -> Awaitable[Reply]:
    """``POST /v2/repository/models/NAME/unload``."""
    return plane.unload_model(request.name)


_MODEL: Final = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>\d+))?"
_REPOSITORY: Final = r"/v2/repository/models/(?P<name>[^/]+)"

ROUTES: Final = (
    route("GET", r"/v2/health/live", live),
    route("GET", r"/v2/health/ready", ready),
    route("GET", r"/v2", server),
    route("GET", rf"{_MODEL}/?", metadata, "/v2/models/NAME"),
    route("GET", rf"{_MODEL}/ready", model_ready, "/v2/models/NAME/ready"),
    route("POST", rf"{_MODEL}/infer", infer, "/v2/models/NAME/infer"),
)

MANAGED_ROUTES: Final = (
    route("GET", r"/v2", managed_server),
    route("POST", r"/v2/repository/index", index),
    route("POST", rf"{_REPOSITORY}/load", load, "/v2/repository/models/NAME/load"),
    route("POST", rf"{_REPOSITORY}/unload", unload, "/v2/repository/models/NAME/unload"),
)
"""For ``--manage``, before the others."""
