"""Models that the event loop infers itself, with real OpenVINO."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from tests import models
from tornado_ovms.core.model_files import NameMapping
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.engine import quick
from tornado_ovms.engine.preparation import prepare
from tornado_ovms.engine.quick import ON_LOOP, Quick, find

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORE = ov.Core()


@pytest.fixture
def any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, the model is quick enough."""
    monkeypatch.setattr(quick, "QUICK_S", math.inf)


def found(model: ov.Model) -> Quick | None:
    """What ``find`` makes of a model."""
    prepared = prepare(model, ModelSettings("m", "/m"), NameMapping())
    compiled = CORE.compile_model(prepared.model, "CPU", {**ON_LOOP, "INFERENCE_PRECISION_HINT": "f32"})
    return find(compiled, prepared.inputs, prepared.outputs)


def certain(model: ov.Model) -> Quick:
    """The same for a model that must be quick."""
    one = found(model)
    assert one is not None
    return one


@pytest.mark.usefixtures("any_speed")
def test_it_infers() -> None:
    """Again and again: an answer is not changed by the next one."""
    one = certain(models.adder((1, 10)))
    first, seconds = one.infer({"b": np.arange(10, dtype=np.float32).reshape(1, 10)})
    second, _ = one.infer({"b": np.zeros((1, 10), np.float32)})
    np.testing.assert_array_equal(first[0], np.arange(1, 11, dtype=np.float32).reshape(1, 10))
    np.testing.assert_array_equal(second[0], np.ones((1, 10), np.float32))
    assert seconds > 0


@pytest.mark.usefixtures("any_speed")
def test_outputs_of_any_size_and_type() -> None:
    """One whose size depends on the values, one of strings, one too large for a view."""
    x = models.parameter("x", (4,), "f32")
    places = op.non_zero(x, output_type="i64")
    wide = op.broadcast(op.unsqueeze(x, op.constant(np.int64(1))), op.constant(np.array([4, 2000])))
    one = certain(models.model([x], places=places, wide=wide))
    for value in ([1, 0, 2, 0], [0, 0, 0, 3], [1, 1, 1, 1]):
        outputs, _ = one.infer({"x": np.array(value, np.float32)})
        answer: NDArray[Any] = outputs[0]
        assert answer.tolist() == [np.flatnonzero(value).tolist()]
        np.testing.assert_array_equal(outputs[1], np.repeat(np.array(value, np.float32)[:, None], 2000, 1))


@pytest.mark.usefixtures("any_speed")
def test_how_quick_a_model_is_is_tried_on_zeros() -> None:
    """Not on what happens to be in memory."""
    junk = [np.full(1000, 7, np.float32) for _ in range(100)]  # for the allocator to hand out again
    del junk
    one = certain(models.adder((1, 1000)))
    assert one.request.get_output_tensor(0).data[0].tolist() == [1.0] * 1000


def test_a_slow_model_is_not_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it tried again and again."""
    monkeypatch.setattr(quick, "QUICK_S", 0.0)
    monkeypatch.setattr(quick, "HOPELESS_S", 0.0)
    assert found(models.adder((1, 10))) is None


@pytest.mark.usefixtures("any_speed")
def test_a_model_of_integers_is_not_tried() -> None:
    """Dividing by zero would end the process; so may an index."""
    x = models.parameter("x", (3,), "i32")
    assert found(models.model([x], y=op.divide(op.constant(np.int32(12)), x))) is None


@pytest.mark.usefixtures("any_speed")
def test_a_model_with_states_is_never_quick() -> None:
    """Its states belong to a sequence."""
    assert found(models.accumulator()) is None


@pytest.mark.usefixtures("any_speed")
def test_a_model_of_any_size_is_never_quick() -> None:
    """Small requests may be quick, large ones would hold the loop."""
    assert found(models.adder((-1, -1))) is None
