"""Pipelines over HTTP: both APIs, pictures, strings, no content, clients that hang up, a server that is told to stop."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Server, until
from tests.functional.test_pipeline_soak import custom, model, pipeline, reads
from tests.libraries import LEDGER, Account, compile_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODES = """
import time
from pathlib import Path
import numpy as np
from tornado_ovms.nodes.base import CustomNode, Tensor

class Slow(CustomNode):
    inputs = {"x": Tensor("float32", (1, -1))}
    outputs = {"y": Tensor("float32", (1, -1))}

    def note(self, what):
        with Path(self.params["notes"]).open("a") as notes:
            notes.write(f"{self.params['name']} {what}\\n")

    def execute(self, inputs):
        self.note("begins")
        time.sleep(float(self.params.get("seconds", "0")))
        self.note("ends")
        return {"y": inputs["x"]}

    def close(self):
        self.note("closes")

class Rude(CustomNode):
    inputs = {"x": Tensor("float32", (1, -1))}
    outputs = {"y": Tensor("float32", (1, -1))}

    def execute(self, inputs):
        raise RuntimeError("no")
"""

ZEROS, TEN = [[0.0] * 10], [[float(index) for index in range(10)]]


def through(name: str, target: str, **more: Any) -> dict[str, Any]:
    """A pipeline of one model, x -> y."""
    node = {
        "name": "n", "type": "DL model", "model_name": target, "inputs": reads(x="request in"),
        "outputs": [{"data_item": "y", "alias": "x"}],
    }  # fmt: skip
    return {**pipeline(name, [node], **more.pop("outputs", {"out": "n x"})), **more}


def slow(name: str, notes: Path, seconds: float = 0.0) -> dict[str, Any]:
    """A node that takes its time."""
    params = {"notes": str(notes), "name": name, "seconds": str(seconds)}
    return custom(name, "slow", "x y", "request in", params=params)


def configure(repository: Repository, library: Path, *more: dict[str, Any]) -> None:
    """Write the configuration of all tests here."""
    precise = {"plugin_config": {"INFERENCE_PRECISION_HINT": "f32"}}
    nhwc = {"layout": {"x": "NHWC"}}
    document = json.loads(repository.write("strings", "bytes", plus=precise, pictures=nhwc, unsized={}, rows={}))
    nodes = f"{repository.folder}/nodes_of_a_test.py"
    document["custom_node_library_config_list"] = [
        {"name": "ledger", "base_path": str(library)},
        {"name": "slow", "base_path": f"{nodes}:Slow"},
        {"name": "rude", "base_path": f"{nodes}:Rude"},
    ]
    nothing = {"kind": "split", "count": "0"}
    document["pipeline_config_list"] = [
        pipeline("plain", [model("n", "plus", "request in")], out="n x"),
        pipeline(
            "both", [model("m", "plus", "request in"), model("n", "plus", "m x")], one="m x", two="n x"
        ),
        {**pipeline("many", [model("n", "plus", "request in")], out="n x"), "demultiply_count": -1},
        pipeline(
            "uneven",
            [custom("s", "ledger", "b a", "request in", params={"kind": "split"}), model("n", "plus", "request in")],
            one="s x", two="n x",
        ),
        pipeline(
            "nothing", [custom("s", "ledger", "b a", "request in", params=nothing, demultiply_count=-1)], out="s x"
        ),
        {
            **pipeline("straight", [model("n", "plus", "request in")], out="n x", same="request other"),
            "inputs": ["in", "other"],
        },
        pipeline("rude", [custom("n", "rude", "x y", "request in")], out="n x"),
        pipeline("fails", [custom("n", "ledger", "b a", "request in", params={"fault": "null data"})], out="n x"),
        through("pictures_pipe", "pictures"),
        through("unsized_pipe", "unsized"),
        through("pictures_many", "pictures", demultiply_count=-1),
        through("pictures_three", "pictures", demultiply_count=3),
        through("strings_pipe", "strings"),
        through("bytes_pipe", "bytes", outputs={"out_string": "n x", "out": "n x"}),
        through("rows_pipe", "rows"),
        *more,
    ]  # fmt: skip
    repository.replace_config(json.dumps(document).encode())


@pytest.fixture(scope="module")
def library(needs_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C library that keeps account."""
    return compile_library(needs_program("gcc"), LEDGER, tmp_path_factory.mktemp("library"))


