"""The pipeline of ``etc/pipelines/ocr`` laid out with its models, and the same work by hand: OpenVINO in this process.

By hand nothing of the pipeline's nodes is used, so that a mistake of theirs shows.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import openvino as ov

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Picture = NDArray[np.uint8]

EXAMPLE = Path(__file__).parents[2] / "etc/pipelines/ocr"
MODELS = ("ocr_det", "ocr_rec")
CHARACTERS = "ppocr_keys_v1.txt"

PRECISE = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
"""As the configuration says, and as the server adds."""


def lay_out(folder: Path, real_models: Path) -> list[str]:
    """Follow the README; the arguments of the server.

    Args:
        folder: is made, and becomes a copy of the example with everything that it needs.
        real_models: where the downloaded models and data are, see ``real_models.py``.
    """
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODELS:
        shutil.copytree(real_models / "models" / name, folder / "models" / name)
    shutil.copy(real_models / "data" / CHARACTERS, folder / CHARACTERS)
    return ["--config_path", str(folder / "config.json")]


class Line(NamedTuple):
    """A line of a page: what it says, and left, top, right and bottom in pixels."""

    text: str
    box: tuple[int, int, int, int]


class ByHand:
    """Reads pages with both models in this process, as fast as can be: lines are prepared while the one before is inferred."""

    def __init__(self, real_models: Path) -> None:
        core = ov.Core()
        detection, recognition = (
            core.compile_model(str(real_models / "models" / name / "1" / "model.onnx"), "CPU", PRECISE)
            for name in MODELS
        )
        self._detection = detection.create_infer_request()
        self._recognition = ov.AsyncInferQueue(recognition)  # as many requests as OpenVINO advises, like the server
        self._recognition.set_callback(self._read)
        keys = (real_models / "data" / CHARACTERS).read_text("utf-8").splitlines()
        self._characters = ["", *keys, " "]
        self._texts: list[str] = []

    def read(self, content: bytes) -> list[Line]:
        """The lines of a picture in a file, top to bottom."""
        page = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        boxes = self.find(page)
        self._texts = [""] * len(boxes)
        for index, box in enumerate(boxes):
            self._recognition.start_async({0: strip(page, box)}, index)
        self._recognition.wait_all()
        return [Line(text, box) for text, box in zip(self._texts, boxes, strict=True)]

    def infer(self, prepared: Floats, strips: Sequence[Floats]) -> None:
        """Nothing but the models' work, for a page and its lines."""
        self._detection.infer({0: prepared})
        self._texts = [""] * len(strips)
        for index, line in enumerate(strips):
            self._recognition.start_async({0: line}, index)
        self._recognition.wait_all()

    def find(self, page: Picture) -> list[tuple[int, int, int, int]]:
        """Boxes of its lines."""
        x = prepare(page)
        likely = next(iter(self._detection.infer({0: x}).values()))[0, 0]
        height, width = likely.shape
        parts = cv2.connectedComponentsWithStats((likely > 0.3).astype(np.uint8))[2][1:].tolist()
        limits = np.array(page.shape[1::-1])
        found = []
        for left, top, columns, rows, area in sorted(parts, key=lambda part: part[1]):
            grown = area * 1.6 / (2 * (columns + rows))
            corners = np.array([[left - grown, top - grown], [left + columns + grown, top + rows + grown]])
            (x0, y0), (x1, y1) = np.clip(corners * limits / (width, height), 0, limits)
            found.append((int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))))
        return found

    def _read(self, request: ov.InferRequest, index: int) -> None:
        best = request.get_output_tensor(0).data[0].argmax(1)
        changed = np.append(True, best[1:] != best[:-1])
        self._texts[index] = "".join(self._characters[k] for k in best[changed].tolist())


def prepare(page: Picture) -> Floats:
    """A page as the detection takes it."""
    height, width = (max(round(side / 32), 1) * 32 for side in page.shape[:2])
    x = cv2.resize(page, (width, height)).astype(np.float32) / 255
    x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(x.transpose(2, 0, 1)[np.newaxis])


def strip(page: Picture, box: tuple[int, int, int, int]) -> Floats:
    """A line as the recognition takes it."""
    left, top, right, bottom = box
    width = round((right - left) * 48 / (bottom - top))
    values = cv2.resize(page[top:bottom, left:right], (width, 48)).astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])
