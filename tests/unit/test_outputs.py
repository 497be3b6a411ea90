"""Output arrays to JSON: values, what is not finite, strings, and the slices of large arrays."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import spec
from tests.strategies import FLOATS, NUMERIC, arrays
from tornado_ovms.codec.outputs import SLICE_BYTES, dump, dump_slices, present
from tornado_ovms.core.settings import NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

NULL, LITERAL, STRING, ERROR = NonFinite.NULL, NonFinite.LITERAL, NonFinite.STRING, NonFinite.ERROR

kinds = st.sampled_from(NonFinite)


def strings(*values: Any) -> np.ndarray:
    """What a model with a string output gives."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("precision", "value", "text"),
    [
        (Precision.FP32, 3, "3.0"),
        (Precision.FP32, 0.1, "0.1"),
        (Precision.FP32, 1 / 3, "0.33333334"),
        (Precision.FP32, 16777216, "16777216.0"),
        (Precision.FP32, -0.0, "-0.0"),
        (Precision.FP32, 1e-45, "1e-45"),
        (Precision.FP64, 1 / 3, "0.3333333333333333"),
        (Precision.FP64, 0.1, "0.1"),
        (Precision.FP16, 0.5, "0.5"),
        (Precision.FP16, 65504, "65504.0"),
        (Precision.I8, -128, "-128"),
        (Precision.U8, 255, "255"),
        (Precision.I64, -(2**63), "-9223372036854775808"),
        (Precision.I64, 2**53 + 1, "9007199254740993"),
        (Precision.U64, 2**64 - 1, "18446744073709551615"),
        (Precision.BOOL, True, "true"),
    ],
)
def test_values(precision: Precision, value: Any, text: str) -> None:
    """Integers are exact, floats have a point and the fewest digits that read back the same."""
    array = np.array([[value, value]], precision.dtype)
    assert dump(present(spec("a", (1, 2), precision), array, NULL), NULL).decode() == f"[[{text},{text}]]"
    scalar = np.array(value, precision.dtype)
    assert dump(present(spec("a", (), precision), scalar, NULL), NULL).decode() == text
    assert dump(array[0, 0], NULL).decode() == text


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("precision", [*NUMERIC, Precision.BOOL, Precision.STRING])
def test_arrays_without_values(shape: tuple[int, ...], precision: Precision) -> None:
    """Empty lists, as deep as JSON can say."""
    array = np.zeros(shape, precision.dtype)
    presented = present(spec("a", shape, precision), array, LITERAL)
    assert json.loads(b"".join(dump_slices(presented, LITERAL))) == array.tolist()


@given(st.sampled_from(NUMERIC).flatmap(arrays), kinds)
def test_every_array_is_written(array: np.ndarray, non_finite: NonFinite) -> None:
    """The values are those of the array; null for what is not finite counts as NaN."""
    text = dump(array, non_finite)
    back = np.array(json.loads(text), np.float64 if array.dtype.kind == "f" else array.dtype).astype(array.dtype)
    wanted = np.where(np.isfinite(array), array, np.nan) if non_finite in (NULL, ERROR) else array
    np.testing.assert_array_equal(back, wanted)


ODD = [[1.0, np.nan], [np.inf, -np.inf]]


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize(
    ("non_finite", "text"),
    [
        (NULL, "[[1.0,null],[null,null]]"),
        (LITERAL, "[[1.0,NaN],[Infinity,-Infinity]]"),
        (STRING, '[[1.0,"NaN"],["Infinity","-Infinity"]]'),
    ],
)
def test_what_is_not_finite_is_written_as_asked(precision: Precision, non_finite: NonFinite, text: str) -> None:
    """In arrays, in what indexing them gives, and in scalars."""
    array = present(spec("a", (2, 2), precision), np.array(ODD, precision.dtype), non_finite)
    assert dump(array, non_finite).decode() == text
    rows = json.loads(text)
    for index, row in enumerate(array):
        assert repr(json.loads(dump(row, non_finite))) == repr(rows[index])
        assert repr([json.loads(dump(value, non_finite)) for value in row]) == repr(rows[index])
        assert repr(json.loads(dump(row[1].reshape(()), non_finite))) == repr(rows[index][1])


def test_what_is_not_finite_can_be_an_error() -> None:
    """The first such value is named; integers are never looked at."""
    with pytest.raises(Failure) as caught:
        present(spec("a", (2, 2)), np.array(ODD, np.float32), ERROR)
    assert caught.value.code is Code.NON_FINITE
    assert caught.value.detail == "output name: a; position: [0,1]; Actual: nan"
    finite = present(spec("a", (2, 2)), np.ones((2, 2), np.float32), ERROR)
    assert dump(finite, ERROR) == b"[[1.0,1.0],[1.0,1.0]]"
    assert dump(present(spec("a", (1,), Precision.I8), np.ones(1, np.int8), ERROR), ERROR) == b"[1]"