def make_repository(folder: Path) -> Repository:
    """The models."""
    repository = Repository(folder)
    repository.put("plus", 1, models.adder())
    repository.put("pictures", 1, models.passthrough((1, 5, 7, 3), "u8"))
    repository.put("unsized", 1, models.passthrough((-1, -1, -1, 3), "u8"))
    repository.put("strings", 1, models.passthrough((-1,), "string"))
    repository.put("bytes", 1, models.passthrough((-1, -1), "u8"))
    repository.put("rows", 1, models.passthrough((-1, 2), "f32"))
    (repository.folder / "nodes_of_a_test.py").write_text(NODES)
    return repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The folder of the server below."""
    return make_repository(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def notes(repository: Repository) -> Path:
    """Where slow nodes tell what they do."""
    return repository.folder.parent / "notes.txt"


@pytest.fixture(scope="module")
def served(repository: Repository, library: Path, notes: Path) -> Iterator[Server]:
    """A server of all pipelines."""
    after = {**slow("second", notes), "inputs": reads(x="first x")}
    configure(repository, library, pipeline("slow", [slow("first", notes, 0.7), after], out="second x"))
    args = ["--config_path", str(repository.config), "--file_system_poll_wait_seconds", "0"]
    with Server(*args, log=repository.folder.parent / "server.log") as server:
        for name in ("plain", "slow", "pictures_many", "bytes_pipe"):
            assert state(server, name) == ("AVAILABLE", "OK"), server.said()[-2000:]
        yield server


def state(server: Server, name: str) -> tuple[str, str]:
    """State and error code of a pipeline."""
    (found,) = server.get(f"/v1/models/{name}").json["model_version_status"]
    assert found["version"] == "1"
    return found["state"], found["status"]["error_code"]


def predict(server: Server, name: str, document: Any) -> Any:
    """The answer to a prediction, or its status and error."""
    answer = server.post(f"/v1/models/{name}:predict", document)
    return answer.json if answer.status == 200 else (answer.status, answer.json["error"] if answer.body else "")


def said(notes: Path) -> list[str]:
    """What slow nodes have told."""
    return notes.read_text().splitlines() if notes.exists() else []


# Both forms of the first API


def test_forms_of_requests_and_answers(served: Server) -> None:
    """Row and column, with a name and without; one output is the value itself, more are an object."""
    one = [[value + 1 for value in TEN[0]]]
    two = [[value + 2 for value in TEN[0]]]
    assert predict(served, "plain", {"instances": [{"in": TEN[0]}]}) == {"predictions": one}
    assert predict(served, "plain", {"instances": TEN}) == {"predictions": one}
    assert predict(served, "plain", {"inputs": {"in": TEN}}) == {"outputs": one}
    assert predict(served, "plain", {"inputs": TEN}) == {"outputs": one}
    assert predict(served, "both", {"instances": TEN}) == {"predictions": [{"one": one[0], "two": two[0]}]}
    assert predict(served, "both", {"inputs": TEN}) == {"outputs": {"one": one, "two": two}}


def test_row_format_needs_equal_first_dimensions(served: Server) -> None:
    """Three shards beside one row cannot be told as rows; as columns they can."""
    status, error = predict(served, "uneven", {"instances": TEN})
    assert (status, error.split(" - ")[0]) == (500, "Response parsing to JSON error")
    assert len(predict(served, "uneven", {"inputs": TEN})["outputs"]["one"]) == 3


def test_a_request_that_is_split(served: Server) -> None:
    """As many shards as there are; each is checked with the model's sizes."""
    values = [[[float(index)] * 10] for index in range(4)]
    wanted = [[[float(index + 1)] * 10] for index in range(4)]
    assert predict(served, "many", {"inputs": values}) == {"outputs": wanted}
    assert predict(served, "many", {"instances": values}) == {"predictions": wanted}
    assert predict(served, "many", {"inputs": TEN}) == (
        400,
        "Invalid number of shape dimensions - Expected: (-1,1,10); Actual: (1,10); input name: in",
    )


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("rude", 500, "Custom node failed during execution"),
        ("fails", 500, "Custom node output has invalid content size"),
        ("unknown", 404, "Model with requested name is not found"),
    ],
)
def test_failures(served: Server, name: str, status: int, error: str) -> None:
    """The reference's sentence comes first; the node and the reason follow."""
    found = predict(served, name, {"inputs": TEN})
    assert found[0] == status
    assert found[1].startswith(error)


