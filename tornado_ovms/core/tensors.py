"""What a tensor looks like: precision, dimensions, layout, and whether an array fits.

``Precision`` ties together the names that OpenVINO, TensorFlow Serving, KServe and numpy use for an element type.
``Dim``, ``Shape`` and ``Layout`` describe the other properties as clients see them; ``TensorSpec`` joins them to one
input or output and checks requests. Parsing of ``shape``, ``batch_size`` and ``layout`` settings is here too, since the
texts are the same on the command line and in the configuration file.

All values are frozen; any thread may use this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

INT32_MAX: Final = 2**31 - 1  # dimensions in settings are parsed as int32 by the reference


class Precision(Enum):
    """An element type. The value is the name that the reference writes into its messages."""

    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    I8 = "I8"
    I16 = "I16"
    I32 = "I32"
    I64 = "I64"
    U8 = "U8"
    U16 = "U16"
    U32 = "U32"
    U64 = "U64"
    BOOL = "BOOL"
    STRING = "STRING"
    UNDEFINED = "UNDEFINED"  # what OpenVINO knows and numpy does not: bf16, i4, ...

    __hash__ = object.__hash__  # Enum's own is written in Python, and each request looks into several tables

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The numpy type of its arrays; strings are arrays of ``bytes`` objects; None where numpy has no such type."""
        return _DTYPES.get(self)

    @property
    def kserve(self) -> str:
        """The name in KServe's v2 protocol."""
        return _KSERVE.get(self, "INVALID")

    @property
    def tensorflow(self) -> str:
        """The name in TensorFlow's ``DataType`` enumeration."""
        return _TENSORFLOW.get(self, "DT_INVALID")


_DTYPES: Final[dict[Precision, np.dtype[Any]]] = {
    Precision.FP16: np.dtype(np.float16),
    Precision.FP32: np.dtype(np.float32),
    Precision.FP64: np.dtype(np.float64),
    Precision.I8: np.dtype(np.int8),
    Precision.I16: np.dtype(np.int16),
    Precision.I32: np.dtype(np.int32),
    Precision.I64: np.dtype(np.int64),
    Precision.U8: np.dtype(np.uint8),
    Precision.U16: np.dtype(np.uint16),
    Precision.U32: np.dtype(np.uint32),
    Precision.U64: np.dtype(np.uint64),
    Precision.BOOL: np.dtype(np.bool_),
    Precision.STRING: np.dtype(object),
}

BY_DTYPE: Final[dict[np.dtype[Any], Precision]] = {dtype: precision for precision, dtype in _DTYPES.items()}
"""The precision that arrays of a numpy type have."""

_TENSORFLOW: Final = {
    Precision.FP16: "DT_HALF",
    Precision.FP32: "DT_FLOAT",
    Precision.FP64: "DT_DOUBLE",
    Precision.I8: "DT_INT8",
    Precision.I16: "DT_INT16",
    Precision.I32: "DT_INT32",
    Precision.I64: "DT_INT64",
    Precision.U8: "DT_UINT8",
    Precision.U16: "DT_UINT16",
    Precision.U32: "DT_UINT32",
    Precision.U64: "DT_UINT64",
    Precision.BOOL: "DT_BOOL",
    Precision.STRING: "DT_STRING",
}


_KSERVE: Final = {
    Precision.FP16: "FP16",
    Precision.FP32: "FP32",
    Precision.FP64: "FP64",
    Precision.I8: "INT8",
    Precision.I16: "INT16",
    Precision.I32: "INT32",
    Precision.I64: "INT64",
    Precision.U8: "UINT8",
    Precision.U16: "UINT16",
    Precision.U32: "UINT32",
    Precision.U64: "UINT64",
    Precision.BOOL: "BOOL",
    Precision.STRING: "BYTES",
}

BY_KSERVE: Final = {name: precision for precision, name in _KSERVE.items()}
"""Precisions by their name in KServe's v2 protocol."""


@dataclass(frozen=True, slots=True)
class Dim:
    """The sizes that a dimension may have: ``low`` to ``high``, both included; ``high`` None means no upper bound."""

    low: int
    high: int | None

    def __post_init__(self) -> None:
        if self.low < 0 or (self.high is not None and self.high < self.low):
            raise ValueError(f"no sizes between {self.low} and {self.high}")

    @classmethod
    def fixed(cls, size: int) -> Dim:
        """A dimension of exactly this size."""
        return cls(size, size)

    @property
    def is_fixed(self) -> bool:
        """Whether only one size is possible."""
        return self.low == self.high

    @property
    def size(self) -> int:
        """The one size, or -1 if several are possible, as metadata shows it."""
        return self.low if self.low == self.high else -1

    def accepts(self, size: int) -> bool:
        """Whether the dimension may have this size."""
        return self.low <= size and (self.high is None or size <= self.high)

    def __str__(self) -> str:
        if self.is_fixed:
            return str(self.low)
        if self.high is None:
            return "-1" if self.low == 0 else f"[{self.low}~]"
        return f"[{self.low}~{self.high}]"


ANY: Final = Dim(0, None)


class Shape(tuple[Dim, ...]):
    """The dimensions of a tensor, outermost first; prints as the reference does: ``(1,[5~15],-1)``.

    >>> str(Shape([Dim.fixed(1), ANY, Dim(2, 4)]))
    '(1,-1,[2~4])'
    """

    __slots__ = ()

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Shape:
        """A shape of fixed sizes."""
        return cls(map(Dim.fixed, sizes))

    @property
    def is_fixed(self) -> bool:
        """Whether every dimension is fixed."""
        return all(dim.is_fixed for dim in self)

    def accepts(self, sizes: Sequence[int]) -> bool:
        """Whether an array of these sizes has this shape."""
        return len(sizes) == len(self) and all(map(Dim.accepts, self, sizes))

    def __str__(self) -> str:
        return f"({','.join(map(str, self))})"


