"""The API without HTTP: what is answered, at once or later, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests.fakes import FakeExecutable, InlineExecutor, spec
from tornado_ovms.core.lifecycle import Blueprint, Event, Key
from tornado_ovms.core.settings import Limits, MetricsSettings, ModelSettings, NonFinite, ReadyWhen
from tornado_ovms.core.status import TABLE, Code, Failure
from tornado_ovms.core.tensors import Precision
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.controlplane import ControlPlane
from tornado_ovms.serving.dataplane import ON_LOOP_BYTES, DataPlane
from tornado_ovms.serving.manager import Outcome
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.reply import JSON, TEXT, Reply, refusal
from tornado_ovms.serving.servable import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future

LOADED = (Event.LOAD, Event.LOADED)
FAILED = (Event.LOAD, Event.FAILED)
RETIRED = (*LOADED, Event.RETIRE, Event.UNLOADED)

LIMITS = Limits()

BODY = b'{"instances": [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]}'
ANSWER = {"predictions": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]]}


class CountingExecutor(InlineExecutor):
    """Counts what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See ``Executor``."""
        self.count += 1
        return super().submit(function, *args, **kwargs)


class FakeManager:
    """Has an outcome for every reload."""

    def __init__(self) -> None:
        self.is_ready = True
        self.is_draining = False
        self.names: list[str] = []
        self.names: list[str] = []
        self.failure: Failure | None = None
        self.outcome = Outcome(changed=False)

    async def reload(self) -> Outcome:
        """See ``Manager``."""
        return self.outcome


class Stage:
    """A data plane with one model, m, whose version 1 serves."""

    def __init__(
        self,
        non_finite: NonFinite = NonFinite.NULL,
        limits: Limits = LIMITS,
        ready_when: ReadyWhen = ReadyWhen.STARTED,
    ) -> None:
        self.metrics = Metrics()
        self.registry = Registry(self.metrics)
        self.manager = FakeManager()
        self.pool = CountingExecutor()
        self.data = DataPlane(self.registry, self.pool, limits, non_finite)
        self.control = ControlPlane(
            self.registry,
            self.manager,  # type: ignore[arg-type]
            self.metrics,
            self.pool,
            limits,
            ready_when,
        )
        self.executable = self.add(1, *LOADED)

    def add(self, number: int, *events: Event, name: str = "m") -> FakeExecutable:
        """A version that has lived through events."""
        blueprint = Blueprint(Key(name, number), ModelSettings(name, f"/{name}"), f"/{name}/{number}", ())
        version = self.registry.add_version(blueprint)
        executable = FakeExecutable(number)
        executable.is_quick = True
        for event in events:
            version.instance = Instance(version.blueprint, executable) if event is Event.LOADED else version.instance
            self.registry.advance(Key(name, number), event)
            if event is Event.UNLOADED:
                version.instance = None
        return executable

    @property
    def leases(self) -> int:
        """How many leases there are on version 1."""
        instance = self.registry.models["m"].versions[1].instance
        assert instance is not None
        return instance.leases

    async def predict(self, body: bytes, version: int | None = None, name: str = "m") -> Reply:
        """The answer, whether it comes at once or later."""
        reply = self.data.predict(name, version, body)
        return reply if isinstance(reply, Reply) else await reply


def play(script: Callable[[Stage], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a script on a stage of its own."""

    async def main() -> None:
        await script(Stage(**settings))

    asyncio.run(main())


def content(reply: Reply) -> Any:
    """The JSON of an answer."""
    assert reply.content_type == JSON
    return json.loads(b"".join(reply.body))


def _words(failure: Failure) -> str:
    """What it says, without the place."""
    return failure.text.partition(" Offset: ")[0]


async def refused(stage: Stage, body: bytes, version: int | None = None, name: str = "m") -> Failure:
    """Why a prediction is refused; no lease is left."""
    with pytest.raises(Failure) as caught:
        await stage.predict(body, version, name)
    assert stage.leases == 0
    return caught.value


def test_a_small_request_to_a_quick_model_is_answered_at_once() -> None:
    """No task, no thread, no lease."""

    async def script(stage: Stage) -> None:
        reply = stage.data.predict("m", None, BODY)
        assert isinstance(reply, Reply)
        assert (reply.status, content(reply)) == (200, ANSWER)
        assert (stage.pool.count, stage.leases) == (0, 0)

    play(script)


