"""What a request to a stateful model says about its sequence: two inputs that the model itself does not have.

``SPECS`` describes them, ``read_step`` takes them out of a request. Names, values and sentences are the reference's
(``src/statefulmodelinstance.cpp``). Any thread.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Layout, Precision, Shape, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

ID: Final = "sequence_id"
CONTROL: Final = "sequence_control_input"

SPECS: Final[Mapping[str, TensorSpec]] = MappingProxyType({
    ID: TensorSpec(ID, Precision.U64, Shape.of([1]), Layout.default(1)),
    CONTROL: TensorSpec(CONTROL, Precision.U32, Shape.of([1]), Layout.default(1)),
})
"""Both inputs may be left out; the answer carries the first one, too."""


class Control(Enum):
    """What a request does with its sequence."""

    CONTINUE = 0
    START = 1
    END = 2


class Step(NamedTuple):
    """One request of a sequence; ``sequence`` 0 at the start lets the server choose the id."""

    sequence: int
    control: Control


def read_step(values: Mapping[str, Any]) -> Step:
    """The step that a request asks for.

    Args:
        values: of all inputs of the request, by name; arrays, or something else where the client sent text.

    Raises:
        Failure: SEQUENCE_INPUT_WITHOUT_SHAPE, SHAPE, SEQUENCE_ID_TYPE, SEQUENCE_CONTROL_TYPE, SEQUENCE_CONTROL_VALUE or
            SEQUENCE_ID_MISSING.
    """
    sequence = _read_one(values, ID, Code.SEQUENCE_ID_TYPE)
    number = _read_one(values, CONTROL, Code.SEQUENCE_CONTROL_TYPE)
    try:
        control = Control(number)
    except ValueError:
        raise Failure(
            Code.SEQUENCE_CONTROL_VALUE, f"Expected: 0 (go on), 1 (start), 2 (end); Actual: {number}"
        ) from None
    if control is not Control.START and not sequence:
        raise Failure(Code.SEQUENCE_ID_MISSING)
    return Step(sequence, control)


def _read_one(values: Mapping[str, Any], name: str, wrong_type: Code) -> int:
    """The one number of an input; 0 if it is not there."""
    value = values.get(name)
    if value is None:
        return 0
    if not isinstance(value, np.ndarray):
        raise Failure(wrong_type)
    if not value.ndim:
        raise Failure(Code.SEQUENCE_INPUT_WITHOUT_SHAPE, f"Required shape for {name} is: (1)")
    if value.shape != (1,):
        raise Failure(Code.SHAPE, f"Required shape for {name} is: (1)")
    return int(value[0])
