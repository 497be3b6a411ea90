"""Custom nodes of the pipeline in ``config.json``: a photo in, lines of text out, with PaddleOCR's detection and recognition.

In the order of the pipeline, around the two models:

    Prepare    the photo                       -> what the detection takes
               (ocr_det)                          -> a map of where text is
    FindLines  the photo, the map              -> one strip for each line, and its box; splits: the next two run once a line
    Scale      a strip                         -> what the recognition takes
               (ocr_rec)                          -> how likely each character is, step by step
    Read       those probabilities             -> the line's text
    Gather     the texts and boxes of all lines -> the answer

Each line is recognised at its own width: the model looks at the line as a whole, and reads another text in a padded strip. But
shards have one shape, and so have the arrays that are gathered. So ``FindLines`` pads the strips, ``Scale`` cuts the padding off,
and ``Read`` gives texts of one length.
"""
# ruff: noqa: INP001 - a file that the configuration names, not part of a package

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tornado_ovms.nodes.base import CustomNode, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent

COLOURS = 3
STRIDE = 32
"""The detection wants sides that are multiples of this."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""What the detection was trained with."""

LINE_HEIGHT = 48
"""Of what the recognition takes, in pixels."""


def integer(params: Mapping[str, str], name: str, default: int) -> int:
    """A parameter that is a number above 0."""
    text = params.get(name, str(default))
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError(f"parameter {name} - Expected: an integer above 0; Actual: {text!r}")
    return int(text)


def fraction(params: Mapping[str, str], name: str, default: float) -> float:
    """A parameter that is a number from 0 to 1."""
    text = params.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ValueError(f"parameter {name} - Expected: a number from 0 to 1; Actual: {text!r}")
    return value


def in_colours(image: np.ndarray) -> np.ndarray:
    """A photo u8 [1,H,W,1, 3 or 4] as it was decoded: blue, green and red [H,W,3]."""
    picture: np.ndarray = image[0]
    channels = picture.shape[2]
    if channels == COLOURS:
        return picture
    conversions = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}
    if channels not in conversions:
        raise ValueError(f"input image - Expected: 1, 3 or 4 channels; Actual: {channels}")
    return cv2.cvtColor(picture, conversions[channels])


class Prepare(CustomNode):
    """``image`` u8 [1,H,W,1, 3 or 4], blue first, to ``x`` f32 [1,3,h,w]: sides are multiples of 32, values normalised.

    Parameters: ``max_side`` (1536): a photo with a longer side is made smaller, in pixels.
    """

    inputs: Mapping[str, Tensor] = {"image": Tensor("uint8", (1, -1, -1, -1))}
    outputs: Mapping[str, Tensor] = {"x": Tensor("float32", (1, COLOURS, -1, -1))}

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        self._max_side = integer(params, "max_side", 1536)

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        picture = in_colours(inputs["image"])
        height, width = picture.shape[:2]
        shrink = min(1.0, self._max_side / max(height, width))
        sides = [max(round(side * shrink / STRIDE), 1) * STRIDE for side in (width, height)]
        values = cv2.resize(picture, sides).astype(np.float32) / 255
        values = (values - MEAN) / DEVIATION
        return {"x": np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])}


