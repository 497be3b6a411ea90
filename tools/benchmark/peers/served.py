"""What the peers share: a model on OpenVINO that many threads may call, and a request's JSON as its input.

Runs in each peer's own environment; BENCH_MODELS names the folder of the models.
"""

from __future__ import annotations

import base64
import json
import os
import queue
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov

NAMES = ("dummy", "light", "resnet", "image")
FOLDER = Path(os.environ["BENCH_MODELS"])
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
CORE = ov.Core()


def picture(data: bytes) -> np.ndarray[Any, Any]:
    """A decoded picture."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


class Served:
    """A compiled model with as many infer requests as OpenVINO advises."""

    def __init__(self, name: str) -> None:
        settings = dict(SETTINGS[name])
        if "BENCH_HINT" in os.environ:
            settings["PERFORMANCE_HINT"] = os.environ["BENCH_HINT"]
        compiled = CORE.compile_model(FOLDER / name / "1" / "model.xml", "CPU", settings)
        self.takes_pictures = name == "image"
        self._idle: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Infer; waits while all requests are busy."""
        request = self._idle.get()
        try:
            return np.array(request.infer([x], share_inputs=True)[0])
        finally:
            self._idle.put(request)

    def predict(self, instances: list[Any]) -> np.ndarray[Any, Any]:
        """The outputs for TensorFlow Serving's row form."""
        if self.takes_pictures:
            return self(np.stack([picture(base64.b64decode(instance["b64"])) for instance in instances]))
        return self(np.asarray(instances, np.float32))