def test_an_answer_has_the_order_of_its_request() -> None:
    """Rows for rows, columns for columns."""

    async def script(stage: Stage) -> None:
        columns = await stage.predict(b'{"inputs": {"b": [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]}}')
        assert content(columns) == {"outputs": ANSWER["predictions"]}

    play(script)


def test_a_slow_model_is_leased_until_it_has_answered() -> None:
    """From the call on, not only once it is awaited."""

    async def script(stage: Stage) -> None:
        stage.executable.is_quick = False
        stage.executable.gate = asyncio.Event()
        reply = stage.data.predict("m", 1, BODY)
        assert not isinstance(reply, Reply)
        assert stage.leases
        task = asyncio.ensure_future(reply)
        await asyncio.sleep(0)
        assert not task.done()
        stage.executable.gate.set()
        assert content(await task) == ANSWER
        assert (stage.pool.count, stage.leases) == (0, 0)

    play(script)


def test_a_client_that_goes_away_leaves_no_lease() -> None:
    """Its request is cancelled wherever it waits."""

    async def script(stage: Stage) -> None:
        stage.executable.gate = asyncio.Event()
        for body in (BODY, BODY + b" " * ON_LOOP_BYTES):
            stage.executable.is_quick = False
            reply = stage.data.predict("m", None, body)
            assert not isinstance(reply, Reply)
            task = asyncio.ensure_future(reply)
            for _ in range(5):
                await asyncio.sleep(0)
            assert stage.leases
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert stage.leases == 0

    play(script)


def test_an_inference_that_fails_leaves_no_lease() -> None:
    """Its failure is the answer."""

    async def script(stage: Stage) -> None:
        async def fail(_arrays: object) -> list[np.ndarray]:
            raise Failure(Code.INFERENCE, "the model says no")

        stage.executable.is_quick = False
        stage.executable.infer = fail  # type: ignore[method-assign]
        assert (await refused(stage, BODY)).code is Code.INFERENCE

    play(script)


@pytest.mark.parametrize(("more", "threads"), [(0, 0), (1, 1)])
def test_large_bodies_are_read_in_a_thread(more: int, threads: int) -> None:
    """Up to the limit the loop does it; a quick model makes no difference to a large one."""
    body = BODY + b" " * (ON_LOOP_BYTES - len(BODY) + more)

    async def script(stage: Stage) -> None:
        assert content(await stage.predict(body)) == ANSWER
        assert (stage.pool.count, stage.leases) == (threads, 0)

    play(script)


def test_large_answers_are_written_in_a_thread() -> None:
    """Even if the request was small; they are the same."""

    async def script(stage: Stage) -> None:
        count = ON_LOOP_BYTES // 4 + 1
        stage.executable.inputs, stage.executable.outputs = {"b": spec("b", (1, count))}, [spec("a", (1, count))]
        stage.executable.is_quick = False
        body = json.dumps({"instances": [[0] * count]}, separators=(",", ":")).encode()
        assert len(body) <= ON_LOOP_BYTES
        assert content(await stage.predict(body)) == {"predictions": [[1.0] * count]}
        assert stage.pool.count == 1

    play(script)


