"""Stateful models over HTTP: sequences that start, go on and end, and all that can be wrong with them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Answer, Server, until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTINUE, START, END = 0, 1, 2
LENGTH = "Inference-Header-Content-Length"
LIMIT = 20

IN_USE = (409, "Sequence with provided ID already exists")
NOT_THERE = (404, "Sequence with provided ID does not exist")
NO_ID = (400, "Sequence ID has not been provided in request inputs")
NO_CONTROL = (400, "Unexpected value of sequence control input")
SHAPE = (400, "Invalid input shape")
ENDING = (412, "Sequence last request is being processed and it's not available anymore")
FULL = (503, "Max sequence number has been reached. Could not create new sequence.")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """total adds up its inputs, two_only does so for two sequences, loop has a loop, slow takes its time."""
    made = Repository(tmp_path_factory.mktemp("stateful"))
    for name in ("total", "two_only"):
        made.put(name, 1, models.accumulator())
    made.put("loop", 1, models.loop())
    made.put("slow", 1, models.slow_accumulator())
    made.configure(
        total={"stateful": True, "max_sequence_number": LIMIT},
        two_only={"stateful": True, "max_sequence_number": 2},
        loop={"stateful": True, "low_latency_transformation": True, "shape": "(1,1)"},
        slow={"stateful": True, "nireq": 2},
    )
    return made


@pytest.fixture(scope="module")
def server(repository: Repository) -> Iterator[Server]:
    """It never looks by itself."""
    args = ("--config_path", str(repository.config), "--file_system_poll_wait_seconds", "0")
    with Server(*args, log=repository.aside()) as running:
        yield running


@pytest.fixture(params=["columns", "tensors", "binary"])
def api(request: pytest.FixtureRequest) -> str:
    """The ways in which a request may come: as columns of TensorFlow Serving, as KServe's tensors in JSON and in binary form."""
    found: str = request.param
    return found


def body(value: float, control: int | None = None, sequence: int | None = None) -> dict[str, Any]:
    """A request in columns."""
    inputs: dict[str, Any] = {"input": [[value]]}
    if sequence is not None:
        inputs["sequence_id"] = [sequence]
    if control is not None:
        inputs["sequence_control_input"] = [control]
    return {"inputs": inputs}


def step(
    server: Server,
    value: float,
    control: int | None = None,
    sequence: int | None = None,
    name: str = "total",
    api: str = "columns",
) -> tuple[Any, Any]:
    """One request: the id and the sum that come back; or the status and the sentence of a refusal."""
    if api == "columns":
        return read(server.post(f"/v1/models/{name}:predict", body(value, control, sequence)))
    given = [np.array([[value]], np.float32)]
    tensors: list[dict[str, Any]] = [{"name": "input", "datatype": "FP32", "shape": [1, 1]}]
    if control is not None:
        given.insert(0, np.array([control], np.uint32))
        tensors.insert(0, {"name": "sequence_control_input", "datatype": "UINT32", "shape": [1]})
    if sequence is not None:
        given.append(np.array([sequence], np.uint64))
        tensors.append({"name": "sequence_id", "datatype": "UINT64", "shape": [1]})
    if api == "tensors":
        for tensor, values in zip(tensors, given, strict=True):
            tensor["data"] = values.ravel().tolist()
        return read_tensors(server.post(f"/v2/models/{name}/infer", {"inputs": tensors}))
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    data = head + b"".join(values.tobytes() for values in given)
    return read_tensors(server.request("POST", f"/v2/models/{name}/infer", data, {LENGTH: str(len(head))}))


def read(answer: Answer) -> tuple[Any, Any]:
    """See ``step``."""
    if answer.status != 200:
        return answer.status, answer.json["error"].partition(" - ")[0]
    outputs = answer.json["outputs"]
    assert sorted(outputs) == ["output", "sequence_id"]
    assert len(outputs["sequence_id"]) == 1
    return outputs["sequence_id"][0], outputs["output"][0][0]


