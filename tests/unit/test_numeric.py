"""Long lists of numbers: which ones are taken, and that they are what the text says."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import documents, lists, nested, numbers, raw, rectangular, widen, write
from tornado_ovms.codec.numeric import LONG, MAX_RANK, Numbers, carve, read, restore

BIG = 2**63

blanks = st.sampled_from([0, 40, 4000])
"""So many before a list: short lists are proven by their brackets, those in a wide text by their lengths."""


def same(actual: Any, expected: Any) -> bool:
    """Whether nested lists are equal, NaN to NaN."""
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    return actual == expected or (actual != actual and expected != expected)  # noqa: PLR0124


def map_floats(value: list[Any]) -> list[Any]:
    """The same lists, with a float for each number."""
    return [map_floats(each) if isinstance(each, list) else float(each) for each in value]


def is_finite(numbers: Numbers) -> bool:
    """Whether all numbers are."""
    return bool(np.isfinite(numbers.doubles).all())


def is_no_stand_in(number: float) -> bool:
    """Whether a number is not nearly as large as a double can be."""
    return not 1e308 < abs(number) < math.inf


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (b"[1]", (1,)),
        (b"[1, 2.5, -3e2]", (3,)),
        (b"[[1],[2],[3]]", (3, 1)),
        (b"[[[1,2,3],[4,5,6]]]", (1, 2, 3)),
        (b" [\n[1 ,\t2], [3,4]\r\n] ", (2, 2)),
        (b"[[[[[[7]]]]]]", (1, 1, 1, 1, 1, 1)),
    ],
)
def test_rectangular_lists_are_read(text: bytes, shape: tuple[int, ...]) -> None:
    """White space is of no account; what comes back can be written to, as OpenVINO wants."""
    numbers = read(text)
    assert numbers is not None
    assert numbers.doubles.tolist() == orjson.loads(text)
    assert (numbers.doubles.shape, numbers.doubles.dtype) == (shape, np.float64)
    assert numbers.doubles.flags.writeable


@pytest.mark.parametrize("wide", [b"", b" " * 4000])
@pytest.mark.parametrize(
    "text",
    [
        *(b"[]", b"[[]]", b"[[1],[]]", b"[[],[1]]", b"[[],[1,2]]", b"[[1,2],[]]", b"[[[]],[[1]]]"),
        *(b"[[1,2],[3]]", b"[[1],[2,3]]", b"[[1,2,3],[4]]", b"[[1],[2,3],[4,5]]", b"[[1,2],[3],[4,5,6]]"),
        *(b"[1,[2]]", b"[[1],2]", b"[[1],[[2]]]", b"[[[1]],[2]]", b"[[[1],[2]],[3,4]]", b"[[1,2],[[3],[4]]]"),
        *(b'["1"]', b"[true]", b"[null]", b"[1,{}]", b'[{"a":1}]', b'[[1],["NaN"]]'),
        *(b"", b"[1", b"[1,]", b"[01]", b"[1][2]", b"[1]x", b"[1e400]", b"[1\0]", b"[\xff]"),
        *(b"[18446744073709551616]", b"[nan]", b"[-NaN]", b"[1NaN]", b"[0.NaN]", b"[NaN1]", b"[--Infinity]", b"[NaN"),
    ],
)
def test_all_else_is_left_alone(text: bytes, wide: bytes) -> None:
    """Ragged lists, which simdjson flattens silently, other values, texts that are not JSON: the general parser's."""
    assert read(text.replace(b"[", b"[" + wide, 1)) is None


@given(lists, blanks)
def test_ragged_lists_are_never_read(value: Any, wide: int) -> None:
    """Whatever is read has exactly the nesting of the text."""
    numbers = read(b" " * wide + write(value))
    if numbers is not None:
        assert same(numbers.doubles.tolist(), map_floats(value))
        assert same(numbers.tolist(), value if is_finite(numbers) else map_floats(value))


@given(rectangular(st.integers(-(2**63), 2**64 - 1) | st.floats().filter(is_no_stand_in)), blanks)
def test_rectangular_lists_are_never_overlooked(value: Any, wide: int) -> None:
    """Whatever numbers are in them, unless one does not fit 64 bits or stands for a word."""
    numbers = read(b" " * wide + write(value))
    assert numbers is not None
    assert same(numbers.doubles.tolist(), map_floats(value))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"[1,-2]", np.array([1, -2], np.int64)),
        (b"[-9223372036854775808,9223372036854775807]", np.array([-BIG, BIG - 1], np.int64)),
        (b"[[0],[18446744073709551615]]", np.array([[0], [2 * BIG - 1]], np.uint64)),
        (b"[9007199254740993]", np.array([2**53 + 1], np.int64)),
    ],
)
def test_integers_are_exact(text: bytes, values: np.ndarray) -> None:
    """A double would lose the last digits."""
    numbers = read(text)
    assert numbers is not None
    integers = numbers.integers()
    assert integers is not None
    assert (integers.dtype, integers.tolist()) == (values.dtype, values.tolist())
    assert numbers.tolist() == orjson.loads(text)


@pytest.mark.parametrize("text", [b"[1,2.0]", b"[1e3]", b"[1,NaN]", b"[-1,9223372036854775808]"])
def test_other_lists_are_not_integers(text: bytes) -> None:
    """Numbers with a point or exponent, and pairs that no integer type holds both of."""
    numbers = read(text)
    assert numbers is not None
    assert numbers.integers() is None


