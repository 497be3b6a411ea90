"""`tornado-ovms --demo` as a stranger meets it: nothing but the command, and a picture."""

from __future__ import annotations

import base64
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from tests.functional.servers import Server
from tornado_ovms import demo

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A demo that is ready."""
    with Server("--demo", log=tmp_path_factory.mktemp("demo") / "log") as running:
        yield running


def test_the_printed_line_gets_the_answer_that_it_promises(server: Server) -> None:
    """The body between the quotes of the curl line is sent as it stands."""
    (line,) = re.findall(r"^ *(curl -s .*)$", server.said(), re.MULTILINE)
    words = shlex.split(line)
    path = "/v1/models/digits:predict"
    assert words[2] == f"http://127.0.0.1:{server.port}{path}"
    answer = server.request("POST", path, words[4].encode(), {"Content-Type": "application/x-www-form-urlencoded"})
    (prediction,) = answer.json["predictions"]
    assert prediction["label"] == demo.LABEL
    assert prediction["probabilities"][demo.LABEL] == pytest.approx(0.99997, abs=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_demo_ends_its_server(number: int) -> None:
    """Also when a terminal is closed, which means nothing to the server itself."""
    show = Path(__file__).parents[2] / "tools" / "show_demo.py"
    with subprocess.Popen(
        [sys.executable, str(show)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        said = ""
        while "The model reads" not in said:
            line = run.stdout.readline()
            assert line, said
            said += line
        port = re.findall(r"on port (\d+)", said)[0]
        run.send_signal(number)
        assert run.wait(60) == 128 + number
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port))).close()


def test_a_photo_without_faces_is_an_empty_list(server: Server) -> None:
    """An output without rows is an answer, not an error; the photo is stretched to what the model takes."""
    photo = cv2.imencode(".jpg", np.full((300, 400, 3), 127, np.uint8))[1].tobytes()
    answer = server.post("/v1/models/faces:predict", {"instances": [{"b64": base64.b64encode(photo).decode()}]})
    assert answer.json == {"predictions": []}


def test_both_models_are_available(server: Server) -> None:
    """They are listed like any other model."""
    statuses = server.get("/v1/config").json
    assert {name: model["model_version_status"][0]["state"] for name, model in statuses.items()} == {
        "digits": "AVAILABLE",
        "faces": "AVAILABLE",
    }