def test_pictures_are_decoded_in_a_thread() -> None:
    """Even small ones, and for a quick model."""
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    png = cv2.imencode(".png", picture)[1].tobytes()

    async def script(stage: Stage) -> None:
        stage.executable.inputs = {"b": spec("b", (1, 2, 2, 3))}
        stage.executable.outputs = [spec("a", (1, 2, 2, 3))]
        body = json.dumps({"instances": [{"b64": base64.b64encode(png).decode()}]}).encode()
        answer = content(await stage.predict(body))
        np.testing.assert_array_equal(answer["predictions"], picture[None] + 1.0)
        assert (stage.pool.count, stage.leases) == (1, 0)

    play(script)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.JSON_INVALID),
        (b"{", Code.JSON_INVALID),
        (b"[" * 200, Code.JSON_TOO_DEEP),
        (b"[]", Code.BODY_NOT_AN_OBJECT),
        (b"{}", Code.UNKNOWN_ORDER),
        (b'{"instances": []}', Code.NO_INSTANCES),
        (b'{"inputs": {"x": [[0]], "b": [[0]]}}', Code.NUMBER_OF_INPUTS),
        (b'{"inputs": {"x": [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]}}', Code.MISSING_INPUT),
        (b'{"instances": [0]}', Code.NUMBER_OF_DIMENSIONS),
        (b'{"instances": [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]}', Code.BATCH_SIZE),
        (b'{"instances": [[0]]}', Code.SHAPE),
        (b'{"instances": [["x"]]}', Code.INSTANCE_UNREADABLE),
        (b'{"instances": [{"b64": "eA=="}]}', Code.ENCODED_VALUE_NOT_IMPLEMENTED),
    ],
)
def test_bodies_that_are_refused(body: bytes, code: Code) -> None:
    """Alike on the loop and in a thread, for quick models and slow ones; nothing is inferred."""

    async def script(stage: Stage) -> None:
        for is_quick in (True, False):
            stage.executable.is_quick = is_quick
            stage.executable.infer = stage.executable.infer_now = None  # type: ignore[method-assign,assignment]
            small, large = await refused(stage, body), await refused(stage, body + b" " * ON_LOOP_BYTES)
            assert small.code is code
            assert (large.code, _words(large)) == (small.code, _words(small))

    play(script)


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("other", None, Code.MODEL_MISSING),
        ("m", 9, Code.VERSION_MISSING),
        ("m", 2**70, Code.VERSION_MISSING),
        ("m", 2, Code.VERSION_NOT_LOADED_YET),
        ("m", 3, Code.VERSION_RETIRED),
        ("gone", None, Code.VERSION_MISSING),
    ],
)
def test_what_does_not_serve(name: str, version: int | None, code: Code) -> None:
    """A version that failed is not waited for; predictions and metadata are refused alike, and before the body is read."""

    async def script(stage: Stage) -> None:
        stage.add(2, *FAILED)
        stage.add(3, *RETIRED)
        stage.add(1, *RETIRED, name="gone")
        for body in (BODY, b"{", b"{" + b" " * ON_LOOP_BYTES):
            assert (await refused(stage, body, version, name)).code is code
        with pytest.raises(Failure) as caught:
            stage.control.metadata(name, version)
        assert caught.value.code is code

    play(script)


def test_a_version_that_is_being_loaded_is_waited_for() -> None:
    """By predictions; metadata are refused at once."""

    async def script(stage: Stage) -> None:
        stage.add(2, Event.LOAD)
        with pytest.raises(Failure) as caught:
            stage.control.metadata("m", 2)
        assert caught.value.code is Code.VERSION_NOT_LOADED_YET
        task = asyncio.ensure_future(stage.predict(BODY, version=2))
        await asyncio.sleep(0)
        assert not task.done()
        version = stage.registry.models["m"].versions[2]
        version.instance = Instance(version.blueprint, FakeExecutable(2))
        stage.registry.advance(Key("m", 2), Event.LOADED)
        assert content(await task)["predictions"][0][0] == 2.0

    play(script)


def test_without_a_version_the_highest_that_serves_answers() -> None:
    """A named one answers for itself."""

    async def script(stage: Stage) -> None:
        stage.add(2, *LOADED)
        stage.add(3, *FAILED)
        answers = [content(await stage.predict(BODY, version=version)) for version in (None, 1, 2)]
        assert [answer["predictions"][0][0] for answer in answers] == [2.0, 1.0, 2.0]

    play(script)


@pytest.mark.parametrize(
    ("non_finite", "written"), [(NonFinite.NULL, b"null"), (NonFinite.LITERAL, b"NaN"), (NonFinite.STRING, b'"NaN"')]
)
def test_nan_is_written_as_asked_for(non_finite: NonFinite, written: bytes) -> None:
    """It is accepted in requests, too."""

    async def script(stage: Stage) -> None:
        reply = await stage.predict(BODY.replace(b"[[0,", b"[[NaN,"))
        assert b"".join(reply.body).startswith(b'{"predictions":[[' + written + b",2.0,")

    play(script, non_finite=non_finite)


def test_nan_may_be_an_error() -> None:
    """The failure names the output and the position."""

    async def script(stage: Stage) -> None:
        failure = await refused(stage, BODY.replace(b"[[0,", b"[[NaN,"))
        assert failure.code is Code.NON_FINITE
        assert "output name: a; position: [0,0]" in failure.text

    play(script, non_finite=NonFinite.ERROR)


def status(version: int, state: str, error: str = "OK") -> dict[str, object]:
    """The status of a version as clients see it."""
    return {"version": str(version), "state": state, "status": {"error_code": error, "error_message": error}}


