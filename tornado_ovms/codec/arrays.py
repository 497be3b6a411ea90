"""JSON values to arrays: nested lists, proven rectangular, in the precision that an input wants.

``read`` takes what ``codec.document`` parsed, be it Python lists or ``Numbers``, and gives an array or, for strings and base64,
``Encoded``. Rules of the reference (``src/rest_parser.cpp``): numbers for a float input are cast, those for an integer input are
cut towards zero. Where it wraps, loses digits or refuses, this does not: integers are exact and in range, booleans and all
precisions are taken. Any thread may call it.
"""

from __future__ import annotations

import json
import math
from array import array
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from tornado_ovms.codec.encoded import Encoded, decode_base64, is_base64
from tornado_ovms.codec.numeric import MAX_RANK, Numbers
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODES: Final = {
    Precision.FP16: "d",
    Precision.FP32: "f",
    Precision.FP64: "d",
    Precision.I8: "b",
    Precision.I16: "h",
    Precision.I32: "i",
    Precision.I64: "q",
    Precision.U8: "B",
    Precision.U16: "H",
    Precision.U32: "I",
    Precision.U64: "Q",
}
"""Type codes of Python's ``array``, which unlike numpy never wraps an integer, in any release, and is silent about 1e39."""

_FLOATS: Final = frozenset({Precision.FP16, Precision.FP32, Precision.FP64})

_LIST: Final = frozenset({list})
_INTEGER: Final = frozenset({int})
_NUMBER: Final = frozenset({int, float})
_BOOLEAN: Final = frozenset({bool})
_BASE64: Final = frozenset({dict})
_TEXT: Final = frozenset({str, dict})
_STRING: Final = frozenset({str})

_EXACT: Final = 2.0**53
"""Below it every integer is a double."""

_INT64_MIN: Final = -(2**63)


def read(value: Any, name: str, precision: Precision, code: Code) -> np.ndarray | Encoded:
    """Read the value of an input.

    Args:
        value: a number, string, boolean, ``{"b64": "..."}``, ``Numbers``, or lists of them.
        name: the input's, for messages.
        precision: the input's; for one that numpy does not know numbers are read as float64.
        code: of the failure.

    Returns:
        An array of the precision's dtype, C-contiguous and writeable; or ``Encoded``.

    Raises:
        Failure: with the code; it names the input and the position of what cannot be read.
    """
    if precision is Precision.UNDEFINED:
        precision = Precision.FP64
    numbers = _read_numbers(value, precision)
    if numbers is not None:
        return numbers
    place = _Place(name, precision, code)
    shape, leaves, kinds = _flatten(value, place)
    if kinds <= _NUMBER and precision in _CODES:
        return _read_leaves(leaves, kinds, shape, place)
    if kinds <= _BOOLEAN and precision is Precision.BOOL:
        return np.array(leaves, np.bool_).reshape(shape)
    if kinds <= place.texts:
        return Encoded(tuple(_read_text(leaf, index, shape, place) for index, leaf in enumerate(leaves)), tuple(shape))
    return place.refuse_kind(leaves, shape)


def read_flat(value: Any, name: str, precision: Precision, code: Code) -> np.ndarray | Encoded:
    """Read the values of an input whose shape is told apart: lists may be nested in any way, their values count in order.

    Args:
        value: ``Numbers``, or a list.
        name: the input's, for messages.
        precision: of the values. Those of an integer precision are written as integers, unlike in ``read``.
        code: of the failure.

    Returns:
        As ``read``, of one dimension; ``Encoded`` for strings only.

    Raises:
        Failure: as ``read``.
    """
    if type(value) is Numbers and precision in _CODES:
        numbers = _convert(value, precision, only_integers=True)
        if numbers is not None:
            return numbers.reshape(-1)
    place = _Place(name, precision, code)
    leaves = _leaves(value)
    kinds = set(map(type, leaves))
    shape = [len(leaves)]
    if precision is Precision.STRING and kinds <= _STRING:
        return Encoded(tuple(map(_encode, leaves)), (len(leaves),))
    if precision is Precision.BOOL and kinds <= _BOOLEAN:
        return np.array(leaves, np.bool_)
    if precision in _CODES and kinds <= (_NUMBER if precision in _FLOATS else _INTEGER):
        return _read_leaves(leaves, kinds, shape, place)
    wanted = {Precision.STRING: _STRING, Precision.BOOL: _BOOLEAN}.get(precision)
    wanted = wanted or (_NUMBER if precision in _FLOATS else _INTEGER)
    index = next(index for index, leaf in enumerate(leaves) if type(leaf) not in wanted)
    return place.refuse(place.expected, leaves[index], index, shape)


