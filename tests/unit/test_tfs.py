"""Bodies of the TensorFlow Serving API: forms of requests, their refusals, answers, status and metadata."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import spec
from tests.strategies import DEPTH, NUMERIC, arrays, raw, values, write
from tornado_ovms.codec import inputs
from tornado_ovms.codec.encoded import Encoded
from tornado_ovms.codec.numeric import LONG
from tornado_ovms.codec.outputs import SLICE_BYTES, dump
from tornado_ovms.codec.tfs import (
    Order,
    PredictRequest,
    read_predict,
    write_config_report,
    write_config_status,
    write_error,
    write_metadata,
    write_predictions,
    write_status,
)
from tornado_ovms.core.lifecycle import ErrorCode, State, VersionStatus
from tornado_ovms.core.settings import Limits, NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec

LIMITS = Limits(json_depth=DEPTH)

ONE = {"b": spec("b")}
TWO = {"b": spec("b"), "c": spec("c", (2,), Precision.I64)}
TEXT = {"s": spec("s", (1,), Precision.STRING)}
BYTES = {"image": spec("image", (1, 2, 2, 3), Precision.U8)}
TRUTH = {"t": spec("t", (1,), Precision.BOOL)}

Specs = dict[str, TensorSpec]


def read(text: str, specs: Specs) -> PredictRequest:
    """A request."""
    return read_predict(text.encode(), specs, LIMITS)


def listed(request: PredictRequest) -> dict[str, Any]:
    """Its values in a form that compares."""
    return {
        name: (value.shape, value.values) if isinstance(value, Encoded) else (value.shape, value.tolist())
        for name, value in request.values.items()
    }


INSTANCE = "Could not parse instance content. Not valid ndarray detected"
INPUT = "Could not parse input content. Not valid ndarray detected"
NO_OBJECT = "Invalid JSON structure. One of inputs is not a JSON object."
NO_ORDER = "Invalid JSON structure. Could not detect row or column format"
NO_ARRAY = "Invalid JSON structure. Nonamed instance is not an array."
NO_KIND = "Could not detect neither named or nonamed format"
NO_NAMES = "Inputs inside buffer does not match expected format. - Expected: an object with values for b, c"
NO_INSTANCE = "Invalid JSON structure. One of named instances is not a JSON object."
BATCHES = "Invalid JSON structure. Request inputs have different batch sizes"
NO_SUCH_INPUT = "Expected: values for b; Actual: a value for another input; input name: new"


@pytest.mark.parametrize(
    ("text", "specs", "sentence"),
    [
        ("[]", ONE, "Request body should be JSON object"),
        ("1", ONE, "Request body should be JSON object"),
        ("null", ONE, "Request body should be JSON object"),
        ('"instances"', ONE, "Request body should be JSON object"),
        ("{}", ONE, NO_ORDER),
        ('{"signature_name":""}', ONE, NO_ORDER),
        ('{"Instances":[1]}', ONE, NO_ORDER),
        ('{"instances":[1],"inputs":[1]}', ONE, NO_ORDER),
        # rows
        ('{"instances":{}}', ONE, NO_ARRAY),
        ('{"instances":1}', ONE, NO_ARRAY),
        ('{"instances":null}', ONE, NO_ARRAY),
        ('{"instances":"x"}', ONE, NO_ARRAY),
        ('{"instances":[]}', ONE, "Invalid JSON structure. Missing instances in row format"),
        ('{"instances":[null]}', ONE, NO_KIND),
        ('{"instances":[true]}', ONE, NO_KIND),
        ('{"instances":[false,{}]}', TWO, NO_KIND),
        ('{"instances":[1]}', TWO, NO_NAMES),
        ('{"instances":[[1]]}', TWO, NO_NAMES),
        ('{"instances":[{"b64":"QQ"}]}', TWO, NO_NAMES),
        ('{"instances":[{"b":1},1]}', ONE, f"{NO_INSTANCE} - position: [1]"),
        ('{"instances":[{"b":1},[1]]}', ONE, f"{NO_INSTANCE} - position: [1]"),
        ('{"instances":[{"b":1},null]}', ONE, f"{NO_INSTANCE} - position: [1]"),
        ('{"instances":[{}]}', ONE, f"{INSTANCE} - Expected: a value for each input; Actual: none; position: [0]"),
        (
            '{"instances":[{"b":1},{}]}',
            ONE,
            f"{INSTANCE} - Expected: a value for each input; Actual: none; position: [1]",
        ),
        (
            '{"instances":[{"b":[1]},{"b":2}]}',
            ONE,
            f"{INSTANCE} - Expected: a list of 1; Actual: 2; input name: b; position: [1]",
        ),
        (
            '{"instances":[{"b":1},{"b":[2]}]}',
            ONE,
            f"{INSTANCE} - Expected: a number; Actual: a list of 1; input name: b; position: [1]",
        ),
        ('{"instances":[{"b":null}]}', ONE, f"{INSTANCE} - Expected: a number; Actual: null; input name: b; position: [0]"),
        ('{"instances":[{"b":true}]}', ONE, f"{INSTANCE} - Expected: a number; Actual: true; input name: b; position: [0]"),
        (
            '{"instances":[{"b":"x"}]}',
            ONE,
            f"{INSTANCE} - Expected: a number; Actual: a string; input name: b; position: [0]",
        ),
        ('{"instances":[{"b":1,"c":2},{"b":1}]}', TWO, f"{BATCHES} - Expected: 2; Actual: 1; input name: c"),
        ('{"instances":[{"b":1},{"c":2}]}', TWO, f"{BATCHES} - Expected: 2; Actual: 1; input name: b"),
        ('{"instances":[{"b":1,"new":2}]}', ONE, f"{INSTANCE} - {NO_SUCH_INPUT}"),
        ('{"instances":[{"b":1,"new":[{"b64":"QQ=="}]}]}', ONE, f"{INSTANCE} - {NO_SUCH_INPUT}"),
        ('{"inputs":{"b":[1],"new":{"b64":"QQ=="}}}', ONE, f"{INPUT} - {NO_SUCH_INPUT}"),
        (
            '{"instances":[[1,2],[3]]}',
            ONE,
            f"{INSTANCE} - Expected: a list of 2; Actual: a list of 1; input name: b; position: [1]",
        ),
        ('{"instances":["x"]}', ONE, f"{INSTANCE} - Expected: a number; Actual: a string; input name: b; position: [0]"),
        (
            '{"instances":[1,{"b":1}]}',
            ONE,
            f"{INSTANCE} - Expected: a number; Actual: an object; input name: b; position: [1]",
        ),
        # columns
        ('{"inputs":{}}', ONE, "Invalid JSON structure, missing inputs"),
        ('{"inputs":null}', ONE, NO_OBJECT),
        ('{"inputs":true}', ONE, NO_OBJECT),
        ('{"inputs":"x"}', ONE, NO_OBJECT),
        ('{"inputs":"x"}', TEXT, NO_OBJECT),
        ('{"inputs":1}', TWO, NO_OBJECT),
        ('{"inputs":[1]}', TWO, NO_NAMES),
        ('{"inputs":[]}', TWO, NO_NAMES),
        ('{"inputs":[1,[2]]}', ONE, f"{INPUT} - Expected: a number; Actual: a list of 1; input name: b; position: [1]"),
        ('{"inputs":[null]}', ONE, f"{INPUT} - Expected: a number; Actual: null; input name: b; position: [0]"),
        ('{"inputs":{"b":null}}', ONE, f"{INPUT} - Expected: a number; Actual: null; input name: b"),
        ('{"inputs":{"b":{}}}', ONE, f'{INPUT} - Expected: {{"b64": "..."}}; Actual: an object; input name: b'),
        ('{"inputs":{"b64":"QQ"}}', ONE, f"{INPUT} - Expected: a number; Actual: a string; input name: b64"),
        ('{"inputs":{"b":[1],"x":"y"}}', ONE, f"{INPUT} - Expected: a number; Actual: a string; input name: x"),
        (
            '{"inputs":{"c":[1,9223372036854775808]}}',
            TWO,
            f"{INPUT} - Expected: a number from {-(2**63)} to {2**63 - 1} (I64); Actual: {2**63}; input name: c; position: [1]",
        ),
    ],
)  # fmt: skip
def test_refusals(text: str, specs: Specs, sentence: str) -> None:
    """The reference's sentences, with what was expected and what came."""
    with pytest.raises(Failure) as caught:
        read(text, specs)
    assert (caught.value.http, caught.value.text) == (400, sentence)


