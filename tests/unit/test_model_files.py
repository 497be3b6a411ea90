"""Which file is the model, and what a mapping file says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.model_files import NameMapping, find_model_file, parse_mapping


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.xml", "model.bin", "model.onnx"], "model.xml"),
        (["A.XML", "A.BIN"], "A.XML"),
        (["model.xml", "model.onnx"], "model.onnx"),
        (["inference.pdmodel", "inference.pdiparams"], "inference.pdmodel"),
        (["inference.pdmodel"], None),
        (["saved_model.pb"], ""),
        (["frozen.pb"], "frozen.pb"),
        (["model.tflite"], "model.tflite"),
        (["readme.txt"], None),
        ([], None),
    ],
)
def test_the_first_complete_format_is_taken(names: list[str], found: str | None) -> None:
    """IR before ONNX before Paddle before TensorFlow before TFLite, each only with all its files."""
    assert find_model_file(names) == found


def test_a_mapping_names_inputs_and_outputs() -> None:
    """Both sides are optional."""
    assert parse_mapping(b'{"inputs": {"b": "in"}}') == NameMapping({"b": "in"}, {})


@pytest.mark.parametrize(
    "text", [b"asdasd", b"[]", b'{"inputs": {"b": 1}}', b'{"inputs": [], "outputs": {}}', b'{"x": {}}']
)
def test_other_mappings_are_refused(text: bytes) -> None:
    """Not JSON, not an object, another key, a name that is no text."""
    with pytest.raises(ValueError, match=r"."):
        parse_mapping(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_mapping_or_refused(text: bytes) -> None:
    """Nothing but ValueError comes out."""
    try:
        assert isinstance(parse_mapping(text), NameMapping)
    except ValueError:
        return
