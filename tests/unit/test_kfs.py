"""Bodies of the KServe v2 protocol: every refusal in its order, binary data, answers, metadata and the repository."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes import spec
from tests.strategies import DEPTH, FLOATS, INTEGERS, NUMERIC, arrays, raw, values, widen, write
from tornado_ovms.codec.encoded import Encoded
from tornado_ovms.codec.kfs import (
    InferRequest,
    RepositoryEntry,
    check_load,
    fit,
    read,
    read_is_only_ready,
    write_index,
    write_inference,
    write_model,
    write_server,
)
from tornado_ovms.codec.numeric import LONG
from tornado_ovms.codec.outputs import SLICE_BYTES
from tornado_ovms.core.settings import Limits, NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, BY_KSERVE, Dim, Layout, Precision, Shape, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LIMITS = Limits(json_depth=DEPTH)

ALL = (*NUMERIC, Precision.BOOL)
"""Precisions whose values have a size."""


def tensor(name: str, shape: Sequence[int], precision: Precision, layout: str = "N...") -> TensorSpec:
    """A tensor; -1 is any size."""
    dims = Shape(ANY if size < 0 else Dim.fixed(size) for size in shape)
    return TensorSpec(name, precision, dims, Layout(layout if shape else "..."))


def named(**members: object) -> dict[str, Any]:
    """An input of three floats, but for what is said otherwise; what is None is left out."""
    whole = {"name": "b", "shape": [3], "datatype": "FP32", "data": [1, 2, 3], **members}
    return {key: value for key, value in whole.items() if value is not None}


def binary(**members: object) -> dict[str, Any]:
    """The same without values in the JSON."""
    return named(**{"data": None, **members})


def body(*inputs: object, **members: object) -> dict[str, object]:
    """A request with these inputs, or with one that is right."""
    return {"inputs": list(inputs) or [named()], **members}


def parse(document: object, data: bytes | None = None, header: str | None = None) -> InferRequest:
    """Read a request; with binary data it has the header that belongs to it."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    if data is not None and header is None:
        header = str(len(text))
    return read(text + (data or b""), header, LIMITS)


def refusal(action: Callable[[], object]) -> Failure:
    """Why something is refused."""
    with pytest.raises(Failure) as caught:
        action()
    return caught.value


def listed(request: InferRequest) -> list[object]:
    """The values of its inputs in a form that compares."""
    shown: list[object] = []
    for each in request.inputs:
        found = each.values
        if isinstance(found, Encoded):
            shown.append(found.values)
        else:
            shown.append(found.tolist() if isinstance(found, np.ndarray) else bytes(found))
    return shown


ONE = {"b": spec("b", (3,))}

INVALID = "Inference-Header-Content-Length header is invalid and couldn't be parsed"
EXCEEDS = "Inference-Header-Content-Length header exceeds actual payload length"
UNREADABLE = "Could not parse input content. Not valid ndarray detected"
NO_OUTPUT = "Could not parse output content."
PARAMETERS = "Could not parse request parameters"
UNSUPPORTED = "Could not parse input content. Unsupported data precision detected"
NO_SIZE = "binary_data_size parameter is invalid and cannot be parsed"
TWICE = "Request contains values both in binary data and in content value"
TOO_SHORT = "Received buffer size is smaller than binary_data_size parameter indicates"
KINDS = "a string, a number, true or false"
SHAPES = f"a list of integers from 0 to {2**31 - 1}"
KNOWN = "FP16, FP32, FP64, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, BOOL, BYTES"
RANGE = "a number from -128 to 127 (I8)"


@pytest.mark.parametrize(
    "header", ["", "x", "-1", "+1", "1.0", "1e2", " 5", "5 ", "0x5", "5,5", "²", "9" * 20, "1" * 5000]
)
def test_a_header_that_is_no_length(header: str) -> None:
    """It has to be an integer from 0 up."""
    failure = refusal(lambda: parse(body(), header=header))
    assert (failure.http, failure.text) == (500, f"{INVALID} - Expected: an integer; Actual: {header[:40]!r}")


@pytest.mark.parametrize("more", [1, 2**62])
def test_a_header_beyond_the_body(more: int) -> None:
    """There is no JSON of that length."""
    text = json.dumps(body()).encode()
    failure = refusal(lambda: read(text, str(len(text) + more), LIMITS))
    detail = f"Expected: at most {len(text)}; Actual: {len(text) + more}"
    assert (failure.http, failure.text) == (500, f"{EXCEEDS} - {detail}")


@pytest.mark.parametrize(
    ("text", "header", "detail"),
    [
        (b"", None, "Error: The document is empty. Offset: 0 - line 1, column 1"),
        (b"{}", "0", "Error: The document is empty. Offset: 0 - line 1, column 1"),
        (b'{"inputs":[1],}', None, None),
        (b'{"inputs":[1]}x', None, None),
        (b'{"inputs":[1]}\x00\x00\x80\x3f', "13", None),
        (json.dumps(body()).encode() + b"\x01\x02", None, None),
        (json.dumps(body(binary())).encode() + struct.pack("<3f", 0, 1, 2), None, None),
    ],
)
def test_what_is_not_json_is_a_412(text: bytes, header: str | None, detail: str | None) -> None:
    """Without the header all of the body has to be JSON, with it the part that the header tells of."""
    failure = refusal(lambda: read(text, header, LIMITS))
    assert (failure.http, failure.code) == (412, Code.JSON_INVALID)
    assert failure.text.startswith("The file is not valid json - Error: ")
    assert detail is None or failure.detail == detail


def test_nesting_is_limited() -> None:
    """By the limit that the operator has set."""
    failure = refusal(lambda: read(b'{"inputs":[{"data":[[1]]}]}', None, Limits(json_depth=4)))
    assert failure.text == "JSON nesting depth exceeds the allowed limit - Expected: at most 4; Actual: 5"