def read_tensors(answer: Answer) -> tuple[Any, Any]:
    """See ``step``."""
    if answer.status != 200:
        return answer.status, answer.json["error"].partition(" - ")[0]
    length = answer.headers.get(LENGTH)
    total, number = json.loads(answer.body[: int(length)] if length else answer.body)["outputs"]
    assert (total["name"], total["datatype"], total["shape"]) == ("output", "FP32", [1, 1])
    assert (number["name"], number["datatype"], number["shape"]) == ("sequence_id", "UINT64", [1])
    if not length:
        return number["data"][0], total["data"][0]
    rest = answer.body[int(length) :]
    return int(np.frombuffer(rest[4:], np.uint64)[0]), float(np.frombuffer(rest[:4], np.float32)[0])


def test_a_sequence(server: Server, api: str) -> None:
    """It starts, goes on with and without control input, ends, and is gone; its id can be used again."""
    assert step(server, 1, START, 5, api=api) == (5, 1)
    assert step(server, 2, CONTINUE, 5, api=api) == (5, 3)
    assert step(server, 3, None, 5, api=api) == (5, 6)
    assert step(server, 4, END, 5, api=api) == (5, 10)
    assert step(server, 5, CONTINUE, 5, api=api) == NOT_THERE
    assert step(server, 6, START, 5, api=api) == (5, 6)
    assert step(server, 0, END, 5, api=api) == (5, 6)


def test_ids_that_the_server_chooses(server: Server, api: str) -> None:
    """If none is given, or 0: each is another one, and can be read by JavaScript."""
    found = [step(server, 1, START, sequence, api=api)[0] for sequence in (None, 0, None)]
    assert len(set(found)) == 3
    assert all(0 < number < 2**53 for number in found)
    for number in found:
        assert step(server, 1, END, number, api=api) == (number, 2)


def test_the_largest_id(server: Server, api: str) -> None:
    """All 64 bits count."""
    largest = 2**64 - 1
    assert step(server, 1, START, largest, api=api) == (largest, 1)
    assert step(server, 1, CONTINUE, largest - 1, api=api) == NOT_THERE
    assert step(server, 1, END, largest, api=api) == (largest, 2)


def test_refusals(server: Server, api: str) -> None:
    """Each with the reference's sentence, and none changes a sequence."""
    step(server, 1, START, 7, api=api)
    assert step(server, 1, START, 7, api=api) == IN_USE
    assert step(server, 1, CONTINUE, 8, api=api) == NOT_THERE
    assert step(server, 1, END, 8, api=api) == NOT_THERE
    for control in (CONTINUE, END, None):
        assert step(server, 1, control, api=api) == NO_ID
        assert step(server, 1, control, 0, api=api) == NO_ID
    assert step(server, 1, 3, 7, api=api) == NO_CONTROL
    assert step(server, 1, 3, api=api) == NO_CONTROL
    assert step(server, 1, END, 7, api=api) == (7, 2)


@pytest.mark.parametrize("name", ["sequence_id", "sequence_control_input"])
@pytest.mark.parametrize("value", [[1, 2], [], [-1], [2**64], ["1"], [[1]], 1, {"b64": "AQ=="}])
def test_inputs_that_are_no_single_number(server: Server, name: str, value: object) -> None:
    """They are refused, and no sequence is left behind."""
    request = body(1, START, 9)
    request["inputs"][name] = value
    answer = server.post("/v1/models/total:predict", request)
    assert (answer.status, list(answer.json)) == (400, ["error"])
    if value in ([1, 2], [], [[1]]):
        assert read(answer) == SHAPE
        assert f"Required shape for {name} is: (1)" in answer.json["error"]
    assert step(server, 1, CONTINUE, 9) == NOT_THERE


