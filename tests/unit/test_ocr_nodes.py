"""The nodes of ``etc/pipelines/ocr``: what each of them makes of a photo, a map or probabilities, without models or a server."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_pipelines_page import Read
from tornado_ovms.core import config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornado_ovms.nodes.base import CustomNode, Tensor

FOLDER = Path(__file__).parents[2] / "etc/pipelines/ocr"


def load() -> Any:
    """The file as a module, as the server loads it."""
    spec = importlib.util.spec_from_file_location("ocr_nodes", FOLDER / "ocr_nodes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ocr = load()


def run(node: CustomNode, **inputs: np.ndarray) -> Mapping[str, np.ndarray]:
    """The outputs, all of which and the inputs are as the node tells."""
    outputs = node.execute(inputs)
    assert not hasattr(outputs, "__await__")
    check(inputs, node.inputs)
    check(outputs, node.outputs)
    return outputs


def check(arrays: Mapping[str, np.ndarray], declared: Mapping[str, Tensor]) -> None:
    """Names, dtypes and shapes."""
    assert arrays.keys() == declared.keys()
    for name, (dtype, shape) in declared.items():
        assert arrays[name].dtype == dtype
        assert [size for size, found in zip(shape, arrays[name].shape, strict=True) if size not in (-1, found)] == []


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Pixels of all brightnesses: [1,h,w,c]."""
    return np.random.default_rng(0).integers(0, 256, (1, height, width, channels), np.uint8)


# ---------------------------------------------------------------------- the configuration


def test_the_configuration_is_one() -> None:
    """The reference's format, without a fault or an unknown key."""
    found = config.parse((FOLDER / "config.json").read_bytes(), str(FOLDER))
    assert found.faults == ()
    assert [model.name for model in found.models] == ["ocr_det", "ocr_rec"]


def test_the_configuration_names_classes_that_are_there() -> None:
    """And sources, aliases and libraries that exist."""
    document = json.loads((FOLDER / "config.json").read_text())
    libraries = {entry["name"]: entry["base_path"] for entry in document["custom_node_library_config_list"]}
    classes = {name: getattr(ocr, path.removeprefix("ocr_nodes.py:")) for name, path in libraries.items()}
    (pipeline,) = document["pipeline_config_list"]
    aliases = {("request", "image")}
    for node in pipeline["nodes"]:
        aliases |= {(node["name"], output["alias"]) for output in node["outputs"]}
    for node in pipeline["nodes"]:
        assert {
            (source["node_name"], source["data_item"]) for entry in node["inputs"] for source in entry.values()
        } <= aliases
        if node["type"] == "custom":
            names = [name for entry in node["inputs"] for name in entry]
            assert sorted(names) == sorted(classes[node["library_name"]].inputs)


def test_the_parameters_of_the_readme_are_those_that_are_read(characters: str) -> None:
    """With their defaults: a node with all of them written out is the node without them."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\S+) \|", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    classes = {"prepare": ocr.Prepare, "find": ocr.FindLines, "read": ocr.Read}
    assert {node for node, _, _ in rows} == classes.keys()
    for name, node in classes.items():
        required = {"characters": characters} if name == "read" else {}
        defaults = {key: value for where, key, value in rows if where == name and value != "required"}
        params = Read(required)
        plain, written = vars(node(params)), vars(node({**defaults, **required}))
        assert sorted(params.names) == sorted(key for where, key, _ in rows if where == name)
        assert {**plain, "params": None} == {**written, "params": None}


# ---------------------------------------------------------------------- the photo


@pytest.mark.parametrize(
    ("size", "params", "prepared"),
    [
        ((191, 384), {}, (192, 384)),
        ((10, 10), {}, (32, 32)),
        ((100, 49), {}, (96, 64)),
        ((3000, 1500), {}, (1536, 768)),
        ((300, 150), {"max_side": "192"}, (192, 96)),
    ],
)
def test_sides_are_multiples_of_32(size: tuple[int, int], params: Mapping[str, str], prepared: tuple[int, int]) -> None:
    """The nearest, of a photo that is made smaller if a side is too long."""
    assert run(ocr.Prepare(params), image=photo(*size))["x"].shape[2:] == prepared


def test_values_are_normalised() -> None:
    """By the numbers of the training, in planes."""
    image = np.full((1, 32, 32, 3), (0, 51, 255), np.uint8)
    planes = run(ocr.Prepare({}), image=image)["x"][0, :, 0, 0]
    np.testing.assert_allclose(planes, [-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-5)


@pytest.mark.parametrize(
    ("pixel", "colours"), [([7], [7, 7, 7]), ([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 200], [1, 2, 3])], ids=str
)
def test_photos_may_be_grey_or_transparent(pixel: Sequence[int], colours: Sequence[int]) -> None:
    """They become three colours."""
    assert ocr.in_colours(np.array([[[pixel]]], np.uint8)).tolist() == [[colours]]


def test_two_channels_are_no_photo() -> None:
    """The message says what is."""
    with pytest.raises(ValueError, match="input image - Expected: 1, 3 or 4 channels; Actual: 2"):
        ocr.Prepare({}).execute({"image": photo(4, 4, 2)})


# ---------------------------------------------------------------------- the lines


def likely(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A map with boxes of text: left, top, width and height."""
    found = np.zeros((1, 1, height, width), np.float32)
    for left, top, columns, rows in boxes:
        found[0, 0, top : top + rows, left : left + columns] = 0.9
    return found


