"""ONNX's own backend tests, replayed over REST: what OpenVINO gets right in this process is right from the server, too.

``onnx.backend.test.case`` makes about 1,900 small models with inputs and outputs, of nearly every operator and element type.
Those that OpenVINO reads and computes right are served, and asked over ``/v2`` in JSON and in binary form and over ``/v1``; the
answers have to equal those of this process in every bit. The others are counted by reason.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import warnings
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import openvino as ov
import pytest

from tests.functional.layout import PRECISE
from tests.functional.servers import Server
from tornado_ovms.core.tensors import BY_KSERVE, Precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and "REAL_MODELS" not in os.environ,
    reason="takes minutes: set REAL_MODELS=1 to have it run outside CI",
)

CHUNKS: Final = 10
"""So many times another part of the models is served, about 140 at once."""

COUNTS: Final = {
    "right over /v2 in JSON": 1287,
    "right over /v2 in binary": 1287,
    "right over /v1": 1250,
}
"""At least so many, with whatever newer releases of OpenVINO add."""

NO_TENSORS: Final = "not served: a sequence or an optional value"
UNREAD: Final = "not served: OpenVINO does not read it"
NO_TYPE: Final = "not served: a type that cannot be exchanged"
UNCOMPUTED: Final = "not served: OpenVINO does not compute it"
WRONG: Final = "not served: OpenVINO computes something else"
NO_INPUTS: Final = "not served: no inputs, which the reference refuses"
ONE_NAME: Final = "not served: two outputs of one name"
NO_LISTS: Final = "not over /v1: lists do not tell the shape of an input"

CORE: Final = ov.Core()

EXACT: Final = {"plugin_config": {**PRECISE["plugin_config"], "INFERENCE_NUM_THREADS": 1}}
"""On both sides: how many threads make a sum decides in which order, and quick models are inferred by one."""


class Case(NamedTuple):
    """A model that OpenVINO gets right: what is asked, and what it answers in this process."""

    name: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


@cache
def collect() -> Sequence[Any]:
    """All cases of ONNX, sorted by name."""
    from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415 - takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reference implementations divide by zero and overflow on purpose
        return sorted(collect_testcases(None), key=lambda case: case.name)


def to_array(value: Any) -> np.ndarray:
    """A value of a case as an array; strings as bytes."""
    from onnx import TensorProto, numpy_helper  # noqa: PLC0415 - takes seconds

    array = np.asarray(numpy_helper.to_array(value) if isinstance(value, TensorProto) else value)
    if array.dtype.kind not in "OSU":
        return array
    strings = np.empty(array.size, object)
    strings[:] = [each if isinstance(each, bytes) else str(each).encode() for each in array.ravel().tolist()]
    return strings.reshape(array.shape)


def judge(case: Any, folder: Path) -> Case | str:
    """What has to come over REST, or why nothing can. The model's file goes into the folder."""
    ports = [*case.model.graph.input, *case.model.graph.output]
    if not all(port.type.HasField("tensor_type") for port in ports):
        return NO_TENSORS
    place = folder / case.name / "1"
    place.mkdir(parents=True)
    file = place / "model.onnx"
    file.write_bytes(case.model.SerializeToString())
    try:
        model = CORE.read_model(str(file))  # OpenVINO reads a few more out of memory than from files
    except Exception:  # noqa: BLE001 - whatever OpenVINO raises
        return UNREAD
    if any(_dtype(port) is None for port in (*model.inputs, *model.outputs)):
        return NO_TYPE
    if not model.inputs:
        return NO_INPUTS
    [(given, expected)] = case.data_sets
    known = {port.name: value for port, value in zip(case.model.graph.input, given, strict=True)}
    inputs = {}
    for index, port in enumerate(
        model.inputs
    ):  # some are constants by now; one that goes straight out is called like the output
        names_known = [name for name in (port.node.friendly_name, *port.names) if name in known]
        inputs[port.any_name] = to_array(known[names_known[0]] if names_known else given[index])
    names = [port.any_name for port in model.outputs]
    if len(set(names)) < len(names):
        return ONE_NAME
    try:
        found = _compute(model, list(inputs.values()))
    except Exception:  # noqa: BLE001 - as above
        return UNCOMPUTED
    wanted = [to_array(value) for value in expected]
    if not all(_is_close(*pair, case.rtol, case.atol) for pair in zip(found, wanted, strict=True)):
        return WRONG
    return Case(case.name, inputs, dict(zip(names, found, strict=True)))


