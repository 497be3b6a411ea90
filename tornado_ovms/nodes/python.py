"""Custom nodes in Python: classes below ``nodes.base.CustomNode``, by ``package.module:Class`` or ``/path/file.py:Class``.

Opened, created and closed in a loader thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, BY_DTYPE, Dim, Layout, Shape, TensorSpec
from tornado_ovms.nodes.base import CustomNode, Tensor

if TYPE_CHECKING:
    from collections.abc import Awaitable

log = logging.getLogger("dag_executor")

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
        except (Exception, SystemExit) as error:  # whatever a module does while it is imported
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
    """A module by its name, or a file as a module of its own, which is called like its path."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
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
        return self._check(outputs)

    async def _execute_later(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        try:
            outputs = await cast("Awaitable[Mapping[str, np.ndarray]]", self._node.execute(arrays))
        except Exception as error:
            raise self._failure(error) from error
        return self._check(outputs)

    def close(self) -> None:
        """See ``nodes.base.Node``. Nobody waits for what it raises."""
        try:
            self._node.close()
        except Exception:
            log.exception("%s could not be closed", type(self._node).__name__)

    def _failure(self, error: Exception) -> Failure:
        return Failure(Code.NODE_EXECUTE, f"{type(self._node).__name__}: {error!r}")

    def _check(self, outputs: object) -> Mapping[str, np.ndarray]:
        """Arrays of the dtypes that were promised; what is missing is found by whoever reads it."""
        if not isinstance(outputs, Mapping):
            found = f"Expected: a mapping of names to arrays; Actual: {type(outputs).__name__}"
            raise Failure(Code.NODE_OUTPUTS, f"{type(self._node).__name__}: {found}")
        checked = {}
        for name, value in outputs.items():
            try:
                array = np.asarray(value)
            except ValueError as error:
                raise Failure(Code.NODE_OUTPUT_SIZE, f"output: {name}: {error}") from error
            spec = self.outputs.get(name)
            if spec is not None and array.dtype != spec.precision.dtype:
                found = f"Expected: {spec.precision.dtype}; Actual: {array.dtype}"
                raise Failure(Code.NODE_OUTPUT_PRECISION, f"output: {name}; {found}")
            checked[name] = array
        return checked


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype, sizes = tensor
    shape = Shape(ANY if size < 0 else Dim.fixed(size) for size in sizes)
    return TensorSpec(name, BY_DTYPE[np.dtype(dtype)], shape, NO_LAYOUT)
