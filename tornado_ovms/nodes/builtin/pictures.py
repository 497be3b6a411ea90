"""What the built-in nodes do with pictures: f32, one in a tensor, in one of two layouts. Any thread.

``Frame`` is the form of a picture in a tensor. Between reading and writing it is [height, width, channels], also if it is grey.
``Cutter`` is what those nodes share that cut boxes out of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from tornado_ovms.nodes.base import CustomNode, Tensor
from tornado_ovms.nodes.builtin.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAYOUTS: Final = ("NCHW", "NHWC")
COLOURS: Final = 3
GREY: Final = 1

FAR: Final = 2**30
"""No coordinate is farther away: sums of two stay below 2**31, and no picture is so large."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The form of pictures in tensors; a height or width of -1 is any."""

    height: int
    width: int
    channels: int
    layout: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """The sizes of one picture, in the order of the layout."""
        if self.layout == "NCHW":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels

    def read(self, tensor: np.ndarray) -> np.ndarray:
        """The picture of a tensor [1, ...], as a view [height, width, channels]."""
        picture: np.ndarray = tensor[0]
        return picture.transpose(1, 2, 0) if self.layout == "NCHW" else picture

    def write(self, picture: np.ndarray) -> np.ndarray:
        """A picture [height, width, channels] as a tensor [1, ...]."""
        if self.layout == "NCHW":
            picture = picture.transpose(2, 0, 1)
        tensor: np.ndarray = np.ascontiguousarray(picture)[np.newaxis]
        return tensor


def read_frame(read: Parameters, which: str, channels: int = COLOURS) -> Frame:
    """Parameters ``original_image_...`` or ``target_image_...``: width and height are required, the layout is NCHW by default.

    Raises:
        ValueError: one of them cannot be used.
    """
    return Frame(
        read.integer(f"{which}_image_height", minimum=1),
        read.integer(f"{which}_image_width", minimum=1),
        channels,
        read.choice(f"{which}_image_layout", LAYOUTS, "NCHW"),
    )


def check(inputs: Mapping[str, np.ndarray], declared: Mapping[str, Tensor]) -> None:
    """Refuse arrays that are not as declared: a pipeline compares shapes, but some are only known when it runs.

    Raises:
        ValueError: names the input, and both shapes.
    """
    for name, (_, sizes) in declared.items():
        shape = inputs[name].shape
        if len(shape) != len(sizes) or any(size not in (-1, found) for size, found in zip(sizes, shape, strict=True)):
            raise ValueError(f"input {name} - Expected: {list(sizes)}; Actual: {list(shape)}")


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """To another size, bilinear; as it is if it has that size."""
    if picture.shape[:2] == (height, width):
        return picture
    # OpenCV drops the last dimension of a grey picture.
    resized: np.ndarray = cv2.resize(np.ascontiguousarray(picture), (width, height)).reshape(height, width, -1)
    return resized


def to_grey(picture: np.ndarray) -> np.ndarray:
    """Blue, green and red to one channel."""
    grey: np.ndarray = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_BGR2GRAY)[..., np.newaxis]
    return grey


def to_pixels(coordinates: np.ndarray) -> np.ndarray:
    """Without their fractions; infinities are far away, and what is no number is 0."""
    pixels: np.ndarray = np.clip(np.nan_to_num(np.trunc(coordinates)), -FAR, FAR).astype(np.int64)
    return pixels


class Cutter(CustomNode):
    """A node that cuts boxes out of a picture, each made of one size: its common parameters, and the tensor of the pieces."""

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        read = Parameters(params)
        self._original = read_frame(read, "original")
        self._is_grey = read.flag("convert_to_gray_scale")
        self._target = read_frame(read, "target", GREY if self._is_grey else COLOURS)
        self._threshold = read.fraction("confidence_threshold")
        self._limit = read.integer("max_output_batch", 100, minimum=1)
        self._image = Tensor("float32", (1, *self._original.shape))
        self._pieces = Tensor("float32", (-1, 1, *self._target.shape))

    def _collect(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """Pieces [height, width, colours] of any sizes as the tensor [N, 1, ...], in the target's size, layout and colours."""
        target = self._target
        collected = np.empty((len(pieces), 1, *target.shape), np.float32)
        for place, piece in zip(collected, pieces, strict=True):
            picture = resize(piece, target.height, target.width)
            place[:] = target.write(to_grey(picture) if self._is_grey else picture)
        return collected


def cut(picture: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Views of a picture, one for each box [left, top, right, bottom] in it."""
    return [picture[top:bottom, left:right] for left, top, right, bottom in boxes.tolist()]
