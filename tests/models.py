"""Small OpenVINO models, built in memory, for the tests of the engine and of the server."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from openvino import opset15 as op
from openvino.op.util import Variable, VariableInfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def parameter(name: str, shape: Sequence[int | tuple[int, int]], kind: str = "f32", layout: str = "") -> ov.Node:
    """An input; -1 is any size, a pair is a range."""
    dims = [ov.Dimension(*dim) if isinstance(dim, tuple) else ov.Dimension(dim) for dim in shape]
    node = op.parameter(ov.PartialShape(dims), getattr(ov.Type, kind), name=name)
    node.output(0).get_tensor().set_names({name})
    if layout:
        node.set_layout(ov.Layout(layout))
    return node


def model(inputs: Sequence[ov.Node], **outputs: ov.Node) -> ov.Model:
    """A model whose outputs are named by the keywords."""
    results = []
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(op.result(node))
    return ov.Model(results, list(inputs), "model")


def adder(shape: Sequence[int | tuple[int, int]] = (1, 10), addend: float = 1.0) -> ov.Model:
    """b -> a = b + addend, both f32."""
    b = parameter("b", shape)
    return model([b], a=op.add(b, op.constant(np.float32(addend))))


def rigid() -> ov.Model:
    """b -> a = b + 1, which can be reshaped to any width but computes only 10 columns."""
    b = parameter("b", (1, 10))
    return model([b], a=op.add(b, op.constant(np.ones((1, 10), np.float32))))


def picky() -> ov.Model:
    """b f32 [1,4] -> a = b; the largest number has to be 10, or the inference fails."""
    b = parameter("b", (1, 4))
    largest = op.convert(op.reduce_max(b, op.constant(np.array([0, 1])), keep_dims=False), "i32")
    so_many = op.range(op.constant(np.int32(0)), largest, op.constant(np.int32(1)), output_type="f32")
    ten = op.add(so_many, op.constant(np.arange(10, dtype=np.float32)))
    least = op.abs(op.reduce_min(ten, op.constant(np.array([0])), keep_dims=False))
    return model([b], a=op.add(b, op.minimum(least, op.constant(np.float32(0)))))


def passthrough(shape: Sequence[int | tuple[int, int]], kind: str) -> ov.Model:
    """x -> y = x, of any element type."""
    x = parameter("x", shape, kind)
    return model([x], y=op.concat([x], 0))


def accumulator() -> ov.Model:
    """input f32 [1,1] -> output: the sum of the inputs so far, which is a state of the model."""
    info = VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([1, 1]), ov.Type.f32, "total"
    total = Variable(info)
    x = parameter("input", (1, 1))
    y = op.add(op.read_value(op.constant(np.zeros((1, 1), np.float32)), total), x)
    y.output(0).get_tensor().set_names({"output"})
    return ov.Model([op.result(y)], [op.assign(y, total)], [x], "model")


def slow_accumulator() -> ov.Model:
    """The same, after matrix products that take tens of milliseconds and change nothing."""
    made = accumulator()
    x = made.parameters[0]
    users = list(x.output(0).get_target_inputs())
    generator = np.random.default_rng(0)
    y = op.multiply(x, op.constant(generator.random((1024, 1024), np.float32)))
    for _ in range(12):
        y = op.matmul(y, op.constant(generator.random((1024, 1024), np.float32) / 1024), False, False)
    least = op.reduce_min(y, op.constant(np.array([0, 1])), keep_dims=True)
    nothing = op.minimum(op.abs(least), op.constant(np.zeros((1, 1), np.float32)))
    for user in users:
        user.replace_source_output(op.add(x, nothing).output(0))
    return made


def loop() -> ov.Model:
    """input f32 [n,1] -> output [1,1]: the sum of the rows, by a loop that carries it from one to the next."""
    x = parameter("input", (-1, 1))
    row = op.parameter([1, 1], np.float32, name="row")
    before = op.parameter([1, 1], np.float32, name="before")
    total = op.add(before, row)
    body = ov.Model([op.result(total)], [row, before], "body")
    iterator = op.tensor_iterator()
    iterator.set_function(body)
    iterator.set_sliced_input(row, x.output(0), 0, 1, 1, -1, 0)
    zero = op.constant(np.zeros((1, 1), np.float32))
    iterator.set_merged_input(before, zero.output(0), body.results[0].output(0))
    y = iterator.get_iter_value(body.results[0].output(0), -1)
    y.get_tensor().set_names({"output"})
    return ov.Model([op.result(y)], [x], "model")


def table(value: float, size: int = 1000) -> ov.Model:
    """x f32 [1,size] -> y = x + value, added from a table in the weights' file, all of which has to be there."""
    x = parameter("x", (1, size))
    return model([x], y=op.add(x, op.constant(np.full((1, size), value, np.float32))))


