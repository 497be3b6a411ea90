"""A model made ready to compile: names, layout, shape and batch as the settings say.

``prepare`` takes a model as read and gives back the model that is compiled, with the specification of each input and
output as clients see it. The order of work is the reference's (``src/modelinstance.cpp``): layout first, then shape,
then batch, so that ``shape`` and ``batch_size`` speak of the tensor after the change of layout.

Called in a loader thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openvino as ov
from openvino import layout_helpers
from openvino.preprocess import PrePostProcessor

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import (
    ANY,
    AUTO,
    INT32_MAX,
    Auto,
    Dim,
    Layout,
    LayoutChange,
    Precision,
    Shape,
    TensorSpec,
)
from tornado_ovms.engine.pool import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado_ovms.core.model_files import NameMapping
    from tornado_ovms.core.settings import ModelSettings

PRECISIONS: Mapping[str, Precision] = {
    "f16": Precision.FP16,
    "f32": Precision.FP32,
    "f64": Precision.FP64,
    "i8": Precision.I8,
    "i16": Precision.I16,
    "i32": Precision.I32,
    "i64": Precision.I64,
    "u8": Precision.U8,
    "u16": Precision.U16,
    "u32": Precision.U32,
    "u64": Precision.U64,
    "boolean": Precision.BOOL,
    "string": Precision.STRING,
}
"""Precisions by OpenVINO's name of the element type; others cannot be exchanged with clients."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model to compile, and what clients see of it.

    ``outputs`` come with their index in the model: of several outputs with one name only the first is answered.
    """

    model: ov.Model
    inputs: Sequence[TensorSpec]
    outputs: Sequence[tuple[int, TensorSpec]]


def prepare(model: ov.Model, settings: ModelSettings, mapping: NameMapping) -> Prepared:
    """Apply names, layout, shape and batch size.

    Raises:
        Failure: names in the settings that the model lacks, or forms that it cannot take.
    """
    if not model.inputs or not model.outputs:
        raise Failure(Code.MODEL_LOAD, f"Cannot load model with no {'outputs' if model.inputs else 'inputs'}")
    names = _Names.of(model, mapping)
    shapes = names.by_index(settings.shape, (names.inputs,), _SHAPE_CODES)
    layouts = names.by_index(settings.layout, (names.inputs, names.outputs), _LAYOUT_CODES)
    model, input_layouts, output_layouts = _change_layouts(model, *layouts)
    _reshape(model, shapes[0], settings.shape)
    if settings.batch_size is not None and settings.shape is None:
        _set_batch(model, input_layouts, settings.batch_size)
    inputs = [_spec(*each) for each in zip(names.inputs, model.inputs, input_layouts, strict=True)]
    outputs = [_spec(*each) for each in zip(names.outputs, model.outputs, output_layouts, strict=True)]
    first = {spec.name: (index, spec) for index, spec in reversed(list(enumerate(outputs)))}
    return Prepared(model, inputs, sorted(first.values(), key=lambda item: item[0]))


@dataclass(frozen=True, slots=True)
class _Codes:
    """The refusals that ``shape`` and ``layout`` have each of their own."""

    unknown: Code
    mapped: Code
    anonymous: Code


_SHAPE_CODES = _Codes(Code.SHAPE_NAME_UNKNOWN, Code.SHAPE_NAME_MAPPED, Code.ANONYMOUS_SHAPE)
_LAYOUT_CODES = _Codes(Code.LAYOUT_NAME_UNKNOWN, Code.LAYOUT_NAME_MAPPED, Code.ANONYMOUS_LAYOUT)


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that clients use, in the model's order, and the model's own names that a mapping hides."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    hidden: frozenset[str]

    @classmethod
    def of(cls, model: ov.Model, mapping: NameMapping) -> _Names:
        inputs = [_own_name(port, f"in_{i}", mapping.inputs) for i, port in enumerate(model.inputs)]
        outputs = [_own_name(port, f"out_{i}", mapping.outputs) for i, port in enumerate(model.outputs)]
        new = [mapping.inputs.get(name, name) for name in inputs], [mapping.outputs.get(name, name) for name in outputs]
        hidden = frozenset([*inputs, *outputs]) - {*new[0], *new[1]}
        return cls(*new, hidden)

    def by_index(self, setting: Any, sides: Sequence[Sequence[str]], codes: _Codes) -> list[dict[int, Any]]:
        """The values of a setting by the position of the tensor, for each side (inputs, or inputs and outputs)."""
        found: list[dict[int, Any]] = [{} for _ in sides]
        if setting is None:
            return found
        if setting is AUTO:
            return [dict.fromkeys(range(len(side)), AUTO) for side in sides]
        if not isinstance(setting, Mapping):
            if len(self.inputs) > 1:
                raise Failure(codes.anonymous, f"the inputs are {', '.join(self.inputs)}; name them")
            found[0][0] = setting
            return found
        for name, value in setting.items():
            places = [(side, i) for side, known in enumerate(sides) for i, each in enumerate(known) if each == name]
            if not places:
                known = ", ".join(each for side in sides for each in side)
                code = codes.mapped if name in self.hidden else codes.unknown
                raise Failure(code, f"{name!r} is not one of {known}")
            for side, index in places:
                found[side][index] = value
        return found


def _own_name(port: ov.Output, otherwise: str, mapping: Mapping[str, str]) -> str:
    """The model's name of a tensor; of several the one that is mapped, else the first in alphabetical order."""
    names = sorted(port.names)
    return next((name for name in names if name in mapping), names[0] if names else otherwise)


