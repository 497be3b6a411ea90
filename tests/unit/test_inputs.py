"""A request's inputs against a model's: the checks of the reference in their order, and what texts become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import spec
from tests.strategies import NUMERIC
from tornado_ovms.codec import inputs
from tornado_ovms.codec.inputs import Encoded, accept, decode
from tornado_ovms.core.settings import Limits
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = Limits()


def flexible(*dims: Dim, precision: Precision = Precision.U8, layout: str = "N...") -> TensorSpec:
    """An input called i."""
    return TensorSpec("i", precision, Shape(dims), Layout(layout))


def texts(*values: bytes) -> Encoded:
    """A list of strings."""
    return Encoded(values, (len(values),))


def refusal(specs: Mapping[str, TensorSpec], values: Mapping[str, np.ndarray | Encoded]) -> Failure:
    """What is wrong with a request."""
    with pytest.raises(Failure) as caught:
        accept(specs, values)
    return caught.value


TWO = {"b": spec("b"), "a": spec("a", (2, 3), Precision.I32)}
B, A = np.zeros((1, 10), np.float32), np.zeros((2, 3), np.int32)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "Invalid number of inputs - Expected: 2; Actual: 0"),
        ({"b": B}, "Invalid number of inputs - Expected: 2; Actual: 1"),
        ({"a": A, "b": B, "c": B}, "Invalid number of inputs - Expected: 2; Actual: 3"),
        ({"c": B, "d": B}, "Missing input with specific name - Required input: a"),
        ({"a": A, "c": B}, "Missing input with specific name - Required input: b"),
        (
            {"a": A[0], "c": B},
            "Invalid number of shape dimensions - Expected: (2,3); Actual: (3); input name: a",
        ),
        ({"a": A[:1], "b": B[0]}, "Invalid input batch size - Expected: 2; Actual: 1; input name: a"),
        ({"a": A[:, :2], "b": B[0]}, "Invalid input shape - Expected: (2,3); Actual: (2,2); input name: a"),
        ({"a": A, "b": B[:, :3]}, "Invalid input shape - Expected: (1,10); Actual: (1,3); input name: b"),
        ({"a": A, "b": B[:, :0]}, "Invalid input shape - Expected: (1,10); Actual: (1,0); input name: b"),
    ],
)
def test_checks_come_in_the_reference_s_order(values: dict[str, np.ndarray], text: str) -> None:
    """The number of inputs, then all checks of each input, by name."""
    failure = refusal(TWO, values)
    assert (failure.http, failure.text) == (400, text)


def test_what_fits_is_accepted() -> None:
    """And passed on as it is."""
    values = {"b": B, "a": A}
    accept(TWO, values)
    decoded = decode(TWO, values, LIMITS)
    assert list(decoded) == ["b", "a"]
    assert decoded["b"] is B


def test_zero_is_a_size_like_others() -> None:
    """Where the model allows any."""
    accept({"i": flexible(ANY, Dim.fixed(3))}, {"i": np.zeros((0, 3), np.uint8)})


@pytest.mark.parametrize(
    ("shape", "value", "text"),
    [
        ((2,), B, "Invalid number of shape dimensions - Expected: (2); Actual: (1,10); input name: i"),
        ((1, 10), B, "Unsupported deserialization precision - input name: i"),
    ],
)
def test_precisions_that_numpy_lacks_are_refused_last(shape: tuple[int, ...], value: np.ndarray, text: str) -> None:
    """There is no array to give to the model."""
    assert refusal({"i": spec("i", shape, Precision.UNDEFINED)}, {"i": value}).text == text


@pytest.mark.parametrize(
    ("precision", "rank"),
    [
        *((precision, 2) for precision in (*NUMERIC, Precision.BOOL, Precision.UNDEFINED) if precision is not Precision.U8),
        *((precision, rank) for precision in (Precision.U8, Precision.FP32) for rank in (0, 1, 3, 5)),
    ],
)  # fmt: skip
def test_encoded_values_are_for_texts_and_pictures_only(precision: Precision, rank: int) -> None:
    """The reference's 500 for inputs that can be neither."""
    failure = refusal({"i": spec("i", (1,) * rank, precision)}, {"i": texts(b"x")})
    assert (failure.http, failure.text) == (
        500,
        "Functionality not implemented - Expected: numbers; Actual: strings or base64; input name: i",
    )


