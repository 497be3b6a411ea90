"""Bodies of the KServe v2 protocol, with the binary tensor extension in both directions.

``read`` takes a request apart before anybody looks for its model, as the reference does; ``fit`` checks it against the model;
``write_inference`` answers. Where the reference loses something (64-bit integers, doubles, half precision, all but the last of
the outputs) this does not. Sources: ``src/rest_parser.cpp``, ``src/kfs_frontend`` of the reference; KServe's Open Inference
Protocol; the extension as Triton describes it. Any thread may use this module.
"""

from __future__ import annotations

import json
import math
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import numpy as np
import orjson

from tornado_ovms.codec import arrays, document
from tornado_ovms.codec.encoded import Encoded
from tornado_ovms.codec.numeric import MAX_RANK, Numbers
from tornado_ovms.codec.outputs import check_finite, dump_slices
from tornado_ovms.core.settings import NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import BY_KSERVE, INT32_MAX, Precision, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tornado_ovms.core.settings import Limits
    from tornado_ovms.core.tensors import TensorSpec

    Piece = bytes | memoryview
    Parameters = Mapping[str, str | bool | int | float]

HEADER: Final = "Inference-Header-Content-Length"
"""The HTTP header that says how long the JSON is, before the binary data."""

EXTENSIONS: Final = ("binary_tensor_data",)

SIZE: Final = "binary_data_size"
"""The parameter of an input, and of an output, that says how many bytes of binary data are its."""

_LENGTH: Final = struct.Struct("<I")
"""What stands before each element of binary BYTES."""

_NOTHING: Final[Mapping[str, TensorSpec]] = MappingProxyType({})

_MAX_LENGTH: Final = 2**63 - 1

_MAX_VALUES: Final = 2**59
"""More than any memory holds; numpy counts bytes with 63 bits, also where a dimension of 0 leaves none."""


