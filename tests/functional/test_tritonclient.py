"""The real client of KServe's protocol, ``tritonclient.http``, against a real server: what it sends is what it gets back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import pytest
import tritonclient.http as triton
from openvino import opset15 as op
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests import models
from tests.functional.layout import lay_out
from tests.functional.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

NUMBERS = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "boolean": np.bool_,
}


def same_again(shape: tuple[int, ...], kind: str) -> ov.Model:
    """x -> x, with nothing in between that might compute 64 bits with 32 of them."""
    return models.model([x := models.parameter("x", shape, kind)], x=x)


def arithmetic() -> ov.Model:
    """left, right f32 [?] -> difference and sum of them, and how many there are."""
    left, right = models.parameter("left", (-1,)), models.parameter("right", (-1,))
    return models.model(
        [left, right],
        sum=op.add(left, right),
        difference=op.subtract(left, right),
        count=op.shape_of(left, "i64"),
    )


def described() -> ov.Model:
    """An adder that says something about itself."""
    model = models.adder()
    model.set_rt_info("cat dog", ["model_info", "labels"])
    return model


def nothing() -> ov.Model:
    """x f32 [?] -> y, the rows of x that are beyond its end."""
    x = models.parameter("x", (-1, 3))
    return models.model([x], y=op.gather(x, op.constant(np.zeros(0, np.int64)), op.constant(np.int64(0))))


def scalar() -> ov.Model:
    """x f32 [] -> y = x + 1."""
    x = models.parameter("x", ())
    return models.model([x], y=op.add(x, op.constant(np.float32(1))))


BUILT = {
    **{f"pass_{kind}": same_again((-1, -1), kind) for kind in NUMBERS},
    "text": same_again((-1,), "string"),
    "texts": same_again((-1, -1), "string"),
    "scalar": scalar(),
    "arithmetic": arithmetic(),
    "nothing": nothing(),
    "described": described(),
    "wide": models.adder((1, 3, 224, 224)),
    "slow": models.slow(),
    "mödel 1": models.adder(),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of all of these, which may be managed by clients."""
    folder = tmp_path_factory.mktemp("triton")
    with Server(*lay_out(folder, BUILT), "--manage", log=folder / "server.log") as running:
        yield running
    assert "Unforeseen" not in running.said()


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[triton.InferenceServerClient]:
    """A client of it."""
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=4) as made:
        yield made


def feed(name: str, array: np.ndarray, *, is_binary: bool) -> triton.InferInput:
    """An input."""
    entry = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return entry.set_data_from_numpy(array, binary_data=is_binary)


def wish(*names: str, is_binary: bool) -> list[triton.InferRequestedOutput]:
    """Outputs that are asked for."""
    return [triton.InferRequestedOutput(name, binary_data=is_binary) for name in names]