def test_the_status_of_versions() -> None:
    """All in ascending order, or the one that is asked for, whatever became of it."""

    async def script(stage: Stage) -> None:
        stage.add(10, *RETIRED)
        stage.add(2, *FAILED)
        stage.registry.add_model("empty")
        every = [status(1, "AVAILABLE"), status(2, "LOADING", "UNKNOWN"), status(10, "END")]
        assert content(stage.control.status("m", None)) == {"model_version_status": every}
        for number, each in zip((1, 2, 10), every, strict=True):
            assert content(stage.control.status("m", number)) == {"model_version_status": [each]}
        assert content(stage.control.status("empty", None)) == {"model_version_status": []}
        for name, version, code in (("x", None, Code.MODEL_MISSING), ("m", 9, Code.VERSION_MISSING)):
            with pytest.raises(Failure) as caught:
                stage.control.status(name, version)
            assert caught.value.code is code

    play(script)


def test_metadata() -> None:
    """Of the version that serves: names, types, sizes."""

    async def script(stage: Stage) -> None:
        stage.executable.outputs = [spec("a", (1, 10), Precision.I64)]
        found = content(stage.control.metadata("m", None))
        assert found["modelSpec"] == {"name": "m", "signatureName": "", "version": "1"}
        signature = found["metadata"]["signature_def"]["signatureDef"]["serving_default"]
        assert {name: info["dtype"] for name, info in signature["inputs"].items()} == {"b": "DT_FLOAT"}
        assert {name: info["dtype"] for name, info in signature["outputs"].items()} == {"a": "DT_INT64"}
        assert [dim["size"] for dim in signature["inputs"]["b"]["tensorShape"]["dim"]] == ["1", "10"]

    play(script)


def test_the_status_of_everything() -> None:
    """Sorted by name; with reasons only if they are asked for."""

    async def script(stage: Stage) -> None:
        stage.add(2, *FAILED)
        stage.add(1, *LOADED, name="a")
        stage.registry.models["m"].versions[2].failure = Failure(Code.COMPILE, "no such device")
        stage.registry.models["a"].failure = Failure(Code.PATH_INVALID)
        stage.manager.failure = Failure(Code.JSON_INVALID, "line 3")
        plain = content(stage.control.config_status())
        assert list(plain) == ["a", "m"]
        assert plain["m"] == {"model_version_status": [status(1, "AVAILABLE"), status(2, "LOADING", "UNKNOWN")]}
        verbose = content(stage.control.config_status(verbose=True))
        assert verbose["fault"] == "The file is not valid json - line 3"
        assert verbose["models"]["a"]["fault"] == TABLE[Code.PATH_INVALID].text
        assert [each.get("reason") for each in verbose["models"]["m"]["model_version_status"]] == [
            None,
            "Cannot compile model into target device - no such device",
        ]

    play(script)


def test_nothing_was_ever_known() -> None:
    """That is an empty object."""

    async def script(stage: Stage) -> None:
        stage.registry.models.clear()
        assert content(stage.control.config_status()) == {}

    play(script)


@pytest.mark.parametrize(("changed", "http"), [(True, 201), (False, 200)])
def test_a_reload_that_goes_well(changed: bool, http: int) -> None:  # noqa: FBT001
    """It answers with the status of everything, and by its own status whether anything changed."""

    async def script(stage: Stage) -> None:
        stage.manager.outcome = Outcome(changed=changed)
        reply = await stage.control.reload()
        assert (reply.status, content(reply)) == (http, content(stage.control.config_status()))

    play(script)


@pytest.mark.parametrize(
    ("stage_code", "code", "http"),
    [
        (Code.CONFIG_RELOAD, Code.JSON_INVALID, 412),
        (Code.CONFIG_RELOAD, Code.MODEL_CONFIG_INVALID, 500),
        (Code.VERSIONS_RELOAD, Code.PATH_INVALID, 400),
        (Code.VERSIONS_RELOAD, Code.RESHAPE, 412),
        (Code.VERSIONS_RELOAD, Code.COMPILE, 412),
        (Code.VERSIONS_RELOAD, Code.MODEL_FILES_MISSING, 500),
    ],
)
def test_a_reload_that_fails(stage_code: Code, code: Code, http: int) -> None:
    """The sentence is the stage's, the HTTP status that of the fault, and its text follows; changes do not matter."""

    async def script(stage: Stage) -> None:
        for changed in (True, False):
            stage.manager.outcome = Outcome(changed, stage_code, Failure(code, "why"))
            reply = await stage.control.reload()
            assert reply.status == http
            assert content(reply) == {"error": f"{TABLE[stage_code].text} - {TABLE[code].text} - why"}

    play(script)


