"""Real models whose requests are joined: what OpenVINO gives for each, and which cannot be."""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from tests import models
from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.settings import Batching, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import AUTO, parse_layout
from tornado_ovms.engine import openvino as engine
from tornado_ovms.engine.batched import Batched
from tornado_ovms.engine.openvino import OpenVinoEngine
from tornado_ovms.engine.pool import RequestPool
from tornado_ovms.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tornado_ovms.engine.base import Executable, Inference

PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}

KEPT: list[OpenVinoEngine] = []
"""OpenVINO's Core waits for its threads when it goes, and holds the GIL: one that is just coming back from a callback needs it,
and both would wait for ever. A server's engine is there as long as its process."""


@pytest.fixture(autouse=True)
def _join_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it pays depends on the machine."""
    monkeypatch.setattr(engine, "UNJOINED_S", 0.0)
    monkeypatch.setattr(engine, "WORTH", math.inf)


@contextmanager
def loaded(folder: Path, model: ov.Model, max_batch: int = 8, **settings: Any) -> Iterator[Executable]:
    """The model, loaded with batching on the running loop."""
    models.save(model, folder / "1")
    found = LocalStorage().versions(str(folder)).versions[1]
    wanted = ModelSettings("m", str(folder), plugin_config=PRECISE, batching=Batching(max_batch), **settings)
    loading = OpenVinoEngine(asyncio.get_running_loop(), None)
    KEPT.append(loading)
    executable = loading.load(Blueprint(Key("m", 1), wanted, found.path, found.fingerprint))
    try:
        yield executable
    finally:
        executable.close()


def infer(
    folder: Path, model: ov.Model, requests: Sequence[Mapping[str, np.ndarray]], **settings: Any
) -> list[Inference]:
    """What comes of requests that are made at the same time."""

    async def play() -> list[Inference]:
        with loaded(folder, model, **settings) as executable:
            assert isinstance(executable, Batched)
            return list(await asyncio.gather(*map(executable.infer, requests)))

    return asyncio.run(play())


def batches(inferences: Sequence[Inference]) -> list[int]:
    """How many rows each inference had."""
    return [inference.batch_rows for inference in inferences if inference.batch_rows]


def rows(*sizes: int, width: int = 16) -> list[np.ndarray]:
    """Arrays of so many rows, all different."""
    generator = np.random.default_rng(1)
    return [generator.standard_normal((size, width), np.float32) for size in sizes]


def refusal(folder: Path, model: ov.Model, **settings: Any) -> str:
    """Why a model is not loaded."""

    async def play() -> str:
        with pytest.raises(Failure) as caught, loaded(folder, model, **settings):
            pass
        assert caught.value.code is Code.BATCHING
        return caught.value.detail

    return asyncio.run(play())


def test_a_model_of_one_row_takes_several_at_once(tmp_path: Path) -> None:
    """Each request gets what OpenVINO gives for it alone; clients still see a batch of 1."""
    model = models.deep(64, 2)
    alone = ov.Core().compile_model(model, "CPU", PRECISE)
    arrays = rows(*[1] * 12)
    found = infer(tmp_path, model, [{"x": array} for array in arrays])
    for array, inference in zip(arrays, found, strict=True):
        np.testing.assert_allclose(inference.outputs[0], alone([array])[0], rtol=1e-4, atol=1e-5)
    assert batches(found) == [8, 4]


def test_what_clients_see_does_not_change(tmp_path: Path) -> None:
    """The shapes are those of the model as it was."""

    async def play() -> list[str]:
        with loaded(tmp_path, models.deep(64, 2)) as executable:
            return [str(spec.shape) for spec in (executable.inputs["x"], *executable.outputs)]

    assert asyncio.run(play()) == ["(1,16)", "(1,16)"]


def test_requests_of_several_rows_are_joined(tmp_path: Path) -> None:
    """As far as a model with an open batch takes them."""
    arrays = rows(2, 5, 3, 9, 1)
    found = infer(tmp_path, models.adder((-1, 16)), [{"b": array} for array in arrays])
    for array, inference in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(inference.outputs[0], array + 1)
    assert batches(found) == [7, 3, 9, 1]


@pytest.mark.parametrize("settings", [{"batch_size": AUTO}, {"shape": AUTO}, {"layout": parse_layout("NC")}])
def test_settings_of_shape_go_with_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    """They are applied first."""
    arrays = rows(1, 1, width=10)
    found = infer(tmp_path, models.adder(), [{"b": array} for array in arrays], **settings)
    for array, inference in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(inference.outputs[0], array + 1)
    assert batches(found) == [2]


def two(shape: Sequence[int]) -> ov.Model:
    """one, other -> total = one + other, apart = one - other."""
    one, other = models.parameter("one", shape), models.parameter("other", shape)
    return models.model([one, other], total=op.add(one, other), apart=op.subtract(one, other))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """All are joined and split in the same way; a request that is broadcast runs alone."""
    shapes = [((1, 4), (1, 4)), ((2, 4), (2, 4)), ((3, 4), (1, 4))]
    generator = np.random.default_rng(2)
    requests = [
        {name: generator.standard_normal(shape, np.float32) for name, shape in zip(("one", "other"), pair, strict=True)}
        for pair in shapes
    ]
    found = infer(tmp_path, two((-1, 4)), requests)
    for request, inference in zip(requests, found, strict=True):
        np.testing.assert_array_equal(inference.outputs[0], request["one"] + request["other"])
        np.testing.assert_array_equal(inference.outputs[1], request["one"] - request["other"])
    assert batches(found) == [3, 1]


def test_the_batch_may_be_another_axis(tmp_path: Path) -> None:
    """The layout says which."""
    arrays = [array.T.copy() for array in rows(1, 1, 1)]
    layout = {"b": parse_layout("CN"), "a": parse_layout("CN")}
    found = infer(tmp_path, models.adder((16, 1)), [{"b": array} for array in arrays], layout=layout)
    for array, inference in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(inference.outputs[0], array + 1)
    assert batches(found) == [3]


def test_texts_are_joined(tmp_path: Path) -> None:
    """They are arrays of objects."""
    x = models.parameter("x", (-1, 2), "string")
    requests = [{"x": np.array([[b"a", b"b"]], object)}, {"x": np.array([[b"c", b""], [b"\xff", b"e"]], object)}]
    found = infer(tmp_path, models.model([x], y=op.concat([x], 0)), requests)
    assert [inference.outputs[0].tolist() for inference in found] == [request["x"].tolist() for request in requests]
    assert batches(found) == [3]


def test_a_request_at_fault_fails_alone(tmp_path: Path) -> None:
    """OpenVINO refuses the batch; the neighbours get their answers nevertheless."""
    model = models.picky()

    async def play() -> list[Any]:
        with loaded(tmp_path, model) as executable:
            asked = (executable.infer({"b": np.full((1, 4), value, np.float32)}) for value in (10, 11, 10))
            return await asyncio.gather(*asked, return_exceptions=True)

    one, bad, other = asyncio.run(play())
    assert [found.outputs[0].tolist() for found in (one, other)] == [[[10.0] * 4]] * 2
    assert isinstance(bad, Failure)
    assert bad.code is Code.INFERENCE


def reduced() -> ov.Model:
    """b -> a [1,10], the sum of all rows."""
    b = models.parameter("b", (1, 10))
    return models.model([b], a=op.reduce_sum(b, op.constant(np.array([0])), keep_dims=True))


def centred() -> ov.Model:
    """b -> a, less the mean of the batch."""
    b = models.parameter("b", (-1, 10))
    return models.model([b], a=op.subtract(b, op.reduce_mean(b, op.constant(np.array([0])), keep_dims=True)))


def scalar() -> ov.Model:
    """b -> a, and one number of a scalar."""
    b, c = models.parameter("b", (1, 10)), models.parameter("c", ())
    return models.model([b, c], a=op.add(b, c))


def shaped() -> ov.Model:
    """b -> a, by way of a shape that is written down in the model."""
    b = models.parameter("b", (1, 10))
    return models.model([b], a=op.add(op.reshape(b, op.constant(np.array([1, 10])), special_zero=False), b))


def flat() -> ov.Model:
    """b -> a, all numbers in one dimension."""
    b = models.parameter("b", (-1, 10))
    return models.model([b], a=op.reshape(b, op.constant(np.array([-1])), special_zero=False))


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        (reduced, {}, "output a has shape [1,10] for 2 rows: expected as many on axis 0"),
        (flat, {}, "output a has shape [20] for 2 rows: expected as many on axis 0"),
        (centred, {}, "output a: what a row gives depends on the other rows of its batch"),
        (scalar, {}, "input c of shape () and layout ... has no batch axis"),
        (shaped, {}, "the model does not take a batch of 2: "),
        (models.adder, {"layout": parse_layout("C?")}, "input b of shape (1,10) and layout C? has no batch axis"),
        (
            lambda: models.adder((3, 10)),
            {"max_batch": 5},
            "a request has at least 3 rows: max_batch 5 joins no two of them",
        ),
    ],
)
def test_what_cannot_be_joined_is_not_loaded(tmp_path: Path, model: Any, settings: dict[str, Any], told: str) -> None:
    """The reason names the tensor, and what it should be like."""
    assert refusal(tmp_path, model(), **settings).startswith(told)


def test_a_model_that_is_not_deterministic_cannot_be_told_of(tmp_path: Path) -> None:
    """Noise is no sign that rows depend on each other."""
    b = models.parameter("b", (-1, 10))
    low, high = op.constant(np.float32(0)), op.constant(np.float32(1))
    noise = op.random_uniform(op.shape_of(b), low, high, "f32")
    found = infer(tmp_path, models.model([b], a=op.add(b, noise)), [{"b": array} for array in rows(1, 1, width=10)])
    assert batches(found) == [2]


def test_a_model_that_takes_no_such_numbers_is_loaded(tmp_path: Path) -> None:
    """Of sizes that are open nothing is known; requests tell."""
    model = models.rigid()
    model.reshape({"b": ov.PartialShape([-1, -1])})
    found = infer(tmp_path, model, [{"b": array} for array in rows(1, 1, width=10)])
    assert batches(found) == [2]


@pytest.mark.parametrize(("limit", "value"), [("UNJOINED_S", 10.0), ("WORTH", 0.0)])
def test_a_model_for_which_it_does_not_pay_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    """It is quicker than joining, or several rows take as long as one by one: it is what it would be without batching."""
    monkeypatch.setattr(engine, limit, value)

    async def play() -> bool:
        with loaded(tmp_path, models.adder()) as executable:
            return isinstance(executable, RequestPool)

    assert asyncio.run(play())