@pytest.mark.parametrize(
    ("document", "http", "text"),
    [
        ([], 400, "Request body should be JSON object"),
        (None, 400, "Request body should be JSON object"),
        ("inputs", 400, "Request body should be JSON object"),
        (body(id=7), 400, f"{UNREADABLE} - id: Expected: a string; Actual: 7"),
        (body(id=None), 400, f"{UNREADABLE} - id: Expected: a string; Actual: null"),
        (body(id=[]), 400, f"{UNREADABLE} - id: Expected: a string; Actual: a list"),
        (body(parameters=1), 400, f"{PARAMETERS} - parameters: Expected: an object; Actual: 1"),
        (body(parameters=[1]), 400, f"{PARAMETERS} - parameters: Expected: an object; Actual: a list"),
        (body(parameters=None), 400, f"{PARAMETERS} - parameters: Expected: an object; Actual: null"),
        (body(parameters={"x": None}), 400, f"{PARAMETERS} - parameters.x: Expected: {KINDS}; Actual: null"),
        (body(parameters={"x": [1]}), 400, f"{PARAMETERS} - parameters.x: Expected: {KINDS}; Actual: a list"),
        (body(parameters={"x": {}}), 400, f"{PARAMETERS} - parameters.x: Expected: {KINDS}; Actual: an object"),
        (body(outputs={}), 400, f"{UNREADABLE} - outputs: Expected: a list; Actual: an object"),
        (body(outputs="a"), 400, f"{UNREADABLE} - outputs: Expected: a list; Actual: a string"),
        (body(outputs=None), 400, f"{UNREADABLE} - outputs: Expected: a list; Actual: null"),
        (body(outputs=["a"]), 400, f"{NO_OUTPUT} - outputs[0]: Expected: an object with a name"),
        (body(outputs=[{"name": "a"}, {}]), 400, f"{NO_OUTPUT} - outputs[1]: Expected: an object with a name"),
        (body(outputs=[{"name": 1}]), 400, f"{NO_OUTPUT} - outputs[0]: Expected: an object with a name"),
        ({}, 400, "Invalid JSON structure, missing inputs"),
        ({"inputs": []}, 400, "Invalid JSON structure, missing inputs"),
        ({"inputs": {}}, 400, f"{UNREADABLE} - inputs: Expected: a list; Actual: an object"),
        ({"inputs": None}, 400, f"{UNREADABLE} - inputs: Expected: a list; Actual: null"),
        ({"inputs": False}, 400, f"{UNREADABLE} - inputs: Expected: a list; Actual: false"),
        (body(1), 400, f"{UNREADABLE} - inputs[0]: Expected: an object; Actual: 1"),
        (body(named(), []), 400, f"{UNREADABLE} - inputs[1]: Expected: an object; Actual: a list"),
        (body(named(name=None)), 400, f"{UNREADABLE} - inputs[0].name: Expected: a string; Actual: null"),
        (body(named(name=1)), 400, f"{UNREADABLE} - inputs[0].name: Expected: a string; Actual: 1"),
        (body(named(shape=None)), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: null"),
        (body(named(shape=3)), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: 3"),
        (body(named(shape=[-1])), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: a list"),
        (body(named(shape=[3.0])), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: a list"),
        (body(named(shape=[True])), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: a list"),
        (body(named(shape=["3"])), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: a list"),
        (body(named(shape=[2**31])), 400, f"{UNREADABLE} - inputs[0].shape: Expected: {SHAPES}; Actual: a list"),
        (body(named(datatype=None)), 400, f"{UNREADABLE} - inputs[0].datatype: Expected: a string; Actual: null"),
        (body(named(datatype=1)), 400, f"{UNREADABLE} - inputs[0].datatype: Expected: a string; Actual: 1"),
        (body(named(data=1)), 400, f"{UNREADABLE} - inputs[0].data: Expected: a list; Actual: 1"),
        (body(named(data={})), 400, f"{UNREADABLE} - inputs[0].data: Expected: a list; Actual: an object"),
        (body(named(data="QQ==")), 400, f"{UNREADABLE} - inputs[0].data: Expected: a list; Actual: a string"),
        (
            body(named(parameters={"x": None})),
            400,
            f"{PARAMETERS} - inputs[0].parameters.x: Expected: {KINDS}; Actual: null",
        ),
        (
            body(outputs=[{"name": "a", "parameters": [1]}]),
            400,
            f"{PARAMETERS} - outputs[0].parameters: Expected: an object; Actual: a list",
        ),
        (body(named(datatype="FP")), 400, f"{UNSUPPORTED} - inputs[0].datatype: Expected: one of {KNOWN}; Actual: FP"),
        (
            body(named(datatype="BF16")),
            400,
            f"{UNSUPPORTED} - inputs[0].datatype: Expected: one of {KNOWN}; Actual: BF16",
        ),
        (
            body(named(datatype="fp32")),
            400,
            f"{UNSUPPORTED} - inputs[0].datatype: Expected: one of {KNOWN}; Actual: fp32",
        ),
        (
            body(named(datatype="x" * 999)),
            400,
            f"{UNSUPPORTED} - inputs[0].datatype: Expected: one of {KNOWN}; Actual: {'x' * 40}",
        ),
        (
            body(named(data=[1, "2"])),
            400,
            f"{UNREADABLE} - Expected: a number; Actual: a string; input name: b; position: [1]",
        ),
        (
            body(named(data=[[1], None])),
            400,
            f"{UNREADABLE} - Expected: a number; Actual: null; input name: b; position: [1]",
        ),
        (
            body(named(data=[True])),
            400,
            f"{UNREADABLE} - Expected: a number; Actual: true; input name: b; position: [0]",
        ),
        (
            body(named(data=[{"b64": "QQ=="}])),
            400,
            f"{UNREADABLE} - Expected: a number; Actual: an object; input name: b; position: [0]",
        ),
        (
            body(named(datatype="INT8", data=[1, 1.0])),
            400,
            f"{UNREADABLE} - Expected: {RANGE}; Actual: 1.0; input name: b; position: [1]",
        ),
        (
            body(named(datatype="INT8", data=[300])),
            400,
            f"{UNREADABLE} - Expected: {RANGE}; Actual: 300; input name: b; position: [0]",
        ),
        (
            body(named(datatype="BOOL", data=[True, 1])),
            400,
            f"{UNREADABLE} - Expected: true or false; Actual: 1; input name: b; position: [1]",
        ),
        (
            body(named(datatype="BYTES", data=["a", 1])),
            400,
            f"{UNREADABLE} - Expected: a string; Actual: 1; input name: b; position: [1]",
        ),
        (
            body(binary(datatype="BYTES", shape=[2])),
            400,
            f"{UNREADABLE} - inputs[0].data: Expected: a list, or parameters.binary_data_size; Actual: null",
        ),
        (
            body(binary(datatype="BYTES", shape=[1]), named()),
            400,
            f"{UNREADABLE} - inputs[0].data: Expected: a list, or parameters.binary_data_size; Actual: null",
        ),
        (
            body(binary(parameters={"binary_data_size": "12"})),
            400,
            f"{NO_SIZE} - inputs[0]: Expected: an integer from 0 up; Actual: a string",
        ),
        (
            body(binary(parameters={"binary_data_size": True})),
            400,
            f"{NO_SIZE} - inputs[0]: Expected: an integer from 0 up; Actual: true",
        ),
        (
            body(binary(parameters={"binary_data_size": -4})),
            400,
            f"{NO_SIZE} - inputs[0]: Expected: an integer from 0 up; Actual: -4",
        ),
        (
            body(binary(parameters={"binary_data_size": 12.5})),
            400,
            f"{NO_SIZE} - inputs[0]: Expected: an integer from 0 up; Actual: 12.5",
        ),
        (
            body(named(parameters={"binary_data_size": 12})),
            500,
            f"{TWICE} - inputs[0]: Expected: data or parameters.binary_data_size; Actual: both",
        ),
        (
            body(binary(parameters={"binary_data_size": 13})),
            400,
            f"{TOO_SHORT} - inputs[0]: Expected: 13 bytes; Actual: 12 bytes",
        ),
        (body(binary(), binary()), 400, f"{TOO_SHORT} - inputs[1]: Expected: 12 bytes; Actual: 0 bytes"),
        (body(binary(shape=[4])), 400, f"{TOO_SHORT} - inputs[0]: Expected: 16 bytes; Actual: 12 bytes"),
    ],
)
def test_refusals(document: object, http: int, text: str) -> None:
    """The reference's sentences, with what was expected and what came; twelve bytes follow the JSON."""
    failure = refusal(lambda: parse(document, bytes(12)))
    assert (failure.http, failure.text) == (http, text)


FAULTS: list[tuple[Code, dict[str, object]]] = [
    (Code.INPUT_UNREADABLE, {"id": 7}),
    (Code.PARAMETERS_UNREADABLE, {"parameters": {"x": []}}),
    (Code.INPUT_UNREADABLE, {"outputs": {}}),
    (Code.OUTPUT_UNREADABLE, {"outputs": [{}]}),
    (Code.NO_INPUTS, {"inputs": []}),
    (Code.INPUT_UNREADABLE, {"inputs": {}}),
]
"""Of the request as a whole, one behind the other."""

INPUT_FAULTS: list[tuple[Code, dict[str, object]]] = [
    (Code.INPUT_UNREADABLE, {"name": 1}),
    (Code.PARAMETERS_UNREADABLE, {"parameters": {"x": []}}),
    (Code.DATATYPE_UNKNOWN, {"datatype": "?"}),
    (Code.INPUT_UNREADABLE, {"data": [None]}),
    (Code.DATA_TWICE, {"parameters": {"binary_data_size": 1}}),
]
"""Of one input, one behind the other."""


def test_the_header_is_looked_at_first_and_then_the_json() -> None:
    """Whatever else is wrong."""
    assert refusal(lambda: read(b"{", "x", LIMITS)).code is Code.HEADER_LENGTH_INVALID
    assert refusal(lambda: read(b"{", "9", LIMITS)).code is Code.HEADER_LENGTH_TOO_LARGE
    assert refusal(lambda: read(b"{", "1", LIMITS)).code is Code.JSON_INVALID


@pytest.mark.parametrize(("first", "second"), list(pairwise(FAULTS)))
def test_the_order_of_the_checks(first: tuple[Code, dict[str, object]], second: tuple[Code, dict[str, object]]) -> None:
    """Of two faults of a request the one that the reference looks for first is told."""
    document = {"inputs": [1], **second[1], **first[1]}
    assert refusal(lambda: parse(document)).code is first[0]
    assert refusal(lambda: parse({"inputs": [1], **second[1]})).code is second[0]


@pytest.mark.parametrize(("first", "second"), list(pairwise(INPUT_FAULTS)))
def test_the_order_of_the_checks_of_an_input(
    first: tuple[Code, dict[str, object]], second: tuple[Code, dict[str, object]]
) -> None:
    """Of two faults of one input, the same; all inputs are read before any gets its binary data."""
    both = named(**{**second[1], **first[1]})
    assert refusal(lambda: parse(body(both), bytes(12))).code is first[0]
    assert refusal(lambda: parse(body(named(**second[1])), bytes(12))).code is second[0]
    for entry in (binary(), binary(parameters={"binary_data_size": ""})):
        assert refusal(lambda entry=entry: parse(body(entry, both), b"")).code is first[0]  # type: ignore[misc]


def test_a_bad_output_is_told_before_a_bad_input() -> None:
    """As it is read first."""
    failure = refusal(lambda: parse({"inputs": [1], "outputs": [{"name": "a", "parameters": 1}]}))
    assert failure.code is Code.PARAMETERS_UNREADABLE


@pytest.mark.parametrize(
    "shape", [[1] * 33, [2**31 - 1] * 3, [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], [2**31 - 1] * 20_000]
)
@pytest.mark.parametrize("data", [[], None])
def test_shapes_that_no_array_can_have(shape: list[int], data: list[int] | None) -> None:
    """Nothing is computed with them for long, and no message gets long by them."""
    failure = refusal(lambda: parse(body(named(shape=shape, data=data)), b""))
    assert failure.code is Code.INPUT_UNREADABLE
    assert len(failure.text) < 300


@pytest.mark.parametrize(
    "data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[1], [2, 3, 4]], [1, [2, [3]], 4], [[], [1, 2, 3, 4]], [[[[1, 2, 3, 4]]]]]
)
@pytest.mark.parametrize("shape", [[4], [2, 2], [1, 4]])
@pytest.mark.parametrize("is_long", [False, True])
def test_nesting_does_not_matter(data: list[Any], shape: list[int], is_long: bool) -> None:  # noqa: FBT001
    """Values count in their order, however they are nested, ragged or not; the shape is told apart."""
    text = write(body(named(shape=shape, data=data)))
    request = parse(text.replace(b'"data": [', b'"data": [' + b" " * LONG) if is_long else text)
    array = fit(request, {"b": spec("b", shape)})["b"]
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, np.array([1, 2, 3, 4], np.float32).reshape(shape))


def test_values_at_the_bottom_of_many_lists_are_found_quickly() -> None:
    """Not by going through all the others once a level."""
    deep: Any = 7
    for _ in range(45):
        deep = [deep]
    data = [*([1] * 200_000), deep]
    request = parse(body(named(shape=[len(data)], data=data)))
    values_read = request.inputs[0].values
    assert isinstance(values_read, np.ndarray)
    assert values_read[-1] == 7


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP64", [0.1, 1e300, -5e-324]),
        ("FP32", [0.1, 1e39, 16777217]),
        ("FP16", [0.1, 1, 1e9]),
        ("INT64", [2**63 - 1, -(2**63), 0]),
        ("UINT64", [2**64 - 1, 2**63, 0]),
        ("INT32", [2**31 - 1, -(2**31), 0]),
        ("UINT32", [2**32 - 1, 1, 0]),
        ("INT16", [2**15 - 1, -(2**15), 0]),
        ("UINT16", [2**16 - 1, 1, 0]),
        ("INT8", [127, -128, 0]),
        ("UINT8", [255, 1, 0]),
        ("BOOL", [True, False, True]),
    ],
)
@pytest.mark.parametrize("is_long", [False, True])
def test_datatypes_in_json(datatype: str, data: list[Any], is_long: bool) -> None:  # noqa: FBT001
    """To the last bit; what is too large for a float becomes infinite."""
    text = write(body(named(datatype=datatype, data=data)))
    precision = BY_KSERVE[datatype]
    with np.errstate(over="ignore"):
        expected = np.array(data, precision.dtype)
    array = fit(parse(widen(text) if is_long else text), {"b": spec("b", (3,), precision)})["b"]
    assert isinstance(array, np.ndarray)
    assert array.dtype == precision.dtype
    assert array.tobytes() == expected.tobytes()


def test_nan_and_infinities_are_taken_for_floats_only() -> None:
    """As TensorFlow Serving does; everything else in the document stays strict."""
    text = b'{"inputs":[{"name":"b","shape":[3],"datatype":"FP32","data":[NaN,Infinity,-Infinity]}]}'
    np.testing.assert_array_equal(fit(parse(text), ONE)["b"], [np.nan, np.inf, -np.inf])
    assert refusal(lambda: parse(text.replace(b"FP32", b"INT8"))).code is Code.INPUT_UNREADABLE
    assert refusal(lambda: parse(text.replace(b"NaN", b"nan"))).code is Code.JSON_INVALID


@pytest.mark.parametrize("precision", ALL)
@given(st.data())
def test_every_array_comes_in_by_json(precision: Precision, data: st.DataObject) -> None:
    """As it is, whatever its shape."""
    array = data.draw(arrays(precision))
    document = body(named(shape=array.shape, datatype=precision.kserve, data=array.tolist()))
    found = fit(parse(write(document)), {"b": spec("b", array.shape, precision)})["b"]
    np.testing.assert_array_equal(found, array)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape, found.flags.writeable) == (array.dtype, array.shape, True)


# ---------------------------------------------------------------------- binary data


def aligned(document: object, data: bytes) -> tuple[memoryview, str]:
    """A body as the edge hands it over: it may be written, and its binary data begins at a multiple of 16."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 16)
    return memoryview(bytearray(text + data)), str(len(text))


@pytest.mark.parametrize("precision", ALL)
@given(st.data())
def test_every_array_comes_in_as_binary_data(precision: Precision, data: st.DataObject) -> None:
    """On the memory of the body, of which nothing is copied."""
    array = data.draw(arrays(precision))
    told = data.draw(st.sampled_from([{}, {"parameters": {"binary_data_size": array.nbytes}}]))
    document = body(binary(shape=array.shape, datatype=precision.kserve, **told))
    memory, header = aligned(document, array.tobytes() + data.draw(st.sampled_from([b"", b"more"])))
    found = fit(read(memory, header, LIMITS), {"b": spec("b", array.shape, precision)})["b"]
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert found.flags.writeable
    assert np.shares_memory(found, np.frombuffer(memory, np.uint8))


def test_memory_that_cannot_be_used_is_copied() -> None:
    """What may only be read, and what does not begin where numbers of its size do."""
    array = np.array([1, 2, 3], np.float32)
    memory, header = aligned(body(binary()), array.tobytes())
    odd = bytearray(b"x" + bytes(memory))
    for given_body in (bytes(memory), memory.toreadonly(), memoryview(odd)[1:]):
        found = fit(read(given_body, header, LIMITS), ONE)["b"]
        assert isinstance(found, np.ndarray)
        assert found.flags.writeable
        assert found.flags.aligned
        assert not np.shares_memory(found, np.frombuffer(given_body, np.uint8))
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("is_read_only", [True, False])
def test_how_much_of_the_binary_data_is_not_used_where_it_lies(is_read_only: bool) -> None:  # noqa: FBT001
    """Strings in any case, and all that may only be read."""
    entries = [
        binary(),
        binary(name="t", datatype="BYTES", parameters={"binary_data_size": 5}),
        named(name="c", datatype="BYTES", data=["abc"]),
    ]
    memory, header = aligned(body(*entries), bytes(17))
    request = read(bytes(memory) if is_read_only else memory, header, LIMITS)
    assert request.loose_bytes == (17 if is_read_only else 5)


def test_inputs_take_their_binary_data_in_their_order() -> None:
    """One behind the other, with sizes said or left out, and an empty one in JSON between them; the rest is ignored."""
    document = body(
        binary(name="z", datatype="UINT8"),
        named(name="y", shape=[0], data=[]),
        binary(name="x", datatype="INT16", parameters={"binary_data_size": 6}),
        binary(name="w", shape=[0]),
        binary(name="v", datatype="BYTES", shape=[2], parameters={"binary_data_size": 11}),
    )
    data = b"\1\2\3" + struct.pack("<3h", 4, 5, 6) + b"\2\0\0\0ab\1\0\0\0c" + b"left over"
    request = parse(document, data)
    assert listed(request) == [b"\1\2\3", [], data[3:9], b"", data[9:20]]
    specs = {
        "z": spec("z", (3,), Precision.U8),
        "y": spec("y", (0,)),
        "x": spec("x", (3,), Precision.I16),
        "w": spec("w", (0,)),
        "v": spec("v", (2,), Precision.STRING),
    }
    found = fit(request, specs)
    assert [found[name].tolist() for name in "zyxw"] == [[1, 2, 3], [], [4, 5, 6], []]  # type: ignore[union-attr]
    assert found["v"] == Encoded((b"ab", b"c"), (2,))


def test_an_empty_list_beside_a_size_is_binary_data() -> None:
    """There are no values but those."""
    document = body(named(data=[], parameters={"binary_data_size": 12}))
    assert listed(parse(document, b"abcdefghijkl")) == [b"abcdefghijkl"]


def test_bytes_behind_the_json_are_ignored_if_nobody_wants_them() -> None:
    """The header alone does no harm."""
    assert listed(parse(body(), b"\0\1\2")) == [[1.0, 2.0, 3.0]]


def test_a_datatype_that_nobody_knows_takes_no_binary_data() -> None:
    """It is refused when it is compared with the model's."""
    request = parse(body(binary(datatype="BF16", shape=[3])))
    failure = refusal(lambda: fit(request, ONE))
    assert failure.text == "Invalid input precision - Expected: FP32; Actual: BF16; input name: b"


@pytest.mark.parametrize(
    ("data", "shape", "expected"),
    [
        (b"", [0], ()),
        (b"\0\0\0\0", [1], (b"",)),
        (b"\3\0\0\0abc", [1], (b"abc",)),
        (b"\1\0\0\0a\0\0\0\0\2\0\0\0b\0", [3], (b"a", b"", b"b\0")),
        (b"\1\0\0\0a\1\0\0\0b", [2, 1], (b"a", b"b")),
        # a single element may come as it is
        (b"abc", [1], (b"abc",)),
        (b"\x89PNG\r\n\x1a\n rest", [1], (b"\x89PNG\r\n\x1a\n rest",)),
        (b"\4\0\0\0abc", [1], (b"\4\0\0\0abc",)),
    ],
)
def test_binary_strings(data: bytes, shape: list[int], expected: tuple[bytes, ...]) -> None:
    """Before each there is its length."""
    document = body(binary(datatype="BYTES", shape=shape, parameters={"binary_data_size": len(data)}))
    specs = {"b": tensor("b", [-1] * len(shape), Precision.STRING)}
    assert fit(parse(document, data), specs)["b"] == Encoded(expected, tuple(shape))


@pytest.mark.parametrize(
    ("data", "shape", "text"),
    [
        (
            b"\4\0\0\0abc",
            [2],
            "Invalid content size of tensor proto - Expected: 4 bytes at 4; Actual: 3 bytes; input name: b",
        ),
        (
            b"\1\0\0\0a\1",
            [2],
            "Invalid content size of tensor proto - Expected: 6 bytes at 9; Actual: 0 bytes; input name: b",
        ),
        (
            b"\1\0\0\0a\1\0\0\0b",
            [3],
            "Invalid number of values in tensor proto container - Expected: 3 values; Actual: 2 values; input name: b",
        ),
        (
            b"\1\0\0\0a\1\0\0\0b",
            [1],
            "Invalid number of values in tensor proto container - Expected: 1 values; Actual: 2 values; input name: b",
        ),
        (
            b"\1\0\0\0a",
            [0],
            "Invalid number of values in tensor proto container - Expected: 0 values; Actual: 1 values; input name: b",
        ),
    ],
)
def test_binary_strings_that_are_refused(data: bytes, shape: list[int], text: str) -> None:
    """Cut off, too many, too few."""
    document = body(binary(datatype="BYTES", shape=shape, parameters={"binary_data_size": len(data)}))
    failure = refusal(lambda: fit(parse(document, data), {"b": tensor("b", [-1], Precision.STRING)}))
    assert (failure.http, failure.text) == (400, text)


def test_a_single_string_needs_no_size() -> None:
    """It is all that follows the JSON."""
    document = body(binary(datatype="BYTES", shape=[1]))
    specs = {"b": tensor("b", [-1], Precision.STRING)}
    for data, expected in ((b"\3\0\0\0abc", b"abc"), (b"picture", b"picture"), (b"", None)):
        if expected is None:
            assert refusal(lambda: fit(parse(document, b""), specs)).code is Code.VALUE_COUNT
        else:
            assert fit(parse(document, data), specs)["b"] == Encoded((expected,), (1,))


@given(st.lists(st.binary(max_size=6), max_size=5))
def test_strings_come_in_as_binary_data(strings: list[bytes]) -> None:
    """Any bytes, NUL too."""
    data = b"".join(struct.pack("<I", len(each)) + each for each in strings)
    document = body(binary(datatype="BYTES", shape=[len(strings)], parameters={"binary_data_size": len(data)}))
    specs = {"b": tensor("b", [-1], Precision.STRING)}
    assert fit(parse(document, data), specs)["b"] == Encoded(tuple(strings), (len(strings),))


@given(st.lists(st.text(max_size=6), max_size=5), st.booleans())
@example(["a\0b", "\0", "a\0"], False)
def test_strings_come_in_by_json(strings: list[str], is_nested: bool) -> None:  # noqa: FBT001
    """As UTF-8; a string ends at a NUL."""
    data = [[each] for each in strings] if is_nested else strings
    document = body(named(datatype="BYTES", shape=[len(strings)], data=data))
    expected = Encoded(tuple(each.split("\0")[0].encode() for each in strings), (len(strings),))
    assert fit(parse(document), {"b": tensor("b", [-1], Precision.STRING)})["b"] == expected


# ---------------------------------------------------------------------- a request against its model

TWO = {"b": spec("b", (1, 10)), "c": spec("c", (1,), Precision.I32)}
TEN = named(shape=[1, 10], data=[0] * 10)

COUNT = "Invalid number of inputs"
ABSENT = "Missing input with specific name"
VALUES = "Invalid number of values in tensor proto container"
SIZE = "Invalid content size of tensor proto"


@pytest.mark.parametrize(
    ("entries", "specs", "text"),
    [
        ([TEN, TEN], {"b": TWO["b"]}, f"{COUNT} - Expected: 1; Actual: 2"),
        ([TEN], TWO, f"{COUNT} - Expected: 2; Actual: 1"),
        # before names are looked at
        (
            [TEN, binary(name="d", shape=[2])],
            TWO,
            (
                "Passing buffers both in ModelInferRequest::InferInputTensor::contents and in"
                " ModelInferRequest::raw_input_contents is not allowed"
                " - Expected: all inputs in one form; Actual: b in JSON, d in binary form"
            ),
        ),
        ([TEN, TEN], TWO, f"{ABSENT} - Required input: c"),
        ([{**TEN, "name": "x"}], {"b": TWO["b"]}, f"{ABSENT} - Required input: b"),
        ([{**TEN, "name": "B"}], {"b": TWO["b"]}, f"{ABSENT} - Required input: b"),
        (
            [{**TEN, "datatype": "INT32"}],
            {"b": TWO["b"]},
            "Invalid input precision - Expected: FP32; Actual: INT32; input name: b",
        ),
        (
            [{**TEN, "datatype": "FP64", "shape": [10]}],
            {"b": TWO["b"]},
            "Invalid input precision - Expected: FP32; Actual: FP64; input name: b",
        ),
        (
            [named(name="c", shape=[1], data=[0])],
            {"c": TWO["c"]},
            "Invalid input precision - Expected: I32; Actual: FP32; input name: c",
        ),
        (
            [{**TEN, "shape": [10]}],
            {"b": TWO["b"]},
            "Invalid number of shape dimensions - Expected: (1,10); Actual: (10); input name: b",
        ),
        (
            [{**TEN, "shape": []}],
            {"b": TWO["b"]},
            "Invalid number of shape dimensions - Expected: (1,10); Actual: (); input name: b",
        ),
        (
            [{**TEN, "shape": [2, 9]}],
            {"b": TWO["b"]},
            "Invalid input batch size - Expected: 1; Actual: 2; input name: b",
        ),
        (
            [{**TEN, "shape": [1, 9]}],
            {"b": TWO["b"]},
            "Invalid input shape - Expected: (1,10); Actual: (1,9); input name: b",
        ),
        (
            [{**TEN, "data": [0] * 9}],
            {"b": TWO["b"]},
            f"{VALUES} - Expected: 10 values; Actual: 9 values; input name: b",
        ),
        (
            [{**TEN, "data": [0] * 11}],
            {"b": TWO["b"]},
            f"{VALUES} - Expected: 10 values; Actual: 11 values; input name: b",
        ),
        ([{**TEN, "data": []}], {"b": TWO["b"]}, f"{VALUES} - Expected: 10 values; Actual: 0 values; input name: b"),
        (
            [binary(shape=[1, 10], parameters={"binary_data_size": 36})],
            {"b": TWO["b"]},
            f"{SIZE} - Expected: 40 bytes; Actual: 36 bytes; input name: b",
        ),
        (
            [binary(shape=[1, 10], parameters={"binary_data_size": 44})],
            {"b": TWO["b"]},
            f"{SIZE} - Expected: 40 bytes; Actual: 44 bytes; input name: b",
        ),
        (
            [binary(shape=[1, 10], parameters={"binary_data_size": 39})],
            {"b": TWO["b"]},
            f"{SIZE} - Expected: 40 bytes; Actual: 39 bytes; input name: b",
        ),
        # inputs in the order of their names, not in the request's
        (
            [named(name="c", shape=[7], data=[]), {**TEN, "shape": [1, 9]}],
            TWO,
            "Invalid input shape - Expected: (1,10); Actual: (1,9); input name: b",
        ),
    ],
)
def test_requests_that_do_not_fit(entries: list[object], specs: Mapping[str, TensorSpec], text: str) -> None:
    """The first check that fails, in the reference's order, in its words."""
    failure = refusal(lambda: fit(parse(body(*entries), bytes(64)), specs))
    assert (failure.http, failure.text) == (400, text)


@pytest.mark.parametrize(
    ("shape", "data"), [([0, 10], []), ([3, 0], []), ([0, 0], [[]]), ([0, 2**31 - 1], []), ([2, 1], [5, 6])]
)
def test_open_dimensions_take_any_size(shape: list[int], data: list[Any]) -> None:
    """None at all, too, in both forms."""
    specs = {"b": tensor("b", [-1, -1], Precision.FP32)}
    found = fit(parse(body(named(shape=shape, data=data))), specs)["b"]
    assert found.shape == tuple(shape)
    packed = np.array(data, np.float32).tobytes()
    assert fit(parse(body(binary(shape=shape)), packed), specs)["b"].shape == tuple(shape)


def test_a_scalar() -> None:
    """It has no dimensions, and one value."""
    specs = {"b": tensor("b", [], Precision.I64)}
    entry = named(shape=[], datatype="INT64", data=[2**60 + 1])
    packed = struct.pack("<q", 2**60 + 1)
    for request in (parse(body(entry)), parse(body({**entry, "data": [[2**60 + 1]]}))):
        assert fit(request, specs)["b"].tolist() == 2**60 + 1  # type: ignore[union-attr]
    found = fit(parse(body(binary(shape=[], datatype="INT64")), packed), specs)["b"]
    assert found.tolist() == 2**60 + 1  # type: ignore[union-attr]


def test_a_precision_that_cannot_be_exchanged() -> None:
    """Whatever the client calls it."""
    specs = {"b": spec("b", (3,), Precision.UNDEFINED)}
    request = parse(body(binary(datatype="INVALID", parameters={"binary_data_size": 6})), bytes(6))
    failure = refusal(lambda: fit(request, specs))
    assert (failure.http, failure.text) == (500, "Unsupported deserialization precision - input name: b")


def test_texts_are_left_to_those_who_know_what_they_become() -> None:
    """For any input, with the shape that the client tells."""
    for specs in ({"b": spec("b", (1, 2, 2, 3), Precision.U8)}, {"b": spec("b", (1, 4), Precision.U8)}, ONE):
        request = parse(body(named(datatype="BYTES", shape=[2], data=["a", "bc"])))
        assert fit(request, specs)["b"] == Encoded((b"a", b"bc"), (2,))


# ---------------------------------------------------------------------- which outputs, and how


@pytest.mark.parametrize(
    ("members", "outputs", "is_binary"),
    [
        ({}, None, False),
        ({"outputs": []}, None, False),
        ({"parameters": {"binary_data_output": True}}, None, True),
        ({"parameters": {"binary_data_output": False}}, None, False),
        ({"parameters": {"binary_data_output": "true"}}, None, False),
        ({"parameters": {"binary_data_output": 1}}, None, False),
        ({"outputs": [{"name": "a"}]}, {"a": False}, False),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": True}}]}, {"a": True}, False),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, {"a": False}, False),
        (
            {"outputs": [{"name": "a", "parameters": {"binary_data": 1}}], "parameters": {"binary_data_output": True}},
            {"a": True},
            True,
        ),
        (
            {
                "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "c"}, {"name": "a2"}],
                "parameters": {"binary_data_output": True},
            },
            {"a": False, "c": True, "a2": True},
            True,
        ),
    ],
)
def test_wishes_about_outputs(members: dict[str, object], outputs: object, is_binary: bool) -> None:  # noqa: FBT001
    """Which ones, and in which form; words that are not true or false do not count."""
    request = parse(body(**members))
    assert (request.outputs, request.is_binary) == (outputs, is_binary)


def test_what_is_kept_and_what_is_ignored() -> None:
    """The id, the parameters; unknown members are nobody's business."""
    parameters = {"sequence_id": 7, "priority": 2**40, "timeout": 1.5, "note": "x", "flag": False}
    request = parse(body({**named(), "new": 1}, id="é", parameters=parameters, other=[1]))
    assert (request.id, request.parameters) == ("é", parameters)


PLAIN = parse(body())
BINARY = parse(body(parameters={"binary_data_output": True}))

Outputs = list[tuple[TensorSpec, np.ndarray]]


def one(array: np.ndarray, precision: Precision, name: str = "a") -> Outputs:
    """A single output."""
    return [(spec(name, array.shape, precision), array)]


def answer(
    request: InferRequest, outputs: Outputs, non_finite: NonFinite = NonFinite.NULL
) -> tuple[dict[str, Any], bytes, int | None]:
    """The JSON of an answer, what follows it, and what the header says."""
    pieces, length = write_inference(request, "m", 3, outputs, non_finite)
    whole = b"".join(pieces)
    return json.loads(whole[:length], parse_constant=float), whole[length:] if length is not None else b"", length


def test_an_answer() -> None:
    """Who answered, and flat lists, sorted by name."""
    outputs = [
        *one(np.array([[1.5, 2], [3, 4]], np.float32), Precision.FP32, "z"),
        *one(np.array(7, np.int64), Precision.I64, "a"),
    ]
    document, rest, length = answer(parse(body(id="42")), outputs)
    assert document == {
        "model_name": "m",
        "model_version": "3",
        "id": "42",
        "outputs": [
            {"name": "a", "shape": [], "datatype": "INT64", "data": [7]},
            {"name": "z", "shape": [2, 2], "datatype": "FP32", "data": [1.5, 2.0, 3.0, 4.0]},
        ],
    }
    assert (rest, length) == (b"", None)


@pytest.mark.parametrize("members", [{}, {"id": ""}])
def test_an_answer_without_id(members: dict[str, object]) -> None:
    """As the request."""
    document, _, _ = answer(parse(body(**members)), one(np.zeros(1, np.float32), Precision.FP32))
    assert "id" not in document


@pytest.mark.parametrize("precision", ALL)
@given(st.data())
def test_every_array_goes_out_by_json(precision: Precision, data: st.DataObject) -> None:
    """And reads back the same, in any order of memory; NaN and infinities by their words."""
    array = data.draw(arrays(precision))
    array = data.draw(st.sampled_from([array, np.asfortranarray(array), array[::-1]]))
    document, _, _ = answer(PLAIN, one(array, precision), NonFinite.LITERAL)
    [found] = document["outputs"]
    assert (found["shape"], found["datatype"]) == (list(array.shape), precision.kserve)
    np.testing.assert_array_equal(np.array(found["data"], array.dtype).reshape(array.shape), array)


@pytest.mark.parametrize("precision", ALL)
@given(st.data())
def test_every_array_goes_out_as_binary_data(precision: Precision, data: st.DataObject) -> None:
    """To the last bit."""
    array = data.draw(arrays(precision))
    array = data.draw(st.sampled_from([array, np.asfortranarray(array), array[::-1]]))
    document, rest, length = answer(BINARY, one(array, precision))
    assert length is not None
    [found] = document["outputs"]
    assert found == {
        "name": "a",
        "shape": list(array.shape),
        "datatype": precision.kserve,
        "parameters": {"binary_data_size": array.nbytes},
    }
    assert rest == array.tobytes()


def test_binary_outputs_are_not_copied() -> None:
    """What is sent is the array's own memory."""
    array = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    pieces, _ = write_inference(BINARY, "m", 1, one(array, Precision.FP32), NonFinite.NULL)
    assert isinstance(pieces[-1], memoryview)
    assert np.shares_memory(np.frombuffer(pieces[-1], np.uint8), array)
    assert sum(map(len, pieces[:-1])) < 300


def test_large_outputs_are_written_in_slices() -> None:
    """And read as one list."""
    array = np.arange(SLICE_BYTES // 2, dtype=np.float32).reshape(-1, 8)
    pieces, _ = write_inference(PLAIN, "m", 1, one(array, Precision.FP32), NonFinite.NULL)
    assert max(map(len, pieces)) < SLICE_BYTES * 4
    document, _, _ = answer(PLAIN, one(array, Precision.FP32))
    assert document["outputs"][0]["data"] == array.ravel().tolist()


def test_binary_and_json_side_by_side() -> None:
    """Binary data follows in the order of the names; the header tells the length of the JSON."""
    request = parse(
        body(outputs=[{"name": name, "parameters": {"binary_data": name != "b"}} for name in ("c", "b", "a")])
    )
    outputs = [
        *one(np.array([1, 2], np.uint8), Precision.U8, "c"),
        *one(np.array([3], np.uint8), Precision.U8, "b"),
        *one(np.array([4, 5, 6], np.int16), Precision.I16, "a"),
        *one(np.array([0], np.uint8), Precision.U8, "unwanted"),
    ]
    document, rest, length = answer(request, outputs)
    assert length is not None
    assert [(each["name"], each.get("parameters"), each.get("data")) for each in document["outputs"]] == [
        ("a", {"binary_data_size": 6}, None),
        ("b", None, [3]),
        ("c", {"binary_data_size": 2}, None),
    ]
    assert rest == b"\4\0\5\0\6\0\1\2"


@pytest.mark.parametrize(
    ("names", "expected"), [(["a"], ["a"]), (["c", "a"], ["a", "c"]), (["x", "c"], ["c"]), (["x"], ["a", "b", "c"])]
)
def test_outputs_are_selected(names: list[str], expected: list[str]) -> None:
    """By name; those that the model lacks do not count."""
    outputs = [each for name in "cab" for each in one(np.zeros(1, np.float32), Precision.FP32, name)]
    document, _, _ = answer(parse(body(outputs=[{"name": name} for name in names])), outputs)
    assert [each["name"] for each in document["outputs"]] == expected


@pytest.mark.parametrize("request_", [PLAIN, BINARY])
def test_an_empty_output(request_: InferRequest) -> None:
    """An empty list, or no bytes, of which the client is told."""
    document, rest, length = answer(request_, one(np.zeros((2, 0, 3), np.float32), Precision.FP32))
    [found] = document["outputs"]
    assert found["shape"] == [2, 0, 3]
    if request_ is PLAIN:
        assert (found["data"], length) == ([], None)
    else:
        assert found["parameters"] == {"binary_data_size": 0}
        assert (rest, "data" in found) == (b"", False)
        assert length is not None


def strings(*each: bytes) -> np.ndarray:
    """What an inference gives for strings."""
    array = np.empty(len(each), object)
    array[:] = each
    return array


def test_strings_in_json() -> None:
    """As they are; what is no UTF-8 is replaced. Names that end in ``_bytes`` mean nothing here."""
    array = strings("é".encode(), b'"\\\n\0', b"\xff", b"").reshape(2, 2)
    document, _, _ = answer(PLAIN, one(array, Precision.STRING, "a_bytes"))
    assert document["outputs"] == [
        {"name": "a_bytes", "shape": [2, 2], "datatype": "BYTES", "data": ["é", '"\\\n\0', "\ufffd", ""]}
    ]


@given(st.lists(st.binary(max_size=6), max_size=5))
def test_strings_as_binary_data(each: list[bytes]) -> None:
    """Any bytes, each behind its length; they can be sent back as they are."""
    document, rest, _ = answer(BINARY, one(strings(*each), Precision.STRING))
    [found] = document["outputs"]
    assert found["parameters"] == {"binary_data_size": len(rest)}
    entry = binary(datatype="BYTES", shape=found["shape"], parameters=found["parameters"])
    specs = {"b": tensor("b", [-1], Precision.STRING)}
    assert fit(parse(body(entry), rest), specs)["b"] == Encoded(tuple(each), (len(each),))


@pytest.mark.parametrize(
    ("non_finite", "written"),
    [
        (NonFinite.NULL, b"[null,null,null,1.0]"),
        (NonFinite.LITERAL, b"[NaN,Infinity,-Infinity,1.0]"),
        (NonFinite.STRING, b'["NaN","Infinity","-Infinity",1.0]'),
    ],
)
@pytest.mark.parametrize("precision", FLOATS)
def test_nan_is_written_as_the_operator_wants(non_finite: NonFinite, written: bytes, precision: Precision) -> None:
    """In JSON."""
    array = np.array([np.nan, np.inf, -np.inf, 1], precision.dtype)
    pieces, _ = write_inference(PLAIN, "m", 1, one(array, precision), non_finite)
    assert b'"data":' + written in b"".join(pieces)


def test_nan_may_be_an_error() -> None:
    """In JSON; binary data can tell it."""
    array = np.array([[1, np.nan]], np.float32)
    failure = refusal(lambda: answer(PLAIN, one(array, Precision.FP32), NonFinite.ERROR))
    assert (failure.http, failure.code) == (500, Code.NON_FINITE)
    assert "output name: a; position: [0,1]" in failure.text
    assert answer(BINARY, one(array, Precision.FP32), NonFinite.ERROR)[1] == array.tobytes()


@pytest.mark.parametrize("precision", INTEGERS)
def test_integers_are_exact(precision: Precision) -> None:
    """The smallest and the largest."""
    assert precision.dtype is not None
    limits = np.iinfo(precision.dtype)
    array = np.array([limits.min, limits.max], precision.dtype)
    document, _, _ = answer(PLAIN, one(array, precision))
    assert document["outputs"][0]["data"] == [limits.min, limits.max]


@pytest.mark.parametrize("request_", [PLAIN, BINARY])
def test_an_output_that_cannot_be_exchanged(request_: InferRequest) -> None:
    """Its name is told; it may be left out by asking for others."""
    outputs = [*one(np.zeros(1), Precision.UNDEFINED), *one(np.zeros(1, np.float32), Precision.FP32, "b")]
    failure = refusal(lambda: answer(request_, outputs))
    assert failure.text == "Unsupported serialization precision - output name: a"
    assert answer(request_._replace(outputs={"b": False}), outputs)[0]["outputs"][0]["name"] == "b"


# ---------------------------------------------------------------------- any bytes at all

_entries = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["b", "c", 1]),
        "shape": st.one_of(st.lists(st.integers(-1, 4), max_size=3), values),
        "datatype": st.one_of(st.sampled_from([*BY_KSERVE, "BF16", "INVALID", ""]), values),
        "data": st.one_of(
            values, st.lists(st.one_of(st.integers(0, 3), st.booleans(), st.text(max_size=2)), max_size=4)
        ),
        "parameters": st.one_of(
            values, st.fixed_dictionaries({"binary_data_size": st.one_of(st.integers(-1, 24), values)})
        ),
    },
)
_bodies = st.fixed_dictionaries(
    {"inputs": st.one_of(values, st.lists(_entries, max_size=3))},
    optional={"outputs": values, "parameters": values, "id": values},
).map(write)