def test_a_reload_without_a_file() -> None:
    """Its sentence stands alone, as in the reference."""

    async def script(stage: Stage) -> None:
        failure = Failure(Code.CONFIG_UNREADABLE, "/c.json: No such file")
        stage.manager.outcome = Outcome(False, Code.CONFIG_FILE_MISSING, failure)
        reply = await stage.control.reload()
        assert (reply.status, content(reply)) == (500, {"error": "Config file not found or cannot open."})

    play(script)


def test_metrics_have_to_be_enabled() -> None:
    """Without them the path is unknown, and the answer is JSON under the name of text, as in the reference."""

    async def script(stage: Stage) -> None:
        reply = await stage.control.metrics(openmetrics=False)
        assert (reply.status, reply.content_type) == (400, "text/plain; charset=utf-8")
        assert reply.body == [b'{"error":"Invalid request URL"}']

    play(script)


def test_metrics_describe_every_version() -> None:
    """Those of a retired one are 0."""

    async def script(stage: Stage) -> None:
        stage.add(2, *RETIRED)
        stage.metrics.enable(MetricsSettings(True, ("ovms_streams", "ovms_infer_req_queue_size")))
        reply = await stage.control.metrics(openmetrics=False)
        assert (reply.status, reply.content_type) == (200, TEXT)
        lines = b"".join(reply.body).decode().splitlines()
        assert [line for line in lines if line.startswith("ovms_streams{")] == [
            'ovms_streams{name="m",version="1"} 1',
            'ovms_streams{name="m",version="2"} 0',
        ]

    play(script)


def test_readiness() -> None:
    """The process lives at once; it is ready when the first pass is over; a model when it serves."""

    async def script(stage: Stage) -> None:
        stage.manager.is_ready = False
        assert stage.control.live() == Reply(200, [])
        with pytest.raises(Failure) as caught:
            stage.control.ready()
        assert caught.value.http == 503
        stage.manager.is_ready = True
        assert stage.control.ready() == Reply(200, [])
        assert stage.control.model_ready("m", None) == stage.control.model_ready("m", 1) == Reply(200, [])

    play(script)


@pytest.mark.parametrize(
    ("ready_when", "names", "is_ready"),
    [
        (ReadyWhen.STARTED, [], True),
        (ReadyWhen.STARTED, ["broken", "unseen"], True),
        (ReadyWhen.ANY, [], False),
        (ReadyWhen.ANY, ["m"], True),
        (ReadyWhen.ANY, ["broken", "m", "unseen"], True),
        (ReadyWhen.ANY, ["broken", "retired", "loading", "unseen"], False),
        (ReadyWhen.ALL, [], True),
        (ReadyWhen.ALL, ["m"], True),
        (ReadyWhen.ALL, ["m", "half"], True),
        (ReadyWhen.ALL, ["m", "broken"], False),
        (ReadyWhen.ALL, ["m", "retired"], False),
        (ReadyWhen.ALL, ["m", "loading"], False),
        (ReadyWhen.ALL, ["m", "unseen"], False),
    ],
)
def test_what_ready_means(ready_when: ReadyWhen, names: list[str], is_ready: bool) -> None:  # noqa: FBT001
    """That is for the operator to choose; never before the first pass is over, and never while the process is about to end."""

    async def script(stage: Stage) -> None:
        stage.add(1, *FAILED, name="broken")
        stage.add(1, *RETIRED, name="retired")
        stage.add(1, Event.LOAD, name="loading")
        stage.add(1, *LOADED, name="half")
        stage.add(2, *FAILED, name="half")
        stage.manager.names = names

        def answer() -> Reply | Code:
            try:
                return stage.control.ready()
            except Failure as failure:
                return failure.code

        assert answer() == (Reply(200, []) if is_ready else Code.SERVER_NOT_READY)
        stage.manager.is_draining = True
        assert answer() is Code.SERVER_NOT_READY
        stage.manager.is_draining, stage.manager.is_ready = False, False
        assert answer() is Code.SERVER_NOT_READY
        assert stage.control.live() == Reply(200, [])

    play(script, ready_when=ready_when)


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("x", None, Code.MODEL_MISSING),
        ("m", 0, Code.VERSION_MISSING),
        ("m", 9, Code.VERSION_MISSING),
        ("m", 2, Code.VERSION_NOT_LOADED_YET),
        ("m", 3, Code.VERSION_NOT_LOADED_YET),
        ("m", 4, Code.VERSION_NOT_LOADED_YET),
    ],
)
def test_models_that_are_not_ready(name: str, version: int | None, code: Code) -> None:
    """Unknown ones are missing; failed, retired and loading ones are not loaded."""

    async def script(stage: Stage) -> None:
        stage.add(2, *FAILED)
        stage.add(3, *RETIRED)
        stage.add(4, Event.LOAD)
        with pytest.raises(Failure) as caught:
            stage.control.model_ready(name, version)
        assert caught.value.code is code

    play(script)


