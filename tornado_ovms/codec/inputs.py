"""What a client sent against what a model takes: the checks, and the decoding of texts and pictures.

``accept`` holds the checks of the reference (``src/predict_request_validation_utils.hpp``), in its order; ``decode`` makes
arrays of all values. Both APIs share them. Any thread may call them; ``decode`` takes long when pictures are in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tornado_ovms.codec.encoded import Encoded
from tornado_ovms.codec.images import PictureBatch, decode_images
from tornado_ovms.core.graph import SHARDED
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.core.settings import Limits
    from tornado_ovms.core.tensors import TensorSpec

__all__ = ["Encoded", "accept", "decode"]

IMAGE_RANK: Final = 4
TEXT_RANK: Final = 2

MAX_TEXT_BYTES: Final = 1 << 30


def accept(specs: Mapping[str, TensorSpec], values: Mapping[str, np.ndarray | Encoded]) -> None:
    """Check that a request has what the model takes: names, numbers of dimensions, batch, sizes.

    Args:
        specs: the model's inputs.
        values: the request's, by name.

    Raises:
        Failure: NUMBER_OF_INPUTS, or for the first input in the order of names that does not fit: MISSING_INPUT,
            NUMBER_OF_DIMENSIONS, BATCH_SIZE, SHAPE, UNSUPPORTED_INPUT_PRECISION; for encoded values also
            ENCODED_VALUE_NOT_IMPLEMENTED and STRINGS_TOO_LARGE.
    """
    if len(values) != len(specs):
        raise Failure(Code.NUMBER_OF_INPUTS, f"Expected: {len(specs)}; Actual: {len(values)}")
    for name in sorted(specs) if len(specs) > 1 else specs:
        value = values.get(name)
        if value is None:
            raise Failure(Code.MISSING_INPUT, f"Required input: {name}")
        spec = specs[name]
        if isinstance(value, Encoded):
            _accept_encoded(spec, value)
        else:
            spec.accept(value.shape)
        if spec.precision is Precision.UNDEFINED:
            raise Failure(Code.UNSUPPORTED_INPUT_PRECISION, f"input name: {name}")


def decode(
    specs: Mapping[str, TensorSpec], values: Mapping[str, np.ndarray | Encoded], limits: Limits
) -> dict[str, np.ndarray]:
    """Arrays of the values that ``accept`` has accepted.

    Strings become an object array of ``bytes``, text for a two-dimensional u8 input rows that end in zeros, pictures an array
    (number, height, width, channels), or (number, 1, height, width, channels) if each is to be a request of its own.

    Raises:
        Failure: one of the codes for pictures (``codec.images``).
    """
    return {
        name: _decode(specs[name], value, limits) if isinstance(value, Encoded) else value
        for name, value in values.items()
    }


def begin_decoding(
    specs: Mapping[str, TensorSpec], values: Mapping[str, np.ndarray | Encoded], limits: Limits
) -> tuple[dict[str, np.ndarray], list[PictureBatch]]:
    """The same, but of several pictures for one input only the first is decoded.

    Returns:
        The arrays, and the batches whose other pictures have still to be placed in them.
    """
    batches = {
        name: PictureBatch(specs[name], value.values, limits)
        for name, value in values.items()
        if isinstance(value, Encoded) and _is_pictures(specs[name])
    }
    others = {name: value for name, value in values.items() if name not in batches}
    arrays = {name: batch.array for name, batch in batches.items()}
    return {**decode(specs, others, limits), **arrays}, list(batches.values())


def _accept_encoded(spec: TensorSpec, value: Encoded) -> None:
    if spec.precision is Precision.STRING:
        spec.accept(value.shape)
        _check_size(value)  # OpenVINO gives strings back as rows, too
        return
    is_text = _is_text(spec)
    if not (is_text or _is_for_pictures(spec)):
        detail = f"Expected: numbers; Actual: strings or base64; input name: {spec.name}"
        raise Failure(Code.ENCODED_VALUE_NOT_IMPLEMENTED, detail)
    if len(value.shape) != 1:
        detail = (
            f"Expected number of binary input shape dimensions: 1; Actual: {len(value.shape)}; input name: {spec.name}"
        )
        raise Failure(Code.NUMBER_OF_DIMENSIONS, detail)
    if not value.values:
        raise spec.refusal(Code.BATCH_SIZE, spec.shape[0], 0)
    if is_text:
        _accept_text(spec, value)
    elif not spec.shape[0].accepts(len(value.values)):
        raise spec.refusal(Code.BATCH_SIZE, spec.shape[0], len(value.values))


def _accept_text(spec: TensorSpec, value: Encoded) -> None:
    count, width = _check_size(value)
    batch, length = spec.shape
    if not batch.accepts(count):
        raise spec.refusal(Code.BATCH_SIZE, batch, count)
    if not length.accepts(width):
        raise Failure(
            Code.SHAPE,
            f"Expected batch size: {batch}; got: {count}; "
            f"Expected max null terminated string length: {length}; got: {width}; input name: {spec.name}",
        )


def _is_for_pictures(spec: TensorSpec) -> bool:
    """Whether an input has as many dimensions as pictures have; one more where a request is split into several."""
    rank = len(spec.shape)
    return rank == IMAGE_RANK or (rank == IMAGE_RANK + 1 and spec.layout.text.startswith(SHARDED))


def _is_text(spec: TensorSpec) -> bool:
    """Whether strings for this input become rows of bytes."""
    return spec.precision is Precision.U8 and len(spec.shape) == TEXT_RANK


def _is_pictures(spec: TensorSpec) -> bool:
    """Whether encoded values for this input are pictures."""
    return spec.precision is not Precision.STRING and not _is_text(spec)


def _width(value: Encoded) -> int:
    """The length of the longest string with the zero that ends it."""
    return max(map(len, value.values), default=0) + 1


def _check_size(value: Encoded) -> tuple[int, int]:
    """How many rows of bytes the strings would make, and how long ones.

    Raises:
        Failure: STRINGS_TOO_LARGE; a single long one among many short ones is enough for that.
    """
    count, width = len(value.values), _width(value)
    if count * width > MAX_TEXT_BYTES:
        raise Failure(Code.STRINGS_TOO_LARGE, f"; actual {count * width >> 20}MB (max 1GB)")
    return count, width


def _decode(spec: TensorSpec, value: Encoded, limits: Limits) -> np.ndarray:
    if spec.precision is Precision.STRING:
        strings = np.empty(len(value.values), object)
        strings[:] = value.values
        return strings.reshape(value.shape)
    if _is_text(spec):
        rows = np.zeros((len(value.values), _width(value)), np.uint8)
        for row, text in zip(rows, value.values, strict=True):
            row[: len(text)] = np.frombuffer(text, np.uint8)
        return rows
    return decode_images(spec, value.values, limits)
