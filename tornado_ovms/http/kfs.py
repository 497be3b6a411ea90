"""Endpoints of the KServe v2 API: health, metadata, inference; and its model repository, where that may be managed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornado_ovms.codec.kfs import HEADER
from tornado_ovms.core.access import Access
from tornado_ovms.http.routes import SMALL_BODY, Request, route

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tornado_ovms.serving.planes import Planes
    from tornado_ovms.serving.reply import Reply


def live(planes: Planes, _request: Request) -> Reply:
    """``GET /v2/health/live``."""
    return planes.control.live()


def ready(planes: Planes, _request: Request) -> Reply:
    """``GET /v2/health/ready``."""
    return planes.control.ready()


def model_ready(planes: Planes, request: Request) -> Reply:
    """``GET /v2/models/NAME[/versions/V]/ready``."""
    return planes.control.model_ready(request.name, request.number)


def server(planes: Planes, _request: Request) -> Reply:
    """``GET /v2``."""
    return planes.control.server_metadata()


def managed_server(planes: Planes, _request: Request) -> Reply:
    """``GET /v2`` of a server whose repository may be managed."""
    return planes.control.server_metadata(("model_repository", "model_repository(unload_dependents)"))


def metadata(planes: Planes, request: Request) -> Reply:
    """``GET /v2/models/NAME[/versions/V][/]``."""
    return planes.control.model_metadata(request.name, request.number)


def infer(planes: Planes, request: Request) -> Reply | Awaitable[Reply]:
    """``POST /v2/models/NAME[/versions/V]/infer``."""
    return planes.data.infer(request.name, request.version, request.body, request.headers.get(HEADER))


def index(planes: Planes, request: Request) -> Reply:
    """``POST /v2/repository/index``."""
    return planes.control.repository_index(bytes(request.body))


def load(planes: Planes, request: Request) -> Awaitable[Reply]:
    """``POST /v2/repository/models/NAME/load``."""
    return planes.control.load_model(request.name, bytes(request.body))


def unload(planes: Planes, request: Request) -> Awaitable[Reply]:
    """``POST /v2/repository/models/NAME/unload``."""
    return planes.control.unload_model(request.name)


_MODEL: Final = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>\d+))?"
_REPOSITORY: Final = r"/v2/repository/models/(?P<name>[^/]+)"

ROUTES: Final = (
    route("GET", r"/v2/health/live", live, access=Access.OPEN),
    route("GET", r"/v2/health/ready", ready, access=Access.OPEN),
    route("GET", r"/v2", server),
    route("GET", rf"{_MODEL}/?", metadata, "/v2/models/NAME"),
    route("GET", rf"{_MODEL}/ready", model_ready, "/v2/models/NAME/ready"),
    route("POST", rf"{_MODEL}/infer", infer, "/v2/models/NAME/infer", is_inference=True),
)

MANAGED_ROUTES: Final = (
    route("GET", r"/v2", managed_server),
    route("POST", r"/v2/repository/index", index, access=Access.MANAGEMENT, body_bytes=SMALL_BODY),
    route(
        "POST",
        rf"{_REPOSITORY}/load",
        load,
        "/v2/repository/models/NAME/load",
        access=Access.MANAGEMENT,
        body_bytes=SMALL_BODY,
    ),
    route("POST", rf"{_REPOSITORY}/unload", unload, "/v2/repository/models/NAME/unload", access=Access.MANAGEMENT),
)
"""For ``--manage``, before the others."""