def test_lines_are_grown_and_cut_out() -> None:
    """A part of 40 x 10 grows by 400 * 1.6 / 100 = 6.4 on each side; the photo is twice as large as the map."""
    image = photo(128, 256)
    found = run(ocr.FindLines({}), image=image, map=likely(64, 128, (20, 30, 40, 10)))
    left, top, right, bottom = 27, 47, 133, 93  # outwards of 27.2, 47.2, 132.8, 92.8
    assert found["boxes"].tolist() == [[[left, top, right, bottom]]]
    assert found["widths"].tolist() == [[[111]]]  # 106 pixels at 48 / 46
    expected = cv2.resize(np.ascontiguousarray(image[0, top:bottom, left:right]), (111, 48))
    np.testing.assert_array_equal(found["strips"][0, 0], expected)


def test_lines_come_from_top_to_bottom_and_are_padded() -> None:
    """To the width of the widest."""
    found = run(ocr.FindLines({}), image=photo(96, 96), map=likely(96, 96, (10, 60, 60, 8), (20, 20, 20, 8)))
    assert found["boxes"][:, 0, 1].tolist() == [15, 54]
    narrow, wide = found["widths"].ravel().tolist()
    assert narrow < wide == found["strips"].shape[3]
    assert not found["strips"][0, 0, :, narrow:].any()


@pytest.mark.parametrize(
    ("params", "count"),
    [({}, 1), ({"threshold": "0.95"}, 0), ({"min_side": "2"}, 2), ({"min_side": "9"}, 0)],
)
def test_what_is_a_line(params: Mapping[str, str], count: int) -> None:
    """Sure and large enough; without any there are no shards."""
    found = run(ocr.FindLines(params), image=photo(64, 64), map=likely(64, 64, (10, 10, 30, 8), (10, 40, 30, 2)))
    assert {name: len(array) for name, array in found.items()} == dict.fromkeys(found, count)


def test_a_line_at_the_edge_stays_inside() -> None:
    """It cannot grow over it."""
    found = run(ocr.FindLines({}), image=photo(32, 64), map=likely(32, 64, (0, 0, 64, 32)))
    assert found["boxes"].tolist() == [[[0, 0, 64, 32]]]


def test_a_very_long_line_is_compressed() -> None:
    """To the width allowed."""
    found = run(ocr.FindLines({"max_width": "100"}), image=photo(32, 320), map=likely(32, 320, (4, 10, 300, 4)))
    assert found["strips"].shape == (1, 1, 48, 100, 3)


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40), st.integers(1, 40)), max_size=4),
)
def test_any_map_is_lines(height: int, width: int, boxes: list[tuple[int, int, int, int]]) -> None:
    """Inside the photo, each with an area."""
    found = run(ocr.FindLines({}), image=photo(height, width), map=likely(64, 64, *boxes))
    left, top, right, bottom = found["boxes"][:, 0].T
    assert ((left >= 0) & (left < right) & (right <= width)).all()
    assert ((top >= 0) & (top < bottom) & (bottom <= height)).all()