class InferInput(NamedTuple):
    """An input of a request.

    Attributes:
        name: the input's.
        datatype: as the client names it.
        shape: as the client gives it; the values may be too few or too many for it.
        values: an array of one dimension, or ``Encoded`` for BYTES, out of JSON; or binary data, not yet looked at.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray | Encoded | memoryview

    @property
    def is_text(self) -> bool:
        """Whether the values are texts, or pictures."""
        return self.datatype == Precision.STRING.kserve


class InferRequest(NamedTuple):
    """A request that has been read.

    Attributes:
        id: to be repeated in the answer; empty if there is none.
        parameters: of the request as a whole.
        inputs: in its order.
        outputs: names of those that are wanted and whether in binary form; None stands for all.
        is_binary: whether outputs of which nothing is said come in binary form.
    """

    id: str
    parameters: Parameters
    inputs: Sequence[InferInput]
    outputs: Mapping[str, bool] | None
    is_binary: bool

    @property
    def loose_bytes(self) -> int:
        """How much binary data cannot be used where it lies: ``fit`` copies it, or takes it apart into strings."""
        return sum(
            len(each.values)
            for each in self.inputs
            if isinstance(each.values, memoryview) and (each.values.readonly or each.is_text)
        )


def read(body: bytes | memoryview, header: str | None, limits: Limits) -> InferRequest:
    """Read the body of an inference request.

    Args:
        body: JSON, and binary data behind it. The inputs' data stays where it is.
        header: the header ``HEADER``, None if there is none; then all is JSON.
        limits: of nesting.

    Raises:
        Failure: what is wrong with the form of the request, in the order in which the reference looks.
    """
    length = _read_length(header, len(body))
    # Without the header binary data behind the JSON makes it invalid, whatever its first byte.
    tree = document.parse(bytes(body[:length]), limits.json_depth, ends_at_nul=header is not None)
    if type(tree) is not dict:
        raise Failure(Code.BODY_NOT_AN_OBJECT)
    identity = tree.get("id", "")
    if type(identity) is not str:
        raise Failure(Code.INPUT_UNREADABLE, f"id: Expected: a string; Actual: {_kind(identity)}")
    parameters = _read_parameters(tree, "")
    is_binary = parameters.get("binary_data_output") is True
    outputs = _read_outputs(tree["outputs"], is_binary=is_binary) if "outputs" in tree else None
    inputs = tree.get("inputs", [])
    if inputs == []:
        raise Failure(Code.NO_INPUTS)
    if type(inputs) is not list:
        raise Failure(Code.INPUT_UNREADABLE, f"inputs: Expected: a list; Actual: {_kind(inputs)}")
    entries = [_read_input(each, f"inputs[{index}]", is_only=len(inputs) == 1) for index, each in enumerate(inputs)]
    return InferRequest(identity, parameters, _deal(entries, memoryview(body)[length:]), outputs, is_binary)


def check_header(header: str | None) -> None:
    """Look at the header ``HEADER``, if there is one.

    Raises:
        Failure: HEADER_LENGTH_INVALID unless it is a number.
    """
    if header is not None and not (header.isascii() and header.isdecimal() and len(header) <= len(str(_MAX_LENGTH))):
        raise Failure(Code.HEADER_LENGTH_INVALID, f"Expected: an integer; Actual: {header[:40]!r}")


def _read_length(header: str | None, size: int) -> int:
    """How long the JSON is."""
    check_header(header)
    if header is None:
        return size
    if int(header) > size:
        raise Failure(Code.HEADER_LENGTH_TOO_LARGE, f"Expected: at most {size}; Actual: {header}")
    return int(header)


def _kind(value: object) -> str:
    """A JSON value in a message: numbers and words as they are, all else by its kind."""
    if type(value) in (list, Numbers):
        return "a list"
    if type(value) is dict:
        return "an object"
    return "a string" if type(value) is str else json.dumps(value)


def _read_parameters(tree: Mapping[str, Any], where: str) -> Parameters:
    """The parameters of a request, an input or an output."""
    parameters: Any = tree.get("parameters", {})
    if type(parameters) is not dict:
        raise Failure(
            Code.PARAMETERS_UNREADABLE, f"{where}parameters: Expected: an object; Actual: {_kind(parameters)}"
        )
    for name, value in parameters.items():
        if type(value) not in (str, bool, int, float):
            raise Failure(
                Code.PARAMETERS_UNREADABLE,
                f"{where}parameters.{name}: Expected: a string, a number, true or false; Actual: {_kind(value)}",
            )
    return parameters


def _read_outputs(outputs: Any, *, is_binary: bool) -> Mapping[str, bool] | None:
    """The outputs that are asked for, and whether each comes in binary form."""
    if type(outputs) is not list:
        raise Failure(Code.INPUT_UNREADABLE, f"outputs: Expected: a list; Actual: {_kind(outputs)}")
    wanted = {}
    for index, output in enumerate(outputs):
        if type(output) is not dict or type(output.get("name")) is not str:
            raise Failure(Code.OUTPUT_UNREADABLE, f"outputs[{index}]: Expected: an object with a name")
        chosen = _read_parameters(output, f"outputs[{index}].").get("binary_data")
        wanted[output["name"]] = chosen if type(chosen) is bool else is_binary
    return wanted or None


class _Entry(NamedTuple):
    """An input as the JSON tells it: its values are still missing if they are binary."""

    given: InferInput
    parameters: Parameters


_MISSING: Final = memoryview(b"")


def _read_input(tree: Any, where: str, *, is_only: bool) -> _Entry:
    """One of the inputs, or the only one."""
    if type(tree) is not dict:
        _refuse(where, "an object", tree)
    name, datatype, shape = (tree.get(key) for key in ("name", "datatype", "shape"))
    if type(name) is not str:
        _refuse(f"{where}.name", "a string", name)
    sizes = _read_shape(shape, where)
    if type(datatype) is not str:
        _refuse(f"{where}.datatype", "a string", datatype)
    parameters = _read_parameters(tree, f"{where}.")
    given = InferInput(name, datatype, sizes, _MISSING)
    if "data" not in tree:
        if datatype == Precision.STRING.kserve and SIZE not in parameters and not (is_only and sizes == (1,)):
            _refuse(f"{where}.data", f"a list, or parameters.{SIZE}", None)
        return _Entry(given, parameters)
    values = tree["data"]
    if type(values) not in (list, Numbers):
        _refuse(f"{where}.data", "a list", values)
    precision = BY_KSERVE.get(datatype)
    if precision is None:
        raise Failure(Code.DATATYPE_UNKNOWN, f"{where}.datatype: Expected: one of {_KNOWN}; Actual: {datatype[:40]}")
    read_values = arrays.read_flat(values, name, precision, Code.INPUT_UNREADABLE)
    return _Entry(given._replace(values=read_values), parameters)


def _read_shape(shape: Any, where: str) -> tuple[int, ...]:
    """A shape that an array can have."""
    if type(shape) is Numbers:
        shape = shape.tolist()
    if type(shape) is not list or not all(type(dim) is int and 0 <= dim <= INT32_MAX for dim in shape):
        _refuse(f"{where}.shape", f"a list of integers from 0 to {INT32_MAX}", shape)
    if len(shape) > MAX_RANK or math.prod(filter(None, shape)) > _MAX_VALUES:
        _refuse(f"{where}.shape", f"at most {MAX_RANK} dimensions, and {_MAX_VALUES} values", shape)
    return tuple(shape)


_KNOWN: Final = ", ".join(BY_KSERVE)


def _refuse(where: str, expected: str, actual: object) -> NoReturn:
    raise Failure(Code.INPUT_UNREADABLE, f"{where}: Expected: {expected}; Actual: {_kind(actual)}")


def _deal(entries: Sequence[_Entry], rest: memoryview) -> list[InferInput]:
    """The inputs with their shares of the binary data, which lie one behind the other."""
    inputs = []
    for index, (given, parameters) in enumerate(entries):
        if SIZE in parameters:
            if _count(given.values):
                raise Failure(Code.DATA_TWICE, f"inputs[{index}]: Expected: data or parameters.{SIZE}; Actual: both")
        elif given.values is not _MISSING:
            inputs.append(given)
            continue
        size = _find_size(given, parameters, f"inputs[{index}]", len(rest))
        if size > len(rest):
            raise Failure(
                Code.BINARY_DATA_TOO_SHORT, f"inputs[{index}]: Expected: {size} bytes; Actual: {len(rest)} bytes"
            )
        inputs.append(given._replace(values=rest[:size]))
        rest = rest[size:]
    return inputs


def _find_size(given: InferInput, parameters: Parameters, where: str, rest: int) -> int:
    """How many bytes of binary data belong to an input: as it says, or all that its shape needs.

    A single element of BYTES takes all the ``rest``; elements of a datatype that nobody knows take nothing.
    """
    size = parameters.get(SIZE)
    if size is None:
        dtype = BY_KSERVE.get(given.datatype, Precision.UNDEFINED).dtype
        if given.is_text:
            return rest
        return math.prod(given.shape) * dtype.itemsize if dtype is not None else 0
    if type(size) is not int or size < 0:
        raise Failure(Code.BINARY_SIZE_INVALID, f"{where}: Expected: an integer from 0 up; Actual: {_kind(size)}")
    return size


def _count(values: np.ndarray | Encoded | memoryview) -> int:
    """How many values there are, or bytes."""
    if isinstance(values, Encoded):
        return len(values.values)
    return values.size if isinstance(values, np.ndarray) else len(values)


def fit(
    request: InferRequest, specs: Mapping[str, TensorSpec], besides: Mapping[str, TensorSpec] = _NOTHING
) -> dict[str, np.ndarray | Encoded]:
    """A request's inputs as arrays of the model's shapes and precisions; strings and pictures stay ``Encoded``.

    Binary data is not copied where the array can be used as it is: writeable and aligned.

    Args:
        request: what has been read.
        specs: the model's inputs.
        besides: inputs that may come, too; whoever wants them checks their shapes.

    Raises:
        Failure: the first check that fails, in the reference's order: NUMBER_OF_INPUTS, INPUTS_MIXED, then for each input of the
            model, by name: MISSING_INPUT, PRECISION, NUMBER_OF_DIMENSIONS, BATCH_SIZE, SHAPE, VALUE_COUNT, CONTENT_SIZE.
    """
    given = {each.name: each for each in request.inputs}
    count = len(request.inputs) - len(given.keys() & besides.keys())
    if count != len(specs):
        raise Failure(Code.NUMBER_OF_INPUTS, f"Expected: {len(specs)}; Actual: {count}")
    _check_kinds(request.inputs)
    fitted: dict[str, np.ndarray | Encoded] = {}
    for name in sorted(specs):
        if name not in given:
            raise Failure(Code.MISSING_INPUT, f"Required input: {name}")
        _check(given[name], specs[name])
        fitted[name] = _shape(given[name], specs[name])
    for name in given.keys() & besides.keys():
        _check_datatype(given[name], besides[name])
        fitted[name] = _shape(given[name], besides[name])
    return fitted


def _check_kinds(inputs: Sequence[InferInput]) -> None:
    """Refuse values in JSON beside binary data, as the reference does."""
    kinds = {isinstance(each.values, memoryview): each.name for each in inputs if _count(each.values)}
    if len(kinds) > 1:
        raise Failure(
            Code.INPUTS_MIXED,
            f"Expected: all inputs in one form; Actual: {kinds[False]} in JSON, {kinds[True]} in binary form",
        )


def _check(given: InferInput, spec: TensorSpec) -> None:
    """Whether an input is of the model's datatype and shape; texts and pictures are checked when they are decoded."""
    _check_datatype(given, spec)
    if not given.is_text:
        spec.accept(given.shape)
        if spec.precision.dtype is None:
            raise Failure(Code.UNSUPPORTED_INPUT_PRECISION, f"input name: {spec.name}")