def _stored_layout(port: ov.Output) -> Layout:
    """The layout that the model file gives a tensor, or the default."""
    text = str(layout_helpers.get_layout(port)).strip("[]").replace(",", "")
    return Layout(text) if text != "..." else Layout.default(len(_shape(port.partial_shape)))


def _change_layouts(
    model: ov.Model, inputs: Mapping[int, LayoutChange], outputs: Mapping[int, LayoutChange]
) -> tuple[ov.Model, list[Layout], list[Layout]]:
    """Build wanted transpositions into the model; the layouts of inputs and outputs as clients see them."""
    input_layouts = [_stored_layout(port) for port in model.inputs]
    output_layouts = [_stored_layout(port) for port in model.outputs]
    if not inputs and not outputs:
        return model, input_layouts, output_layouts
    for ports, changes in ((model.inputs, inputs), (model.outputs, outputs)):
        for index, change in changes.items():
            _check_rank(ports[index], change)
    try:
        change_of = PrePostProcessor(model)
        for wanted, layouts, side in (
            (inputs, input_layouts, change_of.input),
            (outputs, output_layouts, change_of.output),
        ):
            for index, change in wanted.items():
                side(index).tensor().set_layout(ov.Layout(change.tensor.text))
                side(index).model().set_layout(ov.Layout(change.model.text))
                layouts[index] = change.tensor
        return change_of.build(), input_layouts, output_layouts
    except Exception as error:
        raise Failure(Code.MODEL_LOAD, f"layout: {reason(error)}") from error


def _check_rank(port: ov.Output, change: LayoutChange) -> None:
    shape = _shape(port.partial_shape)
    for layout in (change.tensor, change.model):
        if layout.named(len(shape)) is None:
            raise Failure(Code.LAYOUT_INCOMPATIBLE, f"layout {layout} and shape {shape}")


def _reshape(model: ov.Model, shapes: Mapping[int, Shape | Auto], setting: object) -> None:
    """Give the inputs their shapes; ``auto`` leaves every dimension open."""
    wanted = {}
    for index, shape in shapes.items():
        port = model.inputs[index]
        dims = Shape([ANY] * len(_shape(port.partial_shape))) if isinstance(shape, Auto) else shape
        wanted[port] = _partial_shape(dims)
    if wanted:
        _try_reshape(model, wanted, Code.RESHAPE, f"shape {setting}")


def _set_batch(model: ov.Model, layouts: Sequence[Layout], batch: Dim | Auto) -> None:
    """Set the dimension called N of every input (as ``ov::set_batch`` does, which has no ``auto``)."""
    dim = ANY if isinstance(batch, Auto) else batch
    wanted = {}
    for port, layout in zip(model.inputs, layouts, strict=True):
        shape = list(_shape(port.partial_shape))
        axis = layout.batch_axis(len(shape))
        if not shape and isinstance(batch, Auto):
            raise Failure(Code.BATCH_AUTO_OF_SCALAR, f"input {port.any_name}")
        if axis is None:
            raise Failure(Code.MODEL_LOAD, f"batch_size: input {port.any_name} with layout {layout} has no batch")
        shape[axis] = dim
        wanted[port] = _partial_shape(Shape(shape))
    _try_reshape(model, wanted, Code.MODEL_LOAD, f"batch_size {batch}")


def _try_reshape(model: ov.Model, wanted: Mapping[ov.Output, ov.PartialShape], code: Code, setting: str) -> None:
    try:
        model.reshape(wanted)
    except Exception as error:
        raise Failure(code, f"{setting}: {reason(error)}") from error


def _partial_shape(shape: Shape) -> ov.PartialShape:
    return ov.PartialShape([ov.Dimension(dim.low, -1 if dim.high is None else dim.high) for dim in shape])


def _shape(partial: ov.PartialShape) -> Shape:
    """Our form of OpenVINO's shape.

    Raises:
        Failure: MODEL_LOAD if not even the number of dimensions is known: no request could be checked against that.
    """
    if partial.rank.is_dynamic:
        raise Failure(Code.MODEL_LOAD, "a tensor has no fixed number of dimensions; give it a shape")
    return Shape(Dim(dim.min_length, _bound(dim.max_length)) for dim in partial)


def _bound(length: int) -> int | None:
    """An upper bound; some of OpenVINO's front ends write the largest int32 where they mean that there is none."""
    return length if 0 <= length < INT32_MAX else None


def _spec(name: str, port: ov.Output, layout: Layout) -> TensorSpec:
    precision = PRECISIONS.get(port.element_type.get_type_name(), Precision.UNDEFINED)
    return TensorSpec(name, precision, _shape(port.partial_shape), layout)
