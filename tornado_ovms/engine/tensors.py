"""Arrays to OpenVINO's tensors and back. Any thread may use this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import openvino as ov

from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    from tornado_ovms.core.tensors import TensorSpec

COPY_BYTES: Final = 16384
"""Arrays up to this size are copied into the request's own tensor (1 µs); wrapping a larger one costs about 20 µs instead."""


def is_small(spec: TensorSpec) -> bool:
    """Whether the request's own tensor is used, which needs a size that never changes."""
    dtype = spec.precision.dtype
    if dtype is None or spec.precision is Precision.STRING or not spec.shape.is_fixed:
        return False
    return dtype.itemsize * int(np.prod([dim.low for dim in spec.shape])) <= COPY_BYTES


def to_tensor(array: np.ndarray) -> ov.Tensor:
    """A tensor on the array's memory, without a copy; strings are copied."""
    if array.dtype != object:
        return ov.Tensor(array, shared_memory=True)
    tensor = ov.Tensor(ov.Type.string, ov.Shape(array.shape))
    if array.size:  # it refuses an empty list, and a string that is in none
        tensor.bytes_data = array.tolist() if array.ndim else [array.item()]
    return tensor


def to_array(tensor: ov.Tensor) -> np.ndarray:
    """An output's values, owned by the caller; strings as an object array of ``bytes``."""
    return _to_strings(tensor) if tensor.element_type == ov.Type.string else np.array(tensor.data)


def _to_strings(tensor: ov.Tensor) -> np.ndarray:
    if not tensor.size:  # OpenVINO looks for the longest string all the same, in memory that is not its own
        return np.empty(tensor.shape, object)
    strings: np.ndarray = tensor.bytes_data
    if strings.itemsize == 1:  # if all are empty it takes that byte out of such memory, too; the texts are right
        strings = np.where(tensor.str_data == "", b"", strings)
    return strings.astype(object)
