"""Pipelines with built-in nodes, as the reference's demos have them: its configuration names the files of its libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from openvino import opset15 as op

from tests import models
from tests.functional.layout import PRECISE
from tests.functional.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import openvino as ov

HEIGHT, WIDTH = 8, 16

DETECTIONS = np.float32([
    [0, 3, 0.9, 0, 0, 0.5, 0.5],
    [0, 4, 0.2, 0, 0, 1, 1],
    [0, 5, 0.8, 0.5, 0.5, 1, 1],
])


def detector() -> ov.Model:
    """image f32 [1,3,8,16] -> detection [1,1,3,7]: always the same three, of which one is unsure."""
    image = models.parameter("image", (1, 3, HEIGHT, WIDTH))
    nothing = op.multiply(op.reduce_sum(image, op.constant(np.arange(4)), keep_dims=True), op.constant(np.float32(0)))
    return models.model([image], detection=op.add(op.constant(DETECTIONS.reshape(1, 1, 3, 7)), nothing))


def mean() -> ov.Model:
    """image f32 [1,3,4,8] -> mean [1,1]."""
    image = models.parameter("image", (1, 3, HEIGHT // 2, WIDTH // 2))
    return models.model([image], mean=op.reduce_mean(op.reshape(image, op.constant(np.array([1, -1])), False), 1, True))


def source(node: str, item: str) -> Mapping[str, str]:
    """Where something comes from."""
    return {"node_name": node, "data_item": item}


PIPELINES = [
    {
        "name": "objects",
        "inputs": ["image"],
        "nodes": [
            {
                "name": "detect",
                "type": "DL model",
                "model_name": "detector",
                "inputs": [{"image": source("request", "image")}],
                "outputs": [{"data_item": "detection", "alias": "detection"}],
            },
            {
                "name": "extract",
                "type": "custom",
                "library_name": "extractor",
                "demultiply_count": 0,
                "params": {
                    "original_image_width": str(WIDTH),
                    "original_image_height": str(HEIGHT),
                    "target_image_width": str(WIDTH // 2),
                    "target_image_height": str(HEIGHT // 2),
                    "original_image_layout": "NCHW",
                    "convert_to_gray_scale": "false",
                    "confidence_threshold": "0.7",
                },
                "inputs": [{"image": source("request", "image")}, {"detection": source("detect", "detection")}],
                "outputs": [{"data_item": name, "alias": name} for name in ("images", "coordinates", "label_ids")],
            },
            {
                "name": "look",
                "type": "DL model",
                "model_name": "mean",
                "inputs": [{"image": source("extract", "images")}],
                "outputs": [{"data_item": "mean", "alias": "mean"}],
            },
        ],
        "outputs": [
            {"means": source("look", "mean")},
            {"coordinates": source("extract", "coordinates")},
            {"label_ids": source("extract", "label_ids")},
        ],
    },
    {
        "name": "numbers",
        "inputs": ["numbers"],
        "nodes": [
            {
                "name": "add",
                "type": "custom",
                "library_name": "add_one",
                "params": {"add_number": "3"},
                "inputs": [{"input_numbers": source("request", "numbers")}],
                "outputs": [{"data_item": "output_numbers", "alias": "sum"}],
            }
        ],
        "outputs": [{"sum": source("add", "sum")}],
    },
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves both pipelines."""
    folder = tmp_path_factory.mktemp("builtin")
    document = {
        "model_config_list": [
            {"config": {"name": name, "base_path": name, **PRECISE}} for name in ("detector", "mean")
        ],
        "custom_node_library_config_list": [
            {"name": "extractor", "base_path": "/ovms/lib/libcustom_node_model_zoo_intel_object_detection.so"},
            {"name": "add_one", "base_path": "builtin:add_one"},
        ],
        "pipeline_config_list": PIPELINES,
    }
    models.save(detector(), folder / "detector" / "1")
    models.save(mean(), folder / "mean" / "1")
    (folder / "config.json").write_text(json.dumps(document))
    with Server("--config_path", str(folder / "config.json"), log=folder / "server.log") as running:
        yield running


def predict(server: Server, name: str, inputs: object) -> Any:
    """The outputs in column form."""
    answer = server.post(f"/v1/models/{name}:predict", {"inputs": inputs})
    assert answer.status == 200, answer.body
    return answer.json["outputs"]


def test_objects_are_found_cut_out_and_looked_at(server: Server) -> None:
    """Two of three, each with what the second model says, gathered by the answer."""
    image = np.arange(3 * HEIGHT * WIDTH, dtype=np.float32).reshape(1, 3, HEIGHT, WIDTH)
    found = predict(server, "objects", {"image": image.tolist()})
    pieces = image[0, :, :4, :8], image[0, :, 4:, 8:]
    np.testing.assert_allclose(found["means"], [[[piece.mean()]] for piece in pieces])
    np.testing.assert_allclose(found["coordinates"], [[[0, 0, 0.5, 0.5]], [[0.5, 0.5, 1, 1]]])
    assert found["label_ids"] == [[[3]], [[5]]]


def test_a_number_is_added(server: Server) -> None:
    """By the node's name instead of a file's."""
    assert predict(server, "numbers", [list(range(10))]) == [[float(number) for number in range(3, 13)]]


def test_a_picture_of_another_size_is_refused(server: Server) -> None:
    """The node's parameters are what the pipeline's metadata promise."""
    answer = server.post("/v1/models/objects:predict", {"inputs": {"image": np.zeros((1, 3, 8, 8)).tolist()}})
    assert answer.status == 400
    assert "Expected: (1,3,8,16); Actual: (1,3,8,8); input name: image" in answer.json["error"]