@pytest.mark.parametrize("text", ['{"instances":[1]', "", "nan", '{"instances":[1]} x'])
def test_what_is_not_json_is_a_412(text: str) -> None:
    """The form of the request is looked at later."""
    with pytest.raises(Failure) as caught:
        read(text, ONE)
    assert (caught.value.http, caught.value.code) == (412, Code.JSON_INVALID)


def test_nesting_is_limited() -> None:
    """By the limit that the operator has set."""
    with pytest.raises(Failure) as caught:
        read_predict(b'{"instances":[[[1]]]}', ONE, Limits(json_depth=3))
    assert caught.value.text == "JSON nesting depth exceeds the allowed limit - Expected: at most 3; Actual: 4"


@pytest.mark.parametrize(
    ("text", "specs", "expected"),
    [
        ('{"instances":[1,2.5]}', ONE, {"b": ((2,), [1.0, 2.5])}),
        ('{"instances":[[1,2],[3,4]]}', ONE, {"b": ((2, 2), [[1.0, 2.0], [3.0, 4.0]])}),
        ('{"instances":[[]]}', ONE, {"b": ((1, 0), [[]])}),
        ('{"instances":[NaN,Infinity]}', {"b": spec(precision=Precision.I64)}, None),
        ('{"instances":[{"b":1},{"b":2}]}', ONE, {"b": ((2,), [1.0, 2.0])}),
        ('{"instances":[{"b":[1,2]}]}', ONE, {"b": ((1, 2), [[1.0, 2.0]])}),
        ('{"instances":[{"b":[1],"c":2},{"c":4,"b":[3]}]}', TWO, {"b": ((2, 1), [[1.0], [3.0]]), "c": ((2,), [2, 4])}),
        ('{"instances":["a",{"b64":"QQ=="}]}', TEXT, {"s": ((2,), (b"a", b"A"))}),
        ('{"instances":[{"s":"a"},{"s":{"b64":"QQ=="}}]}', TEXT, {"s": ((2,), (b"a", b"A"))}),
        ('{"instances":[{"b64":"QQ=="},{"b64":"QUI"}]}', BYTES, {"image": ((2,), (b"A", b"AB"))}),
        ('{"instances":[{"image":{"b64":"QQ=="}}]}', BYTES, {"image": ((1,), (b"A",))}),
        ('{"instances":["picture"]}', BYTES, {"image": ((1,), (b"picture",))}),
        ('{"instances":[{"image":[{"b64":"QQ=="}]}]}', BYTES, {"image": ((1, 1), (b"A",))}),
        ('{"instances":[[{"b64":"QQ=="}]]}', BYTES, {"image": ((1, 1), (b"A",))}),
        ('{"instances":[true,false]}', TRUTH, {"t": ((2,), [True, False])}),
        ('{"instances":[{"t":[true]}]}', TRUTH, {"t": ((1, 1), [[True]])}),
        ('{"instances":[{"b":[1],"new":[7]}]}', ONE, {"b": ((1, 1), [[1.0]]), "new": ((1, 1), [[7.0]])}),
        ('{"instances":[{"b64":"QQ==","b":1}]}', ONE, None),
    ],
)
def test_rows(text: str, specs: Specs, expected: dict[str, Any] | None) -> None:
    """With names and without; the batch is the number of instances."""
    if expected is None:
        with pytest.raises(Failure) as caught:
            read(text, specs)
        assert caught.value.code is Code.INSTANCE_UNREADABLE
    else:
        request = read(text, specs)
        assert (request.order, listed(request)) == (Order.ROW, expected)


