"""What people copy out of TensorFlow Serving's documentation: its calls by curl and by ``requests``, with its answers.

The pages are ``serving/api_rest``, the tutorial ``rest_simple`` and the client ``resnet_client.py``.
"""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pytest
import requests
from openvino import opset15 as op

from tests import models
from tests.functional.layout import lay_out
from tests.functional.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import openvino as ov


def half_plus(number: float) -> ov.Model:
    """x f32 [?] -> y = x / 2 + number."""
    x = models.parameter("x", (-1,))
    return models.model([x], y=op.add(op.multiply(x, op.constant(np.float32(0.5))), op.constant(np.float32(number))))


def tagged() -> ov.Model:
    """tag, signal and sensor, as in the documentation's example of named tensors -> the same."""
    inputs = [
        models.parameter("tag", (-1,), "string"),
        models.parameter("signal", (-1, 5), "i64"),
        models.parameter("sensor", (-1, 2, 2), "i64"),
    ]
    return models.model(inputs, **{node.friendly_name: node for node in inputs})


def classifier() -> ov.Model:
    """Pictures [?,28,28,1] as numbers -> ten probabilities, of which that of the ninth is the largest."""
    x = models.parameter("conv1_input", (-1, 28, 28, 1))
    mean = op.reduce_mean(x, op.constant(np.array([1, 2])), keep_dims=False)
    weights = op.constant(np.eye(1, 10, 9, dtype=np.float32))
    return models.model([x], dense=op.softmax(op.matmul(mean, weights, False, False), 1))


