"""Models so quick that they are inferred on the event loop.

Handing an inference to OpenVINO's threads and back costs 0.1 ms, and more when their callback has to wait for the GIL. A model
of 0.01 ms answers 1.7 times as many requests if the loop runs it itself.
"""

from __future__ import annotations

import math
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tornado_ovms.core.tensors import Precision
from tornado_ovms.engine.tensors import is_small, to_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import openvino as ov

    from tornado_ovms.core.tensors import TensorSpec

QUICK_S: Final = 0.0002
"""What takes less than this is done at once; 0.05 ms of it is the way to OpenVINO's thread and back, which the trial takes."""

TRIALS: Final = 5

HOPELESS_S: Final = 0.02
"""A model whose first inference takes longer than this is not tried again: the others would only delay the start."""

FLOATS: Final = frozenset({Precision.FP16, Precision.FP32, Precision.FP64})

ON_LOOP: Final[Mapping[str, Any]] = MappingProxyType({
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
})
"""How a quick model is compiled for the loop. OpenVINO's own choice spreads it over all cores and binds the loop's thread to one
of them at each inference, and back: 47 µs instead of 11 while other processes use the cores."""


class Quick:
    """An infer request of its own for one quick model. Belongs to the event loop; ``find`` may be called in a loader thread."""

    def __init__(
        self, model: ov.CompiledModel, inputs: Sequence[TensorSpec], outputs: Sequence[tuple[int, TensorSpec]]
    ) -> None:
        request = model.create_infer_request()
        self.request = request
        self._inputs = [(spec.name, request.get_input_tensor(i).data) for i, spec in enumerate(inputs)]
        # A tensor whose size never changes keeps its memory, so that one view of it will do.
        self._outputs = [
            (index, request.get_output_tensor(index).data if is_small(spec) else None) for index, spec in outputs
        ]

    def fill(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the inputs."""
        for name, view in self._inputs:
            view[...] = arrays[name]

    def infer(self, arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], float]:
        """Run the model once, at once.

        Args:
            arrays: an array for every input, of its shape.

        Returns:
            The outputs, owned by the caller, and the seconds that OpenVINO took.
        """
        self.fill(arrays)
        begun = time.perf_counter()
        self.request.infer(share_outputs=True)
        infer_s = time.perf_counter() - begun
        return [
            view.copy() if view is not None else to_array(self.request.get_output_tensor(index))
            for index, view in self._outputs
        ], infer_s


def find(
    model: ov.CompiledModel, inputs: Sequence[TensorSpec], outputs: Sequence[tuple[int, TensorSpec]]
) -> Quick | None:
    """A request of its own for a model that infers faster than a thread is woken; None for any other.

    The best of a few inferences on zeros counts: others may use the processor meanwhile. Only models that take nothing but
    floats are tried: OpenVINO divides by an integer of 0, and reads by an index that leads out of the memory, until the
    process is ended by a signal.
    """
    if not all(is_small(spec) and spec.precision in FLOATS for spec in inputs):
        return None
    quick = Quick(model, inputs, outputs)
    if quick.request.query_state():
        return None
    quick.fill({spec.name: np.zeros(()) for spec in inputs})  # OpenVINO leaves the memory as it finds it
    return quick if time_inference(quick.request) < QUICK_S else None


def run(request: ov.InferRequest) -> None:
    """Infer on the inputs that are set, in a loader thread.

    On OpenVINO's own thread: ``infer`` computes on the caller's, and OpenVINO 2026.4 dies of a null pointer when models that are
    compiled for one thread have been inferred so in several threads, after some of them are gone. Only the loop calls ``infer``.
    """
    request.start_async()
    request.wait()


def time_inference(request: ov.InferRequest) -> float:
    """Seconds that an inference on the inputs that are set takes at best; infinity if the model does not take them."""
    best = math.inf
    for _ in range(TRIALS):
        begin = time.perf_counter()
        try:
            run(request)
        except Exception:  # noqa: BLE001 - zeros may be no legal input; then requests tell
            return math.inf
        best = min(best, time.perf_counter() - begin)
        if best > HOPELESS_S:
            break
    return best