@pytest.mark.parametrize(
    ("text", "specs", "expected"),
    [
        ('{"inputs":1}', ONE, {"b": ((), 1.0)}),
        ('{"inputs":[1,2]}', ONE, {"b": ((2,), [1.0, 2.0])}),
        ('{"inputs":[]}', ONE, {"b": ((0,), [])}),
        ('{"inputs":{"b":1}}', ONE, {"b": ((), 1.0)}),
        ('{"inputs":{"b":[[1]],"c":[1,2,3]}}', TWO, {"b": ((1, 1), [[1.0]]), "c": ((3,), [1, 2, 3])}),
        ('{"inputs":{"c":9007199254740993}}', TWO, {"c": ((), 9007199254740993)}),
        ('{"inputs":[{"b64":"QQ=="}]}', BYTES, {"image": ((1,), (b"A",))}),
        ('{"inputs":{"image":[{"b64":"QQ=="}]}}', BYTES, {"image": ((1,), (b"A",))}),
        ('{"inputs":{"image":{"b64":"QQ=="}}}', BYTES, {"image": ((), (b"A",))}),
        ('{"inputs":{"s":["a","b"]}}', TEXT, {"s": ((2,), (b"a", b"b"))}),
        ('{"inputs":["a"]}', TEXT, {"s": ((1,), (b"a",))}),
        ('{"inputs":true}', TRUTH, {"t": ((), True)}),
        ('{"inputs":[[true]]}', TRUTH, {"t": ((1, 1), [[True]])}),
        ('{"inputs":{"new":[1]}}', ONE, {"new": ((1,), [1.0])}),
    ],
)
def test_columns(text: str, specs: Specs, expected: dict[str, Any]) -> None:
    """The only input without its name, or each with it; batches need not be equal."""
    request = read(text, specs)
    assert (request.order, listed(request)) == (Order.COLUMN, expected)