def test_an_output_of_the_request(served: Server) -> None:
    """Each request to such a pipeline fails, whatever it names: both inputs, or the one that a node reads; over both APIs."""
    assert state(served, "straight") == ("AVAILABLE", "OK")
    for inputs in ({"in": TEN, "other": TEN}, {"in": TEN, "other": 1}, {"in": TEN}, {"out": TEN}):
        tensors = [{"name": name, "shape": [1, 10], "datatype": "FP32", "data": TEN[0]} for name in inputs]
        for path, document in (
            ("/v1/models/straight:predict", {"inputs": inputs}),
            ("/v2/models/straight/infer", {"inputs": tensors}),
        ):
            answer = served.post(path, document)
            assert (answer.status, answer.json["error"].split(" - ")[0]) == (500, "Internal server error")


def test_no_content(served: Server) -> None:
    """No shards: 204 without a body, in both APIs, and the connection goes on."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    tensor = {"name": "in", "shape": [1, 10], "datatype": "FP32", "data": TEN[0]}
    for _ in range(2):
        for path, document in (
            ("/v1/models/nothing:predict", {"inputs": TEN}),
            ("/v1/models/nothing:predict", {"instances": TEN}),
            ("/v2/models/nothing/infer", {"inputs": [tensor]}),
        ):
            connection.request("POST", path, json.dumps(document))
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (204, b"")
            assert answer.getheader("Content-Length") is None
    connection.close()


# KServe v2


def test_kserve(served: Server) -> None:
    """Metadata, readiness and inference as for a model with version 1."""
    assert served.get("/v2/models/both/ready").status == 200
    assert served.get("/v2/models/both/versions/1/ready").status == 200
    found = served.get("/v2/models/both").json
    tensor = {"datatype": "FP32", "shape": [1, 10]}
    assert found["name"] == "both"
    assert found["versions"] == ["1"]
    assert found["inputs"] == [{"name": "in", **tensor}]
    assert found["outputs"] == [{"name": "one", **tensor}, {"name": "two", **tensor}]
    request = {"id": "7", "inputs": [{"name": "in", **tensor, "data": TEN[0]}]}
    answer = served.post("/v2/models/both/infer", request).json
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("both", "1", "7")
    assert {each["name"]: each["data"] for each in answer["outputs"]} == {
        "one": [value + 1 for value in TEN[0]], "two": [value + 2 for value in TEN[0]],
    }  # fmt: skip


def test_kserve_with_binary_data(served: Server) -> None:
    """There and back, through a request that is split."""
    values = np.arange(40, dtype=np.float32).reshape(4, 1, 10)
    tensor = {"name": "in", "datatype": "FP32", "shape": [4, 1, 10], "parameters": {"binary_data_size": values.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = served.request(
        "POST", "/v2/models/many/infer", head + values.tobytes(),
        {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"},
    )  # fmt: skip
    assert answer.status == 200, answer.body
    (length,) = (int(value) for name, value in answer.headers.items() if name.lower().startswith("inference-header"))
    np.testing.assert_array_equal(np.frombuffer(answer.body[length:], np.float32), values.ravel() + 1)


# Pictures and strings


def draw(brightness: int, height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    """A picture of one colour."""
    return np.full((height, width, channels), brightness, np.uint8)


def b64(pixels: np.ndarray) -> dict[str, str]:
    """A picture as a value of the API."""
    done, data = cv2.imencode(".png", pixels)
    assert done
    return {"b64": base64.b64encode(data.tobytes()).decode()}


@pytest.mark.parametrize("name", ["pictures_pipe", "unsized_pipe"])
def test_pictures(served: Server, name: str) -> None:
    """As for a model: decoded for the pipeline's input, whose layout is the model's."""
    for document in ({"inputs": {"in": [b64(draw(9))]}}, {"instances": [b64(draw(9))]}):
        found = predict(served, name, document)
        np.testing.assert_array_equal(found.get("outputs", found.get("predictions")), draw(9)[None])


def test_pictures_are_brought_to_size(served: Server) -> None:
    """If the layout is NHWC and no size is open; then channels have to fit."""
    found = predict(served, "pictures_pipe", {"inputs": {"in": [b64(draw(9, 20, 20))]}})
    np.testing.assert_array_equal(found["outputs"], draw(9)[None])
    found = predict(served, "pictures_pipe", {"inputs": {"in": [b64(draw(9, channels=1))]}})
    assert found[0] == 400
    assert found[1].startswith("Invalid number of channels in binary input")
    status, error = predict(served, "pictures_pipe", {"inputs": {"in": [{"b64": "bm8="}]}})
    assert (status, error.split(" - ")[0]) == (500, "Image parsing failed")


def test_pictures_of_a_request_that_is_split(served: Server) -> None:
    """Each is a shard, [images,1,H,W,C]: of any number, or of a fixed one and then resized."""
    pictures = [b64(draw(brightness)) for brightness in (1, 2, 3)]
    wanted = np.stack([draw(brightness)[None] for brightness in (1, 2, 3)])
    for name in ("pictures_many", "pictures_three"):
        assert predict(served, name, {"inputs": {"in": pictures}})["outputs"] == wanted.tolist()
        rows = predict(served, name, {"instances": [{"in": each} for each in pictures]})
        assert rows["predictions"] == wanted.tolist()
    mixed = [b64(draw(brightness, 10, 10)) for brightness in (1, 2, 3)]
    assert predict(served, "pictures_three", {"inputs": {"in": mixed}})["outputs"] == wanted.tolist()
    status, error = predict(served, "pictures_many", {"inputs": {"in": [pictures[0], mixed[1]]}})
    assert status == 400
    assert error.startswith("Binary input images for this endpoint are required to have the same resolution")
    assert predict(served, "pictures_three", {"inputs": {"in": pictures[:2]}}) == (
        400, "Invalid input batch size - Expected: 3; Actual: 2; input name: in",
    )  # fmt: skip


def test_pictures_over_kserve(served: Server) -> None:
    """As binary BYTES, each after its length."""
    files = [base64.b64decode(b64(draw(brightness))["b64"]) for brightness in (1, 2)]
    data = b"".join(struct.pack("<I", len(each)) + each for each in files)
    tensor = {"name": "in", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = served.request("POST", "/v2/models/pictures_many/infer", head + data, headers)
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert output["shape"] == [2, 1, 5, 7, 3]
    assert output["data"] == [1] * 105 + [2] * 105


def test_an_input_that_takes_no_pictures(served: Server) -> None:
    """Of another rank: the reference's 500."""
    status, error = predict(served, "plain", {"inputs": {"in": [b64(draw(1))]}})
    assert (status, error.split(" - ")[0]) == (500, "Functionality not implemented")