def test_words_stand_for_what_is_not_finite() -> None:
    """NaN and both infinities, wherever they are."""
    numbers = read(b"[[NaN,1],[-Infinity,Infinity],[NaN , -1]]")
    assert numbers is not None
    assert same(numbers.doubles.tolist(), [[math.nan, 1.0], [-math.inf, math.inf], [math.nan, -1.0]])
    assert same(numbers.tolist(), numbers.doubles.tolist())


@pytest.mark.parametrize("number", [b"1.7976931348623153e308", b"1.7976931348623155e308", b"-1.7976931348623155e308"])
def test_numbers_that_words_are_read_by_stay_numbers(number: bytes) -> None:
    """A list that holds such a number is read; with all three words beside it, it is left alone."""
    numbers = read(b"[%b]" % number)
    assert numbers is not None
    assert numbers.doubles.tolist() == [float(number)]
    assert read(b"[NaN,Infinity,-Infinity,%b]" % number) is None


@given(raw)
def test_any_bytes_are_numbers_or_nothing(text: bytes) -> None:
    """Nothing is raised, and what is read is what the general parser reads."""
    numbers = read(b"[" + text)
    if numbers is not None:
        value = json.loads(b"[" + text)
        assert same(numbers.tolist(), value if is_finite(numbers) else map_floats(value))


def test_lists_deeper_than_arrays_can_be_are_left_alone() -> None:
    """numpy refuses more dimensions, and another list may be around them."""
    rank = MAX_RANK - 1
    numbers = read(b"[" * rank + b"1" + b"]" * rank)
    assert numbers is not None
    assert numbers.doubles.shape == (1,) * rank
    assert read(b"[" * MAX_RANK + b"1" + b"]" * MAX_RANK) is None


def test_two_lists_can_be_read_at_once() -> None:
    """Each has its own parser, as one that has elements refuses to parse."""
    first, second = read(b"[1,2]"), read(b"[3]")
    assert first is not None
    assert second is not None
    assert (first.tolist(), second.tolist()) == ([1, 2], [3])


LIST = b"[" + b"1.5, " * 1000 + b"2]"


@pytest.mark.parametrize(
    ("document", "text", "count"),
    [
        (LIST, rb'"\u00010"', 1),
        (b'{"a": %b}' % LIST, rb'{"a": "\u00010"}', 1),
        (b'{"a":%b,"b":{"c":%b}}' % (LIST, LIST), rb'{"a":"\u00010","b":{"c":"\u00011"}}', 2),
        (b'[{"a":%b},{"a":%b}]' % (LIST, LIST), rb'[{"a":"\u00010"},{"a":"\u00011"}]', 2),
        (b'["x",%b]' % LIST, b'["x",%b]' % LIST, 0),
        (b'{"a":[%b,[1]]}' % LIST, b'{"a":[%b,[1]]}' % LIST, 0),
        (b'{"a":[true,%b]}' % LIST, b'{"a":[true,%b]}' % LIST, 0),
        (b'{"a":[1,2],"b":"%b"}' % LIST, b'{"a":[1,2],"b":"%b"}' % LIST, 0),
        (rb'{"a":"\n","b":%b}' % LIST, rb'{"a":"\n","b":%b}' % LIST, 0),
        (b"1" * LONG, b"1" * LONG, 0),
        (b"]" * LONG, b"]" * LONG, 0),
    ],
)
def test_carving(document: bytes, text: bytes, count: int) -> None:
    """Long lists between strings are taken out; strings, escapes and what is beside other values are not touched."""
    carved, found = carve(document)
    assert (carved, len(found)) == (text, count)
    assert count or carved is document


@given(documents)
def test_what_is_carved_can_be_put_back(document: bytes) -> None:
    """The values are those of the whole document."""
    document = document.replace(b"[", b"[" + b" " * LONG)
    text, found = carve(document)
    if found:
        tree = restore(json.loads(text), found)
        assert same(plain(tree), plain(json.loads(document)))


def plain(value: Any) -> Any:
    """Python's own values in place of ``Numbers``, and pairs in place of objects."""
    if isinstance(value, Numbers):
        return value.tolist()
    if isinstance(value, dict):
        return [[key, plain(each)] for key, each in value.items()]
    return [plain(each) for each in value] if isinstance(value, list) else value


def test_lists_return_to_where_their_marks_are() -> None:
    """In lists, in objects, or as the whole document."""
    found = read(b"[1]")
    assert found is not None
    assert restore({"a": ["\x010", 1]}, [found]) == {"a": [found, 1]}
    assert restore("\x010", [found]) is found


@pytest.mark.parametrize("tree", [{"\x010": 1}, {"a": 1}, {"a": ["\x010"], "b": 2}])
def test_lists_return_only_to_values(tree: Any) -> None:
    """A mark that became a name, or was lost with a member that comes twice, tells that the document is another."""
    found = read(b"[1]")
    assert found is not None
    assert restore(tree, [found, found]) is None


@given(nested(numbers))
def test_wide_and_narrow_texts_are_read_alike(value: Any) -> None:
    """Both ways to prove a nesting come to the same."""
    text = write(value)
    narrow, wide = read(text), read(widen(text))
    assert (narrow is None) == (wide is None)
    if narrow is not None and wide is not None:
        assert same(narrow.tolist(), wide.tolist())