@pytest.mark.parametrize("extra", ['"signature_name":"x"', '"signature_name":[1]', '"":null', '"Inputs":{}'])
def test_other_members_are_ignored(extra: str) -> None:
    """Whatever they hold."""
    assert listed(read(f'{{{extra},"instances":[1]}}', ONE)) == {"b": ((1,), [1.0])}
    assert listed(read(f'{{"inputs":[1],{extra}}}', ONE)) == {"b": ((1,), [1.0])}


def test_of_members_that_come_twice_the_first_counts() -> None:
    """Of the whole body and of an instance."""
    assert listed(read('{"instances":[1],"instances":[2]}', ONE)) == {"b": ((1,), [1.0])}
    assert listed(read('{"instances":[{"b":1,"b":2}]}', ONE)) == {"b": ((1,), [1.0])}


FORMS = [
    '{"instances":%s}',
    '{"inputs":%s}',
    '{"inputs":{"b":%s}}',
    '{"signature_name":"serving_default","instances":[{"b":%s}]}',
    '{"instances":[{"b":%s},{"b":%s}]}',
]


@given(st.sampled_from(NUMERIC).flatmap(lambda each: st.tuples(st.just(each), arrays(each))), st.sampled_from(FORMS))
def test_every_form_gives_the_same_array(drawn: tuple[Precision, np.ndarray], form: str) -> None:
    """With short lists and with long ones."""
    precision, array = drawn
    text = dump(array, NonFinite.LITERAL).decode()
    specs = {"b": spec(precision=precision)}
    count = form.count("%s")
    expected = np.stack([array] * count) if "[{" in form else array
    for blanks in ("", " " * LONG):
        wide = text.replace("[", "[" + blanks, 1)
        value = read(form % ((wide,) * count), specs).values["b"]
        np.testing.assert_array_equal(np.asarray(value), expected, strict=True)


@given(raw | values.map(lambda value: write({"instances": value})) | values.map(lambda value: write({"inputs": value})))
def test_any_bytes_are_a_request_or_a_failure(body: bytes) -> None:
    """Nothing else is raised, for models with one input or several, of any kind; nor by the checks that follow."""
    for specs in (ONE, TWO, TEXT, BYTES, TRUTH, {}):
        try:
            request = read_predict(body, specs, LIMITS)
            inputs.accept(specs, request.values)
            inputs.decode(specs, request.values, LIMITS)
        except Failure:
            pass
        else:
            assert request.values.keys() == specs.keys()


