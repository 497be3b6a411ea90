"""Pictures to arrays, in the layout, precision and size that an input wants.

The rules are the reference's (``src/tensor_conversion.hpp``, ``src/tensor_conversion_common.cpp``): OpenCV decodes, colours
come as BGR or BGRA, nothing is converted between colours or scaled; first the precision is changed, then the size. Any thread
may call it; the pixels are decoded without the GIL.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np

from tornado_ovms.codec.image_size import FORMATS, find_size
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Layout, Precision, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado_ovms.core.settings import Limits
    from tornado_ovms.core.tensors import Dim, TensorSpec

PICTURES: Final = Layout("N...HWC")
PICTURES_RANK: Final = 4
"""Of a tensor that has just these dimensions."""

_RESIZED: Final = frozenset({"NHWC", "N?HWC", "..."})
"""Layouts whose pictures are brought to the input's size; notably not ``N...``, which a tensor has by default."""

_NO_NUMBERS: Final = frozenset({Precision.BOOL, Precision.STRING, Precision.UNDEFINED})

_RESIZABLE: Final = frozenset(map(np.dtype, (np.uint8, np.uint16, np.int16, np.float32, np.float64)))
"""What ``cv2.resize`` interpolates; other precisions take a detour through a float that holds them."""


class _Frame(NamedTuple):
    """What all pictures of a request become: that size, that many channels; without resizing they have to be so already."""

    height: int
    width: int
    channels: int
    is_resized: bool


def decode_images(spec: TensorSpec, pictures: Sequence[bytes], limits: Limits) -> np.ndarray:
    """Decode pictures for an input, one after the other; see ``PictureBatch``."""
    batch = PictureBatch(spec, pictures, limits)
    for index in batch.rest:
        batch.place(index)
    return batch.array


class PictureBatch:
    """Pictures for an input, of which the first is decoded at once: it says what the others have to be.

    Dimensions of the input between the number of the pictures and their height become 1.

    ``place`` decodes another one, and may be called for several at a time in threads.

    Attributes:
        array: (number, ..., height, width, channels), of the input's dtype; complete when all of ``rest`` have been placed.
        rest: positions of the pictures that are still to be placed.

    Args:
        spec: the input; that it takes so many pictures has been checked.
        pictures: files in one of the known formats, at least one.
        limits: ``image_pixels`` is how many pixels one picture may have, told by its header before any are allocated; the
            array is not larger than a body may be.

    Raises:
        Failure: IMAGE_LAYOUT, IMAGE_EMPTY, or for the picture that is wrong IMAGE_UNREADABLE, IMAGE_TOO_LARGE,
            IMAGE_RESOLUTION, IMAGE_CHANNELS, PRECISION, SHAPE.
    """

    def __init__(self, spec: TensorSpec, pictures: Sequence[bytes], limits: Limits) -> None:
        if not spec.layout.agrees_with(PICTURES, len(spec.shape)):
            raise Failure(Code.IMAGE_LAYOUT, f"Expected: {PICTURES}; Actual: {spec.layout}; input name: {spec.name}")
        if b"" in pictures:
            raise Failure(Code.IMAGE_EMPTY, _where(spec, pictures.index(b"")))
        self._spec = spec
        self._pictures = pictures
        self._limits = limits
        first = _decode(pictures[0], limits.image_pixels, _where(spec, 0))
        self._frame = frame = _choose_frame(spec, first)
        sizes = _sizes(spec, frame, len(pictures))
        _check(spec, frame, first, len(pictures), 0)
        dtype = np.dtype(spec.precision.dtype)
        if math.prod(sizes) * dtype.itemsize > limits.body_bytes:
            raise Failure(
                Code.IMAGE_TOO_LARGE,
                f"Expected: at most {limits.body_bytes} bytes for all pictures together; "
                f"Actual: {math.prod(sizes) * dtype.itemsize}; input name: {spec.name}",
            )
        self.array = np.empty(sizes, dtype)
        self.array[0] = _fit(first, dtype, frame)
        self.rest = range(1, len(pictures))

    def place(self, index: int) -> None:
        """Decode a picture into its place."""
        picture = _decode(self._pictures[index], self._limits.image_pixels, _where(self._spec, index))
        _check(self._spec, self._frame, picture, len(self._pictures), index)
        self.array[index] = _fit(picture, self.array.dtype, self._frame)