@pytest.mark.parametrize("shape", [(), (1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("tensor", [spec("i", (1, 4), Precision.U8), spec("i", (1, 2, 2, 3))])
def test_encoded_values_make_one_dimension(tensor: TensorSpec, shape: tuple[int, ...]) -> None:
    """A picture without a list around it is refused, and so is one in two lists."""
    failure = refusal({"i": tensor}, {"i": Encoded((b"x",), shape)})
    assert failure.text == (
        "Invalid number of shape dimensions - "
        f"Expected number of binary input shape dimensions: 1; Actual: {len(shape)}; input name: i"
    )


@pytest.mark.parametrize(
    ("tensor", "count", "expected"),
    [
        (spec("i", (2, 8), Precision.U8), 1, "2"),
        (spec("i", (2, 8), Precision.U8), 3, "2"),
        (flexible(Dim(2, 3), ANY), 4, "[2~3]"),
        (flexible(ANY, ANY), 0, "-1"),
        (spec("i", (2, 4, 4, 3)), 1, "2"),
        (flexible(Dim(2, 3), ANY, ANY, ANY), 1, "[2~3]"),
        (flexible(ANY, ANY, ANY, ANY), 0, "-1"),
    ],
)
def test_encoded_values_are_the_batch(tensor: TensorSpec, count: int, expected: str) -> None:
    """As many as the first dimension takes, and at least one, whatever it takes."""
    failure = refusal({"i": tensor}, {"i": texts(*[b"x"] * count)})
    assert failure.text == f"Invalid input batch size - Expected: {expected}; Actual: {count}; input name: i"


def test_texts_have_to_fit_with_the_zero_that_ends_them() -> None:
    """The reference's words, which name the batch too."""
    failure = refusal({"i": spec("i", (2, 4), Precision.U8)}, {"i": texts(b"abcd", b"")})
    assert failure.text == (
        "Invalid input shape - Expected batch size: 2; got: 2; "
        "Expected max null terminated string length: 4; got: 5; input name: i"
    )
    accept({"i": spec("i", (2, 4), Precision.U8)}, {"i": texts(b"abc", b"")})
    accept({"i": flexible(ANY, Dim(2, 5))}, {"i": texts(b"abcd")})


def test_texts_that_would_be_too_large_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One long string among many short ones; refused before the memory is taken and before the batch is looked at."""
    assert inputs.MAX_TEXT_BYTES == 1 << 30
    tensor = {"i": spec("i", (1, 4), Precision.U8)}
    long = bytes((1 << 20) - 1)
    failure = refusal(tensor, {"i": texts(long, *[b""] * 1024)})
    assert (failure.http, failure.text) == (
        500,
        "Maximum 2D array after string conversion exceeded 1GB - ; actual 1025MB (max 1GB)",
    )
    monkeypatch.setattr(inputs, "MAX_TEXT_BYTES", 8)
    accept({"i": flexible(ANY, ANY)}, {"i": texts(b"abc", b"")})
    for tensor in ({"i": flexible(ANY, ANY)}, {"i": spec("i", (2,), Precision.STRING)}):
        assert refusal(tensor, {"i": texts(b"abcd", b"")}).code is Code.STRINGS_TOO_LARGE


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Encoded((b"a",), (1, 1)), "Invalid number of shape dimensions - Expected: (2); Actual: (1,1); input name: i"),
        (texts(b"a"), "Invalid input batch size - Expected: 2; Actual: 1; input name: i"),
    ],
)
def test_string_inputs_are_checked_as_any_other(value: Encoded, text: str) -> None:
    """By the shape of the lists that the strings came in."""
    assert refusal({"i": spec("i", (2,), Precision.STRING)}, {"i": value}).text == text


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1, 1, 1), (0,)])
def test_strings_become_an_array_of_bytes(shape: tuple[int, ...]) -> None:
    """Of any number of dimensions, four too; zeros in them and at their end are kept."""
    values = (b"a\0b\0", b"\xff")[: int(np.prod(shape))]
    specs = {"i": spec("i", shape, Precision.STRING)}
    request = {"i": Encoded(values, shape)}
    accept(specs, request)
    array = decode(specs, request, LIMITS)["i"]
    assert (array.dtype, array.shape) == (object, shape)
    assert array.ravel().tolist() == list(values)


def test_a_string_can_be_a_scalar() -> None:
    """An array without dimensions, with one string in it."""
    specs = {"i": spec("i", (), Precision.STRING)}
    array = decode(specs, {"i": Encoded((b"a",), ())}, LIMITS)["i"]
    assert (array.shape, array.item()) == ((), b"a")


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4))
def test_texts_become_rows_that_end_in_zeros(values: list[bytes]) -> None:
    """Each followed by at least one, all as long as the longest."""
    specs = {"i": flexible(ANY, ANY)}
    request = {"i": texts(*values)}
    accept(specs, request)
    rows = decode(specs, request, LIMITS)["i"]
    width = max(map(len, values)) + 1
    assert (rows.dtype, rows.shape) == (np.uint8, (len(values), width))
    assert [row.tobytes() for row in rows] == [value.ljust(width, b"\0") for value in values]


def test_pictures_are_decoded() -> None:
    """For inputs of four dimensions, in their precision and within the limit of pixels."""
    done, data = cv2.imencode(".png", np.full((5, 7, 3), 9, np.uint8))
    assert done
    specs = {"i": spec("i", (1, 5, 7, 3)), "b": spec("b")}
    request = {"i": texts(data.tobytes()), "b": B}
    accept(specs, request)
    decoded = decode(specs, request, LIMITS)
    np.testing.assert_array_equal(decoded["i"], np.full((1, 5, 7, 3), 9, np.float32))
    assert decoded["b"] is B
    with pytest.raises(Failure) as caught:
        decode(specs, request, Limits(image_pixels=34))
    assert caught.value.code is Code.IMAGE_TOO_LARGE


def test_pictures_are_looked_at_after_the_request() -> None:
    """That an input takes none is told when the names, batches and sizes of all inputs are right."""
    specs = {"a": TensorSpec("a", Precision.FP32, Shape.of((1, 3, 5, 7)), Layout("NCHW")), "b": spec("b")}
    failure = refusal(specs, {"a": texts(b"x"), "b": B[0]})
    assert failure.detail.endswith("input name: b")
    accept(specs, {"a": texts(b"x"), "b": B})
    with pytest.raises(Failure) as caught:
        decode(specs, {"a": texts(b"x"), "b": B}, LIMITS)
    assert caught.value.code is Code.IMAGE_LAYOUT


def test_pictures_of_a_request_that_is_split() -> None:
    """One dimension more: each picture is the batch of a request of its own. Other inputs of five dimensions take none."""
    done, data = cv2.imencode(".png", np.full((5, 7, 3), 9, np.uint8))
    assert done
    sizes = [ANY, *map(Dim.fixed, (1, 5, 7, 3))]
    for layout in ("N?...", "N?HWC"):
        specs = {"i": flexible(*sizes, layout=layout)}
        request = {"i": texts(data.tobytes(), data.tobytes())}
        accept(specs, request)
        np.testing.assert_array_equal(decode(specs, request, LIMITS)["i"], np.full((2, 1, 5, 7, 3), 9, np.uint8))
        arrays, batches = inputs.begin_decoding(specs, request, LIMITS)
        batches[0].place(1)
        np.testing.assert_array_equal(arrays["i"], np.full((2, 1, 5, 7, 3), 9, np.uint8))
    three = {"i": flexible(Dim.fixed(3), *sizes[1:], layout="N?HWC")}
    assert refusal(three, request).text == "Invalid input batch size - Expected: 3; Actual: 2; input name: i"
    for layout in ("N...", "N1HWC", "..."):
        plain = {"i": flexible(*sizes, layout=layout)}
        assert refusal(plain, request).code is Code.ENCODED_VALUE_NOT_IMPLEMENTED
    assert refusal({"i": flexible(ANY, *sizes, layout="N?...")}, request).code is Code.ENCODED_VALUE_NOT_IMPLEMENTED


def test_layouts_that_begin_alike_are_no_sign_of_a_split_request() -> None:
    """A model's own layout may leave its second dimension without a name."""
    accept({"i": flexible(*map(Dim.fixed, (1, 5, 7, 3)), layout="N??C")}, {"i": texts(b"picture")})
    accept({"i": flexible(ANY, ANY, layout="N?")}, {"i": texts(b"text")})
