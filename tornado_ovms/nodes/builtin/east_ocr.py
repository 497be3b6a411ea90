"""``east_ocr``: turned boxes of text, as the model EAST finds them, cut out of the picture and turned upright."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from tornado_ovms.nodes.base import Tensor
from tornado_ovms.nodes.builtin.parameters import Parameters
from tornado_ovms.nodes.builtin.pictures import Cutter, check, cut, to_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

CELL: Final = 4
"""Pixels of the picture, in both directions, that a cell of the model's outputs stands for."""


class Texts(NamedTuple):
    """What the model has found: boxes [n,4] left, top, right, bottom in pixels; scores, angles (radians) and text heights [n]."""

    boxes: np.ndarray
    scores: np.ndarray
    angles: np.ndarray
    heights: np.ndarray

    def take(self, chosen: np.ndarray) -> Texts:
        """Some of them."""
        return Texts(*(values[chosen] for values in self))


class EastOcr(Cutter):
    """``image`` f32 [1,3,H,W] or [1,H,W,3], ``scores`` f32 [1,H/4,W/4,1] and ``geometry`` f32 [1,H/4,W/4,5] to three outputs.

    Each cell whose score is not below the threshold is a box of text; of boxes that overlap the one with the highest score is
    taken, best first. A box without a pixel inside the picture is left out. A piece is turned upright if its angle is larger than
    the threshold, and then cut to the height of the text.

    Outputs: ``text_images`` f32 [N,1,C,h,w] or [N,1,h,w,C]; ``text_coordinates`` i32 [N,1,4]: left, top, width, height;
    ``confidence_levels`` f32 [N,1,1].

    Parameters: ``original_image_width``, ``original_image_height`` (required, multiples of 4), ``target_image_width``,
    ``target_image_height`` (required), ``original_image_layout`` and ``target_image_layout`` (NCHW); ``convert_to_gray_scale``
    (false); ``confidence_threshold`` (required), 0 to 1; ``max_output_batch`` (100); ``overlap_threshold`` (0.3), 0 to 1;
    ``box_width_adjustment`` and ``box_height_adjustment`` (0): by how much of its size a box grows on each side;
    ``rotation_angle_threshold`` (20), degrees.
    """

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        read = Parameters(params)
        height, width = self._original.height, self._original.width
        for name, size in (("original_image_height", height), ("original_image_width", width)):
            if size % CELL:
                raise ValueError(f"parameter {name} - Expected: a multiple of {CELL}; Actual: {size}")
        self._overlap = read.fraction("overlap_threshold", 0.3)
        self._growth = np.array(
            [read.positive("box_width_adjustment", 0), read.positive("box_height_adjustment", 0)], np.float32
        )
        self._least_angle = read.integer("rotation_angle_threshold", 20, minimum=0)
        cells = (1, height // CELL, width // CELL)
        self.inputs = {
            "image": self._image,
            "scores": Tensor("float32", (*cells, 1)),
            "geometry": Tensor("float32", (*cells, 5)),
        }
        self.outputs = {
            "text_images": self._pieces,
            "text_coordinates": Tensor("int32", (-1, 1, 4)),
            "confidence_levels": Tensor("float32", (-1, 1, 1)),
        }

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        check(inputs, self.inputs)
        texts = find_texts(inputs["scores"][0, ..., 0], inputs["geometry"][0], self._threshold)
        texts = self._fit(texts)
        texts = texts.take(suppress(texts.boxes, texts.scores, self._overlap, self._limit))
        picture = self._original.read(inputs["image"])
        degrees = np.degrees(texts.angles.astype(np.float64))  # any float32 may be among them, and 1e38 is 6e39 degrees
        pieces = [
            straighten(piece, degree, height) if abs(degree) > self._least_angle else piece
            for piece, degree, height in zip(
                cut(picture, texts.boxes), degrees.tolist(), texts.heights.tolist(), strict=True
            )
        ]
        corners, ends = texts.boxes[:, :2], texts.boxes[:, 2:]
        return {
            "text_images": self._collect(pieces),
            "text_coordinates": np.concatenate([corners, ends - corners], 1).astype(np.int32)[:, np.newaxis],
            "confidence_levels": texts.scores.reshape(-1, 1, 1),
        }

    def _fit(self, texts: Texts) -> Texts:
        """Boxes with their margins, cut at the picture's edges; without those of which nothing is left."""
        corners = texts.boxes.astype(np.float32)  # as the reference computes, lest a box end a pixel elsewhere
        begin, end = corners[:, :2], corners[:, 2:]
        margin = (end - begin) * self._growth
        limits = np.array([self._original.width, self._original.height])
        begin, end = np.maximum(to_pixels(begin - margin), 0), np.minimum(to_pixels(end + margin), limits)
        fitted = texts._replace(boxes=np.concatenate([begin, end], 1))
        return fitted.take((begin < end).all(1))


def find_texts(scores: np.ndarray, geometry: np.ndarray, threshold: float) -> Texts:
    """The bounding boxes of the turned boxes that the cells tell of.

    Args:
        scores: [rows, columns].
        geometry: [rows, columns, 5]: distances from the cell to the top, right, bottom and left of its text along the text's own
            axes, in pixels, and the angle of the text in radians.
        threshold: cells with a lower score tell of nothing.
    """
    rows, columns = np.nonzero((scores >= threshold) & np.isfinite(geometry).all(2))
    top, right, bottom, left, angles = geometry[rows, columns].T
    cos, sin = np.cos(angles), np.sin(angles)
    cell = np.stack([columns, rows], 1) * CELL
    with np.errstate(over="ignore", invalid="ignore"):
        height, width = top + bottom, right + left
        corner = cell + _truncate(cos * right + sin * bottom, cos * bottom - sin * right)
        upper = corner + _truncate(-sin * height, -cos * height)
        other = corner + _truncate(-cos * width, sin * width)
    corners = np.stack([corner, upper, other, other + upper - corner])
    boxes = np.concatenate([corners.min(0), corners.max(0)], 1)
    return Texts(boxes, scores[rows, columns], angles, height)


def _truncate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return to_pixels(np.stack([x, y], 1))


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float, limit: int) -> np.ndarray:
    """Positions of the boxes with the highest scores among those they overlap with, best first.

    Args:
        boxes: left, top, right, bottom: [n,4], each with an area.
        scores: [n]; of two that are equal the later one counts as higher, as in the reference.
        overlap: how much of the area of both together two boxes may share.
        limit: how many are wanted at most.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    chosen: list[int] = []
    while order.size and len(chosen) < limit:
        best, order = order[0], order[1:]
        chosen.append(int(best))
        begin = np.maximum(boxes[best, :2], boxes[order, :2])
        end = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.maximum(end - begin, 0).prod(1)
        order = order[shared <= overlap * (areas[best] + areas[order] - shared)]
    return np.array(chosen, np.int64)


def straighten(piece: np.ndarray, degrees: float, height: float) -> np.ndarray:
    """A piece turned back about its middle, and of it the rows in the middle that the text is high.

    Args:
        piece: [height, width, colours].
        degrees: the angle of the text, counter-clockwise.
        height: of the text, in pixels.
    """
    rows, columns = piece.shape[:2]
    turn = cv2.getRotationMatrix2D((columns // 2, rows // 2), -degrees, 1)
    turned = cv2.warpAffine(np.ascontiguousarray(piece), turn, (columns, rows))
    height = min(max(height, 1), rows)
    offset, kept = int((rows - height) / 2), int(height)
    return turned[offset : offset + kept]
