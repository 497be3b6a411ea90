"""``image_transformation``: size, colours, layout and scale of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from tornado_ovms.nodes.base import CustomNode, Tensor
from tornado_ovms.nodes.builtin.parameters import Parameters
from tornado_ovms.nodes.builtin.pictures import COLOURS, GREY, LAYOUTS, Frame, check, resize

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHANNELS: Final = {"BGR": COLOURS, "RGB": COLOURS, "GRAY": GREY}

_CONVERSIONS: Final = {
    ("BGR", "RGB"): cv2.COLOR_BGR2RGB,
    ("RGB", "BGR"): cv2.COLOR_RGB2BGR,
    ("BGR", "GRAY"): cv2.COLOR_BGR2GRAY,
    ("RGB", "GRAY"): cv2.COLOR_RGB2GRAY,
    ("GRAY", "BGR"): cv2.COLOR_GRAY2BGR,
    ("GRAY", "RGB"): cv2.COLOR_GRAY2RGB,
}


class ImageTransformation(CustomNode):
    """``image`` f32 [1,any,any,any] to ``image`` f32 [1,C,H,W] or [1,H,W,C].

    Colours are converted first. Then a picture that becomes larger is scaled before it is resized, any other one after it, so
    that the smaller one is scaled.

    Parameters: ``target_image_width`` and ``target_image_height`` (those of the picture), ``original_image_color_order`` (BGR)
    and ``target_image_color_order`` (the original's), both of BGR, RGB and GRAY; ``original_image_layout`` (required) and
    ``target_image_layout`` (the original's), NCHW or NHWC; ``mean_values`` and ``scale_values``, lists with a number for each
    channel of the target, and ``scale``, a number: (value - mean) / scale, with ``scale`` where there are no ``scale_values``.
    """

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        read = Parameters(params)
        self._height = read.size("target_image_height")
        self._width = read.size("target_image_width")
        colours = read.choice("original_image_color_order", tuple(_CHANNELS), "BGR")
        target_colours = read.choice("target_image_color_order", tuple(_CHANNELS), colours)
        layout = read.choice("original_image_layout", LAYOUTS)
        channels = _CHANNELS[target_colours]
        self._conversion = _CONVERSIONS.get((colours, target_colours))
        self._original = Frame(-1, -1, _CHANNELS[colours], layout)
        self._target = Frame(
            self._height or -1, self._width or -1, channels, read.choice("target_image_layout", LAYOUTS, layout)
        )
        self._mean = np.array(read.numbers("mean_values", channels) or 0, np.float32)
        scale = read.number("scale")
        self._scale = np.array(read.numbers("scale_values", channels) or (1 if scale is None else scale), np.float32)
        if not np.all(self._scale):
            raise ValueError(f"parameter scale or scale_values - Expected: numbers other than 0; Actual: {self._scale}")
        self._is_scaled = bool(np.any(self._mean) or np.any(self._scale != 1))
        self.inputs = {"image": Tensor("float32", (1, -1, -1, -1))}
        self.outputs = {"image": Tensor("float32", (1, *self._target.shape))}

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``.

        Raises:
            ValueError: the picture has not the channels of its colours, or no pixels.
        """
        check(inputs, {"image": Tensor("float32", (1, *self._original.shape))})
        picture = self._original.read(inputs["image"])
        height, width = picture.shape[:2]
        if not (height and width):
            raise ValueError(f"input image - Expected: at least one pixel; Actual: {width} x {height}")
        if self._conversion is not None:
            converted = cv2.cvtColor(np.ascontiguousarray(picture), self._conversion)
            picture = converted.reshape(height, width, -1)
        to_height, to_width = self._height or height, self._width or width
        if to_height * to_width > height * width:
            picture = resize(self._scaled(picture), to_height, to_width)
        else:
            picture = self._scaled(resize(picture, to_height, to_width))
        return {"image": self._target.write(picture)}

    def _scaled(self, picture: np.ndarray) -> np.ndarray:
        return (picture - self._mean) / self._scale if self._is_scaled else picture