@pytest.mark.parametrize("name", ["sequence_id", "sequence_control_input"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape": [2], "data": [1, 1]}, SHAPE),
        ({"shape": [0], "data": []}, SHAPE),
        ({"shape": [1, 1]}, SHAPE),
        ({"shape": []}, (400, "Special input proto does not contain tensor shape information")),
        ({"data": [1, 1]}, (400, "Invalid number of values in tensor proto container")),
        ({"datatype": "INT32"}, (400, "Invalid input precision")),
        ({"datatype": "BYTES", "data": ["1"]}, (400, "Could not find sequence")),
    ],
)
def test_tensors_that_are_no_single_number(
    server: Server, name: str, change: dict[str, Any], sentence: tuple[int, str]
) -> None:
    """The same in the other API, whose tensors tell their shape and datatype."""
    tensors = [
        {"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1]},
        {"name": "sequence_id", "datatype": "UINT64", "shape": [1], "data": [9]},
        {"name": "sequence_control_input", "datatype": "UINT32", "shape": [1], "data": [START]},
    ]
    inputs = [{**tensor, **(change if tensor["name"] == name else {})} for tensor in tensors]
    answer = server.post("/v2/models/total/infer", {"inputs": inputs})
    assert answer.status == sentence[0]
    assert answer.json["error"].startswith(sentence[1])
    assert step(server, 1, CONTINUE, 9, api="tensors") == NOT_THERE


@pytest.mark.parametrize("extra", ["sequence_id", "other"])
def test_more_tensors_than_those(server: Server, extra: str) -> None:
    """An input that comes twice, or that nobody knows, is one too many."""
    tensors = [
        {"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1]},
        {"name": "sequence_id", "datatype": "UINT64", "shape": [1], "data": [9]},
        {"name": "sequence_control_input", "datatype": "UINT32", "shape": [1], "data": [START]},
        {"name": extra, "datatype": "UINT64", "shape": [1], "data": [9]},
    ]
    answer = server.post("/v2/models/total/infer", {"inputs": tensors})
    assert (answer.status, answer.json) == (400, {"error": "Invalid number of inputs - Expected: 1; Actual: 2"})
    assert step(server, 1, CONTINUE, 9) == NOT_THERE


def test_both_apis_share_the_sequences(server: Server) -> None:
    """What one begins the other goes on with, and a request that names none gets no state of anybody."""
    assert step(server, 1, START, 5) == (5, 1)
    assert step(server, 2, CONTINUE, 5, api="binary") == (5, 3)
    for api in ("columns", "tensors", "binary"):
        assert step(server, 2, api=api) == NO_ID
    assert step(server, 3, END, 5, api="tensors") == (5, 6)
    assert step(server, 3, CONTINUE, 5) == NOT_THERE


def test_rows_are_refused(server: Server) -> None:
    """They give the inputs of the sequence a shape that they cannot have."""
    row = {"input": [1.0], "sequence_id": [5], "sequence_control_input": [1]}
    for rows in ([row], [row, row], [{"input": [1.0], "sequence_id": 5, "sequence_control_input": 1}] * 2):
        answer = server.post("/v1/models/total:predict", {"instances": rows})
        assert answer.status == 400
        assert "Required shape for sequence_id is: (1)" in answer.json["error"]
    assert step(server, 1, CONTINUE, 5) == NOT_THERE


def test_a_request_that_does_not_fit_the_model(server: Server) -> None:
    """It starts no sequence and changes none."""
    request = {"inputs": {"input": [[1.0, 2.0]], "sequence_id": [6], "sequence_control_input": [1]}}
    assert read(server.post("/v1/models/total:predict", request)) == SHAPE
    assert step(server, 1, CONTINUE, 6) == NOT_THERE
    step(server, 1, START, 6)
    for control in (CONTINUE, END):
        request["inputs"]["sequence_control_input"] = [control]
        assert read(server.post("/v1/models/total:predict", request)) == SHAPE
    assert step(server, 1, END, 6) == (6, 2)


def test_no_more_sequences_than_allowed(server: Server) -> None:
    """The limit counts first; one that ends makes room."""
    for sequence in (1, 2):
        assert step(server, 1, START, sequence, "two_only") == (sequence, 1)
    assert step(server, 1, START, 3, "two_only") == FULL
    assert step(server, 1, START, None, "two_only") == FULL
    assert step(server, 1, START, 1, "two_only") == FULL
    assert step(server, 1, CONTINUE, 1, "two_only") == (1, 2)
    assert step(server, 1, END, 1, "two_only") == (1, 3)
    assert step(server, 1, START, 3, "two_only") == (3, 1)
    for sequence in (2, 3):
        step(server, 1, END, sequence, "two_only")


def test_nothing_of_it_in_the_metadata(server: Server) -> None:
    """The inputs of a sequence belong to the server, not to the model."""
    for path in ("/v1/models/total/metadata", "/v2/models/total"):
        answer = server.get(path)
        assert answer.status == 200
        assert b'"input"' in answer.body
        assert b"sequence" not in answer.body


def test_interleaved_sequences(server: Server) -> None:
    """Sixteen threads, each with a sequence of its own on a connection of its own: nobody sees the state of another."""

    def play(client: int) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            for lap in range(3):
                sum_so_far = 0
                for number in range(40):
                    value, control = client * 100 + number, {0: START, 39: END}.get(number, CONTINUE)
                    sum_so_far += value
                    request = json.dumps(body(value, control, 1000 + client))
                    connection.request("POST", "/v1/models/total:predict", request)
                    found = connection.getresponse()
                    answer = Answer(found.status, {}, found.read())
                    assert read(answer) == (1000 + client, sum_so_far), (lap, number)

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(play, range(16)))


def test_one_sequence_from_many_threads(server: Server) -> None:
    """Its requests run one after the other: every sum comes up once, and none is lost."""
    step(server, 0, START, 77)
    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(lambda _: step(server, 1, CONTINUE, 77), range(200)))
    assert sorted(found) == [(77, count) for count in range(1, 201)]
    assert step(server, 0, END, 77) == (77, 200)


