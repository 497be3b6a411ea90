"""Which file is the model, and what a mapping file says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.model_files import ModelFiles, NameMapping, find_model_files, parse_mapping


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.xml", "model.bin", "model.onnx"], ModelFiles("model.xml", "model.bin")),
        (["A.XML", "A.BIN"], ModelFiles("A.XML", "A.BIN")),
        (["model.xml", "model.onnx"], ModelFiles("model.onnx")),
        (["inference.pdmodel", "inference.pdiparams"], ModelFiles("inference.pdmodel")),
        (["inference.pdmodel"], None),
        (["saved_model.pb"], ModelFiles("")),
        (["frozen.pb"], ModelFiles("frozen.pb")),
        (["model.tflite"], ModelFiles("model.tflite")),
        (["readme.txt"], None),
        ([], None),
    ],
)
def test_the_first_complete_format_is_taken(names: list[str], found: ModelFiles | None) -> None:
    """IR before ONNX before Paddle before TensorFlow before TFLite, each only with all its files."""
    assert find_model_files(names) == found


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["a.bin", "model.bin", "model.BIN", "model.xml"], "model.bin"),
        (["a.bin", "MODEL.BIN", "model.xml"], "MODEL.BIN"),
        (["b.bin", "a.bin", "model.xml"], "a.bin"),
    ],
)
def test_weights_of_another_name(names: list[str], weights: str) -> None:
    """They are those of the same name, whatever its capitals, before any others."""
    assert find_model_files(names) == ModelFiles("model.xml", weights)


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