def draw(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values of that type, the least and the greatest among them."""
    dtype = np.dtype(NUMBERS[kind])
    random = np.random.default_rng(5)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        array.flat[:2] = (limits.min, limits.max)[: array.size]
        return array
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    array = random.standard_normal(shape).astype(dtype)
    array.flat[:2] = (np.finfo(dtype).tiny, np.finfo(dtype).max)[: array.size]
    return array


def same(found: np.ndarray, array: np.ndarray) -> None:
    """Type, shape and every bit."""
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


PACKED = [(None, None), ("gzip", None), ("deflate", "gzip"), ("gzip", "deflate"), (None, "gzip"), (None, "deflate")]

on_every_way = pytest.mark.parametrize(
    ("binary_in", "binary_out"), [(True, True), (True, False), (False, True), (False, False)]
)


@pytest.mark.parametrize("kind", NUMBERS)
@on_every_way
def test_every_datatype(client: Any, kind: str, binary_in: bool, binary_out: bool) -> None:  # noqa: FBT001
    """Small and large, empty too, as binary data and as JSON, in both directions."""
    for shape in ((2, 3), (1, 1), (0, 4), (100, 300)):
        array = draw(kind, shape) if 0 not in shape else np.zeros(shape, NUMBERS[kind])
        result = client.infer(
            f"pass_{kind}", [feed("x", array, is_binary=binary_in)], outputs=wish("x", is_binary=binary_out)
        )
        same(result.as_numpy("x"), array)
        described_ = result.get_output("x")
        assert ("data" in described_) is not binary_out
        assert described_["datatype"] == np_to_triton_dtype(array.dtype)


@pytest.mark.parametrize(("request_coding", "response_coding"), PACKED)
@on_every_way
def test_compression(
    client: Any,
    request_coding: str | None,
    response_coding: str | None,
    binary_in: bool,  # noqa: FBT001
    binary_out: bool,  # noqa: FBT001
) -> None:
    """Of requests and of answers, with binary data and without."""
    array = np.tile(np.arange(300, dtype=np.float32), (10, 1))
    result = client.infer(
        "pass_f32",
        [feed("x", array, is_binary=binary_in)],
        outputs=wish("x", is_binary=binary_out),
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    same(result.as_numpy("x"), array)


def test_what_the_client_does_by_default(client: Any) -> None:
    """All binary, all outputs: no word about them means ``binary_data_output``."""
    left, right = np.array([5, 7, 9], np.float32), np.array([1, 2, 3], np.float32)
    result = client.infer(
        "arithmetic", [feed("right", right, is_binary=True), feed("left", left, is_binary=True)], request_id="my 1"
    )
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("arithmetic", "1", "my 1")
    assert [each["name"] for each in response["outputs"]] == ["count", "difference", "sum"]
    assert all("binary_data_size" in each["parameters"] for each in response["outputs"])
    same(result.as_numpy("sum"), left + right)
    same(result.as_numpy("difference"), left - right)
    same(result.as_numpy("count"), np.array([3]))
    assert result.as_numpy("other") is None


def test_some_outputs(client: Any) -> None:
    """Only those that are asked for come, each in the form that it is asked for in."""
    entries = [feed(name, np.array([1, 2], np.float32), is_binary=True) for name in ("left", "right")]
    outputs = [*wish("sum", is_binary=True), *wish("count", is_binary=False)]
    result = client.infer("arithmetic", entries, outputs=outputs)
    assert [each["name"] for each in result.get_response()["outputs"]] == ["count", "sum"]
    same(result.as_numpy("sum"), np.array([2, 4], np.float32))
    assert result.get_output("count")["data"] == [2]
    assert result.as_numpy("difference") is None


def test_inputs_of_both_kinds_in_one_request(client: Any) -> None:
    """One in JSON, one binary: refused, as by the reference."""
    left, right = np.array([5, 7], np.float32), np.array([1, 2], np.float32)
    for binary_left in (True, False):
        entries = [feed("left", left, is_binary=binary_left), feed("right", right, is_binary=not binary_left)]
        with pytest.raises(InferenceServerException, match=r"^\[400\] Passing buffers both in ModelInferRequest"):
            client.infer("arithmetic", entries)


@on_every_way
def test_a_scalar(client: Any, binary_in: bool, binary_out: bool) -> None:  # noqa: FBT001
    """It has no dimensions."""
    entry = feed("x", np.array(41, np.float32), is_binary=binary_in)
    found = client.infer("scalar", [entry], outputs=wish("y", is_binary=binary_out)).as_numpy("y")
    same(found, np.array(42, np.float32))


@pytest.mark.parametrize("binary_out", [True, False])
def test_an_empty_output(client: Any, binary_out: bool) -> None:  # noqa: FBT001
    """It has a shape and nothing in it."""
    entry = feed("x", np.ones((2, 3), np.float32), is_binary=True)
    found = client.infer("nothing", [entry], outputs=wish("y", is_binary=binary_out)).as_numpy("y")
    assert found.shape == (0, 3)


@on_every_way
@pytest.mark.parametrize(("model", "shape"), [("text", (6,)), ("texts", (3, 2)), ("text", (0,)), ("texts", (2, 0))])
def test_strings(client: Any, model: str, shape: tuple[int, ...], binary_in: bool, binary_out: bool) -> None:  # noqa: FBT001
    """Any characters, empty ones, none at all, in any shape."""
    strings = np.array(["é".encode(), b"", b"two words", b'"\\\n', "日本".encode(), b"x" * 1000], object)
    array = strings[: int(np.prod(shape))].reshape(shape)
    result = client.infer(
        model, [feed("x", array, is_binary=binary_in)], outputs=wish("x", is_binary=binary_out)
    ).as_numpy("x")
    assert result.shape == shape
    assert [each if isinstance(each, bytes) else each.encode() for each in result.ravel()] == array.ravel().tolist()


def test_strings_that_are_no_text(client: Any) -> None:
    """Binary data keeps every byte."""
    array = np.array([b"\xff\0\1", bytes(range(256))], object)
    same(client.infer("text", [feed("x", array, is_binary=True)]).as_numpy("x"), array)


def test_nan_and_infinities(client: Any) -> None:
    """Exact as binary data; in JSON, which has no word for them, they come back as nothing."""
    array = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    for binary_in in (True, False):
        result = client.infer("pass_f32", [feed("x", array, is_binary=binary_in)])
        assert result.as_numpy("x").view(np.uint32).tolist()[0][1:] == array.view(np.uint32).tolist()[0][1:]
        assert np.isnan(result.as_numpy("x")[0, 0])
        plain = client.infer("pass_f32", [feed("x", array, is_binary=binary_in)], outputs=wish("x", is_binary=False))
        assert plain.get_output("x")["data"] == [None, None, None, 0.0]


def test_a_picture_sized_tensor(client: Any) -> None:
    """150,528 floats there and back, one request after the other on the same connections."""
    for seed in range(5):
        array = np.random.default_rng(seed).random((1, 3, 224, 224), np.float32)
        same(client.infer("wide", [feed("b", array, is_binary=True)]).as_numpy("a"), array + 1)


def test_parameters_are_taken(client: Any) -> None:
    """Whatever a client tells about its request does not disturb a model that has no use for it."""
    entry = feed("b", np.zeros((1, 10), np.float32), is_binary=True)
    result = client.infer(
        "described",
        [entry],
        model_version="1",
        sequence_id=7,
        sequence_start=True,
        priority=3,
        timeout=2_000_000,
        headers={"X-Trace": "1"},
        query_params={"a": "b c"},
        parameters={"flag": True, "share": 0.5, "note": "x"},
    )
    assert result.as_numpy("a").tolist() == [[1.0] * 10]


def test_async_infer(client: Any) -> None:
    """Requests at once from one client; each gets its own answer."""
    waiting = []
    for value in range(40):
        entry = feed("x", np.full((1, 5), value, np.float32), is_binary=value % 2 == 0)
        waiting.append(client.async_infer("pass_f32", [entry], request_id=str(value)))
    for value, each in enumerate(waiting):
        result = each.get_result(timeout=60)
        assert result.get_response()["id"] == str(value)
        same(result.as_numpy("x"), np.full((1, 5), value, np.float32))


def test_the_server(client: Any) -> None:
    """It lives, it is ready, and tells what it is and can."""
    assert client.is_server_live()
    assert client.is_server_ready()
    found = client.get_server_metadata()
    assert (found["name"], bool(found["version"])) == ("tornado_ovms", True)
    assert {"binary_tensor_data", "model_repository"} <= set(found["extensions"])


@pytest.mark.parametrize("version", ["", "1"])
def test_a_model(client: Any, version: str) -> None:
    """Whether it is ready, and what it takes and gives."""
    assert client.is_model_ready("arithmetic", version)
    open_ = {"datatype": "FP32", "shape": [-1]}
    assert client.get_model_metadata("arithmetic", version) == {
        "name": "arithmetic",
        "versions": ["1"],
        "platform": "OpenVINO",
        "inputs": [{"name": "left", **open_}, {"name": "right", **open_}],
        "outputs": [
            {"name": "count", "datatype": "INT64", "shape": [1]},
            {"name": "difference", **open_},
            {"name": "sum", **open_},
        ],
    }
    assert client.get_model_metadata("described", version)["rt_info"] == {"model_info": {"labels": "cat dog"}}


@pytest.mark.parametrize("kind", NUMBERS)
def test_metadata_name_the_datatype_that_is_sent(client: Any, kind: str) -> None:
    """A client may go by it."""
    [entry] = client.get_model_metadata(f"pass_{kind}")["inputs"]
    assert entry == {"name": "x", "datatype": np_to_triton_dtype(np.dtype(NUMBERS[kind])), "shape": [-1, -1]}


def test_names_that_have_to_be_quoted(client: Any) -> None:
    """Blanks, and letters beyond ASCII."""
    name = "mödel 1"
    assert client.is_model_ready(name)
    assert client.get_model_metadata(name)["name"] == name
    entry = feed("b", np.zeros((1, 10), np.float32), is_binary=True)
    assert client.infer(name, [entry]).get_response()["model_name"] == name


@pytest.mark.parametrize(("model", "version"), [("other", ""), ("arithmetic", "7"), ("other", "1")])
def test_a_model_that_is_not_there(client: Any, model: str, version: str) -> None:
    """Not ready, and no metadata."""
    assert not client.is_model_ready(model, version)
    expected = "Model with requested " + ("name" if model == "other" else "version") + " is not found"
    for ask in (
        lambda: client.get_model_metadata(model, version),
        lambda: client.infer(model, [feed("x", np.zeros(1, np.float32), is_binary=True)], model_version=version),
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert (caught.value.status(), caught.value.message()) == ("404", expected)


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize(
    ("model", "entries", "message"),
    [
        (
            "described",
            {"b": np.zeros((1, 10), np.int32)},
            "Invalid input precision - Expected: FP32; Actual: INT32; input name: b",
        ),
        (
            "described",
            {"b": np.zeros((1, 9), np.float32)},
            "Invalid input shape - Expected: (1,10); Actual: (1,9); input name: b",
        ),
        (
            "described",
            {"b": np.zeros((2, 10), np.float32)},
            "Invalid input batch size - Expected: 1; Actual: 2; input name: b",
        ),
        (
            "described",
            {"b": np.zeros(10, np.float32)},
            "Invalid number of shape dimensions - Expected: (1,10); Actual: (10); input name: b",
        ),
        ("described", {"c": np.zeros((1, 10), np.float32)}, "Missing input with specific name - Required input: b"),
        ("arithmetic", {"left": np.zeros(1, np.float32)}, "Invalid number of inputs - Expected: 2; Actual: 1"),
        (
            "described",
            {"b": np.array([b"x"], object)},
            "Functionality not implemented - Expected: numbers; Actual: strings or base64; input name: b",
        ),
    ],
)
def test_errors(client: Any, model: str, entries: dict[str, np.ndarray], message: str, is_binary: bool) -> None:  # noqa: FBT001
    """The client raises with the server's sentence; so it does for packed requests."""
    for coding in (None, "gzip"):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(
                model,
                [feed(name, array, is_binary=is_binary) for name, array in entries.items()],
                request_compression_algorithm=coding,
            )
        assert caught.value.message() == message


def test_an_error_of_the_model(client: Any) -> None:
    """What the model itself refuses."""
    entries = [
        feed("left", np.zeros(2, np.float32), is_binary=True),
        feed("right", np.zeros(3, np.float32), is_binary=True),
    ]
    with pytest.raises(InferenceServerException, match="Internal inference error") as caught:
        client.infer("arithmetic", entries)
    assert caught.value.status() == "500"


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("get_model_config", ["arithmetic"]),
        ("get_inference_statistics", ["arithmetic", "1"]),
        ("get_trace_settings", []),
        ("get_log_settings", []),
        ("get_system_shared_memory_status", []),
        ("get_cuda_shared_memory_status", []),
    ],
)
def test_extensions_that_are_not_here(client: Any, call: str, arguments: list[str]) -> None:
    """The client says so, as with the reference."""
    with pytest.raises(InferenceServerException) as caught:
        getattr(client, call)(*arguments)
    assert (caught.value.status(), caught.value.message()) == ("400", "Invalid request URL")