def _leaves(value: Any) -> list[Any]:
    """The values of nested lists, in order."""
    leaves, pending = [], [value]
    while pending:
        each = pending.pop()
        if type(each) is Numbers:
            each = each.tolist()
        if type(each) is list:
            pending.extend(reversed(each))
        else:
            leaves.append(each)
    return leaves


class _Place:
    """What is being read, and the refusal of what cannot be."""

    __slots__ = ("code", "name", "precision")

    def __init__(self, name: str, precision: Precision, code: Code) -> None:
        self.name = name
        self.precision = precision
        self.code = code

    @property
    def texts(self) -> frozenset[type]:
        """The types of encoded values; only some inputs take plain strings."""
        return _TEXT if self.precision in (Precision.STRING, Precision.U8) else _BASE64

    def refuse(self, expected: str, actual: object, index: int, shape: Sequence[int]) -> NoReturn:
        """Refuse the value at that index of the flattened list of that shape."""
        detail = f"Expected: {expected}; Actual: {_describe(actual)}; input name: {self.name}"
        if shape:
            detail += f"; position: [{','.join(map(str, np.unravel_index(index, shape)))}]"
        raise Failure(self.code, detail)

    def refuse_kind(self, values: Sequence[Any], shape: Sequence[int]) -> NoReturn:
        """Refuse the first of several values that is neither what the input takes nor of the first one's kind."""
        first = values[0]
        kinds: frozenset[type]
        if type(first) is list:
            expected, kinds = f"a list of {len(first)}", _LIST
        elif self.precision is Precision.STRING or (
            type(first) in self.texts and (type(first) is str or is_base64(first))
        ):
            expected, kinds = _EXPECTED_TEXT, self.texts
        elif self.precision is Precision.BOOL:
            expected, kinds = "true or false", _BOOLEAN
        else:
            expected, kinds = self.expected_number, _NUMBER
        index = next(index for index, value in enumerate(values) if type(value) not in kinds)
        self.refuse(expected, values[index], index, shape)

    @property
    def expected(self) -> str:
        """What a flat input takes, in words."""
        if self.precision is Precision.STRING:
            return "a string"
        return "true or false" if self.precision is Precision.BOOL else self.expected_number

    @property
    def expected_number(self) -> str:
        """What the input takes, in words."""
        if self.precision in _FLOATS:
            return "a number"
        low, high = _bounds(self.precision)
        return f"a number from {low} to {high} ({self.precision.value})"


_EXPECTED_TEXT: Final = 'a string or {"b64": "..."}'