def tagged(tag: float, size: int = 1000) -> ov.Model:
    """b f32 [1,10] -> a [1,1] = tag for zeros, by 10 times size weights."""
    b = parameter("b", (1, 10))
    weights = np.random.default_rng(0).random((10, size), np.float32)
    y = op.matmul(b, op.constant(weights), False, False)
    return model(
        [b], a=op.add(op.reduce_sum(y, op.constant(np.array([1])), keep_dims=True), op.constant(np.float32(tag)))
    )


def weighty_adder(addend: float, size: int = 1000) -> ov.Model:
    """b f32 [1,10] -> a = b + addend, with 10 times size weights that change nothing."""
    b = parameter("b", (1, 10))
    weights = np.random.default_rng(0).random((10, size), np.float32)
    y = op.abs(op.matmul(b, op.constant(weights), False, False))
    least = op.reduce_min(y, op.constant(np.array([1])), keep_dims=True)
    nothing = op.minimum(least, op.constant(np.zeros((1, 1), np.float32)))
    return model([b], a=op.add(op.add(b, op.constant(np.float32(addend))), nothing))


def dense(size: int) -> ov.Model:
    """x f32 [1,size] -> y, by one matrix of size times size numbers."""
    x = parameter("x", (1, size))
    weights = np.random.default_rng(0).random((size, size), np.float32)
    return model([x], y=op.matmul(x, op.constant(weights), False, False))


def deep(size: int = 2048, layers: int = 4, ends: int = 16) -> ov.Model:
    """x f32 [1,ends] -> y [1,ends], by matrices of size times size numbers that have to be read for each inference."""
    x = parameter("x", (1, ends))
    generator = np.random.default_rng(0)
    sizes = [ends, *[size] * (layers + 1), ends]
    y = x
    for rows, columns in itertools.pairwise(sizes):
        weights = generator.standard_normal((rows, columns), np.float32) / np.float32(rows**0.5)
        y = op.tanh(op.matmul(y, op.constant(weights), False, False))
    return model([x], y=y)


def convolutions(size: int = 32, channels: int = 32, layers: int = 6) -> ov.Model:
    """x f32 [1,3,size,size] -> y [1,channels], by convolutions that compute much with few weights."""
    x = parameter("x", (1, 3, size, size))
    generator = np.random.default_rng(0)
    y = x
    for inputs in (3, *[channels] * (layers - 1)):
        weights = generator.standard_normal((channels, inputs, 3, 3), np.float32) / np.float32((9 * inputs) ** 0.5)
        y = op.relu(op.convolution(y, op.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1]))
    return model([x], y=op.reduce_mean(y, op.constant(np.array([2, 3])), keep_dims=False))


def heavy(size: int = 1024, layers: int = 12) -> ov.Model:
    """x f32 [1,size,size] -> y, by matrix products that take tens of milliseconds on two cores."""
    x = parameter("x", (1, size, size))
    y = x
    weight = np.random.default_rng(0).random((size, size), np.float32) / size
    for _ in range(layers):
        y = op.matmul(y, op.constant(weight), False, False)
    return model([x], y=y)


def slow(size: int = 1024, layers: int = 12) -> ov.Model:
    """x f32 [1,1] -> y [1,1]: a number in, a number out, and tens of milliseconds of matrix products between them."""
    x = parameter("x", (1, 1))
    generator = np.random.default_rng(0)
    y = op.multiply(x, op.constant(generator.random((size, size), np.float32)))
    for _ in range(layers):
        y = op.matmul(y, op.constant(generator.random((size, size), np.float32) / size), False, False)
    return model([x], y=op.reduce_mean(y, op.constant(np.array([0, 1])), keep_dims=True))


def save(what: ov.Model, folder: Path) -> None:
    """Write a model as IR into a version folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ov.serialize(what, str(folder / "model.xml"), str(folder / "model.bin"))
