"""What a custom node is: the protocol that pipelines use, and the class that nodes in Python are made from.

A node in Python is a class below ``CustomNode``, named in the configuration as ``package.module:Class``:

    class Scale(CustomNode):
        def __init__(self, params: Mapping[str, str]) -> None:
            super().__init__(params)
            self.factor = float(params.get("factor", "1"))
            self.inputs = {"x": Tensor("float32", (-1, 10))}
            self.outputs = {"y": Tensor("float32", (-1, 10))}

        def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
            return {"y": inputs["x"] * self.factor}

``execute`` is called in a thread, for several requests at a time; an ``async def execute`` is awaited on the event loop and must
not block it. Inputs may be shared with other nodes: they are not to be changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    import numpy as np

    from tornado_ovms.core.tensors import TensorSpec


class Tensor(NamedTuple):
    """An input or output of a node in Python: numpy's name of its dtype, and its sizes, -1 where any is possible."""

    dtype: str
    shape: tuple[int, ...]


class CustomNode:
    """A node in Python.

    Attributes:
        params: its ``params`` in the configuration.
        inputs: by name; set in ``__init__``, or in the class if they do not depend on the parameters.
        outputs: by name, likewise.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def __init__(self, params: Mapping[str, str]) -> None:
        """Look at the parameters. Called in a loader thread.

        Raises:
            ValueError: the parameters cannot be used; the pipeline is then not served, with this reason.
        """
        self.params = params

    def execute(
        self, inputs: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray] | Awaitable[Mapping[str, np.ndarray]]:
        """Compute all outputs. What it raises fails the request, with this reason."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the node holds, after its last request. Called in a loader thread."""


class Node(Protocol):
    """A custom node of one pipeline, ready to run, whatever it is made of."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """By name."""

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """By name."""

    @property
    def is_async(self) -> bool:
        """Whether ``execute`` gives an awaitable, and is to be called on the event loop."""

    def execute(
        self, arrays: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray] | Awaitable[Mapping[str, np.ndarray]]:
        """Run once. In a thread unless ``is_async``; several at a time.

        Raises:
            Failure: NODE_EXECUTE and the other codes of custom nodes.
        """

    def close(self) -> None:
        """Give everything back. Blocks: called in a loader thread, once, after the last ``execute``."""


class Library(Protocol):
    """Where nodes of one kind come from."""

    def create(self, params: Mapping[str, str]) -> Node:
        """A node with these parameters. Blocks: called in a loader thread.

        Raises:
            Failure: NODE_INITIALIZE, NODE_METADATA and the other codes of custom nodes.
        """
