"""``east_ocr``: boxes out of the cells of two maps, which of them remain, and how turned text is made upright."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tornado_ovms.nodes.base import Tensor
from tornado_ovms.nodes.builtin.east_ocr import EastOcr, find_texts, straighten, suppress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEIGHT, WIDTH = 40, 80
PARAMS = {
    "original_image_width": str(WIDTH),
    "original_image_height": str(HEIGHT),
    "original_image_layout": "NHWC",
    "target_image_width": "20",
    "target_image_height": "10",
    "target_image_layout": "NHWC",
    "confidence_threshold": "0.5",
}

Cell = tuple[int, int, float, tuple[float, float, float, float, float]]
"""Row, column, score, and geometry: to the top, right, bottom and left, and the angle."""


def maps(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
    """What the model says about a picture."""
    scores = np.zeros((1, HEIGHT // 4, WIDTH // 4, 1), np.float32)
    geometry = np.zeros((1, HEIGHT // 4, WIDTH // 4, 5), np.float32)
    for row, column, score, values in cells:
        scores[0, row, column, 0] = score
        geometry[0, row, column] = values
    return scores, geometry


def picture() -> np.ndarray:
    """Pixels that differ everywhere."""
    return np.arange(HEIGHT * WIDTH * 3, dtype=np.float32).reshape(1, HEIGHT, WIDTH, 3)


def run(cells: Sequence[Cell], **params: str) -> Mapping[str, np.ndarray]:
    """What is cut out of the picture."""
    scores, geometry = maps(cells)
    outputs = EastOcr({**PARAMS, **params}).execute({"image": picture(), "scores": scores, "geometry": geometry})
    assert not hasattr(outputs, "__await__")
    return outputs


def coordinates(cells: Sequence[Cell], **params: str) -> list[list[int]]:
    """Left, top, width and height of each."""
    found: list[list[int]] = run(cells, **params)["text_coordinates"][:, 0].tolist()
    return found


STRAIGHT = (2, 10, 4, 10, 0)


def test_what_the_node_takes_and_gives() -> None:
    """The maps have a quarter of the picture's sides."""
    node = EastOcr(PARAMS)
    assert node.inputs == {
        "image": Tensor("float32", (1, 40, 80, 3)),
        "scores": Tensor("float32", (1, 10, 20, 1)),
        "geometry": Tensor("float32", (1, 10, 20, 5)),
    }
    assert node.outputs == {
        "text_images": Tensor("float32", (-1, 1, 10, 20, 3)),
        "text_coordinates": Tensor("int32", (-1, 1, 4)),
        "confidence_levels": Tensor("float32", (-1, 1, 1)),
    }
    grey = EastOcr({**PARAMS, "convert_to_gray_scale": "true", "target_image_layout": "NCHW"})
    assert grey.outputs["text_images"] == Tensor("float32", (-1, 1, 1, 10, 20))


@pytest.mark.parametrize(
    ("cell", "box"),
    [
        # The cell of row 3, column 5 stands for the pixel (20, 12).
        ((3, 5, 0.9, (2, 10, 4, 10, 0)), [10, 10, 30, 16]),
        ((3, 5, 0.9, (2.9, 10.9, 4.9, 10.9, 0)), [9, 9, 30, 16]),  # h 7.8, w 21.8, each step truncated
        ((0, 0, 0.9, (2, 10, 4, 10, 0)), [-10, -2, 10, 4]),
        # A quarter turn: p2 = (20 + 4, 12 - 10), p1 = p2 - (6, 0), p3 = p2 + (0, 20).
        ((3, 5, 0.9, (2, 10, 4.5, 10, math.pi / 2)), [18, 2, 24, 22]),
        # 30 degrees: p2 = (20 + trunc 10.66, 12 + trunc -1.54), p1 = p2 + (trunc -3, trunc -5.2),
        # p3 = p2 + (trunc -17.32, trunc 10), p4 = p3 + p1 - p2.
        ((3, 5, 0.9, (2, 10, 4, 10, math.pi / 6)), [10, 6, 30, 21]),
    ],
)
def test_where_a_cell_s_text_is(cell: Cell, box: Sequence[int]) -> None:
    """Worked out by hand from the offsets, the angle and the truncations of the reference."""
    scores, geometry = maps([cell])
    texts = find_texts(scores[0, ..., 0], geometry[0], 0.5)
    assert texts.boxes.tolist() == [list(box)]
    assert texts.scores.tolist() == pytest.approx([0.9])
    assert texts.heights.tolist() == pytest.approx([cell[3][0] + cell[3][2]])


@pytest.mark.parametrize(
    ("params", "box"),
    [
        ({}, [10, 10, 20, 6]),
        ({"box_width_adjustment": "0.25"}, [5, 10, 30, 6]),
        ({"box_height_adjustment": "0.5"}, [10, 7, 20, 12]),
        ({"box_width_adjustment": "0.12"}, [7, 10, 25, 6]),  # 2.4 on each side: 7.6 and 32.4
        ({"box_width_adjustment": "9", "box_height_adjustment": "9"}, [0, 0, 80, 40]),
    ],
)
def test_a_box_grows_by_its_adjustment(params: Mapping[str, str], box: Sequence[int]) -> None:
    """By the same on both sides, and not over the picture's edges."""
    assert coordinates([(3, 5, 0.9, STRAIGHT)], **params) == [list(box)]


