"""How a server ends: what it still answers after SIGTERM, and what clients see of it."""

from __future__ import annotations

import fcntl
import http.client
import json
import signal
import socket
import sys
import termios
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import models
from tests.functional.clients import Caller, Persistent
from tests.functional.repository import Repository
from tests.functional.servers import Server, until
from tests.functional.test_pipeline_soak import custom, pipeline
from tests.functional.wire import read_answers

if TYPE_CHECKING:
    from pathlib import Path

STUCK = """
import time
from pathlib import Path
from tornado_ovms.nodes.base import CustomNode, Tensor

class Stuck(CustomNode):
    inputs = {"x": Tensor("float32", (1, -1))}
    outputs = {"y": Tensor("float32", (1, -1))}

    def __init__(self, params):
        super().__init__(params)
        self.stop("load")

    def execute(self, inputs):
        self.stop("execute")
        return {"y": inputs["x"]}

    def stop(self, where):
        if where == self.params["where"]:
            Path(self.params["note"]).touch()
            time.sleep(600)
"""

ROW = json.dumps({"instances": [[0.0] * 10]}).encode()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A quick model and one that takes its time."""
    made = Repository(tmp_path)
    made.put("plus", 1, models.adder((1, 10)))
    made.put("heavy", 1, models.heavy(512, 400))
    made.configure("plus", "heavy")
    return made


def serve(repository: Repository, *options: str) -> Server:
    """A server with these options."""
    return Server("--config_path", str(repository.config), *options, log=repository.aside())


@pytest.mark.parametrize("workers", [1, 2])
def test_under_load_no_request_fails(repository: Repository, workers: int) -> None:
    """Clients that look whether the server is ready have gone elsewhere before the port closes."""
    with serve(repository, "--drain_delay", "2", "--workers", str(workers)) as server:
        callers = [Caller(server.port) for _ in range(8)]
        for caller in callers:
            caller.start()
        until(lambda: all(len(caller.statuses) > 100 for caller in callers))
        server.process.terminate()
        for caller in callers:
            caller.join(10)
            assert not caller.is_alive()
            assert set(caller.statuses) == {200}
            assert caller.reconnected >= 1
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_who_does_not_look_is_answered_or_not_let_in(repository: Repository, workers: int) -> None:
    """Clients that go on until there is no port any more, on connections that they keep and on new ones: no request is cut."""
    with serve(repository, "--drain_delay", "1", "--workers", str(workers)) as server:
        callers = [Persistent(server.port, keeps=number % 2 == 0) for number in range(16)]
        for caller in callers:
            caller.start()
        until(lambda: all(caller.answered > 50 for caller in callers))
        server.process.terminate()
        for caller in callers:
            caller.join(20)
            assert not caller.is_alive()
        assert {repr(caller.fault) for caller in callers} == {"ConnectionRefusedError(111, 'Connection refused')"}
        assert server.process.wait(20) == 0
        assert "have not ended" not in server.said()


def test_a_start_is_not_finished_first(repository: Repository) -> None:
    """Of the models that are still to be loaded none is."""
    names = [f"m{number}" for number in range(40)]
    for name in names:
        repository.put(name, 1, models.heavy(512, 8))
    repository.configure(*names)
    args = "--config_path", str(repository.config)
    with Server(*args, log=repository.aside(), ready=False) as server:
        until(lambda: "Loaded model" in server.said())
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert server.said().count("Loading model:") < len(names)
        assert "Traceback" not in server.said()


def test_in_the_delay_everything_is_still_answered(repository: Repository) -> None:
    """New connections too; each answer says that the connection is to be closed."""
    with serve(repository, "--drain_delay", "3") as server:
        server.process.terminate()
        until(lambda: server.get("/v2/health/ready").status == 503)
        answer = server.request("POST", "/v1/models/plus:predict", ROW)
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert server.get("/v2/health/live").status == 200
        assert server.process.wait(20) == 0


def test_a_request_that_has_begun_to_come_is_answered(repository: Repository) -> None:
    """Although the port is closed before the rest of it is there."""
    with serve(repository) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            head = f"POST /v1/models/plus:predict HTTP/1.1\r\nHost: here\r\nContent-Length: {len(ROW)}\r\n\r\n"
            slow.sendall(head.encode() + ROW[:10])
            until(lambda: server.get("/v2/health/live").status == 200)
            server.process.terminate()
            until(lambda: "Waiting for 1 requests to end" in server.said())
            slow.sendall(ROW[10:])
            answer = slow.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nConnection: close\r\n" in answer
        assert server.process.wait(20) == 0


def test_what_does_not_end_is_given_up(repository: Repository) -> None:
    """After the time that the operator gives, with exit code 0."""
    with serve(repository, "--drain_timeout", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as never:
            never.sendall(b"POST /v1/models/plus:predict HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
            until(lambda: server.get("/v2/health/live").status == 200)
            server.process.terminate()
            assert server.process.wait(20) == 0
        assert "1 requests have not ended in 1 s: they are given up" in server.said()


def configure_stuck(repository: Repository, where: str) -> Path:
    """Have a custom node in the configuration whose thread does not come back; the file that says that it has come so far."""
    note = repository.folder / "note"
    path = repository.folder / "stuck.py"
    path.write_text(STUCK)
    document = json.loads(repository.write("plus"))
    document["custom_node_library_config_list"] = [{"name": "stuck", "base_path": f"{path}:Stuck"}]
    node = custom("n", "stuck", "x y", "request in", params={"where": where, "note": str(note)})
    document["pipeline_config_list"] = [pipeline("stuck", [node], out="n x")]
    repository.replace_config(json.dumps(document).encode())
    return note


@pytest.mark.parametrize("workers", ["1", "2"])
def test_threads_that_do_not_end_are_left(repository: Repository, workers: str) -> None:
    """Soon after their request has been given up."""
    note = configure_stuck(repository, "execute")
    with serve(repository, "--drain_timeout", "1", "--workers", workers) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/models/stuck:predict", json.dumps({"inputs": [[0.0]]}))
        until(note.exists)
        server.process.terminate()
        assert server.process.wait(20) == 0
        connection.close()
    assert "1 requests have not ended in 1 s: they are given up" in server.said()
    assert server.said().count("Some threads do not end: the process ends without them") == 1


def test_a_load_that_does_not_end_is_left(repository: Repository) -> None:
    """Although the server has not begun to be ready."""
    note = configure_stuck(repository, "load")
    options = ("--config_path", str(repository.config), "--drain_timeout", "1")
    with Server(*options, ready=False, log=repository.aside()) as server:
        until(note.exists)
        server.process.terminate()
        assert server.process.wait(20) == 0
    assert "Some threads do not end: the process ends without them" in server.said()


def test_a_second_signal_ends_at_once(repository: Repository) -> None:
    """Whatever is under way."""
    with serve(repository, "--drain_delay", "60") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/v1/models/heavy:predict", json.dumps({"inputs": np.zeros((1, 512, 512)).tolist()}))
        server.process.terminate()
        until(lambda: server.get("/v2/health/ready").status == 503)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 128 + signal.SIGINT
        connection.close()


def test_an_answer_that_is_still_being_read(repository: Repository, tmp_path: Path) -> None:
    """It arrives whole, although it was written before the end began. The buffer of a Unix socket holds some of these only."""
    path = str(tmp_path / "s")
    options = ("--drain_timeout", "30", "--metrics_enable", "--unix_socket", path)
    with serve(repository, *options) as server, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 40)
        until(lambda: _stands_still(client))
        server.process.terminate()
        until(lambda: "Stopped model manager thread" in server.said())
        received = bytearray()
        while piece := client.recv(65536):
            received += piece
        assert {answer.status for answer in read_answers(bytes(received))} == {200}
        assert len(read_answers(bytes(received))) < 40
        assert server.process.wait(20) == 0


def _stands_still(client: socket.socket) -> bool:
    """Whether a server cannot write any more to a client that does not read."""
    before = _waiting_bytes(client)
    time.sleep(0.2)
    return 0 < before == _waiting_bytes(client)


def _waiting_bytes(client: socket.socket) -> int:
    """How much has come that has not been read."""
    return int.from_bytes(fcntl.ioctl(client, termios.FIONREAD, bytes(4)), sys.byteorder)