def test_a_precision_that_numpy_lacks_cannot_be_written() -> None:
    """The reference's sentence."""
    with pytest.raises(Failure) as caught:
        present(spec("a", (1,), Precision.UNDEFINED), np.zeros(1), NULL)
    assert (caught.value.http, caught.value.text) == (500, "Unsupported serialization precision - output name: a")


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_in_memory_does_not_matter(order: Any) -> None:
    """orjson wants arrays that lie in a row."""
    array = np.array([[1, 2, 3], [4, 5, np.nan]], np.float32, order=order)
    text = b"[[1.0,2.0,3.0],[4.0,5.0,NaN]]"
    assert dump(present(spec("a", (2, 3)), array, LITERAL), LITERAL) == text
    assert dump(present(spec("a", (2, 2)), array[:, ::2], LITERAL), LITERAL) == b"[[1.0,3.0],[4.0,NaN]]"


def test_strings() -> None:
    """UTF-8 as it is, quotation marks and control characters escaped, what is not UTF-8 replaced."""
    values = strings(b'"\\\n', "é€".encode(), b"a\xffb", b"")
    text = dump(present(spec("a", (4,), Precision.STRING), values, NULL), NULL)
    assert text.decode() == r'["\"\\\n","é€","a' + "\ufffd" + 'b",""]'
    assert json.loads(dump(present(spec("a", (2, 2), Precision.STRING), values.reshape(2, 2), NULL), NULL)) == [
        ['"\\\n', "é€"],
        ["a\ufffdb", ""],
    ]
    assert dump(present(spec("a", (), Precision.STRING), values[1:2].reshape(()), NULL), NULL).decode() == '"é€"'


@given(st.lists(st.binary(max_size=5)))
def test_strings_as_bytes(values: list[bytes]) -> None:
    """An output whose name ends in _bytes is written as base64, with padding."""
    array = present(spec("out_bytes", (len(values),), Precision.STRING), strings(*values), NULL)
    written = json.loads(dump(array, NULL))
    assert written == [{"b64": base64.b64encode(value).decode()} for value in values]


def test_rows_of_text() -> None:
    """An output of u8 with two dimensions whose name ends in _string: one string a row, cut at the first zero."""
    rows = np.frombuffer(b"ab\0\0\0c\0d\xc3\xa9\xff\0abcd", np.uint8).reshape(4, 4)
    presented = present(spec("a_string", (4, 4), Precision.U8), rows, NULL)
    assert json.loads(dump(presented, NULL)) == ["ab", "", "é\ufffd", "abcd"]


@pytest.mark.parametrize(
    ("name", "shape", "precision", "text"),
    [
        ("a_string", (1, 2), Precision.I8, b"[[65,0]]"),
        ("a_string", (2,), Precision.U8, b"[65,0]"),
        ("a_string", (1, 1, 2), Precision.U8, b"[[[65,0]]]"),
        ("string", (1, 2), Precision.U8, b"[[65,0]]"),
        ("a_bytes", (1, 2), Precision.U8, b"[[65,0]]"),
        ("a_string", (0, 2), Precision.U8, b"[]"),
        ("a_string", (2, 0), Precision.U8, b'["",""]'),
    ],
)
def test_other_outputs_are_no_text(name: str, shape: tuple[int, ...], precision: Precision, text: bytes) -> None:
    """Name, precision and number of dimensions all have to fit."""
    array = np.array([65, 0], precision.dtype)[: int(np.prod(shape))].reshape(shape)
    assert dump(present(spec(name, shape, precision), array, NULL), NULL) == text


SHAPES = [
    (SLICE_BYTES,),
    (SLICE_BYTES // 4, 3),
    (3, SLICE_BYTES // 4 + 1),
    (3, 3, SLICE_BYTES // 4 + 1),
    (2, SLICE_BYTES // 2, 1),
    (1, 1, 1, SLICE_BYTES),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("non_finite", [NULL, LITERAL])
def test_slices_joined_equal_the_whole(shape: tuple[int, ...], non_finite: NonFinite) -> None:
    """Wherever the seams are: between rows, between numbers, between values that are not finite."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    array[array % 7 == 0] = np.nan
    pieces = dump_slices(array, non_finite)
    assert b"".join(pieces) == dump(array, non_finite)
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 10 * SLICE_BYTES


@pytest.mark.parametrize("excess", [0, 1])
def test_small_arrays_are_one_piece(excess: int) -> None:
    """As long as they are no larger than a slice."""
    array = np.zeros(SLICE_BYTES + excess, np.int8)
    pieces = dump_slices(array, NULL)
    assert (len(pieces) == 1) == (excess == 0)
    assert b"".join(pieces) == dump(array, NULL)


def test_strings_are_written_in_slices() -> None:
    """Many of them are a large array."""
    array = strings(*["é"] * SLICE_BYTES)
    pieces = dump_slices(array, NULL)
    assert len(pieces) > 3
    assert b"".join(pieces) == dump(array, NULL)


@given(st.text())
def test_single_values_are_written(value: str) -> None:
    """What indexing an array of strings gives."""
    assert json.loads(b"".join(dump_slices(value, LITERAL))) == value