def test_pieces_are_the_picture_s() -> None:
    """A box of the target's size is not interpolated."""
    found = run([(3, 5, 0.75, (2, 10, 8, 10, 0))])
    np.testing.assert_array_equal(found["text_images"][0], picture()[:, 10:20, 10:30])
    assert found["confidence_levels"].tolist() == [[[0.75]]]


def test_of_texts_that_overlap_the_best_remains() -> None:
    """Best first, whatever their order in the map."""
    cells: list[Cell] = [(3, 5, 0.6, STRAIGHT), (3, 6, 0.9, STRAIGHT), (8, 15, 0.7, STRAIGHT), (0, 0, 0.4, STRAIGHT)]
    assert coordinates(cells) == [[14, 10, 20, 6], [50, 30, 20, 6]]
    # They share 16 x 6 of 24 x 6 pixels.
    assert len(coordinates(cells, overlap_threshold="0.67")) == 3
    assert len(coordinates(cells, overlap_threshold="0.66")) == 2
    assert coordinates(cells, max_output_batch="1") == [[14, 10, 20, 6]]


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [(3, 5, 0.49, STRAIGHT)],
        [(3, 5, 0.9, (0, 0, 0, 0, 0))],
        [(3, 5, 0.9, (-50, 5, 60, 5, 0))],
        [(3, 5, 0.9, (math.nan, 10, 4, 10, 0))],
        [(3, 5, math.nan, STRAIGHT)],
    ],
)
def test_no_text_is_no_row(cells: Sequence[Cell]) -> None:
    """Unsure, without area, below the picture, or nowhere."""
    found = run(cells)
    assert [array.shape for array in found.values()] == [(0, 1, 10, 20, 3), (0, 1, 4), (0, 1, 1)]
    assert [array.dtype for array in found.values()] == [np.float32, np.int32, np.float32]


def test_turned_text_becomes_upright() -> None:
    """A white line, drawn 30 degrees counter-clockwise: the piece that remains is white from edge to edge."""
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    box = cv2.boxPoints(((40, 20), (40, 8), -30)).astype(np.int32)
    cv2.fillPoly(drawn, [box], 255)
    image = np.repeat(drawn[np.newaxis, ..., np.newaxis], 3, 3).astype(np.float32)
    scores, geometry = maps([(5, 10, 0.9, (4, 20, 4, 20, math.pi / 6))])
    inputs = {"image": image, "scores": scores, "geometry": geometry}

    def middle(**params: str) -> float:
        outputs = EastOcr({**PARAMS, **params}).execute(inputs)
        assert not hasattr(outputs, "__await__")
        piece: float = outputs["text_images"][0, 0, 3:7, 3:17].mean()
        return piece

    assert middle() > 240
    assert middle(rotation_angle_threshold="29") > 240
    assert middle(rotation_angle_threshold="31") < 200


def test_straightening_keeps_the_rows_of_the_text() -> None:
    """Those in the middle; all, if there are not so many."""
    piece = np.ones((9, 5, 3), np.float32)
    assert straighten(piece, 45, 4.9).shape == (4, 5, 3)
    assert straighten(piece, 45, 0.5).shape == (1, 5, 3)
    assert straighten(piece, 45, 50).shape == (9, 5, 3)
    rows = np.repeat(np.arange(9, dtype=np.float32), 15).reshape(9, 5, 3)
    np.testing.assert_array_equal(straighten(rows, 0, 3)[:, 0, 0], [3, 4, 5])


boxes = npst.arrays(np.int64, (12, 4), elements=st.integers(0, 30)).map(
    lambda drawn: np.concatenate([drawn[:, :2], drawn[:, :2] + drawn[:, 2:] + 1], 1)
)


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Shared area over that of both together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (both - shared)


@given(boxes, npst.arrays(np.float32, 12, elements=st.sampled_from([0.25, 0.5, 0.75])), st.sampled_from([0, 0.3, 1]))
def test_suppression_is_that_of_the_plain_algorithm(drawn: np.ndarray, scores: np.ndarray, threshold: float) -> None:
    """One box after the other, the best first, of equal ones the last."""
    expected: list[int] = []
    for index in sorted(range(len(drawn)), key=lambda index: (scores[index], index), reverse=True):
        if all(overlap(drawn[index].tolist(), drawn[taken].tolist()) <= threshold for taken in expected):
            expected.append(index)
    assert suppress(drawn, scores, threshold, 100).tolist() == expected
    assert suppress(drawn, scores, threshold, 2).tolist() == expected[:2]


@given(
    npst.arrays(np.float32, (1, 10, 20, 1), elements=st.floats(width=32), fill=st.just(0.0)),
    npst.arrays(np.float32, (1, 10, 20, 5), elements=st.floats(width=32), fill=st.just(3.0)),
)
def test_any_maps_are_an_answer(scores: np.ndarray, geometry: np.ndarray) -> None:
    """Whatever a model finds, boxes are inside the picture and all outputs have the same rows."""
    outputs = EastOcr(PARAMS).execute({"image": picture(), "scores": scores, "geometry": geometry})
    assert not hasattr(outputs, "__await__")
    left, top, width, height = outputs["text_coordinates"][:, 0].T
    assert len({len(array) for array in outputs.values()}) == 1
    assert ((left >= 0) & (top >= 0) & (width > 0) & (height > 0)).all()
    assert ((left + width <= WIDTH) & (top + height <= HEIGHT)).all()