def test_a_refusal_is_json() -> None:
    """The code's HTTP status, and the sentence with its detail."""
    reply = refusal(Failure(Code.SHAPE, 'Expected: "ü"'))
    assert (reply.status, content(reply)) == (400, {"error": 'Invalid input shape - Expected: "ü"'})


# ---------------------------------------------------------------------- KServe v2

VALUES = list(range(10))
ONES = [value + 1.0 for value in VALUES]


def ask(data: object = VALUES, /, **members: object) -> bytes:
    """A KServe v2 request; without ``data`` its values are binary."""
    entry: dict[str, object] = {"name": "b", "shape": [1, 10], "datatype": "FP32"}
    if data is not None:
        entry["data"] = data
    return json.dumps({"inputs": [entry], **members}).encode()


async def infer(
    stage: Stage,
    body: bytes | memoryview,
    header: str | None = None,
    version: int | None = None,
    name: str = "m",
) -> Reply:
    """The answer, whether it comes at once or later."""
    reply = stage.data.infer(name, version, body, header)
    return reply if isinstance(reply, Reply) else await reply


def test_a_small_inference_by_a_quick_model_is_answered_at_once() -> None:
    """No task, no thread, no lease."""

    async def script(stage: Stage) -> None:
        reply = stage.data.infer("m", None, ask(id="7"), None)
        assert isinstance(reply, Reply)
        assert content(reply) == {
            "model_name": "m",
            "model_version": "1",
            "id": "7",
            "outputs": [{"name": "a", "shape": [1, 10], "datatype": "FP32", "data": ONES}],
        }
        assert (reply.headers, stage.pool.count, stage.leases) == ((), 0, 0)

    play(script)


def test_binary_data_reaches_the_model_where_it_lies() -> None:
    """And comes back as it lies there, with the header that tells the length of the JSON; no thread is needed, however much."""

    async def script(stage: Stage) -> None:
        count = ON_LOOP_BYTES
        stage.executable.inputs, stage.executable.outputs = {"b": spec("b", (1, count))}, [spec("a", (1, count))]
        seen: list[np.ndarray] = []
        infer_now = stage.executable.infer_now

        def watch(arrays: Mapping[str, np.ndarray]) -> Any:
            seen.append(arrays["b"])
            return infer_now(arrays)

        stage.executable.infer_now = watch  # type: ignore[method-assign]
        text = ask(None, parameters={"binary_data_output": True}).replace(b"[1, 10]", b"[1, %d]" % count)
        text += b" " * (-len(text) % 16)
        memory = memoryview(bytearray(text + np.arange(count, dtype=np.float32).tobytes()))
        reply = await infer(stage, memory, str(len(text)))
        assert np.shares_memory(seen[0], np.frombuffer(memory, np.uint8))
        [(name, length)] = reply.headers
        assert name == "Inference-Header-Content-Length"
        whole = b"".join(reply.body)
        assert json.loads(whole[: int(length)])["outputs"][0]["parameters"] == {"binary_data_size": 4 * count}
        assert np.frombuffer(whole[int(length) :], np.float32)[-1] == count
        assert (stage.pool.count, stage.leases) == (0, 0)

    play(script)


@pytest.mark.parametrize(("more", "threads"), [(0, 0), (1, 2)])
def test_large_json_is_read_in_a_thread(more: int, threads: int) -> None:
    """Up to the limit the loop does it. Then the body is read in a thread, and compared with the model in a thread."""
    body = ask()
    body += b" " * (ON_LOOP_BYTES - len(body) + more)

    async def script(stage: Stage) -> None:
        assert content(await infer(stage, body))["outputs"][0]["data"] == ONES
        assert content(await infer(stage, body + b"left", str(len(body))))["outputs"][0]["data"] == ONES
        assert (stage.pool.count, stage.leases) == (2 * threads, 0)

    play(script)