def predictions(order: Order, *outputs: tuple[str, Any], non_finite: NonFinite = NonFinite.NULL) -> bytes:
    """The body of an answer with outputs of single precision."""
    arrays = [(name, np.asarray(values, np.float32)) for name, values in outputs]
    pieces = write_predictions(order, [(spec(name, array.shape), array) for name, array in arrays], non_finite)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("order", "outputs", "text"),
    [
        (Order.ROW, [("a", [[5, 10], [9, 55.5]])], b'{"predictions":[[5.0,10.0],[9.0,55.5]]}'),
        (Order.ROW, [("a", [1, 2])], b'{"predictions":[1.0,2.0]}'),
        (Order.ROW, [("a", [])], b'{"predictions":[]}'),
        (Order.COLUMN, [("a", [[5, 10]])], b'{"outputs":[[5.0,10.0]]}'),
        (Order.COLUMN, [("a", 3)], b'{"outputs":3.0}'),
        (
            Order.ROW,
            [("a", [[5], [9]]), ("b", [1, 2])],
            b'{"predictions":[{"a":[5.0],"b":1.0},{"a":[9.0],"b":2.0}]}',
        ),
        (Order.ROW, [("a", []), ("b", np.zeros((0, 3)))], b'{"predictions":[]}'),
        (Order.COLUMN, [("a", [[5], [9]]), ("b", 1)], b'{"outputs":{"a":[[5.0],[9.0]],"b":1.0}}'),
        (Order.COLUMN, [('"\n', [1]), ("é", [2])], '{"outputs":{"\\"\\n":[1.0],"é":[2.0]}}'.encode()),
    ],
)
def test_predictions(order: Order, outputs: list[tuple[str, Any]], text: bytes) -> None:
    """In the request's order; with one output its name is not written."""
    assert predictions(order, *outputs) == text


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ([("a", 1)], "a has none"),
        ([("a", [1]), ("b", 1)], "a has 1, b has none"),
        ([("a", [1]), ("b", [1, 2])], "a has 1, b has 2"),
    ],
)
def test_rows_need_as_many_of_each_output(outputs: list[tuple[str, Any]], found: str) -> None:
    """Columns do not."""
    with pytest.raises(Failure) as caught:
        predictions(Order.ROW, *outputs)
    assert (caught.value.http, caught.value.text) == (
        500,
        f"Response parsing to JSON error - Expected: outputs of as many rows each; Actual: {found}",
    )
    assert predictions(Order.COLUMN, *outputs).startswith(b'{"outputs":')


@pytest.mark.parametrize(
    ("non_finite", "value"), [(NonFinite.NULL, "null"), (NonFinite.LITERAL, "NaN"), (NonFinite.STRING, '"NaN"')]
)
def test_what_is_not_finite_in_predictions(non_finite: NonFinite, value: str) -> None:
    """As asked, in every form of the answer."""
    a, b = ("a", [[np.nan]]), ("b", [np.nan])
    assert predictions(Order.ROW, a, non_finite=non_finite).decode() == f'{{"predictions":[[{value}]]}}'
    assert (
        predictions(Order.ROW, a, b, non_finite=non_finite).decode()
        == f'{{"predictions":[{{"a":[{value}],"b":{value}}}]}}'
    )
    assert (
        predictions(Order.COLUMN, a, b, non_finite=non_finite).decode()
        == f'{{"outputs":{{"a":[[{value}]],"b":[{value}]}}}}'
    )
    with pytest.raises(Failure) as caught:
        predictions(Order.COLUMN, b, a, non_finite=NonFinite.ERROR)
    assert caught.value.detail.startswith("output name: b; position: [0]")


