"""``face_blur``: a picture in which the faces that a detector has found cannot be recognised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from tornado_ovms.nodes.base import CustomNode, Tensor
from tornado_ovms.nodes.builtin.object_detection import find_boxes
from tornado_ovms.nodes.builtin.parameters import Parameters
from tornado_ovms.nodes.builtin.pictures import check, read_frame, resize

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaceBlur(CustomNode):
    """``image`` f32 [1,3,H,W] or [1,H,W,3] and ``detection`` f32 [1,1,200,7] to ``image`` f32 [1,3,h,w] or [1,h,w,3].

    Rows of ``detection`` are image, label, confidence, then left, top, right and bottom in parts of width and height. Boxes of
    image 0 whose confidence is not below the threshold are blurred, then the picture is resized. What lies around a box flows
    into it, as everywhere in a picture that is blurred as a whole.

    Parameters: ``original_image_width``, ``original_image_height``, ``target_image_width``, ``target_image_height`` (required),
    ``original_image_layout`` and ``target_image_layout`` (NCHW); ``confidence_threshold`` (required), 0 to 1;
    ``gaussian_blur_kernel_size`` (required), odd, in pixels.
    """

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        read = Parameters(params)
        self._original = read_frame(read, "original")
        self._target = read_frame(read, "target")
        self._threshold = read.fraction("confidence_threshold")
        self._kernel = read.integer("gaussian_blur_kernel_size", minimum=1)
        if self._kernel % 2 == 0:
            raise ValueError(f"parameter gaussian_blur_kernel_size - Expected: an odd integer; Actual: {self._kernel}")
        self.inputs = {
            "image": Tensor("float32", (1, *self._original.shape)),
            "detection": Tensor("float32", (1, 1, 200, 7)),
        }
        self.outputs = {"image": Tensor("float32", (1, *self._target.shape))}

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        check(inputs, self.inputs)
        rows = inputs["detection"][0, 0]
        is_wanted = (np.trunc(rows[:, 0]) == 0) & (rows[:, 2] >= self._threshold) & np.isfinite(rows).all(1)
        picture = np.array(self._original.read(inputs["image"]), order="C")  # a copy: others may read the input
        height, width = picture.shape[:2]
        around = self._kernel // 2
        for left, top, right, bottom in find_boxes(rows[is_wanted, 3:], width, height).tolist():
            if left >= right or top >= bottom:
                continue
            # With as much around the box as the kernel reaches over, the box comes out as if all had been blurred.
            x, y = max(left - around, 0), max(top - around, 0)
            region = np.ascontiguousarray(picture[y : bottom + around, x : right + around])
            blurred = cv2.GaussianBlur(region, (self._kernel, self._kernel), 0)
            picture[top:bottom, left:right] = blurred[top - y : bottom - y, left - x : right - x]
        return {"image": self._target.write(resize(picture, self._target.height, self._target.width))}
