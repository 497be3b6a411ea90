"""Dimensions, shapes, layouts and what a tensor accepts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import (
    ANY,
    AUTO,
    Dim,
    Layout,
    LayoutChange,
    Precision,
    Shape,
    TensorSpec,
    parse_batch_size,
    parse_layout,
    parse_shape,
)


def tensor(*dims: Dim, layout: str = "N...") -> TensorSpec:
    """An input called b."""
    return TensorSpec("b", Precision.FP32, Shape(dims), Layout(layout))


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        ([], "()"),
        ([Dim.fixed(1), Dim.fixed(10)], "(1,10)"),
        ([Dim.fixed(1), Dim(5, 15)], "(1,[5~15])"),
        ([ANY, Dim(32, None)], "(-1,[32~])"),
    ],
)
def test_shapes_print_as_the_reference_does(dims: list[Dim], text: str) -> None:
    """Messages carry these texts."""
    assert str(Shape(dims)) == text


def test_a_dimension_needs_sizes() -> None:
    """A range without a size in it cannot be built."""
    with pytest.raises(ValueError, match="no sizes"):
        Dim(3, 2)


@pytest.mark.parametrize(
    ("sizes", "code", "detail"),
    [
        ((10,), Code.NUMBER_OF_DIMENSIONS, "Expected: (1,10); Actual: (10); input name: b"),
        ((2, 11), Code.BATCH_SIZE, "Expected: 1; Actual: 2; input name: b"),
        ((1, 11), Code.SHAPE, "Expected: (1,10); Actual: (1,11); input name: b"),
    ],
)
def test_refusals_come_in_the_reference_s_order(sizes: tuple[int, ...], code: Code, detail: str) -> None:
    """Rank, then batch, then the rest."""
    with pytest.raises(Failure) as caught:
        tensor(Dim.fixed(1), Dim.fixed(10)).accept(sizes)
    assert (caught.value.code, caught.value.detail) == (code, detail)


def test_the_batch_is_where_the_layout_has_it() -> None:
    """With CN the second dimension is the batch."""
    with pytest.raises(Failure) as caught:
        tensor(Dim.fixed(1), Dim.fixed(4), layout="CN").accept((1, 30))
    assert caught.value.code is Code.BATCH_SIZE


def test_without_a_batch_every_dimension_is_like_any_other() -> None:
    """A layout without N has no batch check."""
    with pytest.raises(Failure) as caught:
        tensor(Dim.fixed(1), Dim.fixed(4), layout="HW").accept((2, 4))
    assert caught.value.code is Code.SHAPE


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4), st.lists(st.integers(0, 10), max_size=4))
def test_accept_agrees_with_the_shape(ranges: list[tuple[int, int]], sizes: list[int]) -> None:
    """An array is refused exactly if the shape does not take it."""
    checked = tensor(*(Dim(low, low + more) for low, more in ranges))
    try:
        checked.accept(sizes)
    except Failure:
        assert not checked.shape.accepts(sizes)
    else:
        assert checked.shape.accepts(sizes)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" ( 1 , 12 ) ", Shape.of([1, 12])),
        ("(2:4,-1,0)", Shape([Dim(2, 4), ANY, Dim.fixed(0)])),
        ("auto", AUTO),
    ],
)
def test_shapes_are_read(text: str, value: object) -> None:
    """Blanks do not matter."""
    assert parse_shape(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "()", "(1,10", "1,10", "((1,10))", "(1,)", "(?,1)", "(auto,10)", "(3.5)", "(1:)", "(-5)", "(3:3)", "(5:1)",
        "(2147483648)", "(1;2)",
    ],
)  # fmt: skip
def test_malformed_shapes_are_refused(text: str) -> None:
    """Each of these is a malformed shape in the reference."""
    with pytest.raises(ValueError, match=r"."):
        parse_shape(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", Dim.fixed(8)),
        ("0", Dim.fixed(0)),
        ("-1", ANY),
        (" 2 : 5 ", Dim(2, 5)),
        ("3:3", Dim.fixed(3)),
        ("auto", AUTO),
    ],
)
def test_batch_sizes_are_read(text: str, value: object) -> None:
    """Unlike in a shape a range may have equal ends."""
    assert parse_batch_size(text) == value


@pytest.mark.parametrize("text", ["?", "1:", ":9", "(3:5)", "-2", "5:1", "0:5", "word", "2147483648", ""])
def test_malformed_batch_sizes_are_refused(text: str) -> None:
    """Each of these is ignored with a warning in the reference."""
    with pytest.raises(ValueError, match=r"."):
        parse_batch_size(text)


def test_layouts_are_read() -> None:
    """Case and blanks do not matter; without a colon nothing is changed."""
    assert parse_layout(" Nhwc : nChw ") == LayoutChange(Layout("NHWC"), Layout("NCHW"))
    assert parse_layout("n...") == LayoutChange(Layout("N..."), Layout("N..."))


@pytest.mark.parametrize("text", ["nc>nc", "NXC", "NHWC:NCHW:NC", "N,C"])
def test_malformed_layouts_are_refused(text: str) -> None:
    """Other characters, or a second colon."""
    with pytest.raises(ValueError, match="layout"):
        parse_layout(text)


@pytest.mark.parametrize(
    ("layout", "agrees"),
    [("NHWC", True), ("N...", True), ("...", True), ("N?WC", True), ("NCHW", False), ("NHWCD", False)],
)
def test_layouts_that_pictures_fit(layout: str, agrees: bool) -> None:  # noqa: FBT001
    """A picture is N...HWC; what does not contradict that takes one."""
    assert Layout(layout).agrees_with(Layout("N...HWC"), 4) is agrees


@pytest.mark.parametrize("precision", Precision)
def test_precisions_know_their_other_names(precision: Precision) -> None:
    """Only what numpy lacks has no type, and shows as invalid."""
    assert (precision.dtype is None) == (precision is Precision.UNDEFINED)
    assert (precision.tensorflow == "DT_INVALID") == (precision is Precision.UNDEFINED)