@given(
    st.one_of(raw, _bodies),
    st.one_of(st.none(), st.integers(-1, 300).map(str), st.text(max_size=4)),
    st.binary(max_size=24),
    st.lists(st.sampled_from([*Precision]), min_size=1, max_size=3),
)
def test_any_bytes_are_a_request_or_a_failure(
    text: bytes, header: str | None, data: bytes, precisions: list[Precision]
) -> None:
    """Nothing else is raised, neither in reading nor against a model, whatever the body is."""
    for length in {header, str(len(text))}:
        try:
            request = read(memoryview(bytearray(text + data)), length, LIMITS)
        except Failure:
            continue
        assert isinstance(request, InferRequest)
        specs = {name: tensor(name, [-1], kind) for name, kind in zip("bcd", precisions, strict=False)}
        try:
            found = fit(request, specs)
        except Failure:
            continue
        assert found.keys() == specs.keys()


# ---------------------------------------------------------------------- the repository, the server, a model


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"", False), (b" \n", False), (b"{}", False), (b'{"ready":true}', True), (b'{"ready":false,"x":1}', False)],
)
def test_a_request_for_the_index(text: bytes, expected: bool) -> None:  # noqa: FBT001
    """It may have no body at all."""
    assert read_is_only_ready(text, LIMITS) is expected


