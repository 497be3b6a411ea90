"""nvidia-pytriton: Triton's HTTP in C++, and the model as a function in Python: ``pytriton_server.py HTTP GRPC METRICS``."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from served import NAMES, WORKERS, Served, picture

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = {"dummy": (1, 10), "light": (1, 3, 224, 224), "resnet": (1, 3, 224, 224), "image": (1,)}


def function(name: str) -> Callable[[list[Any]], list[dict[str, Any]]]:
    """A model as pytriton wants it."""
    served = Served(name)

    def infer(requests: list[Any]) -> list[dict[str, Any]]:
        answers = []
        for request in requests:
            x = request["x"]
            if served.takes_pictures:
                x = np.stack([picture(base64.b64decode(text)) for text in x])
            answers.append({"y": served(x)})
        return answers

    return infer


if __name__ == "__main__":
    http, grpc, metrics = map(int, sys.argv[1:4])
    place = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1"}
    with Triton(config=TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics, **place)) as triton:
        for model in NAMES:
            kind = bytes if model == "image" else np.float32
            triton.bind(
                model_name=model,
                infer_func=[function(model) for _ in range(WORKERS)],
                inputs=[Tensor(name="x", dtype=kind, shape=SHAPES[model])],
                outputs=[Tensor(name="y", dtype=np.float32, shape=(-1, -1))],
                config=ModelConfig(batching=False),
            )
        triton.serve()