@dataclass(frozen=True, slots=True)
class Layout:
    """The meaning of the dimensions, such as ``NCHW`` or ``N...``; letters are upper case.

    ``?`` is a dimension without a name, ``...`` any number of them.
    """

    text: str

    @classmethod
    def default(cls, rank: int) -> Layout:
        """What a tensor has if neither its model nor the settings say more: the batch comes first."""
        return cls("N..." if rank else "...")

    def named(self, rank: int) -> tuple[str, ...] | None:
        """A letter for each of ``rank`` dimensions, ``?`` where there is none; None if it does not fit the rank.

        >>> Layout("N...C").named(4)
        ('N', '?', '?', 'C')
        """
        head, dots, tail = self.text.partition("...")
        missing = rank - len(head) - len(tail)
        if missing < 0 or (missing and not dots):
            return None
        return (*head, *("?" * missing), *tail)

    def batch_axis(self, rank: int) -> int | None:
        """The position of ``N`` in a tensor of that rank, or None."""
        letters = self.named(rank) or ()
        return letters.index("N") if "N" in letters else None

    def agrees_with(self, other: Layout, rank: int) -> bool:
        """Whether both can describe one tensor of that rank: no dimension with two different names."""
        ours, theirs = self.named(rank), other.named(rank)
        if ours is None or theirs is None:
            return False
        return all(a == b or "?" in (a, b) for a, b in zip(ours, theirs, strict=True))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as clients see it: after mapping of names, change of layout and reshaping."""

    name: str
    precision: Precision
    shape: Shape
    layout: Layout

    @property
    def batch_axis(self) -> int | None:
        """The position of the batch dimension, or None if the layout has none."""
        return self.layout.batch_axis(len(self.shape))

    def accept(self, sizes: Sequence[int]) -> None:
        """Check the sizes of an array that a client sent.

        Raises:
            Failure: NUMBER_OF_DIMENSIONS, BATCH_SIZE or SHAPE, in the order in which the reference checks.
        """
        if self.shape.accepts(sizes):
            return
        if len(sizes) != len(self.shape):
            raise self.refusal(Code.NUMBER_OF_DIMENSIONS, self.shape, Shape.of(sizes))
        axis = self.batch_axis
        if axis is not None and not self.shape[axis].accepts(sizes[axis]):
            raise self.refusal(Code.BATCH_SIZE, self.shape[axis], sizes[axis])
        raise self.refusal(Code.SHAPE, self.shape, Shape.of(sizes))

    def refusal(self, code: Code, expected: object, actual: object) -> Failure:
        """A failure in the reference's form: what was expected, what came, for which input."""
        return Failure(code, f"Expected: {expected}; Actual: {actual}; input name: {self.name}")


class Auto(Enum):
    """The word ``auto`` in ``shape`` and ``batch_size``: any size at all."""

    AUTO = "auto"

    def __str__(self) -> str:
        return self.value


AUTO: Final = Auto.AUTO

_NUMBER = re.compile(r"-1|\d{1,10}", re.ASCII)
_RANGE = re.compile(r"(\d{1,10}):(\d{1,10})", re.ASCII)


def _parse_dim(text: str, *, low_at_least: int, equal_ends: bool) -> Dim:
    """A dimension of a setting: ``3``, ``-1`` or ``2:5``; raises ValueError."""
    if found := _RANGE.fullmatch(text):
        low, high = int(found[1]), int(found[2])
        if not low_at_least <= low <= high <= INT32_MAX or (low == high and not equal_ends):
            raise ValueError(f"{text} is not a range")
        return Dim(low, high)
    if not _NUMBER.fullmatch(text) or int(text) > INT32_MAX:
        raise ValueError(f"{text!r} is neither a size, -1 nor a range")
    return ANY if text == "-1" else Dim.fixed(int(text))


def parse_batch_size(text: str) -> Dim | Auto:
    """The setting ``batch_size``: a number, ``-1``, a range ``2:5`` or ``auto``.

    Raises:
        ValueError: anything else; the reference then warns and goes on with the model's own.
    """
    text = re.sub(r"\s", "", text)
    return AUTO if text == "auto" else _parse_dim(text, low_at_least=1, equal_ends=True)


def parse_shape(text: str) -> Shape | Auto:
    """The setting ``shape`` for one input: ``(1,-1,2:5)`` or ``auto``.

    Raises:
        ValueError: anything else.
    """
    text = re.sub(r"\s", "", text)
    if text == "auto":
        return AUTO
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError(f"{text!r} has no brackets around it")
    return Shape(_parse_dim(part, low_at_least=0, equal_ends=False) for part in text[1:-1].split(","))


@dataclass(frozen=True, slots=True)
class LayoutChange:
    """The setting ``layout`` for one tensor: what clients see, and what the model has (the same if no change is wanted)."""

    tensor: Layout
    model: Layout


_LAYOUT = re.compile(r"[NCHWD?.]*")


def parse_layout(text: str) -> LayoutChange:
    """The setting ``layout`` for one tensor: ``NHWC:NCHW``, or ``NHWC`` alone; blanks and case do not matter.

    Whether the letters make sense together is found when the model is loaded, as in the reference.

    Raises:
        ValueError: other characters, or more than one colon.
    """
    text = re.sub(r"\s", "", text).upper()
    tensor, colon, model = text.partition(":")
    if not _LAYOUT.fullmatch(tensor) or not _LAYOUT.fullmatch(model):
        raise ValueError(f"{text!r} is not a layout such as NHWC or NHWC:NCHW")
    return LayoutChange(Layout(tensor), Layout(model if colon else tensor))