def test_the_repository_is_managed(client: Any) -> None:
    """A model leaves at a client's word, and comes back at another; what it does not know it refuses."""
    entry = feed("x", np.array(1, np.float32), is_binary=True)

    def state() -> tuple[str, str]:
        [found] = [each for each in client.get_model_repository_index() if each["name"] == "scalar"]
        return found["version"], found["state"]

    assert {each["name"] for each in client.get_model_repository_index()} == set(BUILT)
    assert state() == ("1", "READY")
    client.unload_model("scalar")
    assert state() == ("1", "UNAVAILABLE")
    assert not client.is_model_ready("scalar")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("scalar", [entry])
    assert (caught.value.status(), caught.value.message()) == ("404", "Model with requested version is not found")
    client.load_model("scalar")
    assert (state(), client.is_model_ready("scalar")) == (("1", "READY"), True)
    assert client.infer("scalar", [entry]).as_numpy("y") == 2
    for ask in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException) as caught:
            ask("other")
        assert (caught.value.status(), caught.value.message()) == ("404", "Model with requested name is not found")
    with pytest.raises(InferenceServerException, match="models are configured here"):
        client.load_model("scalar", config="{}")
    with pytest.raises(InferenceServerException, match="models are configured here"):
        client.load_model("scalar", config="{}", files={"file:1/model.onnx": b"x"})
    client.unload_model("scalar", unload_dependents=True)
    client.load_model("scalar")


