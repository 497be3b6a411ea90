"""Parameters of the built-in nodes: texts as C reads them, defaults, and what a refusal says."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.nodes.builtin import BUILTIN
from tornado_ovms.nodes.builtin.parameters import Parameters, read_integer, read_number, read_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.nodes.base import CustomNode

SIZES = {
    "original_image_width": "8",
    "original_image_height": "8",
    "target_image_width": "2",
    "target_image_height": "2",
}
LEAST: Mapping[str, Mapping[str, str]] = {
    "add_one": {},
    "east_ocr": {**SIZES, "confidence_threshold": "0.5"},
    "face_blur": {**SIZES, "confidence_threshold": "0.5", "gaussian_blur_kernel_size": "3"},
    "horizontal_ocr": {**SIZES, "confidence_threshold": "0.5"},
    "image_transformation": {"original_image_layout": "NCHW"},
    "model_zoo_intel_object_detection": {**SIZES, "confidence_threshold": "0.5"},
}
"""The required parameters of each node, and no others."""


def load(name: str) -> type[CustomNode]:
    """The class of a built-in node."""
    module, _, found = BUILTIN[name].partition(":")
    node: type[CustomNode] = getattr(importlib.import_module(module), found)
    return node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        (" \t-7", -7),
        ("+3", 3),
        ("12px", 12),
        ("2.9", 2),
        ("1e3", 1),
        ("0x10", 0),
        ("2147483647", 2147483647),
        ("-2147483648", -2147483648),
        ("2147483648", None),
        ("9" * 5000, None),
        ("", None),
        ("px", None),
        ("-", None),
        ("\u0661", None),
    ],
)
def test_integers(text: str, value: int | None) -> None:
    """What stands in front counts; what does not fit is no number; only ASCII digits are digits."""
    assert read_integer(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25", 0.25),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e1x", -15.0),
        ("1e", 1.0),
        ("0.5,0.7", 0.5),
        ("1e39", None),
        ("1e999", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("e5", None),
    ],
)
def test_numbers(text: str, value: float | None) -> None:
    """The same for floats."""
    assert read_number(text) == value


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[123.675,116.28,103.53]", (123.675, 116.28, 103.53)),
        ("[ 1, 2]", (1.0, 2.0)),
        ("[1]", (1.0,)),
        ("[1,]", (1.0,)),
        ("[]", ()),
        ("[1,,2]", ()),
        ("[1,x]", ()),
        ("1,2,3", ()),
        ("[1,2", ()),
        ("[", ()),
        ("", ()),
    ],
)
def test_lists(text: str, values: tuple[float, ...]) -> None:
    """A list without brackets, or with something else among its numbers, is none."""
    assert read_numbers(text) == values


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """A number in the range, or none."""
    integer, number = read_integer(text), read_number(text)
    assert integer is None or -(2**31) <= integer < 2**31
    assert number is None or abs(number) < 3.5e38
    assert all(abs(value) < 3.5e38 for value in read_numbers(text))


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_integer_is_read_as_it_is_written(value: int) -> None:
    """Also at the borders."""
    assert read_integer(str(value)) == value


def test_only_true_is_true() -> None:
    """As in the reference, which compares the text."""
    texts = ("true", "True", "TRUE", "1", "yes", "")
    assert [Parameters({"debug": text}).flag("debug") for text in texts] == [True] + 5 * [False]
    assert not Parameters({}).flag("debug")


def test_the_names_are_those_of_the_reference_s_files() -> None:
    """A configuration needs another path, and nothing else."""
    assert sorted(BUILTIN) == sorted(LEAST)


@pytest.mark.parametrize("name", BUILTIN)
def test_what_is_required_is_enough(name: str) -> None:
    """And the node then says what it takes and gives."""
    node = load(name)(LEAST[name])
    assert node.inputs
    assert node.outputs


@pytest.mark.parametrize(("name", "missing"), [(name, key) for name, params in LEAST.items() for key in params])
def test_what_is_required_is_missed(name: str, missing: str) -> None:
    """The message names the parameter, what was expected and that nothing came."""
    params = {key: value for key, value in LEAST[name].items() if key != missing}
    with pytest.raises(ValueError, match=rf"^parameter {missing} - Expected: .+; Actual: nothing$"):
        load(name)(params)


CUT = ("east_ocr", "horizontal_ocr", "model_zoo_intel_object_detection")
SIZED = (*CUT, "face_blur")

FAULTS: list[tuple[Any, ...]] = [
    *((name, "original_image_width", text, "an integer of at least 1") for name in SIZED for text in ("0", "-8", "x")),
    *((name, "target_image_height", "0", "an integer of at least 1") for name in SIZED),
    *((name, "original_image_layout", "CHW", "one of NCHW, NHWC") for name in (*SIZED, "image_transformation")),
    *((name, "target_image_layout", "nhwc", "one of NCHW, NHWC") for name in (*SIZED, "image_transformation")),
    *((name, "confidence_threshold", text, "a number from 0 to 1") for name in SIZED for text in ("1.1", "-0.1", "x")),
    *((name, "max_output_batch", text, "an integer of at least 1") for name in CUT for text in ("0", "-1")),
    ("add_one", "add_number", "-1", "an integer of at least 0"),
    ("add_one", "sub_number", "-1", "an integer of at least 0"),
    ("add_one", "output_queue_size", "0", "an integer of at least 1"),
    ("add_one", "info_queue_size", "0", "an integer of at least 1"),
    ("model_zoo_intel_object_detection", "buffer_queue_size", "0", "an integer of at least 1"),
    ("east_ocr", "overlap_threshold", "2", "a number from 0 to 1"),
    ("east_ocr", "box_width_adjustment", "-0.1", "a number of at least 0"),
    ("east_ocr", "box_height_adjustment", "-1", "a number of at least 0"),
    ("east_ocr", "rotation_angle_threshold", "-1", "an integer of at least 0"),
    ("face_blur", "gaussian_blur_kernel_size", "0", "an integer of at least 1"),
    ("image_transformation", "target_image_width", "0", "an integer of at least 1, or -1"),
    ("image_transformation", "target_image_height", "-2", "an integer of at least 1, or -1"),
    ("image_transformation", "original_image_color_order", "HSV", "one of BGR, RGB, GRAY"),
    ("image_transformation", "target_image_color_order", "GREY", "one of BGR, RGB, GRAY"),
    ("image_transformation", "mean_values", "[1,2]", "3 numbers, as [a,b,c]"),
    ("image_transformation", "scale_values", "[1]", "3 numbers, as [a,b,c]"),
]


@pytest.mark.parametrize(("name", "key", "text", "expected"), FAULTS)
def test_what_cannot_be_used_is_refused(name: str, key: str, text: str, expected: str) -> None:
    """Before the first request, with the parameter, what was expected and what came."""
    with pytest.raises(ValueError, match="parameter") as caught:
        load(name)({**LEAST[name], key: text})
    assert str(caught.value) == f"parameter {key} - Expected: {expected}; Actual: {text!r}"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "east_ocr",
            {"original_image_width": "10"},
            "parameter original_image_width - Expected: a multiple of 4; Actual: 10",
        ),
        (
            "face_blur",
            {"gaussian_blur_kernel_size": "4"},
            "parameter gaussian_blur_kernel_size - Expected: an odd integer; Actual: 4",
        ),
        (
            "image_transformation",
            {"scale": "0"},
            "parameter scale or scale_values - Expected: numbers other than 0; Actual: 0.0",
        ),
        (
            "image_transformation",
            {"scale_values": "[1,0,2]"},
            "parameter scale or scale_values - Expected: numbers other than 0; Actual: [1. 0. 2.]",
        ),
    ],
)
def test_what_else_is_refused(name: str, params: Mapping[str, str], message: str) -> None:
    """Numbers that are in range and still make no sense."""
    with pytest.raises(ValueError, match="parameter") as caught:
        load(name)({**LEAST[name], **params})
    assert str(caught.value) == message


@pytest.mark.parametrize("name", BUILTIN)
def test_unknown_parameters_do_nothing(name: str) -> None:
    """As in the reference; ``debug`` is one of them here."""
    plain, other = (load(name)({**LEAST[name], **more}) for more in ({}, {"debug": "true", "colour": "red"}))
    assert (plain.inputs, plain.outputs) == (other.inputs, other.outputs)
