"""mosec: HTTP in Rust, and processes that predict. msgspec reads and writes JSON in place of mosec's slower default."""

from __future__ import annotations

from typing import Any

import msgspec
from mosec import Runtime, Server, Worker
from served import WORKERS, Served

TIMEOUT_S = 60


class Predictor(Worker):
    """One model; mosec imports its workers by name, so each model has a class."""

    model = ""

    def __init__(self) -> None:
        super().__init__()
        self._served = Served(self.model)

    def deserialize(self, data: bytes) -> Any:
        """JSON to values."""
        return msgspec.json.decode(data)

    def serialize(self, data: Any) -> bytes:
        """Values to JSON."""
        return msgspec.json.encode(data)

    def forward(self, data: Any) -> Any:
        """TensorFlow Serving's call."""
        return {"predictions": self._served.predict(data["instances"]).tolist()}


class Dummy(Predictor):
    """The 10 floats."""

    model = "dummy"


class Light(Predictor):
    """The light model."""

    model = "light"


class Resnet(Predictor):
    """The long one."""

    model = "resnet"


class Image(Predictor):
    """Pictures."""

    model = "image"


if __name__ == "__main__":
    server = Server()
    server.register_runtime({
        f"/v1/models/{worker.model}:predict": [Runtime(worker, num=WORKERS, timeout=TIMEOUT_S)]
        for worker in (Dummy, Light, Resnet, Image)
    })
    server.run()
