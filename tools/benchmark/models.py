"""The models that all servers serve, as OpenVINO IR, and the settings with which all of them compile them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np
import openvino as ov
from openvino import opset15 as op

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE_SIDE: Final = 224
CLASSES: Final = 1000
DENSE_WIDTH: Final = 64
BATCHING: Final = {"max_batch": 32, "delay_ms": 1}

# One precision for everyone: with the plugin's own choice the answers, and the speed, would hang on the kind of CPU.
PRECISION: Final = "f32"
# Several cores for one inference pay where it is over at once; otherwise an inference a core costs less CPU in all.
HINTS: Final = {
    "dummy": "LATENCY",
    "light": "THROUGHPUT",
    "resnet": "THROUGHPUT",
    "image": "THROUGHPUT",
    "dense": "LATENCY",
    "long": "THROUGHPUT",
}


OUR_HINTS: Final = {"image": "LATENCY"}
"""Where another one is better for this server, as KServe and MLServer have their own: with two workers each has one core."""


def settings(name: str) -> dict[str, str]:
    """The plugin's settings for a model."""
    return {"PERFORMANCE_HINT": HINTS[name], "INFERENCE_PRECISION_HINT": PRECISION}


def own_settings(name: str) -> dict[str, str]:
    """The same for this server."""
    return settings(name) | {"PERFORMANCE_HINT": OUR_HINTS.get(name, HINTS[name])}


def _weights(random: np.random.Generator, *shape: int) -> ov.Node:
    fan_in = int(np.prod(shape[1:]))
    return op.constant((random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32))


def _convolution(random: np.random.Generator, x: ov.Node, wide: int, kernel: int, stride: int = 1) -> ov.Node:
    channels = x.output(0).get_partial_shape()[1].get_length()
    pad = [kernel // 2] * 2
    return op.convolution(x, _weights(random, wide, channels, kernel, kernel), [stride] * 2, pad, pad, [1, 1])


def _scores(random: np.random.Generator, x: ov.Node) -> ov.Node:
    pooled = op.reduce_mean(x, op.constant(np.array([2, 3])), keep_dims=False)
    channels = x.output(0).get_partial_shape()[1].get_length()
    return op.matmul(pooled, _weights(random, CLASSES, channels), transpose_a=False, transpose_b=True)


def _dummy(_: np.random.Generator) -> tuple[ov.Node, ov.Node]:
    x = op.parameter([1, 10], np.float32)
    return x, op.add(x, op.constant(np.float32(1)))


def _light(random: np.random.Generator) -> tuple[ov.Node, ov.Node]:
    x = op.parameter([1, 3, IMAGE_SIDE, IMAGE_SIDE], np.float32)
    y = x
    for wide, kernel in ((32, 7), (32, 3), (64, 3)):
        y = op.relu(_convolution(random, y, wide, kernel, 2))
    return x, _scores(random, y)


def _resnet(random: np.random.Generator) -> tuple[ov.Node, ov.Node]:
    """ResNet-50's blocks and widths, with fewer blocks: in f32 the whole of it would give a short run too few answers."""
    x = op.parameter([1, 3, IMAGE_SIDE, IMAGE_SIDE], np.float32)
    y = op.relu(_convolution(random, op.relu(_convolution(random, x, 64, 7, 2)), 64, 3, 2))
    for width, blocks, first_stride in ((64, 2, 1), (128, 2, 2), (256, 3, 2), (512, 1, 2)):
        for number in range(blocks):
            stride = 1 if number else first_stride
            inner = op.relu(_convolution(random, y, width, 1))
            inner = op.relu(_convolution(random, inner, width, 3, stride))
            inner = _convolution(random, inner, 4 * width, 1)
            past = y if number else _convolution(random, y, 4 * width, 1, stride)
            y = op.relu(op.multiply(op.add(inner, past), op.constant(np.float32(0.7))))
    return x, _scores(random, y)


def _image(random: np.random.Generator) -> tuple[ov.Node, ov.Node]:
    x = op.parameter([-1, IMAGE_SIDE, IMAGE_SIDE, 3], np.uint8)
    x.set_layout(ov.Layout("NHWC"))
    scaled = op.multiply(op.convert(x, "f32"), op.constant(np.float32(1 / 255)))
    planes = op.transpose(scaled, op.constant(np.array([0, 3, 1, 2])))
    small = op.avg_pool(planes, [16, 16], [0, 0], [0, 0], [16, 16], exclude_pad=False)
    flat = op.reshape(small, op.constant(np.array([0, -1])), special_zero=True)
    width = 3 * (IMAGE_SIDE // 16) ** 2
    return x, op.matmul(flat, _weights(random, CLASSES, width), transpose_a=False, transpose_b=True)


def _dense(random: np.random.Generator) -> tuple[ov.Node, ov.Node]:
    """Few numbers in and out, and 8 million weights, which are read once for a batch as well as for a single row."""
    x = op.parameter([-1, DENSE_WIDTH], np.float32)
    y = x
    for before, after in ((DENSE_WIDTH, 2048), (2048, 2048), (2048, 2048), (2048, 10)):
        y = op.relu(op.matmul(y, _weights(random, after, before), transpose_a=False, transpose_b=True))
    return x, y


def _long(random: np.random.Generator) -> tuple[ov.Node, ov.Node]:
    """A number in, a number out, and matrix products of tens of milliseconds between: nothing else takes time."""
    x = op.parameter([1, 1], np.float32)
    y = op.multiply(x, op.constant(random.random((1024, 1024), np.float32)))
    for _ in range(2):
        matrix = op.constant(random.random((1024, 1024), np.float32) / 512)
        y = op.matmul(y, matrix, transpose_a=False, transpose_b=False)
    return x, op.reduce_mean(y, op.constant(np.array([0, 1])), keep_dims=True)


BUILDERS: Final[dict[str, Callable[[np.random.Generator], tuple[ov.Node, ov.Node]]]] = {
    "dummy": _dummy,
    "light": _light,
    "resnet": _resnet,
    "image": _image,
    "dense": _dense,
    "long": _long,
}


def path(folder: Path, name: str) -> Path:
    """Where a model's IR is."""
    return folder / name / "1" / "model.xml"


def _entry(folder: Path, name: str, **more: object) -> dict[str, object]:
    return {"config": {"name": name, "base_path": str(folder / name), "plugin_config": own_settings(name), **more}}


def _configuration(folder: Path, file: str, *entries: dict[str, object]) -> None:
    (folder / file).write_text(json.dumps({"model_config_list": entries}, indent=1))


def make(folder: Path) -> None:
    """Write the models, the settings for the other servers, and this server's configurations."""
    for seed, (name, build) in enumerate(BUILDERS.items()):
        x, y = build(np.random.default_rng(seed))
        x.set_friendly_name("x")
        x.output(0).get_tensor().set_names({"x"})
        y.output(0).get_tensor().set_names({"y"})
        path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        ov.save_model(ov.Model([op.result(y)], [x], name), path(folder, name), compress_to_fp16=False)
    (folder / "settings.json").write_text(json.dumps({name: settings(name) for name in BUILDERS}, indent=1))
    _configuration(folder, "all.json", *(_entry(folder, name) for name in BUILDERS))
    _configuration(folder, "one.json", _entry(folder, "resnet"))
    _configuration(folder, "batching.json", _entry(folder, "dense", batching=BATCHING))
