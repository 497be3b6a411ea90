"""Which endpoint answers which path, and in which order a request is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.http import admin, kfs, tfs
from tornado_ovms.http.app import ROUTES
from tornado_ovms.http.routes import Request, Target, find


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "name", "version"),
    [
        ("POST", "/v1/models/m:predict", tfs.predict, "m", None),
        ("POST", "//v1/models/m:predict", tfs.predict, "m", None),
        ("POST", "/v1/models/m/versions/007:predict", tfs.predict, "m", "007"),
        ("POST", "/v1/models/m/labels/stable:predict", tfs.predict, "m", None),
        ("POST", "/v1/models/m:classify", tfs.not_here, "m", None),
        ("GET", "/v1/models", tfs.status, "", None),
        ("GET", "/v1/models/metadata", tfs.status, "metadata", None),
        ("GET", "/v1/models/..m", tfs.status, "..m", None),
        ("GET", "/v1/models/m..", tfs.status, "m..", None),
        ("GET", "/v1/models/versions/1", tfs.status, "", "1"),
        ("HEAD", "/v1/models/m", tfs.status, "m", None),
        ("GET", "/v1/models/m/versions/1/metadata", tfs.metadata, "m", "1"),
        ("GET", "/v1/config", admin.config_status, "", None),
        ("POST", "/v1/config/reload", admin.reload, "", None),
        ("GET", "/v2/health/live", kfs.live, "", None),
        ("GET", "/v2/models/m/versions/1/ready", kfs.model_ready, "m", "1"),
    ],
)
def test_routes(method: str, path: str, endpoint: object, name: str, version: str | None) -> None:
    """The paths of the reference."""
    target = find(ROUTES, method, path)
    assert target[:3] == (endpoint, name, version)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PUT", "/v1/models/..", Code.PATH_INVALID),
        ("GET", "/v1/models/../config", Code.PATH_INVALID),
        ("GET", "../v1/config", Code.PATH_INVALID),
        ("GET", "/v1\\..\\config", Code.PATH_INVALID),
        ("DELETE", "/no/such/route", Code.UNSUPPORTED_METHOD),
        ("GET", "/v1/models/m:predict", Code.UNSUPPORTED_METHOD),
        ("POST", "/v1/models", Code.UNSUPPORTED_METHOD),
        ("POST", "/v1/config", Code.UNSUPPORTED_METHOD),
        ("GET", "/v1/config/reload", Code.UNSUPPORTED_METHOD),
        ("GET", "/v1/models/m/", Code.INVALID_URL),
        ("GET", "/v1/models/m/versions/-1", Code.INVALID_URL),
        ("GET", "/v1/models/m/versions/1/labels/x", Code.INVALID_URL),
        ("GET", "/v1/models/m/labels/a-b", Code.INVALID_URL),
        ("GET", "/v1/models/m/versions/\u0661", Code.INVALID_URL),
        ("POST", "/v1/models/m:Predict", Code.INVALID_URL),
        ("GET", "/V1/models/m", Code.INVALID_URL),
        ("GET", "", Code.INVALID_URL),
    ],
)
def test_refusals(method: str, path: str, code: Code) -> None:
    """Climbing beats method beats path."""
    with pytest.raises(Failure) as caught:
        find(ROUTES, method, path)
    assert caught.value.code is code


def request(version: str | None) -> Request:
    """A request whose path names this version."""
    return Request(Target(tfs.status, "m", version, ""), "", {}, b"")


@pytest.mark.parametrize(
    ("sent", "name"),
    [("team%2Fm", "team/m"), ("a+b", "a+b"), ("100%", "100%"), ("%zz", "%zz"), ("%C3%BC", "ü"), ("Ã¼", "ü")],
)
def test_names_are_decoded(sent: str, name: str) -> None:
    """Percent signs count only before two hexadecimal digits; bytes are UTF-8."""
    assert find(ROUTES, "GET", f"/v1/models/{sent}").name == name


@pytest.mark.parametrize(
    ("text", "version"), [("7", 7), ("0007", 7), ("0", None), (None, None), (str(2**63 - 1), 2**63 - 1)]
)
def test_versions(text: str | None, version: int | None) -> None:
    """Zero asks for the default version."""
    assert request(text).version == version


@pytest.mark.parametrize("text", [str(2**63), "9" * 5000])
def test_a_version_beyond_int64_is_missing(text: str) -> None:
    """However many digits it has."""
    with pytest.raises(Failure) as caught:
        _ = request(text).version
    assert caught.value.code is Code.VERSION_MISSING


@given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"]), st.text(max_size=40).map(lambda path: f"/{path}"))
def test_any_path_has_a_target_or_a_refusal(method: str, path: str) -> None:
    """Nothing else comes out."""
    try:
        endpoint = find(ROUTES, method, path).endpoint
    except Failure as failure:
        endpoint = None
        code = failure.code
    assert callable(endpoint) or code in (Code.PATH_INVALID, Code.UNSUPPORTED_METHOD, Code.INVALID_URL)