def test_strings_in_predictions() -> None:
    """Rows of text and base64 in rows and columns."""
    texts = np.array([b"a", b"\xff"], object)
    rows = np.array([[65, 0], [66, 67]], np.uint8)
    outputs = [(spec("x_bytes", (2,), Precision.STRING), texts), (spec("y_string", (2, 2), Precision.U8), rows)]
    tree = json.loads(b"".join(write_predictions(Order.ROW, outputs, NonFinite.NULL)))
    assert tree == {
        "predictions": [{"x_bytes": {"b64": "YQ=="}, "y_string": "A"}, {"x_bytes": {"b64": "/w=="}, "y_string": "BC"}]
    }
    tree = json.loads(b"".join(write_predictions(Order.COLUMN, outputs, NonFinite.NULL)))
    assert tree == {"outputs": {"x_bytes": [{"b64": "YQ=="}, {"b64": "/w=="}], "y_string": ["A", "BC"]}}


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("shape", [(SLICE_BYTES // 4 + 1, 1), (2, SLICE_BYTES // 2)])
@pytest.mark.parametrize("count", [1, 2])
def test_large_answers_come_in_pieces(order: Order, shape: tuple[int, int], count: int) -> None:
    """None is very large, few are small, and together they are the answer."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    outputs = [(spec(name, shape), array) for name in "ab"[:count]]
    pieces = write_predictions(order, outputs, NonFinite.NULL)
    rows = array.tolist()
    expected: Any = rows if count == 1 else {"a": rows, "b": rows}
    if order is Order.ROW and count == 2:
        expected = [{"a": row, "b": row} for row in rows]
    assert json.loads(b"".join(pieces)) == {"predictions" if order is Order.ROW else "outputs": expected}
    assert max(map(len, pieces)) < 10 * SLICE_BYTES
    assert 3 < len(pieces) < 400


@given(st.sampled_from(NUMERIC).flatmap(lambda each: st.tuples(st.just(each), arrays(each))), st.sampled_from(Order))
def test_answers_can_be_sent_back_as_requests(drawn: tuple[Precision, np.ndarray], order: Order) -> None:
    """What one model gives another one takes, in either order, with one tensor or with two."""
    precision, array = drawn
    specs = {name: spec(name, array.shape, precision) for name in "ab"}
    old, new = (b'{"predictions"', b'{"instances"') if order is Order.ROW else (b'{"outputs"', b'{"inputs"')
    for names in ("a", "ab"):
        outputs = [(specs[name], array) for name in names]
        body = b"".join(write_predictions(order, outputs, NonFinite.LITERAL)).replace(old, new, 1)
        request = read_predict(body, {name: specs[name] for name in names}, LIMITS)
        assert request.order is order
        for name in names:
            np.testing.assert_array_equal(np.asarray(request.values[name]), array, strict=True)


AVAILABLE = VersionStatus(State.AVAILABLE)
FAILED = VersionStatus(State.LOADING, ErrorCode.UNKNOWN)


def test_status() -> None:
    """Byte for byte what the reference prints: indented by one blank, with a line end."""
    assert write_status([(1, AVAILABLE), (2, FAILED)]).decode() == (
        """{
 "model_version_status": [
  {
   "version": "1",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": "OK"
   }
  },
  {
   "version": "2",
   "state": "LOADING",
   "status": {
    "error_code": "UNKNOWN",
    "error_message": "UNKNOWN"
   }
  }
 ]
}
"""
    )
    assert write_status([]) == b'{\n "model_version_status": []\n}\n'


@pytest.mark.parametrize("state", State)
def test_every_state_has_the_reference_s_name(state: State) -> None:
    """START, LOADING, AVAILABLE, UNLOADING, END."""
    version = json.loads(write_status([(2**63 - 1, VersionStatus(state))]))["model_version_status"][0]
    assert (version["version"], version["state"]) == (str(2**63 - 1), state.name)


def test_metadata() -> None:
    """The reference's keys in its order; a size that is not fixed is -1, a scalar has no dimensions."""
    flexible = TensorSpec("b", Precision.FP32, Shape([Dim.fixed(1), ANY, Dim(2, 4)]), Layout("N..."))
    scalar = spec("a", (), Precision.STRING)
    text = write_metadata("dummy", 3, [flexible], [scalar])
    tree = json.loads(text)
    assert text == (json.dumps(tree, indent=1) + "\n").encode()
    assert list(tree) == ["modelSpec", "metadata"]
    assert tree["modelSpec"] == {"name": "dummy", "signatureName": "", "version": "3"}
    assert list(tree["modelSpec"]) == ["name", "signatureName", "version"]
    definitions = tree["metadata"]["signature_def"]
    assert definitions["@type"] == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = definitions["signatureDef"]["serving_default"]
    assert list(signature) == ["inputs", "outputs", "methodName", "defaults"]
    assert (signature["methodName"], signature["defaults"]) == ("", {})
    assert signature["inputs"] == {
        "b": {
            "dtype": "DT_FLOAT",
            "tensorShape": {
                "dim": [{"size": "1", "name": ""}, {"size": "-1", "name": ""}, {"size": "-1", "name": ""}],
                "unknownRank": False,
            },
            "name": "b",
        }
    }
    assert signature["outputs"] == {
        "a": {"dtype": "DT_STRING", "tensorShape": {"dim": [], "unknownRank": False}, "name": "a"}
    }


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.FP16, "DT_HALF"),
        (Precision.FP32, "DT_FLOAT"),
        (Precision.FP64, "DT_DOUBLE"),
        (Precision.I8, "DT_INT8"),
        (Precision.I16, "DT_INT16"),
        (Precision.I32, "DT_INT32"),
        (Precision.I64, "DT_INT64"),
        (Precision.U8, "DT_UINT8"),
        (Precision.U16, "DT_UINT16"),
        (Precision.U32, "DT_UINT32"),
        (Precision.U64, "DT_UINT64"),
        (Precision.BOOL, "DT_BOOL"),
        (Precision.STRING, "DT_STRING"),
        (Precision.UNDEFINED, "DT_INVALID"),
    ],
)
def test_metadata_names_types_as_tensorflow_does(precision: Precision, dtype: str) -> None:
    """What the reference has no name for is invalid."""
    tree = json.loads(write_metadata("m", 1, [spec("x", (1,), precision)], []))
    assert tree["metadata"]["signature_def"]["signatureDef"]["serving_default"]["inputs"]["x"]["dtype"] == dtype


