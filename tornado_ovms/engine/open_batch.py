"""A model with its batch left open, so that the requests of several clients fit into one inference; and whether it may be.

``open_batch`` looks at shapes, ``check_rows`` at numbers. Both are called in a loader thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import openvino as ov

from tornado_ovms.core.batching import BatchAxes
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Shape
from tornado_ovms.engine.pool import reason
from tornado_ovms.engine.quick import FLOATS, run, time_inference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.preparation import Prepared

TRIED: Final = (2, 3)
"""The batches with which the shapes of outputs are looked at: so many have to come out as go in."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that takes any batch, as ``Prepared``, and where the batch is."""

    prepared: Prepared
    axes: BatchAxes


def open_batch(prepared: Prepared, max_batch: int) -> Opened:
    """The same model with any batch.

    The shape is open to both sides: OpenVINO infers no quicker on the CPU if it knows the largest batch, and a request that
    has more rows has to go through, too. Nor are batches filled up to a few sizes: the first inference of a new size costs
    1 to 10 ms, once, an empty row costs as much as any other, each time.

    Raises:
        Failure: BATCHING, with the tensor that cannot be joined or split.
    """
    inputs, outputs = prepared.inputs, [spec for _, spec in prepared.outputs]
    axes = BatchAxes({spec.name: _axis("input", spec) for spec in inputs}, [_axis("output", spec) for spec in outputs])
    least = max(spec.shape[axes.inputs[spec.name]].low for spec in inputs)
    if 2 * least > max_batch:
        raise Failure(Code.BATCHING, f"a request has at least {least} rows: max_batch {max_batch} joins no two of them")
    _check_shapes(prepared, axes)
    model = prepared.model.clone()
    _reshape(model, inputs, axes, -1)
    opened = [replace(spec, shape=_with_any(spec.shape, axes.inputs[spec.name])) for spec in inputs]
    return Opened(replace(prepared, model=model, inputs=opened), axes)


def _axis(side: str, spec: TensorSpec) -> int:
    axis = spec.batch_axis
    if axis is None:
        raise Failure(
            Code.BATCHING, f"{side} {spec.name} of shape {spec.shape} and layout {spec.layout.text} has no batch axis"
        )
    return axis


def _with_any(shape: Shape, axis: int) -> Shape:
    return Shape([*shape[:axis], ANY, *shape[axis + 1 :]])


def _reshape(model: ov.Model, inputs: Sequence[TensorSpec], axes: BatchAxes, batch: int) -> None:
    """Give all inputs that batch; -1 is any."""
    shapes = {}
    for index, (port, spec) in enumerate(zip(model.inputs, inputs, strict=True)):
        shape = port.partial_shape
        shape[axes.inputs[spec.name]] = ov.Dimension(batch)
        shapes[index] = shape
    try:
        model.reshape(shapes)
    except Exception as error:
        size = "any batch" if batch < 0 else f"a batch of {batch}"
        raise Failure(Code.BATCHING, f"the model does not take {size}: {reason(error)}") from error


def _check_shapes(prepared: Prepared, axes: BatchAxes) -> None:
    """Refuse a model of which an output does not have as many rows as the inputs."""
    model = prepared.model.clone()
    for batch in TRIED:
        _reshape(model, prepared.inputs, axes, batch)
        for (index, spec), axis in zip(prepared.outputs, axes.outputs, strict=True):
            found = model.outputs[index].partial_shape
            if found.rank.is_dynamic or found.rank.get_length() <= axis or found[axis] != ov.Dimension(batch):
                raise Failure(
                    Code.BATCHING,
                    f"output {spec.name} has shape {found} for {batch} rows: expected as many on axis {axis}",
                )


def time_rows(request: ov.InferRequest, opened: Opened, rows: int) -> float:
    """Seconds that an inference of so many rows of zeros takes; infinity if it cannot be told (see ``quick``)."""
    specs = opened.prepared.inputs
    if not all(spec.precision in FLOATS for spec in specs):
        return math.inf
    for index, spec in enumerate(specs):
        axis = opened.axes.inputs[spec.name]
        sizes = [rows if i == axis else dim.low or 1 for i, dim in enumerate(spec.shape)]
        request.set_input_tensor(index, ov.Tensor(np.zeros(sizes, spec.precision.dtype)))
    return time_inference(request)


def check_rows(request: ov.InferRequest, opened: Opened) -> None:
    """Refuse a model in which a row changes what another one gives, such as one that subtracts the mean of the batch.

    Two batches of two rows, of which the first is the same, are inferred: what comes of that row has to be the same, bit for
    bit, since nothing else differs. A model that is not deterministic, or does not take such numbers, cannot be told of; nor
    can one of integers, on which it may end the process (see ``quick``).

    Raises:
        Failure: BATCHING, with the output.
    """
    specs = opened.prepared.inputs
    if not all(spec.precision in FLOATS for spec in specs):
        return
    generator = np.random.default_rng(0)
    arrays, others = {}, {}
    for index, spec in enumerate(specs):
        axis = opened.axes.inputs[spec.name]
        sizes = [2 if i == axis else dim.low or 1 for i, dim in enumerate(spec.shape)]
        arrays[index] = generator.standard_normal(sizes).astype(spec.precision.dtype)
        others[index] = arrays[index].copy()
        np.moveaxis(others[index], axis, 0)[1] *= 3
    try:
        first, second, again = (_first_rows(request, opened, inputs) for inputs in (arrays, others, arrays))
    except Exception:  # noqa: BLE001 - see above; requests will tell
        return
    for (_, spec), one, other, once_more in zip(opened.prepared.outputs, first, second, again, strict=True):
        if np.array_equal(one, once_more) and not np.array_equal(one, other):
            raise Failure(Code.BATCHING, f"output {spec.name}: what a row gives depends on the other rows of its batch")


def _first_rows(request: ov.InferRequest, opened: Opened, inputs: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """The bytes of the first row of each output: NaN equals itself then."""
    for index, array in inputs.items():
        request.set_input_tensor(index, ov.Tensor(array))
    run(request)
    return [
        np.frombuffer(request.get_output_tensor(index).data.take(0, axis).tobytes(), np.uint8)
        for (index, _), axis in zip(opened.prepared.outputs, opened.axes.outputs, strict=True)
    ]
