"""What counts as what: the reference's rules (``src/http_rest_api_handler.cpp``), asked through the data plane."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes import FakeExecutable, InlineExecutor
from tornado_ovms.core.lifecycle import Blueprint, Event, Key
from tornado_ovms.core.metric_families import BOUNDS_US, FAMILIES
from tornado_ovms.core.settings import Limits, MetricsSettings, ModelSettings, NonFinite
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import Inference
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.controlplane import ControlPlane
from tornado_ovms.serving.dataplane import ON_LOOP_BYTES, DataPlane
from tornado_ovms.serving.observation import Cells, Reloads, Timing
from tornado_ovms.serving.planes import Planes
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.reply import Reply
from tornado_ovms.serving.servable import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FAILED = (Event.LOAD, Event.FAILED)
LOADED = (Event.LOAD, Event.LOADED)
UNLOADING = (*LOADED, Event.RETIRE)
RETIRED = (*UNLOADING, Event.UNLOADED)

VALUES = list(range(10))
ROWS = json.dumps({"instances": [VALUES]}).encode()
ENTRY = {"name": "b", "shape": [1, 10], "datatype": "FP32"}
TENSOR = json.dumps({"inputs": [{**ENTRY, "data": VALUES}]}).encode()
WRONG_ROWS = json.dumps({"instances": [VALUES[:9]]}).encode()
WRONG_TENSOR = json.dumps({"inputs": [{**ENTRY, "shape": [1, 9], "data": VALUES[:9]}]}).encode()

Labels = frozenset[tuple[str, str]]
Counts = dict[tuple[str, Labels], float]

TFS, KFS = "TensorFlowServing", "KServe"


class Stage:
    """A data plane with versions of m: 1 serves, 2 has failed, 3 is being unloaded, 4 was; and ``gone``, which has none left."""

    def __init__(self, non_finite: NonFinite = NonFinite.NULL) -> None:
        self.metrics = Metrics()
        self.metrics.enable(MetricsSettings(enable=True, families=tuple(family.name for family in FAMILIES)))
        self.registry = Registry(self.metrics)
        pool = InlineExecutor()
        self.planes = Planes(
            DataPlane(self.registry, pool, Limits(), non_finite),
            ControlPlane(self.registry, None, self.metrics, pool, Limits()),  # type: ignore[arg-type]
        )
        self.executable = self.add("m", 1, *LOADED)
        self.add("m", 2, *FAILED)
        self.add("m", 3, *UNLOADING)
        self.add("m", 4, *RETIRED)
        self.add("gone", 1, *RETIRED)

    def add(self, name: str, number: int, *events: Event) -> FakeExecutable:
        """A version that has lived through events."""
        blueprint = Blueprint(Key(name, number), ModelSettings(name, f"/{name}"), f"/{name}/{number}", ())
        version = self.registry.add_version(blueprint)
        executable = FakeExecutable(number)
        for event in events:
            if event in (Event.LOADED, Event.RETIRE):
                version.instance = Instance(blueprint, executable) if event is Event.LOADED else None
            self.registry.advance(blueprint.key, event)
        return executable

    async def ask(self, call: Callable[[Planes], Any]) -> Reply | Failure:
        """What came of a call."""
        try:
            found = call(self.planes)
            reply: Reply = found if isinstance(found, Reply) else await found
        except Failure as failure:
            return failure
        return reply

    def counts(self) -> Counts:
        """Every sample of the reference's families but what is measured in microseconds."""
        text = b"".join(self.metrics.expose(openmetrics=False)).decode()
        return {
            (line.name.removesuffix("_total"), frozenset(line.labels.items())): line.value
            for family in text_string_to_metric_families(text)
            for line in family.samples
            if line.name.startswith("ovms_") and not line.name.endswith(("_sum", "_bucket"))
        }


