"""JSON values to arrays: what each precision takes, what it becomes, and what is said about the rest."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import DEPTH, INTEGERS, NUMERIC, arrays, lists, numbers, rectangular, scalars, widen, write
from tornado_ovms.codec.arrays import read
from tornado_ovms.codec.document import parse
from tornado_ovms.codec.encoded import Encoded
from tornado_ovms.codec.numeric import LONG, MAX_RANK, Numbers
from tornado_ovms.codec.outputs import dump
from tornado_ovms.core.settings import NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

FP16, FP32, FP64 = Precision.FP16, Precision.FP32, Precision.FP64
I8, I16, I32, I64 = Precision.I8, Precision.I16, Precision.I32, Precision.I64
U8, U16, U32, U64 = Precision.U8, Precision.U16, Precision.U32, Precision.U64
BOOL, STRING, UNDEFINED = Precision.BOOL, Precision.STRING, Precision.UNDEFINED


def read_text(text: bytes, precision: Precision) -> np.ndarray | Encoded:
    """The value of an input called b."""
    return read(parse(text, DEPTH), "b", precision, Code.INPUT_UNREADABLE)


def read_array(text: bytes, precision: Precision) -> np.ndarray:
    """The same, of what is not encoded."""
    value = read_text(text, precision)
    assert isinstance(value, np.ndarray)
    return value


def refusal(text: bytes, precision: Precision) -> str:
    """What is wrong with a value."""
    with pytest.raises(Failure) as caught:
        read_text(text, precision)
    assert caught.value.code is Code.INPUT_UNREADABLE
    return caught.value.detail


@pytest.mark.parametrize("form", [b"%b", b"[%b]", b"[[%b]]", b"[" + b" " * LONG + b"%b]"])
@pytest.mark.parametrize(
    ("precision", "text", "value"),
    [
        (FP16, b"0.5", 0.5),
        (FP16, b"2049", 2048.0),
        (FP16, b"65520", math.inf),
        (FP32, b"3", 3.0),
        (FP32, b"0.1", float(np.float32(0.1))),
        (FP32, b"16777217", 16777216.0),
        (FP32, b"1e39", math.inf),
        (FP32, b"-1e39", -math.inf),
        (FP32, b"-0.0", -0.0),
        (FP32, b"18446744073709551616", 2.0**64),
        (FP64, b"0.1", 0.1),
        (FP64, b"1.7976931348623157e308", 1.7976931348623157e308),
        (FP64, b"9007199254740993", 2.0**53),
        *((precision, b"-Infinity", -math.inf) for precision in (FP16, FP32, FP64)),
        *((precision, b"1.9", 1) for precision in INTEGERS),
        *((precision, b"-0.9", 0) for precision in INTEGERS),
        *((precision, b"1e2", 100) for precision in INTEGERS),
        *((precision, b"-1.9", -1) for precision in (I8, I16, I32, I64)),
        *((I8, b"%d" % value, value) for value in (-128, 127)),
        *((I16, b"%d" % value, value) for value in (-32768, 32767)),
        *((I32, b"%d" % value, value) for value in (-(2**31), 2**31 - 1)),
        *((I64, b"%d" % value, value) for value in (-(2**63), 2**63 - 1, 2**53 + 1)),
        *((U8, b"%d" % value, value) for value in (0, 255)),
        *((U16, b"%d" % value, value) for value in (0, 65535)),
        *((U32, b"%d" % value, value) for value in (0, 2**32 - 1)),
        *((U64, b"%d" % value, value) for value in (0, 2**53 + 1, 2**63, 2**64 - 1)),
        (I64, b"9.2e18", 9200000000000000000),
        (U64, b"1.8e19", 18000000000000000000),
        (UNDEFINED, b"1.5", 1.5),
    ],
)
def test_numbers_in_each_precision(precision: Precision, text: bytes, value: float, form: bytes) -> None:
    """Cast for floats, cut towards zero for integers, exact to the ends of the range; alone, in lists, in long lists."""
    array = read_array(form % text, precision)
    assert array.dtype == (precision.dtype or np.float64)
    assert array.shape == (1,) * form.count(b"[")
    assert repr(array.item()) == repr(value)


@pytest.mark.parametrize("blanks", [b"", b" " * LONG])
@pytest.mark.parametrize(
    ("precision", "text"),
    [
        *((I8, text) for text in (b"128", b"-129", b"300", b"1e3", b"-129.0")),
        *((I16, text) for text in (b"32768", b"-32769")),
        *((I32, text) for text in (b"2147483648", b"-2147483649", b"1e10")),
        *((I64, text) for text in (b"9223372036854775808", b"-9223372036854775809", b"-1e19", b"1e19", b"1e300")),
        *((U8, text) for text in (b"256", b"-1", b"-1.0")),
        *((U16, text) for text in (b"65536", b"-1")),
        *((U32, text) for text in (b"4294967296", b"-1")),
        *((U64, text) for text in (b"18446744073709551616", b"-1", b"1e20")),
        *((precision, text) for precision in INTEGERS for text in (b"NaN", b"Infinity", b"-Infinity")),
    ],
)
def test_integers_out_of_range_are_refused(precision: Precision, text: bytes, blanks: bytes) -> None:
    """The reference keeps their low bits; here the place and the range are named."""
    detail = refusal(b"[%b[0,0],[0,%b]]" % (blanks, text), precision)
    info = np.iinfo(precision.dtype)
    assert detail.startswith(f"Expected: a number from {info.min} to {info.max} ({precision.value}); Actual: ")
    assert detail.endswith("; input name: b; position: [1,1]")


def test_a_refusal_in_full() -> None:
    """The sentence of the order, what was expected, what came, for which input and where."""
    with pytest.raises(Failure) as caught:
        read([[1, 300]], "image", I8, Code.INSTANCE_UNREADABLE)
    assert caught.value.text == (
        "Could not parse instance content. Not valid ndarray detected - "
        "Expected: a number from -128 to 127 (I8); Actual: 300; input name: image; position: [0,1]"
    )
    with pytest.raises(Failure) as caught:
        read(None, "image", FP32, Code.INPUT_UNREADABLE)
    assert caught.value.text == (
        "Could not parse input content. Not valid ndarray detected - "
        "Expected: a number; Actual: null; input name: image"
    )


@pytest.mark.parametrize(
    ("precision", "text", "expected", "actual", "position"),
    [
        (FP32, b"[[1,2],[3]]", "a list of 2", "a list of 1", "1"),
        (FP32, b"[[[1,2],[3,4]],[[5,6],[7,8,9]]]", "a list of 2", "a list of 3", "1,1"),
        (FP32, b"[[[1],[2]],[3,4]]", "a list of 1", "3", "1,0"),
        (FP32, b"[[1],[]]", "a list of 1", "a list of 0", "1"),
        (FP32, b"[1,[2]]", "a number", "a list of 1", "1"),
        (FP32, b"[[1],2]", "a list of 1", "2", "1"),
        (FP32, b"[null]", "a number", "null", "0"),
        (FP32, b"[1,true]", "a number", "true", "1"),
        (I32, b"[false]", "a number from -2147483648 to 2147483647 (I32)", "false", "0"),
        (FP32, b'["1"]', "a number", "a string", "0"),
        (FP32, b"[{}]", '{"b64": "..."}', "an object", "0"),
        (FP32, b'[1,{"b64":"QQ=="}]', "a number", "an object", "1"),
        (FP32, b'[{"b64":"QQ=="},1]', 'a string or {"b64": "..."}', "1", "1"),
        (FP32, b'[{"b64":"QQ=="},"QQ=="]', 'a string or {"b64": "..."}', "a string", "1"),
        (FP32, b'[{"b64":"QQ=="},{"b64":1}]', '{"b64": "..."}', "an object", "1"),
        (FP32, b'[[{"b64":"?"}]]', "base64", "a string", "0,0"),
        (U8, b'["a",1]', 'a string or {"b64": "..."}', "1", "1"),
        (U8, b'[1,"a"]', "a number from 0 to 255 (U8)", "a string", "1"),
        (U8, b'["a",["b"]]', 'a string or {"b64": "..."}', "a list of 1", "1"),
        (U16, b'["a"]', "a number from 0 to 65535 (U16)", "a string", "0"),
        (BOOL, b"[true,1]", "true or false", "1", "1"),
        (BOOL, b"[0]", "true or false", "0", "0"),
        (BOOL, b'["true"]', "true or false", "a string", "0"),
        (STRING, b"[1]", 'a string or {"b64": "..."}', "1", "0"),
        (STRING, b'["a",null]', 'a string or {"b64": "..."}', "null", "1"),
        (STRING, b'["a",{"b64":"QQ==","c":1}]', '{"b64": "..."}', "an object", "1"),
        (UNDEFINED, b'["a"]', "a number", "a string", "0"),
    ],
)
def test_values_that_an_input_does_not_take(
    precision: Precision, text: bytes, expected: str, actual: str, position: str
) -> None:
    """Ragged lists, other kinds, two kinds in one list: the first that does not fit is named."""
    detail = f"Expected: {expected}; Actual: {actual}; input name: b; position: [{position}]"
    assert refusal(text, precision) == detail


def test_strings_are_not_repeated_in_messages() -> None:
    """They may be long, or nobody else's business."""
    assert "secret" not in refusal(b'["secret"]', FP32)
    assert "secret" not in refusal(b'[{"b64":"secret?"}]', FP32)