def _describe(value: object) -> str:
    """A JSON value in a message: containers by their kind, strings too, as they may be long or secret."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return "a string"
    return json.dumps(value)


def _bounds(precision: Precision) -> tuple[int, int]:
    """The smallest and the largest integer of a precision."""
    info = np.iinfo(precision.dtype)
    return int(info.min), int(info.max)


def _flatten(value: Any, place: _Place) -> tuple[list[int], list[Any], set[type]]:
    """The shape of nested lists, the values in them, and the types of the values.

    Values of several types, lists among them, are left to the caller, with the shape down to them.
    """
    shape: list[int] = []
    level = [value]
    while True:
        kinds = set(map(type, level))
        if Numbers in kinds:
            level = [each.tolist() if type(each) is Numbers else each for each in level]
            kinds = set(map(type, level))
        if kinds != _LIST:
            return shape, level, kinds
        sizes = set(map(len, level))
        if len(sizes) > 1:
            first = len(level[0])
            index = next(index for index, each in enumerate(level) if len(each) != first)
            place.refuse(f"a list of {first}", level[index], index, shape)
        if len(shape) == MAX_RANK:
            place.refuse(f"at most {MAX_RANK} dimensions", level[0], 0, shape)
        shape.append(sizes.pop())
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))


def _read_leaves(leaves: list[Any], kinds: set[type], shape: Sequence[int], place: _Place) -> np.ndarray:
    """An array of numbers."""
    dtype = place.precision.dtype
    if not leaves:
        return np.zeros(shape, dtype)
    code = _CODES[place.precision]
    if place.precision is Precision.FP16:
        return _cast(np.frombuffer(array(code, leaves), np.float64).reshape(shape), dtype)
    if place.precision in _FLOATS:
        return np.frombuffer(array(code, leaves), dtype).reshape(shape)
    try:
        whole = leaves if kinds == _INTEGER else list(map(_cut, leaves))
        return np.frombuffer(array(code, whole), dtype).reshape(shape)
    except (OverflowError, ValueError):
        low, high = _bounds(place.precision)
        index = next(
            index for index, leaf in enumerate(leaves) if not (math.isfinite(leaf) and low <= _cut(leaf) <= high)
        )
        place.refuse(place.expected_number, leaves[index], index, shape)


def _cut(number: float) -> int:
    """The integer towards zero.

    Raises:
        OverflowError: for an infinity.
        ValueError: for NaN.
    """
    whole = math.trunc(number)
    # Parsers give integers below int64 as doubles, and the first 1024 as this one: it must not pass for the least int64.
    return whole - 1 if whole == _INT64_MIN and type(number) is float else whole


def _cast(values: np.ndarray, dtype: np.dtype[Any] | None) -> np.ndarray:
    """Floats in another precision; what is too large for it becomes infinite, as in the reference."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _read_numbers(value: Any, precision: Precision) -> np.ndarray | None:
    """An array of ``Numbers``, or of a list of them; None for all else, and if a number does not fit."""
    if precision not in _CODES:
        return None
    if type(value) is Numbers:
        return _convert(value, precision)
    if type(value) is not list or not value or type(value[0]) is not Numbers:
        return None
    rows = [_convert(each, precision) if type(each) is Numbers else None for each in value]
    known = [row for row in rows if row is not None]
    if len(known) < len(value) or len({row.shape for row in known}) > 1:
        return None
    return np.stack(known) if len(known) > 1 else known[0][np.newaxis]


def _convert(numbers: Numbers, precision: Precision, *, only_integers: bool = False) -> np.ndarray | None:
    """``Numbers`` as an array; None if an integer is out of range, might not be exact, or is not one but has to be."""
    dtype = precision.dtype
    if precision in _FLOATS:
        return _cast(numbers.doubles, dtype)
    values = numbers.integers()
    if values is None:
        if only_integers:
            return None
        values = np.trunc(numbers.doubles)
        if not (np.abs(values) < _EXACT).all():
            return None
    low, high = _bounds(precision)
    if int(values.min()) < low or int(values.max()) > high:
        return None
    return values.astype(dtype)


def _encode(text: str) -> bytes:
    """The bytes of a string, which ends at a NUL as in the reference; those of base64 and of binary data do not."""
    return text.partition("\0")[0].encode()


def _read_text(value: str | dict[str, Any], index: int, shape: Sequence[int], place: _Place) -> bytes:
    """The bytes of a string or of ``{"b64": "..."}``."""
    if isinstance(value, str):
        return _encode(value)
    if not is_base64(value):
        place.refuse('{"b64": "..."}', value, index, shape)
    data = decode_base64(value["b64"])
    if data is None:
        place.refuse("base64", value["b64"], index, shape)
    return data