def _check_datatype(given: InferInput, spec: TensorSpec) -> None:
    if not given.is_text and spec.precision.kserve != given.datatype:
        raise spec.refusal(Code.PRECISION, spec.precision.value, given.datatype[:40])


def _shape(given: InferInput, spec: TensorSpec) -> np.ndarray | Encoded:
    """The values of an input in the shape that the client tells."""
    values, shape, count = given.values, given.shape, math.prod(given.shape)
    if isinstance(values, memoryview):
        if not given.is_text:
            return _share(values, shape, count, spec)
        values = _split(values, shape, spec)
    found = _count(values)
    if found != count:
        raise spec.refusal(Code.VALUE_COUNT, f"{count} values", f"{found} values")
    return Encoded(values.values, shape) if isinstance(values, Encoded) else values.reshape(shape)


def _share(data: memoryview, shape: tuple[int, ...], count: int, spec: TensorSpec) -> np.ndarray:
    """An array on the memory of binary data, or a copy if it cannot be used like that."""
    dtype = np.dtype(spec.precision.dtype)
    if len(data) != count * dtype.itemsize:
        raise spec.refusal(Code.CONTENT_SIZE, f"{count * dtype.itemsize} bytes", f"{len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array if array.flags.writeable and array.flags.aligned else array.copy()


def _split(data: memoryview, shape: tuple[int, ...], spec: TensorSpec) -> Encoded:
    """The elements of binary BYTES: before each one its length. A single one may come without."""
    strings = []
    position = 0
    while position < len(data):
        end = position + _LENGTH.size
        length = _LENGTH.unpack_from(data, position)[0] if end <= len(data) else len(data)
        if end + length > len(data):
            if shape == (1,):
                return Encoded((bytes(data),), shape)
            raise spec.refusal(Code.CONTENT_SIZE, f"{length} bytes at {end}", f"{max(len(data) - end, 0)} bytes")
        strings.append(bytes(data[end : end + length]))
        position = end + length
    return Encoded(tuple(strings), shape)


def write_inference(
    request: InferRequest,
    name: str,
    version: int,
    outputs: Sequence[tuple[TensorSpec, np.ndarray]],
    non_finite: NonFinite,
) -> tuple[list[Piece], int | None]:
    """The body of an answer in pieces, and the length of its JSON if binary data follows.

    Outputs are sorted by name. Names that the model lacks are ignored, as in the reference; if nothing is left all are written.

    Raises:
        Failure: UNSUPPORTED_OUTPUT_PRECISION; NON_FINITE if such values are to be an error.
    """
    wanted = request.outputs or {}
    chosen = [each for each in outputs if each[0].name in wanted] or outputs
    head: dict[str, Any] = {"model_name": name, "model_version": str(version)}
    if request.id:
        head["id"] = request.id
    pieces: list[Piece] = [orjson.dumps(head)[:-1], b',"outputs":[']
    binary: list[Piece] = []
    for index, (spec, values) in enumerate(sorted(chosen, key=lambda each: each[0].name)):
        if spec.precision.dtype is None:
            raise Failure(Code.UNSUPPORTED_OUTPUT_PRECISION, f"output name: {spec.name}")
        entry = {"name": spec.name, "shape": list(values.shape), "datatype": spec.precision.kserve}
        pieces += (b"," if index else b"", orjson.dumps(entry)[:-1])
        if wanted.get(spec.name, request.is_binary):
            data = _pack(spec, values)
            # Also for an empty output, unlike the reference: without it tritonclient looks for values in the JSON.
            pieces.append(b',"parameters":{"binary_data_size":%d}}' % sum(map(len, data)))
            binary += data
        else:
            pieces += (b',"data":', *_write_data(spec, values, non_finite), b"}")
    pieces.append(b"]}")
    has_binary = any(wanted.get(spec.name, request.is_binary) for spec, _ in chosen)
    return [*pieces, *binary], sum(map(len, pieces)) if has_binary else None


def _write_data(spec: TensorSpec, values: np.ndarray, non_finite: NonFinite) -> list[bytes]:
    """An output as one list."""
    if spec.precision is Precision.STRING:
        return [orjson.dumps([value.decode(errors="replace") for value in values.ravel().tolist()])]
    if non_finite is NonFinite.ERROR:
        check_finite(spec.name, values)
    return dump_slices(np.ascontiguousarray(values).reshape(-1), non_finite)


def _pack(spec: TensorSpec, values: np.ndarray) -> list[Piece]:
    """An output as binary data, little-endian and in C order; numbers are not copied."""
    if spec.precision is Precision.STRING:
        return [part for value in values.ravel().tolist() for part in (_LENGTH.pack(len(value)), value)]
    data: Any = np.ascontiguousarray(values).reshape(-1)  # numpy does not say that it is a buffer
    return [memoryview(data).cast("B")] if values.size else []


class RepositoryEntry(NamedTuple):
    """A version in the index of the repository; ``version`` None for a model that has none."""

    name: str
    version: int | None
    state: str
    reason: str


def read_is_only_ready(body: bytes, limits: Limits) -> bool:
    """Whether a request for the index wants the entries that are ready and no others.

    Raises:
        Failure: JSON_INVALID, JSON_TOO_DEEP or BODY_NOT_AN_OBJECT.
    """
    return _read_object(body, limits).get("ready") is True


def check_load(body: bytes, limits: Limits) -> None:
    """Look at what a request to load a model asks for besides.

    Raises:
        Failure: as ``read_is_only_ready``; PARAMETERS_UNREADABLE for a configuration or files of the client's own.
    """
    parameters = _read_parameters(_read_object(body, limits), "")
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise Failure(
                Code.PARAMETERS_UNREADABLE, f"parameters.{name}: Expected: nothing; models are configured here"
            )


def _read_object(body: bytes, limits: Limits) -> dict[str, Any]:
    """A document that may be left out."""
    tree = document.parse(body, limits.json_depth) if body.strip() else {}
    if type(tree) is not dict:
        raise Failure(Code.BODY_NOT_AN_OBJECT)
    return tree


def write_index(entries: Iterable[RepositoryEntry]) -> bytes:
    """What the repository holds (KServe's model repository extension)."""
    tree = []
    for entry in entries:
        version = {} if entry.version is None else {"version": str(entry.version)}
        tree.append({"name": entry.name, **version, "state": entry.state, "reason": entry.reason})
    return orjson.dumps(tree)


def write_server(name: str, version: str, extensions: Iterable[str]) -> bytes:
    """What the server is."""
    return orjson.dumps({"name": name, "version": version, "extensions": list(extensions)})


def write_model(
    name: str,
    versions: Iterable[int],
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    info: Mapping[str, Any] | None,
) -> bytes:
    """What a model takes and gives; ``info`` is what its file says about it (OpenVINO's ``rt_info``)."""
    tree: dict[str, Any] = {
        "name": name,
        "versions": [str(version) for version in sorted(versions)],
        "platform": "OpenVINO",
        "inputs": [_tensor(spec) for spec in sorted(inputs, key=lambda spec: spec.name)],
        "outputs": [_tensor(spec) for spec in sorted(outputs, key=lambda spec: spec.name)],
    }
    if info:
        tree["rt_info"] = {"model_info": info}
    return orjson.dumps(tree)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.precision.kserve, "shape": _sizes(spec.shape)}


def _sizes(shape: Shape) -> list[int]:
    return [dim.size for dim in shape]