@pytest.mark.parametrize(
    ("text", "shape"),
    [(b"[]", (0,)), (b"[[]]", (1, 0)), (b"[[],[]]", (2, 0)), (b"[[[]],[[]]]", (2, 1, 0)), (b"1", ())],
)
@pytest.mark.parametrize("precision", [*NUMERIC, UNDEFINED])
def test_empty_lists_and_scalars_have_a_shape(text: bytes, shape: tuple[int, ...], precision: Precision) -> None:
    """A list without values is an array without values."""
    array = read_array(text, precision)
    assert (array.shape, array.dtype) == (shape, precision.dtype or np.float64)


def test_booleans() -> None:
    """The reference cannot feed such inputs at all."""
    array = read_array(b"[[true,false],[false,true]]", BOOL)
    assert (array.dtype, array.tolist()) == (np.bool_, [[True, False], [False, True]])
    assert read_array(b"true", BOOL).shape == ()
    assert read_array(b"[[]]", BOOL).shape == (1, 0)


@pytest.mark.parametrize(
    ("precision", "text", "value"),
    [
        (STRING, b'["a","\xc3\xa9"]', Encoded((b"a", b"\xc3\xa9"), (2,))),
        (STRING, b'[["a"],[{"b64":"/w"}]]', Encoded((b"a", b"\xff"), (2, 1))),
        (STRING, b'"a"', Encoded((b"a",), ())),
        (STRING, b'["a\\u0000b",{"b64":"YQBi"}]', Encoded((b"a", b"a\0b"), (2,))),
        (U8, b'["a\\u0000b"]', Encoded((b"a",), (1,))),
        (STRING, b"[[]]", Encoded((), (1, 0))),
        (U8, b'["a",{"b64":"QQ=="},""]', Encoded((b"a", b"A", b""), (3,))),
        (U8, b'[["a"]]', Encoded((b"a",), (1, 1))),
        *((precision, b'[{"b64":"QQ=="}]', Encoded((b"A",), (1,))) for precision in (*NUMERIC, BOOL, UNDEFINED)),
        (FP32, b'{"b64":"QQ=="}', Encoded((b"A",), ())),
    ],
)
def test_encoded_values(precision: Precision, text: bytes, value: Encoded) -> None:
    """base64 for any input; strings where they can be meant, which end at a NUL."""
    assert read_text(text, precision) == value


