"""The seam between serving and what computes: ``Engine`` loads, ``Executable`` infers.

``tornado_ovms.serving`` knows these protocols only, so that another back end, or a fake in a test, fits in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.core.settings import ModelSettings
    from tornado_ovms.core.tensors import TensorSpec


class Inference(NamedTuple):
    """What an inference gave, and how long it took.

    Attributes:
        outputs: in the order of the executable's, owned by the caller.
        wait_s: seconds in line for an infer request, and before that for other requests to be joined with.
        infer_s: seconds from the start to OpenVINO's call back.
        window_s: those of ``wait_s`` in which it might have been joined by others.
        batch_rows: how many rows the inference had, if requests are joined. It is told to one of those that it answers, and is
            0 for the others: each inference is counted once.
    """

    outputs: Sequence[np.ndarray]
    wait_s: float
    infer_s: float
    window_s: float = 0.0
    batch_rows: int = 0


States = Mapping[str, "np.ndarray"]
"""Values of a model's states (OpenVINO's ReadValue and Assign), by the name of the variable."""


class ExecutableStats(NamedTuple):
    """What an executable is doing: streams of the device, infer requests kept, those that run, callers that wait for one."""

    streams: int
    requests: int
    running: int
    waiting: int


class Executable(Protocol):
    """One loaded model version. All methods but ``close`` belong to the event loop."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """The inputs by name, in the order of names."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The outputs in the model's order."""

    @property
    def info(self) -> Mapping[str, Any]:
        """What the model's file says about it (OpenVINO's ``rt_info`` below ``model_info``): texts, or mappings of them."""

    @property
    def is_quick(self) -> bool:
        """Whether an inference takes less time than handing it to another thread; then ``infer_now`` may be used."""

    def infer_now(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """As ``infer``, at once and on the caller's thread; only if ``is_quick``."""

    async def infer(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """Run the model once, waiting in line for a free infer request.

        Args:
            arrays: an array for every input, C-contiguous and of its exact dtype; strings are object arrays of
                ``bytes``.
                They must not change until the answer is there, and may be shared with the device without a copy.

        Raises:
            Failure: INFERENCE if the model refuses the input; RESHAPE if it does so for the sizes of an ``auto`` shape.
        """

    async def infer_with_states(
        self, arrays: Mapping[str, np.ndarray], states: States | None
    ) -> tuple[Inference, States]:
        """As ``infer``, from given values of the model's states; None stands for those it begins with.

        Returns:
            What it gave, and the states after it, owned by the caller.
        """

    def stats(self) -> ExecutableStats:
        """What it is doing now."""

    def close(self) -> None:
        """Give memory and threads back, after what still runs has ended. Blocks: called once, in a loader thread."""


class Engine(Protocol):
    """Loads model versions."""

    def check(self, settings: ModelSettings) -> None:
        """Look at what can be told without the model; any thread.

        Raises:
            Failure: MODEL_CONFIG_INVALID for a key of ``plugin_config`` that the device does not know.
        """

    def load(self, blueprint: Blueprint) -> Executable:
        """Read, reshape and compile a model. Blocks: called in a loader thread.

        Raises:
            Failure: whatever keeps this version from being served, with the reason.
        """
