"""Custom node libraries of the reference's C interface, loaded unchanged (``src/custom_node_interface.h``).

``ctypes`` calls them without the GIL. All that a library allocates is copied and released within the call that gave it, each
pointer once; names are the library's own and stay so. A library that returns what cannot be right (no list, counts below
one, no data, sizes that do not fit) is answered with a failure, after everything that can be released has been. A library
that writes where it must not takes the process with it, as in the reference.

``CLibrary`` is opened and its nodes are created and closed in a loader thread; ``CNode.execute`` may be called by several
threads at a time.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("dag_executor")

FUNCTIONS: Final = ("initialize", "deinitialize", "execute", "getInputsInfo", "getOutputsInfo", "release")

PRECISIONS: Final = {
    1: Precision.FP32,
    2: Precision.FP16,
    3: Precision.U8,
    4: Precision.I8,
    5: Precision.I16,
    6: Precision.U16,
    7: Precision.I32,
    8: Precision.FP64,
    9: Precision.I64,
}
"""``CustomNodeTensorPrecision``; everything else is unspecified."""

_NUMBERS: Final = {precision.dtype: number for number, precision in PRECISIONS.items()}

OPEN: Final = (0, 2**64 - 1)
"""How a library tells of a dimension that may have any size; the second is -1, which works by accident in the reference."""

NO_LAYOUT: Final = Layout("...")

MAX_RANK: Final = 32
"""Of numpy 1."""


class _Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", c_char_p),
        ("data", c_void_p),
        ("data_bytes", c_uint64),
        ("dims", POINTER(c_uint64)),
        ("dims_count", c_uint64),
        ("precision", c_int),
    ]


class _TensorInfo(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", c_char_p),
        ("dims", POINTER(c_uint64)),
        ("dims_count", c_uint64),
        ("precision", c_int),
    ]


class _Param(ctypes.Structure):
    _fields_: ClassVar = [("key", c_char_p), ("value", c_char_p)]


_ARGUMENTS: Final[Mapping[str, list[Any]]] = {
    "initialize": [POINTER(c_void_p), POINTER(_Param), c_int],
    "deinitialize": [c_void_p],
    "execute": [
        POINTER(_Tensor), c_int, POINTER(POINTER(_Tensor)), POINTER(c_int), POINTER(_Param), c_int, c_void_p,
    ],
    "getInputsInfo": [POINTER(POINTER(_TensorInfo)), POINTER(c_int), POINTER(_Param), c_int, c_void_p],
    "getOutputsInfo": [POINTER(POINTER(_TensorInfo)), POINTER(c_int), POINTER(_Param), c_int, c_void_p],
    "release": [c_void_p, c_void_p],
}  # fmt: skip


class CLibrary:
    """A shared library with the six functions.

    Args:
        path: the file.

    Raises:
        Failure: PIPELINE_LIBRARY if it cannot be opened, or a function is missing.
    """

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path, mode=os.RTLD_LAZY | os.RTLD_LOCAL)
        except (OSError, ValueError) as error:  # the second for a path with a zero in it
            raise Failure(Code.PIPELINE_LIBRARY, f"{path}: {error}") from error
        self.functions: dict[str, Any] = {}
        for name in FUNCTIONS:
            try:
                function = self._library[name]
            except AttributeError as error:
                raise Failure(Code.PIPELINE_LIBRARY, f"{path} has no function {name}") from error
            function.argtypes = _ARGUMENTS[name]
            function.restype = c_int
            self.functions[name] = function

    def create(self, params: Mapping[str, str]) -> CNode:
        """See ``nodes.base.Library``."""
        return CNode(self, params)


class CNode:
    """A node of a C library: its parameters, and the manager that the library keeps for it."""

    is_async: Final = False

    def __init__(self, library: CLibrary, params: Mapping[str, str]) -> None:
        self._functions = library.functions
        self._texts = [
            (key.encode(), value.encode()) for key, value in params.items()
        ]  # the structures only point to them
        self._count = len(self._texts)
        self._params = (_Param * self._count)(*(_Param(key, value) for key, value in self._texts)) if params else None
        self._manager = c_void_p(None)
        result = self._functions["initialize"](byref(self._manager), self._params, self._count)
        if result:
            raise Failure(Code.NODE_INITIALIZE, f"initialize returned {result}")
        try:
            self.inputs = self._describe("getInputsInfo")
            self.outputs = self._describe("getOutputsInfo")
        except Failure:
            self.close()
            raise

    def close(self) -> None:
        """See ``nodes.base.Node``."""
        self._functions["deinitialize"](self._manager)

    def execute(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``nodes.base.Node``. Outputs are copied out of the library's memory."""
        tensors, alive = _to_tensors(arrays)
        outputs: Any = POINTER(_Tensor)()
        count = c_int(0)
        result = self._functions["execute"](
            tensors, len(arrays), byref(outputs), byref(count), self._params, self._count, self._manager
        )
        del alive
        if result:  # then the library has cleaned up
            raise Failure(Code.NODE_EXECUTE, f"execute returned {result}")
        if not outputs:
            raise Failure(Code.NODE_OUTPUTS, "execute gave no list of outputs")
        try:
            if count.value <= 0:
                raise Failure(Code.NODE_OUTPUT_COUNT, f"Expected: at least 1; Actual: {count.value}")
            return self._take(outputs, count.value)
        finally:
            self._release(outputs)

    def _take(self, tensors: Any, count: int) -> dict[str, np.ndarray]:
        """Copy all outputs and release them; the first fault is told after all have been released."""
        taken: dict[str, np.ndarray] = {}
        faults: list[Failure] = []
        for tensor in (tensors[index] for index in range(count)):
            try:
                name = _read_name(tensor)
                array = _to_array(tensor, name)
                taken.setdefault(name, array)  # of two with one name the first counts
            except Failure as failure:
                faults.append(failure)
            if tensor.dims:
                self._release(tensor.dims)
            if tensor.data:
                self._release(tensor.data)
        if faults:
            raise min(faults, key=lambda failure: failure.code is not Code.NODE_OUTPUT_NAME)
        return taken

    def _describe(self, function: str) -> dict[str, TensorSpec]:
        """The inputs or outputs that the library tells of."""
        infos: Any = POINTER(_TensorInfo)()
        count = c_int(0)
        result = self._functions[function](byref(infos), byref(count), self._params, self._count, self._manager)
        if result:
            raise Failure(Code.NODE_METADATA, f"{function} returned {result}")
        if not infos:
            raise Failure(Code.NODE_OUTPUTS, f"{function} gave no list")
        try:
            if count.value <= 0:
                raise Failure(Code.NODE_OUTPUT_COUNT, f"{function}: Expected: at least 1; Actual: {count.value}")
            return self._read_infos(function, infos, count.value)
        finally:
            self._release(infos)

    def _read_infos(self, function: str, infos: Any, count: int) -> dict[str, TensorSpec]:
        """Copy all descriptions and release them; a fault is told after all have been released."""
        specs: dict[str, TensorSpec] = {}
        fault: Failure | None = None
        for info in (infos[index] for index in range(count)):
            sizes = _read_sizes(info)
            if info.dims:
                self._release(info.dims)
            if info.name is None:
                continue
            name = info.name.decode(errors="replace")
            if sizes is None:
                fault = Failure(Code.NODE_METADATA, f"{function}: {name} has {info.dims_count} dimensions")
                continue
            shape = Shape(ANY if size in OPEN else Dim.fixed(size) for size in sizes)
            precision = PRECISIONS.get(info.precision, Precision.UNDEFINED)
            specs.setdefault(name, TensorSpec(name, precision, shape, NO_LAYOUT))
        if fault is not None:
            raise fault
        return specs

    def _release(self, pointer: Any) -> None:
        result = self._functions["release"](ctypes.cast(pointer, c_void_p), self._manager)
        if result:
            log.error("release of a custom node returned %d", result)