def test_a_sequence_that_ends_in_another_request(server: Server) -> None:
    """While its last request is being computed nobody can use it; after that it is not there."""
    assert step(server, 1, START, 5, "slow") == (5, 1)
    with ThreadPoolExecutor(1) as clients:
        last = clients.submit(step, server, 1, END, 5, "slow")
        found = []
        while not last.done():
            found.append(step(server, 0, CONTINUE, 5, "slow"))
        assert last.result() == (5, 2)
    assert ENDING in found
    assert set(found) <= {(5, 1), ENDING, NOT_THERE}


def test_a_client_that_hangs_up(server: Server) -> None:
    """Its step is taken all the same, and its sequence goes on for whoever comes next."""
    assert step(server, 1, START, 6, "slow") == (6, 1)
    request = json.dumps(body(10, CONTINUE, 6)).encode()
    head = f"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + request)
            time.sleep(0.02)  # it is being computed
    until(lambda: step(server, 0, CONTINUE, 6, "slow") == (6, 51))
    assert step(server, 1, END, 6, "slow") == (6, 52)
    assert "Unforeseen" not in server.said()
    assert "exception" not in server.said()


def test_a_loop_becomes_a_state(server: Server) -> None:
    """With low_latency_transformation a loop over the rows of one request goes on in the next one."""
    assert step(server, 1, START, 5, "loop") == (5, 1)
    assert step(server, 10, START, 6, "loop") == (6, 10)
    assert step(server, 2, CONTINUE, 5, "loop") == (5, 3)
    assert step(server, 20, END, 6, "loop") == (6, 30)
    assert step(server, 3, END, 5, "loop") == (5, 6)


def test_a_reload_drops_all_sequences(server: Server, repository: Repository) -> None:
    """A version that is loaded anew, or succeeded by another, begins without any."""
    assert step(server, 1, START, 5) == (5, 1)
    repository.put("total", 1, models.accumulator())
    assert server.post("/v1/config/reload", {}).status == 201
    assert step(server, 1, CONTINUE, 5) == NOT_THERE
    assert step(server, 1, START, 5) == (5, 1)
    assert server.post("/v1/config/reload", {}).status == 200
    assert step(server, 1, CONTINUE, 5) == (5, 2)
    repository.put("total", 2, models.accumulator())
    assert server.post("/v1/config/reload", {}).status == 201
    assert step(server, 1, CONTINUE, 5) == NOT_THERE
