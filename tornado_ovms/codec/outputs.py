"""Output arrays to JSON text.

orjson writes arrays directly: integers exactly, floats with the fewest digits that read back the same (float32 as float32).
Large arrays are written in slices, since orjson holds the GIL. Any thread may use this module.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from tornado_ovms.core.settings import NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.core.tensors import TensorSpec

SLICE_BYTES: Final = 1 << 18
"""So much of an array is written at once: 1 ms for float32."""

TEXT_RANK: Final = 2

_WORDS: Final[Mapping[NonFinite, tuple[bytes, bytes, bytes]]] = {
    NonFinite.LITERAL: (b"NaN", b"Infinity", b"-Infinity"),
    NonFinite.STRING: (b'"NaN"', b'"Infinity"', b'"-Infinity"'),
}


def present(spec: TensorSpec, values: np.ndarray, non_finite: NonFinite) -> np.ndarray:
    """An output as it is written: strings, and rows of text whose name ends in ``_string``, as an object array.

    Bytes that are not UTF-8 become replacement characters, except in outputs whose name ends in ``_bytes``: these are written
    as base64 (``{"b64": "..."}``), as TensorFlow Serving does.

    Raises:
        Failure: UNSUPPORTED_OUTPUT_PRECISION; NON_FINITE if such values are to be an error.
    """
    if spec.precision.dtype is None:
        raise Failure(Code.UNSUPPORTED_OUTPUT_PRECISION, f"output name: {spec.name}")
    if spec.precision is Precision.STRING:
        write = _to_base64 if spec.name.endswith("_bytes") else _to_text
        return _object_array([write(value) for value in values.ravel().tolist()]).reshape(values.shape)
    if spec.precision is Precision.U8 and values.ndim == TEXT_RANK and spec.name.endswith("_string"):
        return _object_array([_to_text(row.tobytes().partition(b"\0")[0]) for row in values])
    if non_finite is NonFinite.ERROR:
        check_finite(spec.name, values)
    return np.ascontiguousarray(values) if values.ndim else values


def _object_array(values: list[Any]) -> np.ndarray:
    result = np.empty(len(values), object)
    result[:] = values
    return result


def _to_text(value: bytes) -> str:
    return value.decode(errors="replace")


def _to_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def check_finite(name: str, values: np.ndarray) -> None:
    """Refuse NaN and the infinities.

    Raises:
        Failure: NON_FINITE, with the position of the first one.
    """
    if values.dtype.kind != "f":
        return
    odd = ~np.isfinite(values)
    if odd.any():
        place = np.unravel_index(int(odd.argmax()), values.shape)
        position = ",".join(map(str, place))
        raise Failure(Code.NON_FINITE, f"output name: {name}; position: [{position}]; Actual: {values[place]}")


def dump(values: Any, non_finite: NonFinite) -> bytes:
    """JSON of an array, or of what indexing one gives."""
    if isinstance(values, np.ndarray):
        if values.dtype == object:
            return orjson.dumps(values.tolist())
        if not values.ndim:
            values = values[()]
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    words = _WORDS.get(non_finite)
    if words is None or b"null" not in text or not isinstance(values, np.ndarray | np.floating):
        return text
    flat = np.ravel(values)
    odd = flat[~np.isfinite(flat)]
    nan, positive, negative = words
    pieces = text.split(b"null")
    for index, value in enumerate(odd.tolist()):
        pieces[index] += nan if value != value else positive if value > 0 else negative  # noqa: PLR0124
    return b"".join(pieces)


def dump_slices(values: Any, non_finite: NonFinite) -> list[bytes]:
    """The same in pieces, each of about ``SLICE_BYTES`` of a large array."""
    if not isinstance(values, np.ndarray) or values.nbytes <= SLICE_BYTES:
        return [dump(values, non_finite)]
    rows = SLICE_BYTES * len(values) // values.nbytes
    pieces = [b"["]
    for start in range(0, len(values), rows or 1):
        if start:
            pieces.append(b",")
        if rows:
            pieces.append(dump(values[start : start + rows], non_finite)[1:-1])
        else:
            pieces += dump_slices(values[start], non_finite)
    pieces.append(b"]")
    return pieces
