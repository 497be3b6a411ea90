"""``model_zoo_intel_object_detection``: the objects that a detector of Intel's model zoo has found, cut out of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tornado_ovms.nodes.base import Tensor
from tornado_ovms.nodes.builtin.parameters import Parameters
from tornado_ovms.nodes.builtin.pictures import Cutter, check, cut, to_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_LABELS = -1


class ObjectDetection(Cutter):
    """``image`` f32 [1,3,H,W] or [1,H,W,3] and ``detection`` f32 [1,1,any,7] to four outputs with a row for each object.

    Rows of ``detection`` are image, label, confidence, then left, top, right and bottom in parts of width and height. Those of
    image 0 are taken, in their order: of a confidence not below the threshold, with the label asked for, and with a pixel inside
    the picture. A box that begins outside it is moved to its edge, one that ends outside is cut.

    Outputs: ``images`` f32 [N,1,C,h,w] or [N,1,h,w,C]; ``coordinates`` f32 [N,1,4], as they came; ``confidences`` f32 [N,1,1];
    ``label_ids`` i32 [N,1,1].

    Parameters: ``original_image_width``, ``original_image_height``, ``target_image_width``, ``target_image_height`` (required),
    ``original_image_layout`` and ``target_image_layout`` (NCHW); ``convert_to_gray_scale`` (false); ``confidence_threshold``
    (required), 0 to 1; ``max_output_batch`` (100); ``filter_label_id`` (-1: all). ``buffer_queue_size`` (24) is a size of the
    reference's buffers: it has to be above 0, and does nothing here.
    """

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        read = Parameters(params)
        self._label = read.integer("filter_label_id", ALL_LABELS)
        read.integer("buffer_queue_size", 24, minimum=1)
        self.inputs = {"image": self._image, "detection": Tensor("float32", (1, 1, -1, 7))}
        self.outputs = {
            "images": self._pieces,
            "coordinates": Tensor("float32", (-1, 1, 4)),
            "confidences": Tensor("float32", (-1, 1, 1)),
            "label_ids": Tensor("int32", (-1, 1, 1)),
        }

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        check(inputs, self.inputs)
        rows = inputs["detection"][0, 0]
        labels = to_pixels(rows[:, 1])
        is_wanted = (np.trunc(rows[:, 0]) == 0) & (rows[:, 2] >= self._threshold) & np.isfinite(rows).all(1)
        if self._label != ALL_LABELS:
            is_wanted &= labels == self._label
        boxes = find_boxes(rows[:, 3:], self._original.width, self._original.height)
        is_wanted &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        chosen = np.flatnonzero(is_wanted)[: self._limit]
        rows = rows[chosen]
        return {
            "images": self._collect(cut(self._original.read(inputs["image"]), boxes[chosen])),
            "coordinates": rows[:, np.newaxis, 3:],
            "confidences": rows[:, np.newaxis, 2:3],
            "label_ids": labels[chosen].astype(np.int32).reshape(-1, 1, 1),
        }


def find_boxes(fractions: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes in pixels, cut at the picture's edges; without area if nothing of them is inside.

    Args:
        fractions: two opposite corners of each, x and y: [n,4], parts of width and height.
        width: of the picture.
        height: of the picture.

    Returns:
        Left, top, right and bottom: [n,4].
    """
    limits = np.array([width, height])
    with np.errstate(over="ignore"):
        corners = to_pixels(fractions * np.tile(limits, 2).astype(np.float32)).reshape(-1, 2, 2)
    begin, end = corners.min(1), corners.max(1)
    moved = np.maximum(begin, 0)
    return np.concatenate([moved, np.minimum(moved + (end - begin), limits)], 1)
