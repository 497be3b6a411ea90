"""OpenVINO in a process of its own, without HTTP: what a server can reach at most, and the memory that it cannot do without.

    python -m tools.benchmark.openvino_alone FOLDER MODEL SECONDS   inferences by AsyncInferQueue
    python -m tools.benchmark.openvino_alone FOLDER MODEL 0         memory with the model compiled, after one inference

Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov

from tools.benchmark import processes


def main(folder: Path, name: str, seconds: float) -> dict[str, float]:
    """Measure."""
    settings = json.loads((folder / "settings.json").read_text())[name]
    compiled = ov.Core().compile_model(folder / name / "1" / "model.xml", "CPU", settings)
    x = np.random.default_rng(2).random(tuple(compiled.input(0).shape), np.float32)
    if seconds == 0:
        compiled([x])
        return processes.memory([os.getpid()])._asdict()
    queue = ov.AsyncInferQueue(compiled)
    for _ in range(2 * len(queue)):
        queue.start_async([x])
    queue.wait_all()
    count, begun, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        queue.start_async([x], share_inputs=True)
        count += 1
    queue.wait_all()
    took = time.perf_counter() - begun
    return {"per_s": count / took, "cpu_ms": (time.process_time() - spent) / count * 1000}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