def _to_tensors(arrays: Mapping[str, np.ndarray]) -> tuple[Any, list[object]]:
    """The inputs as the library sees them, and what has to be kept alive during the call."""
    tensors = (_Tensor * len(arrays))() if arrays else None
    alive: list[object] = []
    for index, (name, array) in enumerate(arrays.items()):
        assert tensors is not None  # noqa: S101 - there are arrays
        packed = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        text, dims = name.encode(), (c_uint64 * packed.ndim)(*packed.shape)
        alive += (packed, text, dims)
        number = _NUMBERS.get(packed.dtype, 0)
        tensors[index] = _Tensor(text, packed.ctypes.data, packed.nbytes, dims, packed.ndim, number)
    return tensors, alive


def _read_sizes(what: Any) -> list[int] | None:
    """The dimensions of a tensor or of its description; None if they cannot be right."""
    if what.dims_count > MAX_RANK or (what.dims_count and not what.dims):
        return None
    return [what.dims[axis] for axis in range(what.dims_count)]


def _read_name(tensor: _Tensor) -> str:
    if tensor.name is None:
        raise Failure(Code.NODE_OUTPUT_NAME)
    name: bytes = tensor.name
    return name.decode(errors="replace")


def _to_array(tensor: _Tensor, name: str) -> np.ndarray:
    """A copy of an output."""
    precision = PRECISIONS.get(tensor.precision)
    if precision is None:
        raise Failure(Code.NODE_OUTPUT_PRECISION, f"output: {name}; Actual: {tensor.precision}")
    dtype = np.dtype(precision.dtype)
    sizes = _read_sizes(tensor)
    if sizes is None:
        raise Failure(Code.NODE_OUTPUT_SIZE, f"output: {name} has {tensor.dims_count} dimensions")
    wanted = math.prod(sizes) * dtype.itemsize
    if not tensor.data or tensor.data_bytes != wanted:
        found = f"Actual: {tensor.data_bytes}" if tensor.data else "Actual: no data"
        raise Failure(Code.NODE_OUTPUT_SIZE, f"output: {name}; Expected: {wanted} bytes; {found}")
    try:
        array = np.empty(sizes, dtype)
    except (MemoryError, ValueError) as error:
        raise Failure(Code.NODE_OUTPUT_SIZE, f"output: {name}: {error}") from error
    ctypes.memmove(array.ctypes.data, tensor.data, wanted)
    return array