def play(script: Callable[[Stage], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a script on a stage of its own."""

    async def main() -> None:
        await script(Stage(**settings))

    asyncio.run(main())


def call(outcome: str, api: str, method: str, version: int | None = 1) -> tuple[str, Labels]:
    """The series that counts a call of m."""
    labels = {"api": api, "interface": "REST", "method": method, "name": "m"}
    if version is not None:
        labels["version"] = str(version)
    return f"ovms_requests_{outcome}", frozenset(labels.items())


def times(*, answered: bool = True) -> set[tuple[str, Labels]]:
    """The histograms that observe a request to m."""
    labels = {"name": "m", "version": "1"}
    found = {
        ("ovms_inference_time_us_count", frozenset(labels.items())),
        ("ovms_wait_for_infer_req_time_us_count", frozenset(labels.items())),
    }
    if answered:
        found.add(("ovms_request_time_us_count", frozenset({**labels, "interface": "REST"}.items())))
    return found


def predict(body: bytes, version: int | None = None, name: str = "m") -> Callable[[Planes], Any]:
    """A call."""
    return lambda planes: planes.data.predict(name, version, body)


def infer(
    body: bytes, version: int | None = None, name: str = "m", header: str | None = None
) -> Callable[[Planes], Any]:
    """A call."""
    return lambda planes: planes.data.infer(name, version, body, header)


def asks(method: str, version: int | None = None, name: str = "m") -> Callable[[Planes], Any]:
    """A call of one of the methods that take a name and a version."""
    return lambda planes: getattr(planes.control, method)(name, version)


PREDICTED = {call("success", TFS, "Predict"), *times()}
INFERRED = {call("success", KFS, "ModelInfer"), *times()}

RULES: list[tuple[str, Callable[[Planes], Any], int, set[tuple[str, Labels]]]] = [
    ("predict", predict(ROWS), 200, PREDICTED),
    ("predict a version", predict(ROWS, 1), 200, PREDICTED),
    ("predict, unknown name", predict(ROWS, name="x"), 404, set()),
    ("predict, unknown name and no JSON", predict(b"{", name="x"), 404, set()),
    ("predict, unknown version", predict(ROWS, 9), 404, set()),
    ("predict, no version left", predict(ROWS, name="gone"), 404, set()),
    ("predict, failed", predict(ROWS, 2), 404, {call("fail", TFS, "Predict", 2)}),
    ("predict, being unloaded", predict(ROWS, 3), 404, {call("fail", TFS, "Predict", 3)}),
    ("predict, retired", predict(ROWS, 4), 404, {call("fail", TFS, "Predict", 4)}),
    ("predict, no JSON", predict(b"{"), 412, {call("fail", TFS, "Predict")}),
    ("predict, wrong inputs", predict(WRONG_ROWS), 400, {call("fail", TFS, "Predict")}),
    ("status", asks("status"), 200, {call("success", TFS, "GetModelStatus", None)}),
    ("status of a version", asks("status", 4), 200, {call("success", TFS, "GetModelStatus", None)}),
    ("status, unknown name", asks("status", name="x"), 404, set()),
    ("status, unknown version", asks("status", 9), 404, set()),
    ("metadata", asks("metadata"), 200, {call("success", TFS, "GetModelMetadata")}),
    ("metadata, failed", asks("metadata", 2), 404, {call("fail", TFS, "GetModelMetadata", 2)}),
    ("metadata, retired", asks("metadata", 4), 404, {call("fail", TFS, "GetModelMetadata", 4)}),
    ("metadata, unknown name", asks("metadata", name="x"), 404, set()),
    ("metadata, unknown version", asks("metadata", 9), 404, set()),
    ("infer", infer(TENSOR), 200, INFERRED),
    ("infer by a version", infer(TENSOR, 1), 200, INFERRED),
    ("infer, no JSON", infer(b"{"), 412, {call("fail", KFS, "ModelInfer")}),
    ("infer, no JSON, retired", infer(b"{", 4), 412, {call("fail", KFS, "ModelInfer", 4)}),
    ("infer, a member is missing", infer(b"{}"), 400, {call("fail", KFS, "ModelInfer")}),
    ("infer, JSON longer than the body", infer(TENSOR, header="9999"), 500, {call("fail", KFS, "ModelInfer")}),
    ("infer, length of JSON is none", infer(TENSOR, header="x"), 500, set()),
    ("infer, no JSON, unknown name", infer(b"{", name="x"), 412, set()),
    ("infer, no JSON, unknown version", infer(b"{", 9), 412, set()),
    ("infer, unknown name", infer(TENSOR, name="x"), 404, set()),
    ("infer, unknown version", infer(TENSOR, 9), 404, set()),
    ("infer, failed", infer(TENSOR, 2), 404, {call("fail", KFS, "ModelInfer", 2)}),
    ("infer, retired", infer(TENSOR, 4), 404, {call("fail", KFS, "ModelInfer", 4)}),
    ("infer, no version left", infer(TENSOR, name="gone"), 404, set()),
    ("infer, wrong inputs", infer(WRONG_TENSOR), 400, {call("fail", KFS, "ModelInfer")}),
    ("model metadata", asks("model_metadata"), 200, {call("success", KFS, "ModelMetadata")}),
    ("model metadata, failed", asks("model_metadata", 2), 404, {call("fail", KFS, "ModelMetadata", 2)}),
    ("model metadata, retired", asks("model_metadata", 4), 404, {call("fail", KFS, "ModelMetadata", 4)}),
    ("model metadata, unknown name", asks("model_metadata", name="x"), 404, set()),
    ("model metadata, unknown version", asks("model_metadata", 9), 404, set()),
    ("ready", asks("model_ready"), 200, {call("success", KFS, "ModelReady", None)}),
    ("ready, failed", asks("model_ready", 2), 404, {call("success", KFS, "ModelReady", None)}),
    ("ready, retired", asks("model_ready", 4), 404, {call("success", KFS, "ModelReady", None)}),
    ("ready, unknown name", asks("model_ready", name="x"), 404, set()),
    ("ready, unknown version", asks("model_ready", 9), 404, set()),
    ("live", lambda planes: planes.control.live(), 200, set()),
    ("server metadata", lambda planes: planes.control.server_metadata(), 200, set()),
    ("metrics", lambda planes: planes.control.metrics(openmetrics=False), 200, set()),
]


@pytest.mark.parametrize("is_quick", [True, False])
@pytest.mark.parametrize(("request_", "status", "rises"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_what_counts_as_what(
    request_: Callable[[Planes], Any],
    status: int,
    rises: set[tuple[str, Labels]],
    is_quick: bool,  # noqa: FBT001
) -> None:
    """Each request raises these series by one each time, and no other; at rest the gauges are as they were."""

    async def script(stage: Stage) -> None:
        stage.executable.is_quick = is_quick
        before = stage.counts()
        for times_asked in (1, 2):
            found = await stage.ask(request_)
            assert (found.http if isinstance(found, Failure) else found.status) == status
            after = stage.counts()
            assert after.keys() == before.keys()
            changed = {series: value - before[series] for series, value in after.items() if value != before[series]}
            assert changed == dict.fromkeys(rises, times_asked)

    play(script)


@pytest.mark.parametrize(
    ("ask", "api", "method"), [(predict(ROWS), TFS, "Predict"), (infer(TENSOR), KFS, "ModelInfer")]
)
def test_an_inference_that_fails(ask: Callable[[Planes], Any], api: str, method: str) -> None:
    """A failure, and no time is observed."""

    async def script(stage: Stage) -> None:
        before = stage.counts()
        stage.executable.failure = Failure(Code.INFERENCE)
        assert isinstance(await stage.ask(ask), Failure)
        after = stage.counts()
        assert {series for series in after if after[series] != before[series]} == {call("fail", api, method)}

    play(script)


@pytest.mark.parametrize("is_retired", [False, True])
def test_a_pipeline_that_is_not_loaded(is_retired: bool) -> None:  # noqa: FBT001
    """Inferences are counted nowhere, unlike those of a version that has failed; questions about it are."""

    async def script(stage: Stage) -> None:
        pipeline = stage.registry.add_pipeline(Blueprint(Key("p", 1), ModelSettings("p", ""), "", ()))
        pipeline.begin()
        pipeline.swap(None, Failure(Code.PIPELINE_CYCLE))
        if is_retired:
            pipeline.retire()
        before = stage.counts()
        for ask in (predict(ROWS, name="p"), predict(b"{", name="p"), infer(TENSOR, name="p")):
            found = await stage.ask(ask)
            assert isinstance(found, Failure)
            assert found.code is (Code.PIPELINE_RETIRED if is_retired else Code.PIPELINE_NOT_LOADED_YET)
        assert stage.counts() == before
        assert isinstance(await stage.ask(asks("metadata", name="p")), Failure)
        after = stage.counts()
        rises = {series for series in after if after[series] != before[series]}
        assert {(name, dict(labels)["method"]) for name, labels in rises} == {
            ("ovms_requests_fail", "GetModelMetadata")
        }

    play(script)


@pytest.mark.parametrize("more", [b"", b" " * ON_LOOP_BYTES], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("ask", "counted"),
    [
        (lambda more: predict(ROWS.replace(b"[0,", b"[NaN,") + more), call("fail", TFS, "Predict")),
        (lambda more: infer(TENSOR.replace(b"[0,", b"[NaN,") + more), call("success", KFS, "ModelInfer")),
    ],
    ids=["predict", "infer"],
)
def test_an_answer_that_cannot_be_written(
    ask: Callable[[bytes], Callable[[Planes], Any]], counted: tuple[str, Labels], more: bytes
) -> None:
    """The inference was done and is observed; KServe's is a success by then, in the reference too."""

    async def script(stage: Stage) -> None:
        for is_quick in (True, False):
            stage.executable.is_quick = is_quick
            before = stage.counts()
            assert isinstance(await stage.ask(ask(more)), Failure)
            after = stage.counts()
            rises = {series for series in after if after[series] != before[series]}
            assert rises == {counted, *times(answered=False)}

    play(script, non_finite=NonFinite.ERROR)


def current(stage: Stage) -> float:
    """The gauge of the requests to version 1 of m."""
    return stage.counts()["ovms_current_requests", frozenset({"name": "m", "version": "1"}.items())]


@pytest.mark.parametrize("ask", [predict(ROWS), infer(TENSOR)], ids=["predict", "infer"])
@pytest.mark.parametrize("end", ["answer", "failure", "cancel"])
def test_a_request_is_current_from_its_arrival(ask: Callable[[Planes], Any], end: str) -> None:
    """Also while it waits for an infer request, which is what autoscalers want to know; until it is over, however it ends."""

    async def script(stage: Stage) -> None:
        stage.executable.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(ask(stage.planes)) for _ in range(3)]
        assert current(stage) == 3
        await asyncio.sleep(0)
        assert current(stage) == 3
        if end == "cancel":
            for task in waiting:
                task.cancel()
        if end == "failure":
            stage.executable.failure = Failure(Code.INFERENCE)
        stage.executable.gate.set()
        await asyncio.wait(waiting)
        assert current(stage) == 0
        counts = stage.counts()
        counted = {
            outcome: counts[call(outcome, TFS, "Predict")] + counts[call(outcome, KFS, "ModelInfer")]
            for outcome in ("success", "fail")
        }
        assert counted == {"success": 3 * (end == "answer"), "fail": 3 * (end == "failure")}

    play(script)


def test_a_version_has_all_its_series_from_the_start() -> None:
    """With 0, those of gRPC too; calls that are counted for all versions together have no version."""

    async def script(stage: Stage) -> None:
        before = stage.counts().keys()
        stage.add("new", 7, *LOADED)
        counts = stage.counts()
        fresh = {series: value for series, value in counts.items() if series not in before}
        by_name: dict[str, list[dict[str, str]]] = {}
        for name, labels in fresh:
            by_name.setdefault(name, []).append(dict(labels))
        assert {name: len(series) for name, series in by_name.items()} == {
            "ovms_requests_success": 12,
            "ovms_requests_fail": 12,
            "ovms_request_time_us_count": 2,
            "ovms_inference_time_us_count": 1,
            "ovms_wait_for_infer_req_time_us_count": 1,
            "ovms_streams": 1,
            "ovms_current_requests": 1,
            "ovms_infer_req_queue_size": 1,
            "ovms_infer_req_active": 1,
        }
        methods = {
            TFS: {"Predict": True, "GetModelMetadata": True, "GetModelStatus": False},
            KFS: {"ModelInfer": True, "ModelMetadata": True, "ModelReady": False},
        }
        expected = {
            (api, interface, method, "7" if has_version else None)
            for api, each in methods.items()
            for method, has_version in each.items()
            for interface in ("REST", "gRPC")
        }
        for name in ("ovms_requests_success", "ovms_requests_fail"):
            assert {
                (labels["api"], labels["interface"], labels["method"], labels.get("version"))
                for labels in by_name[name]
            } == expected
        assert {labels["interface"] for labels in by_name["ovms_request_time_us_count"]} == {"REST", "gRPC"}
        assert {name for (name, _), value in fresh.items() if value} == {"ovms_streams", "ovms_infer_req_queue_size"}

    play(script)


def test_counters_outlive_a_version() -> None:
    """Retired, its counters stay and its gauges are 0; when it comes back they go on from where they were."""

    async def script(stage: Stage) -> None:
        labels = frozenset({"name": "m", "version": "1"}.items())
        await stage.ask(predict(ROWS))
        stage.add("m", 1, Event.RETIRE, Event.UNLOADED)
        counts = stage.counts()
        assert counts[call("success", TFS, "Predict")] == 1
        assert [counts[name, labels] for name in ("ovms_streams", "ovms_infer_req_queue_size")] == [0, 0]
        executable = stage.add("m", 1, *LOADED)
        executable.requests = 5
        await stage.ask(predict(ROWS))
        counts = stage.counts()
        assert counts[call("success", TFS, "Predict")] == 2
        assert [counts[name, labels] for name in ("ovms_streams", "ovms_infer_req_queue_size")] == [1, 5]

    play(script)


def test_a_reload_of_a_version_goes_on_counting() -> None:
    """With other settings the gauges are those of the new instance."""

    async def script(stage: Stage) -> None:
        await stage.ask(predict(ROWS))
        stage.add("m", 1, Event.LOADED).requests = 9
        await stage.ask(predict(ROWS))
        counts = stage.counts()
        assert counts[call("success", TFS, "Predict")] == 2
        assert counts["ovms_infer_req_queue_size", frozenset({"name": "m", "version": "1"}.items())] == 9

    play(script)


def ours(stage: Stage, name: str) -> dict[Labels, float]:
    """The samples of one of our names."""
    text = b"".join(stage.metrics.expose(openmetrics=False)).decode()
    return {
        frozenset(line.labels.items()): line.value
        for family in text_string_to_metric_families(text)
        for line in family.samples
        if line.name == f"tornado_ovms_{name}"
    }


def test_the_state_of_each_version() -> None:
    """1 for one of them, 0 for all others, so that an alert can name it."""

    async def script(stage: Stage) -> None:
        found = {
            (labels["name"], labels["version"]): labels["state"]
            for each, value in ours(stage, "model_state").items()
            if value and (labels := dict(each))
        }
        assert found == {
            ("m", "1"): "AVAILABLE",
            ("m", "2"): "FAILED",
            ("m", "3"): "UNLOADING",
            ("m", "4"): "END",
            ("gone", "1"): "END",
        }

    play(script)


def test_loads_are_counted() -> None:
    """By result; how long the last good one took and when it was stays, whatever fails later."""

    async def script(stage: Stage) -> None:
        cells = stage.registry.models["m"].versions[1].cells
        cells.loaded(2.5, is_good=True)
        cells.loaded(0, is_good=False)
        labels = {"name": "m", "version": "1"}
        for result in ("success", "failure"):
            assert ours(stage, "model_loads_total")[frozenset({**labels, "result": result}.items())] == 1
        assert ours(stage, "model_load_seconds")[frozenset(labels.items())] == 2.5
        assert ours(stage, "model_last_load_timestamp_seconds")[frozenset(labels.items())] > 1.7e9

    play(script)


@pytest.mark.parametrize(
    ("changed", "failed", "asked_for", "counted"),
    [
        (False, False, False, None),
        (False, False, True, "unchanged"),
        (True, False, False, "changed"),
        (True, False, True, "changed"),
        (False, True, False, "failed"),
        (True, True, True, "failed"),
    ],
)
def test_passes_are_counted(changed: bool, failed: bool, asked_for: bool, counted: str | None) -> None:  # noqa: FBT001
    """A look that finds nothing to do is none; only one without a fault is a success."""

    async def script(stage: Stage) -> None:
        reloads = Reloads(stage.metrics)
        reloads.ended(changed=changed, failed=failed, asked_for=asked_for)
        expected = {
            frozenset({("result", each)}): float(each == counted) for each in ("changed", "unchanged", "failed")
        }
        assert ours(stage, "reloads_total") == expected
        [succeeded_at] = ours(stage, "last_successful_reload_timestamp_seconds").values()
        assert (succeeded_at > 0) is not failed

    play(script)


def test_the_time_of_a_request_in_stages() -> None:
    """Waiting and inference are what the engine says; the rest is decoding and encoding; counters add up what answers told."""

    async def script(stage: Stage) -> None:
        told = []
        for is_quick in (True, False):
            stage.executable.is_quick = is_quick
            for ask in (predict(ROWS), infer(TENSOR)):
                reply = await stage.ask(ask)
                assert isinstance(reply, Reply)
                assert reply.timing is not None
                assert (reply.timing.wait, reply.timing.infer) == (0.25, 0.5)
                assert 0 < reply.timing.decode < 60
                assert 0 <= reply.timing.encode < 60
                told.append(reply.timing)
        found = ours(stage, "request_stage_seconds_total")
        for stage_name, *values in zip(Timing._fields, *told, strict=True):
            labels = {"name": "m", "version": "1", "stage": stage_name}
            assert found[frozenset(labels.items())] == pytest.approx(sum(values))

    play(script)


def test_a_batch_is_counted_once() -> None:
    """The rows that one of its requests is told; the time that each has waited for others."""
    cells = Stage().registry.model("m").versions[1].cells
    for inference in (Inference([], 0.3, 0.5, 0.25, 3), Inference([], 0.2, 0.5, 0.125, 0), Inference([], 0.1, 0.5)):
        cells.observe(inference)
    assert cells.batch_window.value == 0.375
    assert (sum(cells.batch_rows.counts), cells.batch_rows.sum) == (1, 3)


def test_the_bounds_are_the_reference_s() -> None:
    """Written out in its documents; dashboards name 67466 and 218591."""
    assert BOUNDS_US == (
        10, 18, 32, 58, 104, 188, 340, 612, 1101, 1983, 3570, 6426, 11568, 20822, 37481, 67466, 121439, 218591, 393464,
        708235, 1274823, 2294682, 4130428, 7434771, 13382588, 24088659, 43359586, 78047255, 140485060, 252873108,
        455171596, 819308872, 1474755971,
    )  # fmt: skip


def test_a_pipeline_has_three_of_the_families() -> None:
    """As in the reference: it has no infer requests; what its nodes infer is counted with their models."""
    metrics = Metrics()
    metrics.enable(MetricsSettings(enable=True, families=tuple(family.name for family in FAMILIES)))
    version = Registry(Metrics()).add_version(Blueprint(Key("p", 1), ModelSettings("p", "/p"), "/p/1", ()))
    Cells(metrics, "p", 1, version, is_pipeline=True)
    text = b"".join(metrics.expose(openmetrics=False)).decode()
    names = {
        name for name in re.findall(r"^(ovms_\w+)\{", text, re.MULTILINE) if not name.endswith(("_sum", "_bucket"))
    }
    assert names == {"ovms_requests_success", "ovms_requests_fail", "ovms_request_time_us_count"}
    assert 'tornado_ovms_model_state{name="p",state="START",version="1"} 1\n' in text