@pytest.mark.parametrize(("text", "code"), [(b"{", Code.JSON_INVALID), (b"[]", Code.BODY_NOT_AN_OBJECT)])
def test_requests_about_the_repository_that_are_refused(text: bytes, code: Code) -> None:
    """What is not JSON, or not an object."""
    assert refusal(lambda: read_is_only_ready(text, LIMITS)).code is code
    assert refusal(lambda: check_load(text, LIMITS)).code is code


def test_models_cannot_be_sent_along() -> None:
    """They come from the configuration, not from clients."""
    for parameters in ({}, {"note": "x"}):
        check_load(write({"parameters": parameters}), LIMITS)
    check_load(b"", LIMITS)
    for name in ("config", "file:1/model.onnx"):
        failure = refusal(lambda name=name: check_load(write({"parameters": {name: "x"}}), LIMITS))  # type: ignore[misc]
        detail = f"parameters.{name}: Expected: nothing; models are configured here"
        assert (failure.http, failure.text) == (400, f"{PARAMETERS} - {detail}")


def test_the_index() -> None:
    """A line for each version; a model without any has none."""
    entries = [RepositoryEntry("m", 2, "READY", ""), RepositoryEntry("n", None, "UNAVAILABLE", "no versions")]
    assert json.loads(write_index(entries)) == [
        {"name": "m", "version": "2", "state": "READY", "reason": ""},
        {"name": "n", "state": "UNAVAILABLE", "reason": "no versions"},
    ]