BUILT: Final = {
    "half_plus_two": half_plus(2),
    "half_plus_three": half_plus(3),
    "tagged": tagged(),
    "fashion_model": classifier(),
    "resnet": models.model([x := models.parameter("image_bytes", (1, 8, 8, 3), "u8", "NHWC")], image=x),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of all of these."""
    folder = tmp_path_factory.mktemp("documentation")
    with Server(*lay_out(folder, BUILT), log=folder / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def curl(served: Server, needs_program: Callable[[str], str]) -> Callable[..., Any]:
    """Calls curl as the documentation does; PORT stands for the port."""
    program = needs_program("curl")

    def call(*arguments: str) -> Any:
        told = [argument.replace("PORT", str(served.port)) for argument in arguments]
        done = subprocess.run([program, "--silent", "--show-error", *told], check=True, capture_output=True, timeout=60)
        return json.loads(done.stdout)

    return call


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("half_plus_two:predict", '{"instances": [1.0, 2.0, 5.0]}', {"predictions": [2.5, 3.0, 4.5]}),
        ("half_plus_three:predict", '{"instances": [1.0,2.0,5.0]}', {"predictions": [3.5, 4.0, 5.5]}),
        ("half_plus_three/versions/1:predict", '{"instances": [1.0,2.0,5.0]}', {"predictions": [3.5, 4.0, 5.5]}),
        ("half_plus_two:predict", '{"inputs": [1.0, 2.0, 5.0]}', {"outputs": [2.5, 3.0, 4.5]}),
        ("half_plus_two:predict", '{"inputs": {"x": [1, 2, 5]}}', {"outputs": [2.5, 3.0, 4.5]}),
        (
            "half_plus_two:predict",
            '{"signature_name": "serving_default", "instances": [{"x": 1}, {"x": 2}]}',
            {"predictions": [2.5, 3.0]},
        ),
    ],
)
def test_half_plus_two(curl: Callable[..., Any], path: str, data: str, expected: object) -> None:
    """The first thing that anybody tries, with and without ``-X POST``; curl calls the body a form, which does not matter."""
    for more in ([], ["-X", "POST"], ["-H", "Content-Type: application/json"], ["--compressed"]):
        assert curl("-d", data, *more, f"http://localhost:PORT/v1/models/{path}") == expected


def test_a_large_body_by_curl(curl: Callable[..., Any], tmp_path: Path) -> None:
    """Out of a file; curl asks with ``Expect: 100-continue`` before it sends much."""
    values = [float(number) for number in range(300_000)]
    (tmp_path / "input.json").write_text(json.dumps({"instances": values}))
    answer = curl("-d", f"@{tmp_path}/input.json", "http://localhost:PORT/v1/models/half_plus_two:predict")
    assert answer == {"predictions": [value / 2 + 2 for value in values]}


def test_the_status_of_a_model(curl: Callable[..., Any]) -> None:
    """As ``api_rest`` shows it."""
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": "OK"}}
    for path in ("half_plus_three", "half_plus_three/versions/1"):
        assert curl(f"http://localhost:PORT/v1/models/{path}") == {"model_version_status": [available]}


def test_the_metadata_of_a_model(curl: Callable[..., Any]) -> None:
    """With the signature of its tensors."""
    found = curl("http://localhost:PORT/v1/models/half_plus_three/metadata")
    signature = found["metadata"]["signature_def"]["signatureDef"]["serving_default"]
    assert {name: info["dtype"] for name, info in (signature["inputs"] | signature["outputs"]).items()} == {
        "x": "DT_FLOAT",
        "y": "DT_FLOAT",
    }


TAGGED: Final = [
    {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
    {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
]


def test_named_tensors_in_rows_and_columns(served: Server) -> None:
    """The example of ``api_rest`` in both of its forms."""
    url = f"http://127.0.0.1:{served.port}/v1/models/tagged:predict"
    assert requests.post(url, json={"instances": TAGGED}, timeout=30).json() == {"predictions": TAGGED}
    columns = {name: [row[name] for row in TAGGED] for name in TAGGED[0]}
    assert requests.post(url, json={"inputs": columns}, timeout=30).json() == {"outputs": columns}


def test_the_tutorial_of_keras(served: Server) -> None:
    """``rest_simple``: three pictures as numbers, one version or the newest one."""
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    data = json.dumps({"signature_name": "serving_default", "instances": images.tolist()})
    headers = {"content-type": "application/json"}
    for path in ("fashion_model", "fashion_model/versions/1"):
        response = requests.post(
            f"http://localhost:{served.port}/v1/models/{path}:predict", data=data, headers=headers, timeout=30
        )
        predictions = json.loads(response.text)["predictions"]
        assert [np.argmax(each) for each in predictions] == [9, 9, 9]
        np.testing.assert_allclose(np.sum(predictions, 1), 1, rtol=1e-6)


def test_the_client_of_resnet(served: Server) -> None:
    """A picture in base64, again and again on one connection."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    file = cv2.imencode(".png", pixels)[1].tobytes()
    predict_request = f'{{"instances" : [{{"b64": "{base64.b64encode(file).decode("utf-8")}"}}]}}'
    with requests.Session() as session:
        for _ in range(10):
            url = f"http://localhost:{served.port}/v1/models/resnet:predict"
            response = session.post(url, data=predict_request, timeout=30)
            response.raise_for_status()
            np.testing.assert_array_equal(response.json()["predictions"][0], pixels)
            assert response.elapsed.total_seconds() < 30


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "error"),
    [
        ("POST", "half_plus_two:predict", '{"instances": [1.0, 2.0', 412, "The file is not valid json"),
        ("POST", "half_plus_two:predict", "{}", 400, "Invalid JSON structure. Could not detect row or column format"),
        ("POST", "half_plus_four:predict", '{"instances": [1]}', 404, "Model with requested name is not found"),
        (
            "POST",
            "half_plus_two/versions/2:predict",
            '{"instances": [1]}',
            404,
            "Model with requested version is not found",
        ),
        (
            "POST",
            "half_plus_three:regress",
            '{"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}',
            404,
            "Requested REST resource not found",
        ),
        ("POST", "half_plus_two:classify", '{"examples": [{"x": 1.0}]}', 404, "Requested REST resource not found"),
        ("GET", "half_plus_two:predict", None, 406, "Unsupported method"),
        ("GET", "half_plus_four", None, 404, "Model with requested name is not found"),
    ],
)
def test_errors(served: Server, method: str, path: str, data: str | None, status: int, error: str) -> None:
    """An object with one member, as the documentation says; regression and classification are not here."""
    response = requests.request(method, f"http://localhost:{served.port}/v1/models/{path}", data=data, timeout=30)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert response.json()["error"].startswith(error)


@pytest.mark.parametrize("values", [[1.0, float("nan")], [float("inf"), float("-inf")]])
def test_values_that_json_has_no_word_for(served: Server, values: Sequence[float]) -> None:
    """They are taken as Python writes them; answers are JSON, which has null for them."""
    url = f"http://localhost:{served.port}/v1/models/half_plus_two:predict"
    response = requests.post(url, data=json.dumps({"instances": values}), timeout=30)
    assert response.json() == {"predictions": [value / 2 + 2 if np.isfinite(value) else None for value in values]}
