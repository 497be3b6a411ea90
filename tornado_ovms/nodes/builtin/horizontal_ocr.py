"""``horizontal_ocr``: upright boxes of text, as horizontal-text-detection finds them, cut out of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tornado_ovms.nodes.base import Tensor
from tornado_ovms.nodes.builtin.pictures import Cutter, check, cut, to_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping


class HorizontalOcr(Cutter):
    """``image`` f32 [1,3,H,W] or [1,H,W,3] and ``boxes`` f32 [any,5] to three outputs with a row for each text.

    Rows of ``boxes`` are left, top, right and bottom in pixels, and confidence. Those are taken, in their order, whose confidence
    is not below the threshold.

    Outputs: ``text_images`` f32 [N,1,C,h,w] or [N,1,h,w,C]; ``text_coordinates`` i32 [N,1,4]: left, top, width, height;
    ``confidence_levels`` f32 [N,1,1].

    Parameters: ``original_image_width``, ``original_image_height``, ``target_image_width``, ``target_image_height`` (required),
    ``original_image_layout`` and ``target_image_layout`` (NCHW); ``convert_to_gray_scale`` (false); ``confidence_threshold``
    (required), 0 to 1; ``max_output_batch`` (100).
    """

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        self.inputs = {"image": self._image, "boxes": Tensor("float32", (-1, 5))}
        self.outputs = {
            "text_images": self._pieces,
            "text_coordinates": Tensor("int32", (-1, 1, 4)),
            "confidence_levels": Tensor("float32", (-1, 1, 1)),
        }

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``.

        Raises:
            ValueError: a box that is taken has no area, or is not inside the picture.
        """
        check(inputs, self.inputs)
        rows = inputs["boxes"]
        chosen = np.flatnonzero(rows[:, 4] >= self._threshold)
        begin, end = rows[chosen, :2], rows[chosen, 2:4]
        corner = to_pixels(begin)
        with np.errstate(over="ignore", invalid="ignore"):
            size = to_pixels(end - begin)
        self._refuse(np.any(size <= 0, axis=1), rows, chosen, "a width and a height of at least one pixel")
        chosen, corner, size = (values[: self._limit] for values in (chosen, corner, size))
        limits = np.array([self._original.width, self._original.height])
        is_outside = np.any((corner < 0) | (corner + size > limits), axis=1)
        self._refuse(is_outside, rows, chosen, f"a box inside {limits[0]} x {limits[1]} pixels")
        boxes = np.concatenate([corner, corner + size], 1)
        return {
            "text_images": self._collect(cut(self._original.read(inputs["image"]), boxes)),
            "text_coordinates": np.concatenate([corner, size], 1).astype(np.int32)[:, np.newaxis],
            "confidence_levels": rows[chosen, np.newaxis, 4:],
        }

    @staticmethod
    def _refuse(is_bad: np.ndarray, rows: np.ndarray, chosen: np.ndarray, expected: str) -> None:
        if is_bad.any():
            index = chosen[is_bad][0]
            raise ValueError(f"input boxes[{index}] - Expected: {expected}; Actual: {rows[index, :4].tolist()}")