def test_the_repository_is_managed_by_none_else(server: Server) -> None:
    """Without ``--manage`` there is no such place, as in the reference."""
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        for ask in (
            client.get_model_repository_index,
            lambda: client.load_model("dummy"),
            lambda: client.unload_model("dummy"),
        ):
            with pytest.raises(InferenceServerException) as caught:
                ask()
            assert (caught.value.status(), caught.value.message()) == ("400", "Invalid request URL")
        assert client.is_model_ready("dummy")


# ---------------------------------------------------------------------- the client for asyncio


def play(served: Server, script: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a script with a client of its own."""

    async def main() -> None:
        async with aio.InferenceServerClient(f"127.0.0.1:{served.port}", conn_limit=8) as client:
            await script(client)

    asyncio.run(main())


def test_asyncio_client(served: Server) -> None:
    """Health, metadata, the repository, errors."""

    async def script(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("text")
        assert not await client.is_model_ready("other")
        assert (await client.get_server_metadata())["name"] == "tornado_ovms"
        assert (await client.get_model_metadata("text"))["inputs"] == [
            {"name": "x", "datatype": "BYTES", "shape": [-1]}
        ]
        assert len(await client.get_model_repository_index()) == len(BUILT)
        await client.unload_model("nothing")
        assert not await client.is_model_ready("nothing")
        await client.load_model("nothing")
        assert await client.is_model_ready("nothing")
        with pytest.raises(InferenceServerException) as caught:
            await client.infer("other", [feed("x", np.zeros(1, np.float32), is_binary=True)])
        assert caught.value.message() == "Model with requested name is not found"

    play(served, script)


@pytest.mark.parametrize(("request_coding", "response_coding"), PACKED)
@on_every_way
def test_asyncio_inference(
    served: Server,
    request_coding: str | None,
    response_coding: str | None,
    binary_in: bool,  # noqa: FBT001
    binary_out: bool,  # noqa: FBT001
) -> None:
    """Numbers and strings, many requests at once."""

    async def script(client: Any) -> None:
        async def ask(value: int) -> None:
            array = np.full((3, 200), value, np.int64)
            result = await client.infer(
                "pass_i64",
                [feed("x", array, is_binary=binary_in)],
                outputs=wish("x", is_binary=binary_out),
                request_id=str(value),
                request_compression_algorithm=request_coding,
                response_compression_algorithm=response_coding,
            )
            assert result.get_response()["id"] == str(value)
            same(result.as_numpy("x"), array)

        await asyncio.gather(*(ask(value) for value in range(20)))

    play(served, script)


def test_asyncio_clients_that_go_away(served: Server) -> None:
    """The server goes on, and is ready for others."""

    async def script(client: Any) -> None:
        entry = feed("x", np.ones((1, 1), np.float32), is_binary=True)
        tasks = [asyncio.ensure_future(client.infer("slow", [entry])) for _ in range(8)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (await client.infer("slow", [entry])).as_numpy("y").shape == (1, 1)

    play(served, script)
