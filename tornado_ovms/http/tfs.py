"""Endpoints of the TensorFlow Serving API: predict, model status and model metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.http.routes import VERSION, Request, route

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tornado_ovms.serving.planes import Planes
    from tornado_ovms.serving.reply import Reply


def predict(planes: Planes, request: Request) -> Reply | Awaitable[Reply]:
    """``POST /v1/models/NAME[/versions/V|/labels/L]:predict``."""
    return planes.data.predict(request.name, request.version, bytes(request.body))


def not_here(_planes: Planes, request: Request) -> Reply:
    """``:classify`` and ``:regress``, which the reference knows and does not have."""
    _ = request.version  # a number beyond int64 is told of first
    raise Failure(Code.RESOURCE_NOT_FOUND)


def status(planes: Planes, request: Request) -> Reply:
    """``GET /v1/models/NAME[/versions/V|/labels/L]``."""
    return planes.control.status(request.name, request.version)


def metadata(planes: Planes, request: Request) -> Reply:
    """``GET /v1/models/NAME[/versions/V|/labels/L]/metadata``."""
    return planes.control.metadata(request.name, request.version)


_MODEL: Final = rf"/v1/models/(?P<name>[^/:]+){VERSION}"

ROUTES: Final = (
    route("POST", rf"{_MODEL}:predict", predict, "/v1/models/NAME:predict", is_inference=True),
    route("POST", rf"{_MODEL}:(?:classify|regress)", not_here, "/v1/models/NAME:classify"),
    # A model may be called "metadata", so the name is looked for first.
    route("GET", rf"/v1/models(?:/(?P<name>[^/:]+))?{VERSION}", status, "/v1/models/NAME"),
    route("GET", rf"/v1/models(?:/(?P<name>[^/:]+))?{VERSION}/metadata", metadata, "/v1/models/NAME/metadata"),
)