def _dtype(port: Any) -> np.dtype[Any] | None:
    """The type of a tensor's elements, if it can be exchanged."""
    name = port.element_type.get_type_name()
    kinds = {"boolean": Precision.BOOL, "string": Precision.STRING}
    kinds |= {f"f{bits}": Precision(f"FP{bits}") for bits in (16, 32, 64)}
    kinds |= {f"{sign}{bits}": Precision(f"{sign.upper()}{bits}") for sign in "iu" for bits in (8, 16, 32, 64)}
    return kinds[name].dtype if name in kinds else None


def _compute(model: ov.Model, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    request = CORE.compile_model(model, "CPU", EXACT["plugin_config"]).create_infer_request()
    for index, array in enumerate(inputs):
        request.set_input_tensor(index, _tensor(array))
    request.infer()
    tensors = [request.get_output_tensor(index) for index in range(len(model.outputs))]
    return [to_array(tensor.bytes_data if _is_text(tensor) else np.array(tensor.data)) for tensor in tensors]


def _is_text(tensor: ov.Tensor) -> bool:
    return bool(tensor.element_type == ov.Type.string and tensor.size)


def _tensor(array: np.ndarray) -> ov.Tensor:
    if array.dtype != object:
        return ov.Tensor(np.ascontiguousarray(array).reshape(array.shape))
    tensor = ov.Tensor(ov.Type.string, ov.Shape(array.shape))
    tensor.bytes_data = array.tolist()
    return tensor


def _is_close(found: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> bool:
    """Whether OpenVINO's answer is the right one."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return False
    if found.dtype == object:
        return bool((found == wanted).all())
    return bool(np.allclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True))


def differs(found: np.ndarray, wanted: np.ndarray) -> str:
    """How an answer differs from that of this process; empty if it does not, in any bit but those of NaN."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return f"{found.dtype}{found.shape} for {wanted.dtype}{wanted.shape}"
    if found.dtype.kind == "f":
        same = np.array_equal(found, wanted, equal_nan=True)
        odd = np.isnan(wanted)
        same = same and np.array_equal(np.signbit(found)[~odd], np.signbit(wanted)[~odd])
    else:
        same = np.array_equal(found, wanted)
    return "" if same else f"{found.ravel()[:5]} for {wanted.ravel()[:5]}"


# ---------------------------------------------------------------------- three ways to ask


def as_list(array: np.ndarray) -> Any:
    """For JSON."""
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.size, object)
    texts[:] = [each.decode() for each in array.ravel().tolist()]
    return texts.reshape(array.shape).tolist()


def kserve_entry(name: str, array: np.ndarray) -> dict[str, Any]:
    """An input without its values."""
    kind = next(precision.kserve for precision in Precision if precision.dtype == array.dtype)
    return {"name": name, "shape": list(array.shape), "datatype": kind}


def ask_in_json(server: Link, case: Case) -> dict[str, np.ndarray]:
    """Over ``/v2``."""
    entries = [{**kserve_entry(name, array), "data": as_list(array.reshape(-1))} for name, array in case.inputs.items()]
    answer, _ = server.post(f"/v2/models/{case.name}/infer", json.dumps({"inputs": entries}).encode(), {})
    return {
        each["name"]: to_array(np.array(each["data"], _kserve_dtype(each))).reshape(each["shape"])
        for each in json.loads(answer)["outputs"]
    }


def ask_in_binary(server: Link, case: Case) -> dict[str, np.ndarray]:
    """Over ``/v2``, with all values as binary data in both directions."""
    packed = [_pack(array) for array in case.inputs.values()]
    entries = [
        {**kserve_entry(name, array), "parameters": {"binary_data_size": len(data)}}
        for (name, array), data in zip(case.inputs.items(), packed, strict=True)
    ]
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer, told = server.post(f"/v2/models/{case.name}/infer", b"".join((head, *packed)), headers)
    length = int(told["Inference-Header-Content-Length"])
    rest = memoryview(answer)[length:]
    found = {}
    for each in json.loads(answer[:length])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        found[each["name"]] = _unpack(rest[:size], _kserve_dtype(each)).reshape(each["shape"])
        rest = rest[size:]
    assert not rest
    return found


def ask_by_lists(server: Link, case: Case) -> dict[str, np.ndarray]:
    """Over ``/v1``."""
    body = json.dumps({"inputs": {name: as_list(array) for name, array in case.inputs.items()}}).encode()
    answer, _ = server.post(f"/v1/models/{case.name}:predict", body, {})
    outputs = json.loads(answer)["outputs"]
    if len(case.outputs) == 1:
        outputs = dict.fromkeys(case.outputs, outputs)
    found = {name: to_array(np.array(outputs[name], array.dtype)) for name, array in case.outputs.items()}
    # Of an empty output lists do not tell all sizes.
    return {name: array if array.size else array.reshape(case.outputs[name].shape) for name, array in found.items()}


WAYS: Final = {
    "right over /v2 in JSON": ask_in_json,
    "right over /v2 in binary": ask_in_binary,
    "right over /v1": ask_by_lists,
}


def _kserve_dtype(entry: Mapping[str, Any]) -> np.dtype[Any]:
    return np.dtype(BY_KSERVE[entry["datatype"]].dtype)


def _pack(array: np.ndarray) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(len(each).to_bytes(4, "little") + each for each in array.ravel().tolist())


def _unpack(data: memoryview, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind != "O":
        return np.frombuffer(data, dtype)
    strings = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        strings.append(bytes(data[4:end]))
        data = data[end:]
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def can_be_told_by_lists(case: Case) -> bool:
    """Whether nested lists have the shapes of all inputs: of (0, 3) only the first number is left."""
    return all(np.array(as_list(array), object).shape == array.shape for array in case.inputs.values())


class Link:
    """A connection to a server that is kept."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        """The body and the head of an answer, which has to be a good one."""
        self.connection.request("POST", path, body, dict(headers))
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {content[:300]!r}")
        return content, answer.headers


# ---------------------------------------------------------------------- the tests


class Serving(NamedTuple):
    """A server, its folder, and what became of the cases so far."""

    server: Server
    folder: Path
    counts: dict[int, Counter[str]]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that serves nothing yet. NaN comes as a word, so that it can be told from other values."""
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "config.json").write_text(json.dumps({"model_config_list": []}))
    arguments = ["--config_path", str(folder / "config.json"), "--non_finite", "literal"]
    with Server(*arguments, "--file_system_poll_wait_seconds", "0", log=folder / "server.log") as server:
        yield Serving(server, folder, {})
    assert "Unforeseen" not in server.said()


def serve(serving: Serving, cases: Sequence[Case]) -> None:
    """Serve these and no others."""
    entries = [{"config": {"name": case.name, "base_path": case.name, "nireq": 1, **EXACT}} for case in cases]
    (serving.folder / "config.json").write_text(json.dumps({"model_config_list": entries}))
    connection = http.client.HTTPConnection("127.0.0.1", serving.server.port, timeout=300)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/config/reload", b"{}")
        answer = connection.getresponse()
        content = answer.read()
    assert answer.status == 201, content[:1000]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_openvino_gets_right_is_right_over_rest(serving: Serving, chunk: int) -> None:
    """In every element type, to the last bit, in all forms that can express it."""
    judged = [judge(case, serving.folder) for case in collect()[chunk::CHUNKS]]
    counts = Counter(each for each in judged if isinstance(each, str))
    cases = [each for each in judged if isinstance(each, Case)]
    serve(serving, cases)
    link = Link(serving.server)
    faults = []
    for case in cases:
        for way, ask in WAYS.items():
            if ask is ask_by_lists and not can_be_told_by_lists(case):
                counts[NO_LISTS] += 1
                continue
            try:
                found = ask(link, case)
                fault = "; ".join(filter(None, (differs(found[name], case.outputs[name]) for name in case.outputs)))
                fault = fault or ("" if found.keys() == case.outputs.keys() else f"outputs {sorted(found)}")
            except Exception as error:  # noqa: BLE001 - all faults are told together
                fault = f"{type(error).__name__}: {error}"
            if fault:
                faults.append(f"{case.name}, {way}: {fault}")
            else:
                counts[way] += 1
    link.connection.close()
    serving.counts[chunk] = counts
    assert not faults, f"{len(faults)} of {len(cases)} models:\n" + "\n".join(faults[:50])


def test_how_many_there_are(serving: Serving) -> None:
    """Not fewer than with earlier releases; the report says why others are left out."""
    if len(serving.counts) < CHUNKS:
        pytest.skip("not all of the models were tried")
    counts = sum(serving.counts.values(), Counter())
    for reason, count in sorted(counts.items()):
        print(f"{count:5} {reason}")  # noqa: T201 - shown with -rP, and if the test fails
    assert sum(count for reason, count in counts.items() if reason.startswith("not served")) + counts[
        "right over /v2 in binary"
    ] == len(collect())
    for way, least in COUNTS.items():
        assert counts[way] >= least, way
