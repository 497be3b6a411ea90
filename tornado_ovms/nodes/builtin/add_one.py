"""``add_one``: ten numbers, and something added to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado_ovms.nodes.base import CustomNode, Tensor
from tornado_ovms.nodes.builtin.parameters import Parameters
from tornado_ovms.nodes.builtin.pictures import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


class AddOne(CustomNode):
    """``input_numbers`` f32 [1,10] to ``output_numbers`` f32 [1,10]: each plus ``add_number`` minus ``sub_number``.

    Parameters: ``add_number`` (1) and ``sub_number`` (0), integers of at least 0. ``output_queue_size`` and ``info_queue_size``
    are sizes of the reference's buffers: they have to be above 0, and do nothing here.
    """

    inputs: Mapping[str, Tensor] = {"input_numbers": Tensor("float32", (1, 10))}
    outputs: Mapping[str, Tensor] = {"output_numbers": Tensor("float32", (1, 10))}

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        read = Parameters(params)
        self._add = read.integer("add_number", 1, minimum=0)
        self._sub = read.integer("sub_number", 0, minimum=0)
        for name in ("output_queue_size", "info_queue_size"):
            read.integer(name, 1, minimum=1)

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        check(inputs, self.inputs)
        return {"output_numbers": inputs["input_numbers"] + self._add - self._sub}
