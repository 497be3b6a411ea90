"""Bodies of the TensorFlow Serving API, as the reference reads and writes them.

Requests come in row format (``instances``) or column format (``inputs``); predictions go back in the same order. Status and
metadata are the JSON that protobuf prints (``src/rest_parser.cpp``, ``src/rest_utils.cpp``, ``src/model_service.cpp``,
``src/get_model_metadata_impl.cpp``). Any thread may use this module.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from tornado_ovms.codec import arrays, document
from tornado_ovms.codec.encoded import Encoded, is_base64
from tornado_ovms.codec.numeric import Numbers
from tornado_ovms.codec.outputs import dump_slices, present
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from tornado_ovms.core.lifecycle import VersionStatus
    from tornado_ovms.core.settings import Limits, NonFinite
    from tornado_ovms.core.tensors import TensorSpec

    Specs = Mapping[str, TensorSpec]
    Values = dict[str, np.ndarray | Encoded]
    Statuses = Iterable[tuple[int, VersionStatus]]


class Order(Enum):
    """How a request lists its values, and its answer too: an object for each instance, or a list for each tensor."""

    ROW = "row"
    COLUMN = "column"


class PredictRequest(NamedTuple):
    """What a predict request says; ``values`` by name of the input, not yet checked against the model."""

    order: Order
    values: Values


def read_predict(body: bytes, specs: Specs, limits: Limits) -> PredictRequest:
    """Read the body of a predict request. All members but the two are ignored, ``signature_name`` too.

    Args:
        body: JSON.
        specs: the model's inputs, whose precisions the values get; numbers for an input that the model lacks are kept.
        limits: of nesting.

    Raises:
        Failure: JSON_INVALID or JSON_TOO_DEEP, or what is wrong with the form of the request or with a value.
    """
    tree = document.parse(body, limits.json_depth)
    if type(tree) is not dict:
        raise Failure(Code.BODY_NOT_AN_OBJECT)
    if ("instances" in tree) == ("inputs" in tree):
        raise Failure(Code.UNKNOWN_ORDER)
    if "instances" in tree:
        return PredictRequest(Order.ROW, _read_rows(tree["instances"], specs))
    return PredictRequest(Order.COLUMN, _read_columns(tree["inputs"], specs))


def _read_rows(instances: Any, specs: Specs) -> Values:
    if type(instances) is Numbers:
        return _read_unnamed(instances, specs, Code.INSTANCE_UNREADABLE)
    if type(instances) is not list:
        raise Failure(Code.INSTANCES_NOT_AN_ARRAY)
    if not instances:
        raise Failure(Code.NO_INSTANCES)
    first = instances[0]
    if type(first) is dict and not is_base64(first):
        return _read_named_rows(instances, specs)
    if first is None or (type(first) is bool and not _is_boolean(specs)):
        raise Failure(Code.INSTANCES_OF_UNKNOWN_KIND)
    return _read_unnamed(instances, specs, Code.INSTANCE_UNREADABLE)


def _read_named_rows(instances: Sequence[Any], specs: Specs) -> Values:
    """Instances that are objects: the values of one name, one below the other, are an input."""
    columns: dict[str, list[Any]] = {name: [] for name in instances[0]}
    for index, instance in enumerate(instances):
        if type(instance) is not dict:
            raise Failure(Code.NAMED_INSTANCE_NOT_AN_OBJECT, f"position: [{index}]")
        if not instance:
            raise Failure(
                Code.INSTANCE_UNREADABLE, f"Expected: a value for each input; Actual: none; position: [{index}]"
            )
        for name, value in instance.items():
            columns.setdefault(name, []).append(value)
    values = {name: _read(column, name, specs, Code.INSTANCE_UNREADABLE) for name, column in columns.items()}
    for name, column in columns.items():
        if name not in specs and not all(type(value) in (list, Numbers) for value in column):
            raise _refuse_unknown(name, specs, Code.INSTANCE_UNREADABLE)
        if len(column) != len(instances):
            detail = f"Expected: {len(instances)}; Actual: {len(column)}; input name: {name}"
            raise Failure(Code.INSTANCES_BATCH_SIZE_DIFFER, detail)
    return values


def _read_columns(inputs: Any, specs: Specs) -> Values:
    if type(inputs) in (list, Numbers):
        return _read_unnamed(inputs, specs, Code.INPUT_UNREADABLE)
    if type(inputs) is dict:
        if not inputs:
            raise Failure(Code.NO_INPUTS)
        return {name: _read(value, name, specs, Code.INPUT_UNREADABLE) for name, value in inputs.items()}
    if len(specs) == 1 and (type(inputs) in (int, float) or (type(inputs) is bool and _is_boolean(specs))):
        return _read_unnamed(inputs, specs, Code.INPUT_UNREADABLE)
    raise Failure(Code.INPUTS_NOT_AN_OBJECT)


def _read_unnamed(value: Any, specs: Specs, code: Code) -> Values:
    """A value without a name, which belongs to the model's only input."""
    if len(specs) != 1:
        raise Failure(Code.INPUTS_NEED_NAMES, f"Expected: an object with values for {', '.join(specs)}")
    name = next(iter(specs))
    return {name: _read(value, name, specs, code)}


def _read(value: Any, name: str, specs: Specs, code: Code) -> np.ndarray | Encoded:
    spec = specs.get(name)
    values = arrays.read(value, name, Precision.UNDEFINED if spec is None else spec.precision, code)
    if spec is None and isinstance(values, Encoded):
        raise _refuse_unknown(name, specs, code)
    return values