@pytest.mark.parametrize("rank", [MAX_RANK, MAX_RANK + 1, DEPTH - 1])
@pytest.mark.parametrize("value", [b"1", b"true", b'"a"', b"null", b"1," + b" " * LONG + b"2", b"[],[1]"])
def test_lists_deeper_than_arrays_can_be_are_refused(rank: int, value: bytes) -> None:
    """numpy has a limit, which no client may run into."""
    text = b"[" * rank + value + b"]" * rank
    if rank == MAX_RANK and value.startswith(b"1"):
        assert read_array(text, FP32).ndim == rank
    elif rank > MAX_RANK:
        assert refusal(text, FP32).startswith(f"Expected: at most {MAX_RANK} dimensions; Actual: a list of ")
    else:
        assert refusal(text, FP32).startswith("Expected: a ")


@given(st.sampled_from(NUMERIC).flatmap(lambda precision: st.tuples(st.just(precision), arrays(precision))))
def test_arrays_come_back_as_they_were_written(drawn: tuple[Precision, np.ndarray]) -> None:
    """Every value of every precision, be the list short or long."""
    precision, array = drawn
    text = dump(array, NonFinite.LITERAL)
    for document in (text, widen(text)):
        back = read_array(document, precision)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
        if array.dtype.kind == "f":
            present = ~np.isnan(array)
            np.testing.assert_array_equal(np.signbit(back[present]), np.signbit(array[present]))


