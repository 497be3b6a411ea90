"""Custom nodes in Python: classes below ``nodes.base.CustomNode``, by ``package.module:Class`` or ``/path/file.py:Class``.

Opened, created and closed in a loader thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec
from tornado_ovms.nodes.base import CustomNode, Tensor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

_PRECISIONS: Final = {precision.dtype: precision for precision in Precision if precision.dtype is not None}

NO_LAYOUT: Final = Layout("...")


class PythonLibrary:
    """One class, of which each node of a pipeline is an instance.

    Args:
        place: ``package.module:Class``, or the path of a file and a class in it.

    Raises:
        Failure: PIPELINE_LIBRARY if there is no such class, or it is none of ``CustomNode``'s.
    """

    def __init__(self, place: str) -> None:
        module_name, _, class_name = place.rpartition(":")
        try:
            found = getattr(_load(module_name), class_name)
        except Exception as error:  # whatever a module does while it is imported
            raise Failure(Code.PIPELINE_LIBRARY, f"{place}: {error!r}") from error
        if not (isinstance(found, type) and issubclass(found, CustomNode)):
            raise Failure(Code.PIPELINE_LIBRARY, f"{place}: Expected: a class below CustomNode; Actual: {found!r}")
        self._class = found

    def create(self, params: Mapping[str, str]) -> PythonNode:
        """See ``nodes.base.Library``."""
        try:
            node = self._class(params)
        except Exception as error:
            raise Failure(Code.NODE_INITIALIZE, f"{self._class.__name__}: {error}") from error
        return PythonNode(node)


def _load(name: str) -> Any:
    """A module by its name, or a file as a module of its own."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PythonNode:
    """An instance of such a class, as pipelines use it."""

    def __init__(self, node: CustomNode) -> None:
        self._node = node
        self.is_async = inspect.iscoroutinefunction(node.execute)
        try:
            self.inputs = {name: _spec(name, tensor) for name, tensor in node.inputs.items()}
            self.outputs = {name: _spec(name, tensor) for name, tensor in node.outputs.items()}
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise Failure(Code.NODE_METADATA, f"{type(node).__name__}: inputs and outputs: {error!r}") from error

    def execute(
        self, arrays: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray] | Awaitable[Mapping[str, np.ndarray]]:
        """See ``nodes.base.Node``."""
        if self.is_async:
            return self._execute_later(arrays)
        try:
            outputs = self._node.execute(arrays)
        except Exception as error:
            raise self._failure(error) from error
        return self._check(cast("Mapping[str, np.ndarray]", outputs))

    async def _execute_later(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        try:
            outputs = await cast("Awaitable[Mapping[str, np.ndarray]]", self._node.execute(arrays))
        except Exception as error:
            raise self._failure(error) from error
        return self._check(outputs)

    def close(self) -> None:
        """See ``nodes.base.Node``."""
        self._node.close()

    def _failure(self, error: Exception) -> Failure:
        return Failure(Code.NODE_EXECUTE, f"{type(self._node).__name__}: {error!r}")

    def _check(self, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Arrays of the dtypes that were promised; what is missing is found by whoever reads it."""
        checked = {}
        for name, value in outputs.items():
            array = np.asarray(value)
            spec = self.outputs.get(name)
            if spec is not None and array.dtype != spec.precision.dtype:
                found = f"Expected: {spec.precision.dtype}; Actual: {array.dtype}"
                raise Failure(Code.NODE_OUTPUT_PRECISION, f"output: {name}; {found}")
            checked[name] = array
        return checked


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype, sizes = tensor
    shape = Shape(ANY if size < 0 else Dim.fixed(size) for size in sizes)
    return TensorSpec(name, _PRECISIONS[np.dtype(dtype)], shape, NO_LAYOUT)