def _where(spec: TensorSpec, index: int) -> str:
    return f"input name: {spec.name}; position: [{index}]"


def _decode(data: bytes, max_pixels: int, where: str) -> np.ndarray:
    """The pixels of a picture: height, width, channels."""
    size = find_size(data)
    if size is None:
        raise Failure(Code.IMAGE_UNREADABLE, f"Expected: a picture ({FORMATS}); {where}")
    if size.width * size.height > max_pixels:
        raise Failure(
            Code.IMAGE_TOO_LARGE, f"Expected: at most {max_pixels}; Actual: {size.width} x {size.height}; {where}"
        )
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        picture = None
    if picture is None:
        raise Failure(Code.IMAGE_UNREADABLE, where)
    return picture.reshape(*picture.shape[:2], -1)


def _choose_frame(spec: TensorSpec, first: np.ndarray) -> _Frame:
    """The sizes that the input and the first picture ask for."""
    height, width, channels = first.shape
    if spec.layout.text not in _RESIZED or any(dim.high is None for dim in spec.shape):
        return _Frame(height, width, channels, is_resized=False)
    rows, columns, _ = spec.shape[-3:]
    return _Frame(_nearest(rows, height), _nearest(columns, width), channels, is_resized=True)


def _sizes(spec: TensorSpec, frame: _Frame, count: int) -> tuple[int, ...]:
    """Those of an array of so many pictures."""
    ones = (1,) * (len(spec.shape) - PICTURES_RANK)
    return (count, *ones, frame.height, frame.width, frame.channels)


def _nearest(dim: Dim, size: int) -> int:
    """The size that the dimension has, or may have and is nearest."""
    return min(max(size, dim.low), size if dim.high is None else dim.high)


def _check(spec: TensorSpec, frame: _Frame, picture: np.ndarray, count: int, index: int) -> None:
    """Refuse a picture that cannot become part of the batch."""
    height, width, channels = picture.shape
    if not frame.is_resized and (height, width) != (frame.height, frame.width):
        raise Failure(
            Code.IMAGE_RESOLUTION,
            f"Expected: {frame.width} x {frame.height}; Actual: {width} x {height}; {_where(spec, index)}",
        )
    if not spec.shape[-1].accepts(channels) or channels != frame.channels:
        expected = frame.channels if spec.shape[-1].accepts(channels) else spec.shape[-1]
        raise Failure(Code.IMAGE_CHANNELS, f"Expected: {expected}; Actual: {channels}; {_where(spec, index)}")
    if spec.precision in _NO_NUMBERS:
        raise Failure(Code.PRECISION, f"Expected: {spec.precision.value}; Actual: a picture; {_where(spec, index)}")
    sizes = _sizes(spec, frame, count)
    if not spec.shape.accepts(sizes):
        raise spec.refusal(Code.SHAPE, spec.shape, Shape.of(sizes))


def _fit(picture: np.ndarray, dtype: np.dtype[Any], frame: _Frame) -> np.ndarray:
    """The picture in the precision and size wanted."""
    values = _saturate(picture, dtype)
    if values.shape[:2] == (frame.height, frame.width):
        return values
    if not (frame.height and frame.width):
        return np.empty((frame.height, frame.width, frame.channels), dtype)
    if dtype not in _RESIZABLE:
        values = values.astype(np.float32 if dtype == np.float16 else np.float64)
    # Pictures with one channel come back without their last dimension.
    resized = cv2.resize(values, (frame.width, frame.height)).reshape(frame.height, frame.width, frame.channels)
    return _saturate(resized, dtype)


def _saturate(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """As OpenCV's ``convertTo``: rounded to the nearest, and to the nearest border if out of range."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype, copy=False)
    if np.can_cast(values.dtype, dtype):
        return values.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    if values.dtype.kind != "f":
        return np.clip(values.astype(np.int64), info.min, min(info.max, 2**63 - 1)).astype(dtype)
    top = float(info.max)
    highest = top if int(top) == info.max else float(np.nextafter(top, 0))
    return np.clip(np.rint(np.nan_to_num(values.astype(np.float64))), float(info.min), highest).astype(dtype)
