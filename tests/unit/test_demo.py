"""The embedded models and the words that go with them."""

from __future__ import annotations

import base64
import json
import re
import shlex

import pytest

from tornado_ovms import demo
from tornado_ovms.core.settings import LatestVersions

MAX_CURL = 600
"""A line that can still be copied by hand from a terminal."""


def test_the_repository_holds_what_is_served() -> None:
    """Each model has one version in OpenVINO's format, and its licence and notice beside it."""
    assert {settings.name for settings in demo.model_settings()} == {"digits", "faces"}
    for settings in demo.model_settings():
        folder = demo.REPOSITORY / settings.name
        assert settings.base_path == str(folder)
        assert {path.name for path in folder.iterdir()} == {"1", "LICENSE", "NOTICE"}
        assert {path.name for path in (folder / "1").iterdir()} == {"model.xml", "model.bin"}


def test_answers_do_not_depend_on_the_cpu() -> None:
    """Where the CPU prefers bf16 the probabilities would be others than those shown."""
    for settings in demo.model_settings():
        assert settings.plugin_config == {"INFERENCE_PRECISION_HINT": "f32"}
        assert settings.version_policy == LatestVersions()


def test_the_package_stays_small() -> None:
    """Every installation carries the demo."""
    files = [path for path in demo.REPOSITORY.parent.rglob("*") if path.suffix in (".bin", ".xml", ".png")]
    assert sum(path.stat().st_size for path in files) < 1_000_000


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000", "http://[::1]:9178"])
def test_the_curl_line_sends_the_picture(address: str) -> None:
    """A shell takes it apart into one URL and one JSON document with the picture in it."""
    line = demo.curl(address)
    program, silent, url, option, body = shlex.split(line)
    assert (program, silent, url, option) == ("curl", "-s", f"{address}/v1/models/digits:predict", "-d")
    assert base64.b64decode(json.loads(body)["instances"][0]["b64"], validate=True) == demo.PICTURE.read_bytes()
    assert len(line) < MAX_CURL


def test_the_welcome_says_where_what_and_which_answer() -> None:
    """It holds the address, the first request with its answer, and a second request whose braces are single."""
    text = demo.welcome("http://127.0.0.1:9001")
    assert demo.curl("http://127.0.0.1:9001") in text
    assert re.search(r'"label": 7\b', text)
    assert """printf '{"instances": [{"b64": "%s"}]}' "$(base64 < photo.jpg)" |""" in text
    assert text.count("http://127.0.0.1:9001") == 3