@pytest.mark.parametrize("is_quick", [True, False])
def test_many_binary_strings_are_taken_apart_in_a_thread(is_quick: bool) -> None:  # noqa: FBT001
    """And so is memory copied that may only be read; the lease lasts until the answer."""

    async def script(stage: Stage) -> None:
        stage.executable.is_quick = is_quick
        stage.executable.inputs = {"b": spec("b", (ON_LOOP_BYTES,))}
        entry = {"name": "b", "shape": [ON_LOOP_BYTES // 5], "datatype": "BYTES"}
        size = ON_LOOP_BYTES // 5 * 5 + 5
        text = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": size}}]}).encode()
        data = b"\1\0\0\0a" * (size // 5)
        reply = stage.data.infer("m", None, text + data, str(len(text)))
        assert not isinstance(reply, Reply)
        assert stage.leases == 1
        with pytest.raises(Failure) as caught:
            await reply
        assert caught.value.code is Code.VALUE_COUNT
        text = ask(None).replace(b"[1, 10]", b"[%d]" % ON_LOOP_BYTES)
        reply = await infer(stage, text + bytes(4 * ON_LOOP_BYTES), str(len(text)))
        assert (reply.status, stage.leases) == (200, 0)
        assert stage.pool.count >= 2

    play(script)


@pytest.mark.parametrize(
    ("body", "header", "name", "version", "code"),
    [
        (ask(), "x", "other", None, Code.HEADER_LENGTH_INVALID),
        (ask(), "99999", "other", None, Code.HEADER_LENGTH_TOO_LARGE),
        (b"{", None, "other", None, Code.JSON_INVALID),
        (b"{}", None, "other", 7, Code.NO_INPUTS),
        (b"{}", None, "m", 7, Code.NO_INPUTS),
        (ask(), None, "other", None, Code.MODEL_MISSING),
        (ask([0] * 3), None, "other", None, Code.MODEL_MISSING),
        (ask(), None, "m", 7, Code.VERSION_MISSING),
        (ask(), None, "m", 2, Code.VERSION_NOT_LOADED_YET),
        (ask(), None, "m", 3, Code.VERSION_RETIRED),
        (ask([0] * 3), None, "m", 3, Code.VERSION_RETIRED),
        (ask([0] * 3), None, "m", None, Code.VALUE_COUNT),
        (ask(None), None, "m", None, Code.BINARY_DATA_TOO_SHORT),
    ],
)
def test_inferences_that_are_refused(
    body: bytes, header: str | None, name: str, version: int | None, code: Code
) -> None:
    """First for their body, then for their model, then for what does not fit it; packed or not, and nothing is left."""

    async def script(stage: Stage) -> None:
        stage.add(2, *FAILED)
        stage.add(3, *RETIRED)
        for is_quick in (True, False):
            stage.executable.is_quick = is_quick
            for each in (body, body + b" " * ON_LOOP_BYTES):
                if header is not None and each is not body:
                    continue
                with pytest.raises(Failure) as caught:
                    await infer(stage, each, header, version, name)
                assert caught.value.code is code
                assert stage.leases == 0

    play(script)


def test_an_inference_waits_for_a_version_that_is_being_loaded() -> None:
    """Its body is read first."""

    async def script(stage: Stage) -> None:
        stage.add(2, Event.LOAD)
        task = asyncio.ensure_future(infer(stage, ask(), version=2))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        version = stage.registry.models["m"].versions[2]
        version.instance = Instance(version.blueprint, FakeExecutable(2))
        stage.registry.advance(Key("m", 2), Event.LOADED)
        assert content(await task)["model_version"] == "2"
        stage.add(4, Event.LOAD)
        with pytest.raises(Failure) as caught:
            await infer(stage, b"{}", version=4)
        assert caught.value.code is Code.NO_INPUTS

    play(script)


def test_pictures_come_as_binary_strings() -> None:
    """They are decoded in a thread; several each in one of its own."""
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3)]
    files = [cv2.imencode(".png", each)[1].tobytes() for each in pictures]

    async def script(stage: Stage) -> None:
        stage.executable.inputs = {"b": spec("b", (3, 2, 2, 3))}
        stage.executable.outputs = [spec("a", (3, 2, 2, 3))]
        data = b"".join(len(each).to_bytes(4, "little") + each for each in files)
        entry = {"name": "b", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        text = json.dumps({"inputs": [entry]}).encode()
        [output] = content(await infer(stage, text + data, str(len(text))))["outputs"]
        np.testing.assert_array_equal(np.reshape(output["data"], output["shape"]), np.stack(pictures) + 1.0)
        assert (stage.pool.count, stage.leases) == (3, 0)

    play(script)


def test_a_broken_picture_among_several() -> None:
    """The failure is the answer, and no lease is left."""
    whole = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()

    async def script(stage: Stage) -> None:
        stage.executable.inputs = {"b": spec("b", (3, 2, 2, 3))}
        body = json.dumps({"instances": [{"b64": base64.b64encode(each).decode()} for each in (whole, b"x", b"y")]})
        failure = await refused(stage, body.encode())
        assert failure.code is Code.IMAGE_UNREADABLE
        assert failure.text.endswith("position: [1]")

    play(script)


def test_what_the_server_and_a_model_are() -> None:
    """The protocol's metadata; 0 is no word for the default version there."""

    async def script(stage: Stage) -> None:
        stage.add(12, *LOADED)
        stage.add(13, *FAILED)
        stage.executable.info = {"labels": "x"}
        assert content(stage.control.server_metadata())["extensions"] == ["binary_tensor_data"]
        assert content(stage.control.server_metadata(("more",)))["extensions"] == ["binary_tensor_data", "more"]
        found = content(stage.control.model_metadata("m", 1))
        assert (found["versions"], found["rt_info"]) == (["1", "12"], {"model_info": {"labels": "x"}})
        assert found["inputs"] == [{"name": "b", "datatype": "FP32", "shape": [1, 10]}]
        assert "rt_info" not in content(stage.control.model_metadata("m", None))
        for version, code in ((0, Code.VERSION_MISSING), (9, Code.VERSION_MISSING), (13, Code.VERSION_NOT_LOADED_YET)):
            with pytest.raises(Failure) as caught:
                stage.control.model_metadata("m", version)
            assert caught.value.code is code

    play(script)


@pytest.mark.parametrize("version", [None, 0, 1, 7])
def test_the_version_of_a_pipeline_is_ignored(version: int | None) -> None:
    """Also 0, which is an unknown version of a model where it does not stand for the default one."""

    async def script(stage: Stage) -> None:
        blueprint = Blueprint(Key("p", 1), ModelSettings("p", ""), "", ())
        pipeline = stage.registry.add_pipeline(blueprint)
        pipeline.begin()
        pipeline.swap(Instance(blueprint, FakeExecutable(1)), None)
        assert content(stage.control.model_metadata("p", version))["versions"] == ["1"]
        assert stage.control.model_ready("p", version) == Reply(200, [])

    play(script)


def test_the_index_of_the_repository() -> None:
    """What the configuration names, version by version, with reasons; or those that are ready."""

    async def script(stage: Stage) -> None:
        stage.add(2, *FAILED)
        stage.add(3, *RETIRED)
        stage.add(4, Event.LOAD)
        stage.add(1, *LOADED, name="not in the configuration any more")
        stage.registry.models["m"].versions[2].failure = Failure(Code.COMPILE, "no such device")
        stage.manager.names = ["empty", "lost", "m"]
        stage.registry.add_model("lost").failure = Failure(Code.PATH_INVALID, "/lost")
        found = [(each["name"], each.get("version"), each["state"], each["reason"]) for each in index(stage)]
        assert found == [
            ("empty", None, "UNAVAILABLE", "no versions"),
            ("lost", None, "UNAVAILABLE", f"{TABLE[Code.PATH_INVALID].text} - /lost"),
            ("m", "1", "READY", ""),
            ("m", "2", "UNAVAILABLE", f"{TABLE[Code.COMPILE].text} - no such device"),
            ("m", "3", "UNAVAILABLE", "unloaded"),
            ("m", "4", "LOADING", ""),
        ]
        assert [(each["name"], each["version"]) for each in index(stage, b'{"ready": true}')] == [("m", "1")]
        with pytest.raises(Failure) as caught:
            index(stage, b"[")
        assert caught.value.code is Code.JSON_INVALID

    play(script)


def index(stage: Stage, body: bytes = b"") -> Any:
    """What the repository holds."""
    return content(stage.control.repository_index(body))


def test_models_are_loaded_and_unloaded_by_request() -> None:
    """An empty object says that it is done; what the client brings of its own is refused before."""

    async def script(stage: Stage) -> None:
        asked: list[str] = []

        async def load(name: str) -> None:
            asked.append(f"load {name}")

        async def unload(name: str) -> None:
            asked.append(f"unload {name}")

        stage.manager.load, stage.manager.unload = load, unload  # type: ignore[attr-defined]
        assert content(await stage.control.load_model("m", b"{}")) == {}
        assert content(await stage.control.unload_model("m")) == {}
        with pytest.raises(Failure) as caught:
            await stage.control.load_model("m", b'{"parameters": {"config": "{}"}}')
        assert caught.value.code is Code.PARAMETERS_UNREADABLE
        assert asked == ["load m", "unload m"]

    play(script)