def test_the_server() -> None:
    """With its extensions, which the protocol requires."""
    assert json.loads(write_server("s", "1.0", ("a", "b"))) == {"name": "s", "version": "1.0", "extensions": ["a", "b"]}


def test_a_model() -> None:
    """Versions in ascending order, tensors by name, -1 for what is open."""
    inputs = [tensor("z", [1, -1], Precision.U8), tensor("c", [], Precision.STRING)]
    outputs = [spec("a", (1, 10), Precision.BOOL), spec("x", (1,), Precision.UNDEFINED)]
    document = json.loads(write_model("m", [10, 2], inputs, outputs, None))
    assert document == {
        "name": "m",
        "versions": ["2", "10"],
        "platform": "OpenVINO",
        "inputs": [
            {"name": "c", "datatype": "BYTES", "shape": []},
            {"name": "z", "datatype": "UINT8", "shape": [1, -1]},
        ],
        "outputs": [
            {"name": "a", "datatype": "BOOL", "shape": [1, 10]},
            {"name": "x", "datatype": "INVALID", "shape": [1]},
        ],
    }
    with_info = json.loads(write_model("m", [1], inputs, outputs, {"labels": "a b", "deep": {"x": "1"}}))
    assert with_info["rt_info"] == {"model_info": {"labels": "a b", "deep": {"x": "1"}}}


def test_every_precision_has_its_name() -> None:
    """The protocol's; those that it lacks are invalid."""
    names = {precision.kserve for precision in Precision}
    assert names == {*KNOWN.split(", "), "INVALID"}