@given(arrays(BOOL))
def test_booleans_come_back_as_they_were_written(array: np.ndarray) -> None:
    """The same for true and false."""
    np.testing.assert_array_equal(read_array(dump(array, NonFinite.NULL), BOOL), array)


@given(lists | rectangular(numbers), st.sampled_from(Precision))
def test_long_lists_are_read_as_short_ones(value: Any, precision: Precision) -> None:
    """The fast path gives the same array, bit for bit, or the same refusal."""
    text = write(value)
    short, long = parse(text, DEPTH), parse(widen(text), DEPTH)
    assert outcome_of(long, precision) == outcome_of(short, precision)


@given(rectangular(numbers), st.sampled_from(NUMERIC))
def test_lists_of_numbers_are_read_as_lists_of_lists(value: Any, precision: Precision) -> None:
    """Instances that are long lists each, one below the other."""
    text = write(value)
    short, long = [parse(text, DEPTH)] * 2, [parse(widen(text), DEPTH)] * 2
    assert outcome_of(long, precision) == outcome_of(short, precision)


def outcome_of(value: Any, precision: Precision) -> tuple[Any, ...]:
    """What reading comes to, in a form that compares; beside NaN a message may show an integer as a float."""
    try:
        value = read(value, "b", precision, Code.INPUT_UNREADABLE)
    except Failure as failure:
        return failure.code, re.sub(r"Actual: [-+.e\d]+;", "Actual: a number;", failure.detail)
    return (value,) if isinstance(value, Encoded) else (value.dtype, value.shape, value.tobytes())


@given(lists | scalars, st.sampled_from(Precision))
def test_any_value_is_an_array_or_a_failure(value: Any, precision: Precision) -> None:
    """Nothing else is raised; an array can be handed to OpenVINO, and ragged lists never become one."""
    try:
        array = read(value, "b", precision, Code.INPUT_UNREADABLE)
    except Failure as failure:
        assert "; input name: b" in failure.detail  # noqa: PT017 - both outcomes are right
    else:
        assert array.shape == shape_of(value)
        if isinstance(array, Encoded):
            assert len(array.values) == math.prod(array.shape)
        else:
            assert array.flags.c_contiguous
            assert array.flags.writeable


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of nested lists, all of which are visited."""
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(each) for each in value}
    assert len(shapes) <= 1
    return (len(value), *(shapes.pop() if shapes else ()))


def test_short_lists_beside_long_ones() -> None:
    """One row that is read apart makes an array with one that is not."""
    row = b"[1," + b" " * LONG + b"2]"
    tree = parse(b'{"a":%b,"b":%b}' % (row, row.replace(b"2", b"3,4")), DEPTH)
    assert isinstance(tree["a"], Numbers)
    array = read([tree["a"], [5, 6]], "b", I32, Code.INPUT_UNREADABLE)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [[1, 2], [5, 6]]
    for rows in ([tree["a"], tree["b"]], [tree["a"], 7], [7, tree["a"]]):
        with pytest.raises(Failure) as caught:
            read(rows, "b", I32, Code.INPUT_UNREADABLE)
        assert caught.value.detail.endswith("input name: b; position: [1]")
