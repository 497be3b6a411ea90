"""Many clients at once, of a server that joins their requests: each gets its own answer."""

from __future__ import annotations

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Server, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CLIENTS = 32
PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}
JOINED = {"plugin_config": PRECISE, "batching": {"max_batch": 16, "delay_ms": 20}}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Models deep, with a pipeline around it, and picky."""
    made = Repository(tmp_path_factory.mktemp("batching"))
    made.put("deep", 1, models.deep(1024))
    made.put("picky", 1, models.picky())
    configure(made, JOINED)
    return made


def configure(repository: Repository, deep: dict[str, Any]) -> None:
    """Write the configuration, in which deep has such an entry."""
    config = json.loads(repository.write(deep=deep, picky=JOINED))
    node = {
        "name": "node", "type": "DL model", "model_name": "deep",
        "inputs": [{"x": {"node_name": "request", "data_item": "in"}}],
        "outputs": [{"data_item": "y", "alias": "y"}],
    }  # fmt: skip
    outputs = [{"out": {"node_name": "node", "data_item": "y"}}]
    config["pipeline_config_list"] = [{"name": "line", "inputs": ["in"], "nodes": [node], "outputs": outputs}]
    config["monitoring"] = {"metrics": {"enable": True}}
    repository.replace_config(json.dumps(config).encode())


@pytest.fixture
def server(repository: Repository) -> Iterator[Server]:
    """A server with batching."""
    configure(repository, JOINED)
    with Server("--config_path", str(repository.config), log=repository.aside()) as running:
        yield running


def ask_at_once(server: Server, name: str, rows: Sequence[list[float]]) -> list[Any]:
    """A client for each row, all at the same time; what each was answered, or its status and sentence."""
    barrier = Barrier(len(rows))

    def ask(row: list[float]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.connect()
        barrier.wait()
        connection.request("POST", f"/v1/models/{name}:predict", json.dumps({"instances": [row]}))
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        return found["predictions"][0] if answer.status == 200 else (answer.status, found["error"])

    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(ask, rows))


def counted(server: Server, family: str, name: str = "deep") -> float:
    """A metric of version 1 of a model."""
    text = server.get("/metrics").body.decode()
    (found,) = re.findall(rf'^{family}{{name="{name}",version="1"}} (\S+)$', text, re.MULTILINE)
    return float(found)


def rows(width: int = 16) -> list[list[float]]:
    """A row for each client, all different."""
    drawn: list[list[float]] = np.random.default_rng(3).standard_normal((CLIENTS, width)).round(3).tolist()
    return drawn


def expected(asked: list[list[float]]) -> list[np.ndarray]:
    """What OpenVINO gives for each row alone."""
    alone = ov.Core().compile_model(models.deep(1024), "CPU", PRECISE)
    return [alone([np.array([row], np.float32)])[0][0].copy() for row in asked]


@pytest.mark.parametrize("name", ["deep", "line"])
def test_everybody_gets_its_own_answer(server: Server, name: str) -> None:
    """Also through a pipeline; fewer inferences were made than requests, and all rows are counted."""
    asked = rows()
    for found, right in zip(ask_at_once(server, name, asked), expected(asked), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    assert counted(server, "tornado_ovms_batch_rows_sum") == CLIENTS
    assert counted(server, "tornado_ovms_batch_rows_count") < CLIENTS
    assert counted(server, "ovms_inference_time_us_count") == CLIENTS
    assert 0 < counted(server, "tornado_ovms_batch_window_seconds_total") <= CLIENTS * 0.02


def test_a_batch_of_two_is_still_refused(server: Server) -> None:
    """The model takes one row of each client."""
    answer = server.post("/v1/models/deep:predict", {"instances": [[0.0] * 16] * 2})
    assert (answer.status, answer.json["error"]) == (
        400,
        "Invalid input batch size - Expected: 1; Actual: 2; input name: x",
    )
    (tensor,) = server.get("/v2/models/deep").json["inputs"]
    assert tensor["shape"] == [1, 16]


def test_one_bad_request_is_the_only_one_that_fails(server: Server) -> None:
    """Its neighbours in the batch are answered."""
    asked = [[10.0, float(number), 0, 0] for number in range(8)]
    asked[5][0] = 11.0
    found = ask_at_once(server, "picky", asked)
    assert found.pop(5)[0] == 500
    asked.pop(5)
    assert found == asked


def test_clients_that_hang_up_harm_nobody(server: Server) -> None:
    """Those who stay get their answers."""
    body = json.dumps({"instances": [[1.0] * 16]})
    gone = []
    for _ in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/v1/models/deep:predict", body)
        gone.append(connection)
    for connection in gone:
        connection.close()
    asked = rows()
    for found, right in zip(ask_at_once(server, "deep", asked), expected(asked), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    until(lambda: counted(server, "ovms_current_requests") == 0)
    assert counted(server, "tornado_ovms_waiting_requests") == 0


def test_it_can_be_switched_on_and_off_while_the_server_runs(repository: Repository, tmp_path: Path) -> None:
    """A change of the key loads the model anew; nothing else changes."""
    asked = rows()
    right = expected(asked)
    configure(repository, {"plugin_config": PRECISE})
    arguments = ["--config_path", str(repository.config), "--file_system_poll_wait_seconds", "0"]
    with Server(*arguments, log=tmp_path / "log") as server:
        inferences = 0.0
        for entry, is_joined in (({}, False), (JOINED, True), ({}, False)):
            configure(repository, {"plugin_config": PRECISE, **entry})
            server.post("/v1/config/reload", {})
            for found, wanted in zip(ask_at_once(server, "deep", asked), right, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
            before, inferences = inferences, counted(server, "tornado_ovms_batch_rows_count")
            assert (inferences > before) is is_joined


def test_a_model_that_cannot_be_joined_says_why(repository: Repository, tmp_path: Path) -> None:
    """In the log and in the verbose status; other models are served."""
    configure(repository, {**JOINED, "batching": {"max_batch": 16}, "layout": "C?"})
    with Server("--config_path", str(repository.config), log=tmp_path / "log") as server:
        assert server.get("/v1/models/picky").json["model_version_status"][0]["state"] == "AVAILABLE"
        told = "Requests for this model cannot be joined - input x of shape (1,16) and layout C? has no batch axis"
        assert told in server.get("/v1/config?verbose=1").body.decode()