def _refuse_unknown(name: str, specs: Specs, code: Code) -> Failure:
    """Of an input that the model lacks; only numbers in lists are left to the checks, as the reference can read no others."""
    return Failure(
        code, f"Expected: values for {', '.join(specs)}; Actual: a value for another input; input name: {name}"
    )


def _is_boolean(specs: Specs) -> bool:
    """Whether true and false can be meant for the model's only input (the reference cannot feed such a model at all)."""
    return [spec.precision for spec in specs.values()] == [Precision.BOOL]


def write_predictions(
    order: Order, outputs: Sequence[tuple[TensorSpec, np.ndarray]], non_finite: NonFinite
) -> list[bytes]:
    """The body of an answer, in pieces of about ``codec.outputs.SLICE_BYTES``.

    Args:
        order: the request's.
        outputs: the model's outputs; with a single one its name is not written.
        non_finite: how NaN and the infinities are written.

    Raises:
        Failure: RESPONSE_UNWRITABLE if rows are asked for and the outputs have not as many each; those of
            ``codec.outputs.present``.
    """
    if len(outputs) == 1:
        [(spec, values)] = outputs
        presented = present(spec, values, non_finite)
        if order is Order.ROW:
            _count_rows(outputs)
            return [b'{"predictions":', *dump_slices(presented, non_finite), b"}"]
        return [b'{"outputs":', *dump_slices(presented, non_finite), b"}"]
    columns = [(orjson.dumps(spec.name), present(spec, values, non_finite)) for spec, values in outputs]
    if order is Order.ROW:
        count = _count_rows(outputs)
        pieces = [b'{"predictions":[']
        for index in range(count):
            pieces.append(b"," if index else b"")
            pieces += _write_object([(name, values[index]) for name, values in columns], non_finite)
        return [*_join(pieces), b"]}"]
    return [b'{"outputs":', *_write_object(columns, non_finite), b"}"]


def _count_rows(outputs: Sequence[tuple[TensorSpec, np.ndarray]]) -> int:
    if len(outputs) == 1 and outputs[0][1].ndim:
        return len(outputs[0][1])
    counts = {spec.name: len(values) if values.ndim else None for spec, values in outputs}
    if None in counts.values() or len(set(counts.values())) > 1:
        found = ", ".join(f"{name} has {'none' if count is None else count}" for name, count in counts.items())
        raise Failure(Code.RESPONSE_UNWRITABLE, f"Expected: outputs of as many rows each; Actual: {found}")
    return int(next(iter(counts.values())) or 0)


def _write_object(members: Iterable[tuple[bytes, Any]], non_finite: NonFinite) -> list[bytes]:
    pieces: list[bytes] = []
    for name, values in members:
        pieces += (b"," if pieces else b"{", name, b":", *dump_slices(values, non_finite))
    pieces.append(b"}")
    return pieces


_PIECE: Final = 1 << 16


def _join(pieces: Iterable[bytes]) -> list[bytes]:
    """Small pieces joined: each one costs a call when it is sent."""
    joined: list[bytes] = []
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        small.append(piece)
        size += len(piece)
        if size >= _PIECE:
            joined.append(b"".join(small))
            small.clear()
            size = 0
    joined.append(b"".join(small))
    return joined


def write_status(statuses: Statuses) -> bytes:
    """The status of a model: each version with its state. The error's message repeats its code, as in the reference."""
    return _print(_status(statuses))


def _status(statuses: Statuses, reasons: Mapping[int, str] | None = None) -> dict[str, Any]:
    versions = []
    for number, status in statuses:
        error = {"error_code": status.error.value, "error_message": status.error.value}
        version = {"version": str(number), "state": status.state.name, "status": error}
        if reasons is not None and number in reasons:
            version["reason"] = reasons[number]
        versions.append(version)
    return {"model_version_status": versions}


def write_metadata(name: str, version: int, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> bytes:
    """What a version takes and gives, as a signature of TensorFlow."""
    signature = {
        "inputs": {spec.name: _tensor_info(spec) for spec in inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in outputs},
        "methodName": "",
        "defaults": {},
    }
    return _print({
        "modelSpec": {"name": name, "signatureName": "", "version": str(version)},
        "metadata": {
            "signature_def": {
                "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                "signatureDef": {"serving_default": signature},
            }
        },
    })


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(dim.size), "name": ""} for dim in spec.shape]
    shape = {"dim": dims, "unknownRank": False}
    return {"dtype": spec.precision.tensorflow, "tensorShape": shape, "name": spec.name}


def write_config_status(statuses: Mapping[str, Statuses]) -> bytes:
    """The status of every model, sorted by name."""
    return _print({name: _status(statuses[name]) for name in sorted(statuses)})


def write_config_report(
    statuses: Mapping[str, Statuses],
    reasons: Mapping[str, Mapping[int, str]],
    faults: Mapping[str, str],
    fault: str | None,
) -> bytes:
    """The same with reasons (ours).

    Args:
        statuses: of the versions of each model.
        reasons: why versions have failed, by model and version.
        faults: what keeps the settings or the folder of a model from being used.
        fault: what is wrong with the configuration file as a whole.
    """
    models = {
        name: {**_status(statuses[name], reasons.get(name, {})), "fault": faults.get(name)} for name in sorted(statuses)
    }
    return _print({"fault": fault, "models": models})


def write_error(text: str) -> bytes:
    """The body of every refusal."""
    return orjson.dumps({"error": text.encode(errors="replace").decode()})


def _print(tree: dict[str, Any]) -> bytes:
    """JSON as protobuf prints it for these answers: indented by one blank, with a line end."""
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode(errors="replace")