def test_a_strip_is_scaled_and_cut() -> None:
    """From -1 to 1, in planes, as wide as its line."""
    strip = np.zeros((1, 48, 9, 3), np.uint8)
    strip[..., 1], strip[..., 2] = 51, 255
    x = run(ocr.Scale({}), strip=strip, width=np.array([[5]], np.int32))["x"]
    assert x.shape == (1, 3, 48, 5)
    assert x[0, :, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])


# ---------------------------------------------------------------------- the text


@pytest.fixture
def characters(tmp_path: Path) -> str:
    """A file with a, b and a letter of three bytes: classes 1 to 3; the space is 4."""
    path = tmp_path / "characters.txt"
    path.write_text("a\nb\n中\n", "utf-8")
    return str(path)


def steps(*classes: int) -> np.ndarray:
    """Probabilities of a line, of which the likeliest are these."""
    found = np.full((1, len(classes), 5), 0.1, np.float32)
    found[0, range(len(classes)), classes] = 0.6
    return found


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([1, 2], "ab"),
        ([1, 1, 2, 2, 2], "ab"),
        ([1, 0, 1], "aa"),
        ([0, 0, 1, 0, 0], "a"),
        ([1, 4, 2], "a b"),
        ([3, 3, 0, 3], "中中"),
        ([0], ""),
    ],
)
def test_steps_are_read(characters: str, classes: Sequence[int], text: str) -> None:
    """Repeats are one character unless nothing is between them."""
    found = run(ocr.Read({"characters": characters}), probabilities=steps(*classes))["text"]
    assert found.shape == (1, 1024)
    assert found.tobytes().rstrip(b"\0").decode() == text


def test_a_text_that_is_too_long_is_cut_between_characters(characters: str) -> None:
    """What remains is UTF-8."""
    node = ocr.Read({"characters": characters, "max_bytes": "5"})
    found = run(node, probabilities=steps(1, 3, 0, 3))["text"]
    assert found.tobytes() == "a中".encode() + b"\0"


def test_characters_of_another_model_are_refused(characters: str) -> None:
    """Rather than to read something else."""
    with pytest.raises(ValueError, match="Expected: 5 classes, by the file of characters; Actual: 6"):
        ocr.Read({"characters": characters}).execute({"probabilities": np.zeros((1, 2, 6), np.float32)})


def test_a_relative_file_of_characters_is_beside_the_nodes() -> None:
    """Wherever the server was started."""
    with pytest.raises(FileNotFoundError) as caught:
        ocr.Read({"characters": "not_there.txt"})
    assert caught.value.filename == str(FOLDER / "not_there.txt")


def test_lines_are_gathered() -> None:
    """Two dimensions each."""
    texts = np.zeros((2, 1, 6), np.uint8)
    texts[:, 0, :2] = np.frombuffer(b"abcd", np.uint8).reshape(2, 2)
    boxes = np.arange(8, dtype=np.int32).reshape(2, 1, 4)
    found = run(ocr.Gather({}), texts=texts, boxes=boxes)
    assert [row.tobytes().rstrip(b"\0") for row in found["texts"]] == [b"ab", b"cd"]
    assert found["boxes"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("Prepare", {"max_side": "0"}, "parameter max_side - Expected: an integer above 0; Actual: '0'"),
        ("FindLines", {"min_side": "1.5"}, "parameter min_side - Expected: an integer above 0; Actual: '1.5'"),
        ("FindLines", {"max_width": "-1"}, "parameter max_width - Expected: an integer above 0; Actual: '-1'"),
        ("FindLines", {"threshold": "2"}, "parameter threshold - Expected: a number from 0 to 1; Actual: '2'"),
        ("FindLines", {"threshold": "x"}, "parameter threshold - Expected: a number from 0 to 1; Actual: 'x'"),
        ("Read", {}, "parameter characters - Expected: the path of a text file; Actual: nothing"),
    ],
)
def test_what_cannot_be_used_is_refused(name: str, params: Mapping[str, str], message: str) -> None:
    """With the parameter, what was expected and what came."""
    with pytest.raises(ValueError, match="parameter") as caught:
        getattr(ocr, name)(params)
    assert str(caught.value) == message
