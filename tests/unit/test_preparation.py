"""Names, layouts, shapes and batches applied to real models."""

from __future__ import annotations

from typing import Any

import openvino as ov
import pytest
from openvino import opset15 as op

from tests import models
from tornado_ovms.core.model_files import NameMapping
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, AUTO, Dim, Layout, Precision, Shape, parse_layout, parse_shape
from tornado_ovms.engine.preparation import prepare


def images(layout: str = "") -> ov.Model:
    """input f32 [1,3,4,5] -> output."""
    node = models.parameter("input", (1, 3, 4, 5), layout=layout)
    return models.model([node], output=op.relu(node))


def two() -> ov.Model:
    """in1 + in2 -> total, all f32 [1,10]."""
    one, other = models.parameter("in1", (1, 10)), models.parameter("in2", (1, 10))
    return models.model([one, other], total=op.add(one, other))


def shapes(model: ov.Model, mapping: NameMapping | None = None, **settings: Any) -> dict[str, str]:
    """The shapes of all tensors as clients see them."""
    prepared = prepare(model, ModelSettings("m", "/m", **settings), mapping or NameMapping())
    return {spec.name: str(spec.shape) for spec in (*prepared.inputs, *(spec for _, spec in prepared.outputs))}


def refusal(model: ov.Model, mapping: NameMapping | None = None, **settings: Any) -> Code:
    """The code with which the settings are refused."""
    with pytest.raises(Failure) as caught:
        prepare(model, ModelSettings("m", "/m", **settings), mapping or NameMapping())
    return caught.value.code


def test_without_settings_a_model_is_as_it_is() -> None:
    """Precision, shape and the default layout."""
    prepared = prepare(models.adder((-1, (2, 5))), ModelSettings("m", "/m"), NameMapping())
    (spec,) = prepared.inputs
    assert (spec.name, spec.precision, spec.layout) == ("b", Precision.FP32, Layout("N..."))
    assert spec.shape == Shape([ANY, Dim(2, 5)])


def test_a_layout_of_the_model_counts() -> None:
    """It says where the batch is, and whether pictures fit."""
    prepared = prepare(images("NCHW"), ModelSettings("m", "/m"), NameMapping())
    assert prepared.inputs[0].layout == Layout("NCHW")


def test_layout_comes_before_shape_and_batch() -> None:
    """``shape`` and ``batch_size`` speak of the tensor that clients send."""
    change = parse_layout("nhwc:nchw")
    assert shapes(images(), layout=change) == {"input": "(1,4,5,3)", "output": "(1,3,4,5)"}
    assert shapes(images(), layout=change, shape=parse_shape("(1,1,2,3)")) == {
        "input": "(1,1,2,3)",
        "output": "(1,3,1,2)",
    }
    assert shapes(images(), layout=change, batch_size=Dim.fixed(7))["input"] == "(7,4,5,3)"


def test_layouts_of_outputs() -> None:
    """An output is transposed by its name."""
    assert shapes(images(), layout={"output": parse_layout("NHWC:NCHW")})["output"] == "(1,4,5,3)"


def test_the_batch_may_be_in_second_place() -> None:
    """CN without a change says that the second dimension is the batch."""
    layout = {"b": parse_layout("cn"), "a": parse_layout("cn")}
    assert shapes(models.adder(), layout=layout, batch_size=Dim.fixed(4)) == {"b": "(1,4)", "a": "(1,4)"}
    assert shapes(models.adder(), layout=layout, batch_size=AUTO)["b"] == "(1,-1)"


def test_auto_leaves_dimensions_open() -> None:
    """No request reloads the model."""
    assert shapes(models.adder(), shape=AUTO) == {"b": "(-1,-1)", "a": "(-1,-1)"}
    assert shapes(two(), shape={"in1": AUTO})["in2"] == "(1,10)"
    assert shapes(models.adder(), batch_size=AUTO)["b"] == "(-1,10)"


def test_shape_beats_batch_size() -> None:
    """As in the reference, which warns of it."""
    assert shapes(models.adder(), shape=parse_shape("(2,5)"), batch_size=Dim.fixed(16))["b"] == "(2,5)"


def test_names_of_a_mapping_are_those_of_clients() -> None:
    """Settings have to use them, too."""
    mapping = NameMapping({"b": "in"}, {"a": "out", "none": "x"})
    assert shapes(models.adder(), mapping, shape={"in": parse_shape("(1,20)")}) == {"in": "(1,20)", "out": "(1,20)"}
    assert refusal(models.adder(), mapping, shape={"b": parse_shape("(1,20)")}) is Code.SHAPE_NAME_MAPPED
    assert refusal(models.adder(), mapping, layout={"a": parse_layout("NC")}) is Code.LAYOUT_NAME_MAPPED


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"shape": {"c": parse_shape("(1,20)")}}, Code.SHAPE_NAME_UNKNOWN),
        ({"layout": {"c": parse_layout("NC")}}, Code.LAYOUT_NAME_UNKNOWN),
        ({"shape": parse_shape("(1,5)")}, Code.ANONYMOUS_SHAPE),
        ({"layout": parse_layout("NC")}, Code.ANONYMOUS_LAYOUT),
        ({"layout": {"in1": parse_layout("NCHW")}}, Code.LAYOUT_INCOMPATIBLE),
        ({"layout": {"in1": parse_layout("NN")}}, Code.MODEL_LOAD),
        ({"layout": {"in1": parse_layout("NC:HW")}}, Code.MODEL_LOAD),
        ({"layout": {"in1": parse_layout("HW")}, "batch_size": Dim.fixed(2)}, Code.MODEL_LOAD),
        ({"shape": {"in1": parse_shape("(1,7)")}}, Code.RESHAPE),
    ],
)
def test_settings_that_a_model_cannot_take(settings: dict[str, Any], code: Code) -> None:
    """Each has its own code."""
    assert refusal(two(), **settings) is code


def test_a_scalar_has_no_batch() -> None:
    """A number of requests cannot be set on it, nor left open."""
    x = models.parameter("x", ())
    assert refusal(models.model([x], y=op.relu(x)), batch_size=Dim.fixed(3)) is Code.MODEL_LOAD
    x = models.parameter("x", ())
    assert refusal(models.model([x], y=op.relu(x)), batch_size=AUTO) is Code.BATCH_AUTO_OF_SCALAR


def test_outputs_without_a_name_get_one() -> None:
    """By position, as in the reference."""
    b = models.parameter("b", (1, 2))
    nameless = ov.Model([op.result(op.relu(b)), op.result(op.sigmoid(b))], [b], "m")
    for port in nameless.outputs:
        port.get_tensor().set_names(set())
    prepared = prepare(nameless, ModelSettings("m", "/m"), NameMapping())
    assert [spec.name for _, spec in prepared.outputs] == ["out_0", "out_1"]


def test_types_that_numpy_lacks_are_undefined() -> None:
    """They can be seen in the metadata, and not be sent."""
    prepared = prepare(models.passthrough((1, 2), "bf16"), ModelSettings("m", "/m"), NameMapping())
    assert prepared.inputs[0].precision is Precision.UNDEFINED
