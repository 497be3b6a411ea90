"""KServe's Python SDK, with its V1 protocol, which is TensorFlow Serving's."""

from __future__ import annotations

from typing import Any

from kserve import Model, ModelServer
from served import NAMES, Served


class Predictor(Model):
    """One model."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._served = Served(name)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002 (KServe's names)
        """TensorFlow Serving's call."""
        return {"predictions": self._served.predict(payload["instances"]).tolist()}


if __name__ == "__main__":
    ModelServer().start([Predictor(name) for name in NAMES])