def test_strings(served: Server) -> None:
    """Those of a model that takes strings, and rows of bytes for one of two-dimensional u8."""
    words = ["one", "", "dreizehn"]
    assert predict(served, "strings_pipe", {"inputs": {"in": words}}) == {"outputs": words}
    assert predict(served, "strings_pipe", {"instances": words}) == {"predictions": words}
    found = predict(served, "bytes_pipe", {"inputs": {"in": words}})["outputs"]
    assert found["out_string"] == words
    assert found["out"] == [list(word.encode().ljust(9, b"\0")) for word in words]
    tensor = {"name": "in", "datatype": "BYTES", "shape": [3], "data": words}
    answer = served.post("/v2/models/strings_pipe/infer", {"inputs": [tensor]})
    assert answer.json["outputs"][0]["data"] == words


# Clients that go, and a server that ends


def hang_up(server: Server, name: str, when: Callable[[], bool]) -> None:
    """Send a request, and close the connection as soon as something is so."""
    body = json.dumps({"inputs": TEN}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST /v1/models/{name}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(when)


def test_a_client_that_hangs_up(served: Server, notes: Path) -> None:
    """What runs is let end, and nothing new is started for it; others are answered meanwhile and later."""
    before = len(said(notes))
    hang_up(served, "slow", lambda: len(said(notes)) > before)
    assert predict(served, "plain", {"inputs": TEN})["outputs"]
    until(lambda: len(said(notes)) > before + 1)
    time.sleep(0.2)  # that something does not happen
    assert said(notes)[before:] == ["first begins", "first ends"]
    assert predict(served, "slow", {"inputs": TEN}) == {"outputs": TEN}
    assert said(notes)[before + 2 :] == ["first begins", "first ends", "second begins", "second ends"]


def test_many_clients_that_hang_up(served: Server, notes: Path) -> None:
    """Neither threads nor files stay behind."""
    before = len(said(notes))
    files = served.files()
    for _ in range(5):
        hang_up(served, "slow", lambda: len(said(notes)) > before)
    until(lambda: said(notes)[before:].count("first ends") == 5)
    assert predict(served, "slow", {"inputs": TEN}) == {"outputs": TEN}
    until(lambda: served.files() <= files)
    assert "Unforeseen" not in served.said()


class Ask:
    """A request on a connection of its own, whose answer is read later."""

    def __init__(self, server: Server, name: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._connection.request("POST", f"/v1/models/{name}:predict", json.dumps({"inputs": TEN}))

    def answer(self) -> tuple[int, Any]:
        """Status and document."""
        answer = self._connection.getresponse()
        found = answer.status, json.loads(answer.read())
        self._connection.close()
        return found


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_sigterm_in_mid_run(library: Path, tmp_path: Path, is_waited_for: bool) -> None:  # noqa: FBT001
    """The answer still comes; nodes are closed after their last execution, also if nobody waits for it."""
    repository = make_repository(tmp_path)
    notes, report = tmp_path / "notes.txt", tmp_path / "report.txt"
    split = custom("s", "ledger", "b a", "request in", params={"kind": "split", "report": str(report)})
    split["demultiply_count"] = 3
    nodes = [split, {**slow("shard", notes, 0.5), "inputs": reads(x="s x")}]
    configure(repository, library, pipeline("slow", nodes, out="shard x"))
    args = ["--config_path", str(repository.config), "--rest_workers", "3"]
    with Server(*args, log=tmp_path / "server.log") as server:
        if is_waited_for:
            ask = Ask(server, "slow")
            until(lambda: "shard begins" in said(notes))
        else:
            hang_up(server, "slow", lambda: "shard begins" in said(notes))
        server.process.send_signal(signal.SIGTERM)
        if is_waited_for:
            status, found = ask.answer()
            assert status == 200
            assert found["outputs"] == [[[value + shard for value in TEN[0]]] for shard in range(3)]
        assert server.process.wait(20) == 0
    told = said(notes)
    assert told[-1] == "shard closes"
    assert told.count("shard closes") == 1
    assert told.count("shard begins") == told.count("shard ends") >= 1
    account = Account(*map(int, report.read_text().split()))
    assert account.is_settled
    assert account.executed == 1
    assert "Traceback" not in server.said()


# Names


def test_names_are_kept_for_good(library: Path, tmp_path: Path) -> None:
    """A pipeline's name is no model's, even after it was retired, and the other way round."""
    repository = make_repository(tmp_path)
    configure(repository, library)
    args = ["--config_path", str(repository.config), "--file_system_poll_wait_seconds", "0"]
    with Server(*args, log=tmp_path / "server.log") as server:
        document = json.loads(repository.config.read_text())
        plain = document["pipeline_config_list"].pop(0)
        repository.replace_config(json.dumps(document).encode())
        assert server.request("POST", "/v1/config/reload").status == 201
        assert state(server, "plain") == ("END", "OK")
        assert predict(server, "plain", {"inputs": TEN}) == (404, "Pipeline is retired")
        named = {"config": {"name": "plain", "base_path": "plus"}}
        document["model_config_list"].append(named)
        repository.replace_config(json.dumps(document).encode())
        assert server.request("POST", "/v1/config/reload").status == 500
        assert predict(server, "plain", {"inputs": TEN}) == (404, "Pipeline is retired")
        document["model_config_list"].remove(named)
        document["pipeline_config_list"] += [plain, {**plain, "name": "plus"}]
        repository.replace_config(json.dumps(document).encode())
        assert server.request("POST", "/v1/config/reload").status == 500
        assert predict(server, "plain", {"inputs": ZEROS}) == {"outputs": [[1.0] * 10]}
        assert predict(server, "plus", {"inputs": ZEROS}) == {"outputs": [[1.0] * 10]}, "the model serves"
        assert "Pipeline has the same name as model" in server.said()