class FindLines(CustomNode):
    """``image`` u8 [1,H,W,1, 3 or 4] and ``map`` f32 [1,1,h,w], how likely each pixel is text, to the lines, top to bottom.

    A line is a connected part of the map above the threshold. Its box is grown on each side by 1.6 times its area over its
    perimeter, for the model marks less than the text, and cut at the photo's edges.

    Outputs: ``strips`` u8 [N,1,48,W,3], the lines scaled to one height and padded to the width of the widest; ``widths`` i32
    [N,1,1], how wide each is without that; ``boxes`` i32 [N,1,4], left, top, right and bottom in pixels of the photo.

    Parameters: ``threshold`` (0.3); ``min_side`` (3): a part that is narrower or lower is noise, in pixels of the map;
    ``max_width`` (3200) of a strip.
    """

    inputs: Mapping[str, Tensor] = {
        "image": Tensor("uint8", (1, -1, -1, -1)),
        "map": Tensor("float32", (1, 1, -1, -1)),
    }
    outputs: Mapping[str, Tensor] = {
        "strips": Tensor("uint8", (-1, 1, LINE_HEIGHT, -1, COLOURS)),
        "widths": Tensor("int32", (-1, 1, 1)),
        "boxes": Tensor("int32", (-1, 1, 4)),
    }

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        self._threshold = fraction(params, "threshold", 0.3)
        self._min_side = integer(params, "min_side", 3)
        self._max_width = integer(params, "max_width", 3200)

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        picture = in_colours(inputs["image"])
        boxes = self._find(inputs["map"][0, 0], *picture.shape[:2])
        sizes = boxes[:, 2:] - boxes[:, :2]
        widths = np.rint(sizes[:, 0] * LINE_HEIGHT / sizes[:, 1]).clip(1, self._max_width).astype(np.int32)
        strips = np.zeros((len(boxes), 1, LINE_HEIGHT, widths.max(initial=1), COLOURS), np.uint8)
        for strip, width, (left, top, right, bottom) in zip(strips, widths.tolist(), boxes.tolist(), strict=True):
            strip[0, :, :width] = cv2.resize(picture[top:bottom, left:right], (width, LINE_HEIGHT))
        return {"strips": strips, "widths": widths.reshape(-1, 1, 1), "boxes": boxes[:, np.newaxis]}

    def _find(self, likely: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes i32 [N,4]: left, top, right, bottom."""
        parts = cv2.connectedComponentsWithStats((likely > self._threshold).astype(np.uint8))[2][1:]
        parts = parts[parts[:, 2:4].min(1) >= self._min_side]
        parts = parts[np.argsort(parts[:, cv2.CC_STAT_TOP], kind="stable")].astype(np.float64)
        corners, sizes, areas = parts[:, :2], parts[:, 2:4], parts[:, 4:]
        grown = areas * 1.6 / (2 * sizes.sum(1, keepdims=True))
        limits = np.array([width, height])
        scale = limits / likely.shape[::-1]
        begin = np.clip((corners - grown) * scale, 0, limits)
        end = np.clip((corners + sizes + grown) * scale, 0, limits)
        return np.concatenate([np.floor(begin), np.ceil(end)], 1).astype(np.int32)


class Scale(CustomNode):
    """``strip`` u8 [1,48,W,3] and ``width`` i32 [1,1] to ``x`` f32 [1,3,48,width]: from -1 to 1, without the padding."""

    inputs: Mapping[str, Tensor] = {
        "strip": Tensor("uint8", (1, LINE_HEIGHT, -1, COLOURS)),
        "width": Tensor("int32", (1, 1)),
    }
    outputs: Mapping[str, Tensor] = {"x": Tensor("float32", (1, COLOURS, LINE_HEIGHT, -1))}

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        strip = inputs["strip"][:, :, : inputs["width"].item()]
        values = strip.astype(np.float32) / 127.5 - 1
        return {"x": np.ascontiguousarray(values.transpose(0, 3, 1, 2))}


class Read(CustomNode):
    """``probabilities`` f32 [1,steps,classes] of one line to ``text`` u8 [1,max_bytes]: UTF-8, zeros behind.

    Of each step the most likely class counts; repeats of it and class 0, which stands for nothing, are dropped.

    Parameters: ``characters`` (required), a text file whose line k is class k, beside this file if the path is relative; the
    class behind the last is the space. ``max_bytes`` (1024): what is longer is cut.
    """

    inputs: Mapping[str, Tensor] = {"probabilities": Tensor("float32", (1, -1, -1))}

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        if "characters" not in params:
            raise ValueError("parameter characters - Expected: the path of a text file; Actual: nothing")
        lines = (HERE / params["characters"]).read_text("utf-8").splitlines()
        self._characters = ["", *lines, " "]
        self._max_bytes = integer(params, "max_bytes", 1024)
        self.outputs = {"text": Tensor("uint8", (1, self._max_bytes))}

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        probabilities = inputs["probabilities"][0]
        if probabilities.shape[1] != len(self._characters):
            expected = f"{len(self._characters)} classes, by the file of characters"
            raise ValueError(f"input probabilities - Expected: {expected}; Actual: {probabilities.shape[1]}")
        best = probabilities.argmax(1)
        is_new = np.append(True, best[1:] != best[:-1])
        line = "".join(self._characters[index] for index in best[is_new].tolist())
        content = line.encode()[: self._max_bytes].decode(errors="ignore").encode()  # no half characters
        text = np.zeros((1, self._max_bytes), np.uint8)
        text[0, : len(content)] = np.frombuffer(content, np.uint8)
        return {"text": text}


class Gather(CustomNode):
    """``texts`` u8 [N,1,L] and ``boxes`` i32 [N,1,4] of all lines to ``texts`` u8 [N,l] and ``boxes`` i32 [N,4].

    A u8 output of two dimensions is sent as text if its name in the pipeline's answer ends in ``_string``.
    """

    inputs: Mapping[str, Tensor] = {
        "texts": Tensor("uint8", (-1, 1, -1)),
        "boxes": Tensor("int32", (-1, 1, 4)),
    }
    outputs: Mapping[str, Tensor] = {"texts": Tensor("uint8", (-1, -1)), "boxes": Tensor("int32", (-1, 4))}

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        return {"texts": inputs["texts"][:, 0], "boxes": inputs["boxes"][:, 0]}