def test_status_of_everything() -> None:
    """Models by name, each as in its own status."""
    body = write_config_status({"zeta": [], "é": [(1, FAILED)], "alpha": [(1, AVAILABLE), (2, AVAILABLE)]})
    tree = json.loads(body)
    assert list(tree) == ["alpha", "zeta", "é"]
    assert tree["alpha"] == json.loads(write_status([(1, AVAILABLE), (2, AVAILABLE)]))
    assert tree["zeta"] == {"model_version_status": []}
    assert body.endswith(b"\n}\n")
    assert "é".encode() in body


def test_status_of_everything_with_reasons() -> None:
    """Of versions that failed, of models that cannot be used, of the file as a whole."""
    tree = json.loads(
        write_config_report(
            {"m": [(1, AVAILABLE), (2, FAILED)], "n": []}, {"m": {2: "broken"}}, {"n": "no folder"}, "line 3"
        )
    )
    assert tree["fault"] == "line 3"
    first, second = tree["models"]["m"]["model_version_status"]
    assert "reason" not in first
    assert (second["state"], second["reason"]) == ("LOADING", "broken")
    assert [tree["models"][name]["fault"] for name in ("m", "n")] == [None, "no folder"]


@given(st.text(st.characters()))
def test_errors_are_json(text: str) -> None:
    """Compact, whatever the text holds; half a surrogate pair, as file names may have it, is replaced."""
    body = write_error(text)
    assert json.loads(body) == {"error": text.encode(errors="replace").decode()}
    assert body.startswith(b'{"error":"')


@given(st.text(st.characters()))
def test_names_and_reasons_are_json(text: str) -> None:
    """Models may have any name, and reasons quote anything."""
    replaced = text.encode(errors="replace").decode()
    assert list(json.loads(write_config_status({text: []}))) == [replaced]
    tree = json.loads(write_config_report({"m": [(1, FAILED)]}, {"m": {1: text}}, {}, text))
    assert tree["fault"] == replaced
    assert tree["models"]["m"]["model_version_status"][0]["reason"] == replaced
