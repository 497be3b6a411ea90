"""What is asked: bodies, and whether an answer is right."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import openvino as ov
import orjson

from tools.benchmark import models

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
OK: Final = 200
WRONG: Final = "wrong answer: "  # begins the fault of an answer that says it is a good one
TOLERANCE: Final = 2e-3  # of the largest value; decoders of JPEG differ by a step here and there


@dataclass(frozen=True)
class Load:
    """How a server is asked: by so many connections, or so many times a second."""

    connections: int = 0
    rate: int = 0
    patience: int = 1  # where answers are slow, a run gets so many times the usual seconds

    def __str__(self) -> str:
        """As tables name it."""
        return f"{self.connections} conn." if self.connections else f"{self.rate}/s"


@dataclass(frozen=True)
class Workload:
    """A model and how it is asked."""

    name: str
    model: str
    loads: tuple[Load, ...]
    is_binary: bool = False


WORKLOADS: Final = {
    work.name: work
    for work in (
        Workload("dummy", "dummy", (Load(1), Load(8), Load(32), Load(rate=200))),
        Workload("light", "light", (Load(1), Load(8), Load(32), Load(rate=10))),
        Workload("binary", "light", (Load(8),), is_binary=True),
        Workload("resnet", "resnet", (Load(8, patience=2),)),
        Workload("long", "long", (Load(8, patience=5),)),
        Workload("image", "image", (Load(8),)),
        Workload("batching", "dense", (Load(32),)),
    )
}


@dataclass(frozen=True)
class Request:
    """One request, and what has to come back."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    expected: np.ndarray[Any, Any]

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> str:
        """What is wrong with an answer; nothing if it is right. Names of headers are in lower case."""
        if status != OK:
            return f"{status} {body[:200]!r}"
        try:
            found = _values(headers, body)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return f"{WRONG}{error!r} in {body[:200]!r}"
        if found.size != self.expected.size:
            return f"{WRONG}{found.size} values, not {self.expected.size}"
        off = float(np.abs(found.ravel() - self.expected.ravel()).max() / np.abs(self.expected).max())
        return "" if off <= TOLERANCE else f"{WRONG}a value is off by {off:.1%} of the largest"

    @cached_property
    def raw(self) -> bytes:
        """As it goes over the wire."""
        lines = {"Host": "127.0.0.1", **self.headers, "Content-Length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


def _values(headers: Mapping[str, str], body: bytes) -> np.ndarray[Any, Any]:
    cut = headers.get(HEADER_LENGTH.lower())
    answer = json.loads(body[: int(cut)] if cut else body)
    if "predictions" in answer:
        return np.asarray(answer["predictions"], np.float64)
    output = answer["outputs"][0]
    if "data" in output:
        return np.asarray(output["data"], np.float64)
    return np.frombuffer(body[int(cut or 0) :], "<f4").astype(np.float64)


@cache
def jpeg() -> bytes:
    """A picture with edges and noise, about as large as a photograph of its size."""
    y, x = np.mgrid[: models.IMAGE_SIDE, : models.IMAGE_SIDE]
    noise = np.random.default_rng(1).integers(0, 24, (*x.shape, 3))
    picture = np.stack([(x + y) % 200, (2 * x) % 200, (3 * y + x) % 200], -1) + noise
    return cv2.imencode(".jpg", picture.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@cache
def array(model: str) -> np.ndarray[Any, Any]:
    """The input of a model."""
    if model == "dummy":
        return np.arange(10, dtype=np.float32)[None]
    if model == "image":
        return np.asarray(cv2.imdecode(np.frombuffer(jpeg(), np.uint8), cv2.IMREAD_COLOR))[None]
    small = {"dense": (1, models.DENSE_WIDTH), "long": (1, 1)}
    shape = small.get(model, (1, 3, models.IMAGE_SIDE, models.IMAGE_SIDE))
    return np.random.default_rng(2).random(shape, np.float32)


@cache
def _expected(folder: Path, model: str) -> np.ndarray[Any, Any]:
    compiled = ov.Core().compile_model(models.path(folder, model), "CPU", models.settings(model))
    return np.array(compiled([array(model)])[0])


def _dumps(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


@cache
def request(folder: Path, work: Workload, protocol: str) -> Request:
    """The request of a workload in a protocol: ``v1`` is TensorFlow Serving's, ``v2`` KServe's."""
    model, x = work.model, array(work.model)
    expected = _expected(folder, model)
    text = base64.b64encode(jpeg()).decode()
    if protocol == "v1" and not work.is_binary:
        instances = [{"b64": text}] if model == "image" else x
        path = f"/v1/models/{model}:predict"
        return Request(path, _dumps({"instances": instances}), {"Content-Type": "application/json"}, expected)
    path = f"/v2/models/{model}/infer"
    tensor: dict[str, object] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    if work.is_binary:
        tensor["parameters"] = {"binary_data_size": x.nbytes}
        head = _dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        return Request(path, head + x.tobytes(), headers, expected)
    if model == "image":
        tensor |= {"shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"}, "data": [text]}
    else:
        tensor["data"] = x.ravel()
    return Request(path, _dumps({"inputs": [tensor]}), {"Content-Type": "application/json"}, expected)


@cache
def large(folder: Path) -> Request:
    """A body of 2 MB for the light model: the same number of values with more digits."""
    x = array("light").astype(np.float64)
    values = (np.random.default_rng(3).random(x.shape) * 0.9 + 0.1).round(11)
    compiled = ov.Core().compile_model(models.path(folder, "light"), "CPU", models.settings("light"))
    expected = np.array(compiled([values.astype(np.float32)])[0])
    return Request("/v1/models/light:predict", _dumps({"instances": values}), {}, expected)
