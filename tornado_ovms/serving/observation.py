"""What is counted of each model and version, and how a request is measured on its way. Belongs to the event loop.

Series appear when a version is first known and stay as long as the process does, those of gRPC too: dashboards of the
reference expect them. What counts as what is the reference's (``src/http_rest_api_handler.cpp``,
``src/model_metric_reporter.cpp``).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core import metric_families as families
from tornado_ovms.core.lifecycle import State
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import ExecutableStats
from tornado_ovms.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tornado_ovms.engine.base import Inference
    from tornado_ovms.metrics import Counter
    from tornado_ovms.serving.registry import Version

INTERFACES: Final = ("gRPC", "REST")

_OUTCOMES: Final = (families.REQUESTS_SUCCESS, families.REQUESTS_FAIL)

_RELOADS: Final = ("changed", "unchanged", "failed")

RESULTS: Final = ("success", "failure")
STAGES: Final = ("decode", "wait", "infer", "encode")


class Method(NamedTuple):
    """A call of one of the APIs, as the reference's labels name it; two are counted for all versions of a model together."""

    api: str
    method: str
    has_version: bool = True


PREDICT: Final = Method("TensorFlowServing", "Predict")
GET_METADATA: Final = Method("TensorFlowServing", "GetModelMetadata")
GET_STATUS: Final = Method("TensorFlowServing", "GetModelStatus", has_version=False)
INFER: Final = Method("KServe", "ModelInfer")
MODEL_METADATA: Final = Method("KServe", "ModelMetadata")
MODEL_READY: Final = Method("KServe", "ModelReady", has_version=False)

_UNCOUNTED: Final = frozenset({Code.PIPELINE_NOT_LOADED_YET, Code.PIPELINE_RETIRED})
"""An inference that is asked of a pipeline in vain is counted nowhere, unlike one that is asked of a model."""

METHODS: Final = (PREDICT, GET_METADATA, GET_STATUS, INFER, MODEL_METADATA, MODEL_READY)

NOTHING: Final = ExecutableStats(0, 0, 0, 0)


class Timing(NamedTuple):
    """How long the stages of a request took, in seconds."""

    decode: float
    wait: float
    infer: float
    encode: float


class Counts(NamedTuple):
    """How often a call went well, and how often not."""

    success: Counter
    fail: Counter


def _is_in(version: Version, state: str) -> bool:
    return version.state_name == state


class Cells:
    """What is counted of one version."""

    def __init__(
        self, metrics: Metrics, name: str, number: int, version: Version, *, is_pipeline: bool = False
    ) -> None:
        labels = {"name": name, "version": str(number)}
        self.calls: dict[Method, Counts] = {}
        for interface in INTERFACES:  # REST last: it is the one that counts
            for method in METHODS:
                bound = {"api": method.api, "interface": interface, "method": method.method}
                bound |= labels if method.has_version else {"name": name}
                success, fail = (metrics.counter(family, **bound) for family in _OUTCOMES)
                self.calls[method] = Counts(success, fail)
            self.request_time = metrics.histogram(families.REQUEST_TIME, interface=interface, **labels)
        self.stages = [metrics.counter(families.STAGE_SECONDS, stage=stage, **labels) for stage in STAGES]
        # A pipeline has no infer requests, and is not loaded: what is counted of that has no series.
        hidden = Metrics() if is_pipeline else metrics
        self.inference_time = hidden.histogram(families.INFERENCE_TIME, **labels)
        self.wait_time = hidden.histogram(families.WAIT_TIME, **labels)
        self.batch_rows = hidden.histogram(families.BATCH_ROWS, **labels)
        self.batch_window = hidden.counter(families.BATCH_WINDOW_SECONDS, **labels)
        self.loads = {result: hidden.counter(families.MODEL_LOADS, result=result, **labels) for result in RESULTS}
        self.current = 0
        self.load_s = 0.0
        self.loaded_at = 0.0
        self._add_gauges(metrics, hidden, labels, version)

    def _add_gauges(self, metrics: Metrics, hidden: Metrics, labels: dict[str, str], version: Version) -> None:
        def stats() -> ExecutableStats:
            instance = version.instance
            return instance.executable.stats() if instance is not None else NOTHING

        def sequences() -> int:
            instance = version.instance
            return len(instance.sequences) if instance is not None and instance.sequences is not None else 0

        hidden.gauge(families.STREAMS, lambda: stats().streams, **labels)
        hidden.gauge(families.CURRENT_REQUESTS, lambda: self.current, **labels)
        hidden.gauge(families.QUEUE_SIZE, lambda: stats().requests, **labels)
        hidden.gauge(families.ACTIVE, lambda: stats().running, **labels)
        hidden.gauge(families.WAITING, lambda: stats().waiting, **labels)
        hidden.gauge(families.MODEL_LOAD_SECONDS, lambda: self.load_s, **labels)
        hidden.gauge(families.MODEL_LOADED, lambda: self.loaded_at, **labels)
        hidden.gauge(families.SEQUENCES, sequences, **labels)
        for state in ("FAILED", *(state.name for state in State)):
            metrics.gauge(families.MODEL_STATE, partial(_is_in, version, state), state=state, **labels)

    def observe(self, inference: Inference) -> None:
        """OpenVINO has completed an inference."""
        self.wait_time.observe(inference.wait_s * 1e6)
        self.inference_time.observe(inference.infer_s * 1e6)
        self.batch_window.value += inference.window_s
        if inference.batch_rows:
            self.batch_rows.observe(inference.batch_rows)

    def loaded(self, seconds: float, *, is_good: bool) -> None:
        """A load has ended."""
        self.loads[RESULTS[0] if is_good else RESULTS[1]].value += 1
        if is_good:
            self.load_s, self.loaded_at = seconds, time.time()

    @contextmanager
    def count(self, method: Method) -> Iterator[None]:
        """A request that takes no time: it has succeeded if the block does."""
        try:
            yield
        except Failure:
            self.calls[method].fail.value += 1
            raise
        self.calls[method].success.value += 1

    def begin(self, method: Method) -> Call:
        """A request for this version has come."""
        return Call(self, method)


class Reloads:
    """What is counted of passes."""

    def __init__(self, metrics: Metrics) -> None:
        self._results = {result: metrics.counter(families.RELOADS, result=result) for result in _RELOADS}
        self._succeeded_at = 0.0
        metrics.gauge(families.RELOAD_SUCCESS, lambda: self._succeeded_at)

    def ended(self, *, changed: bool, failed: bool, asked_for: bool) -> None:
        """A pass has ended; one that nobody asked for and that found nothing to do is not counted."""
        if not failed:
            self._succeeded_at = time.time()
        if changed or failed or asked_for:
            self._results["failed" if failed else "changed" if changed else "unchanged"].value += 1


class Call:
    """One request for a version, from its arrival to its answer.

    Leaving a ``with`` block by an exception ends it: as a failure, unless it was cancelled, or done but for its answer.
    ``succeed`` ends it otherwise.
    """

    __slots__ = ("_begun", "_cells", "_counts", "_decode_s", "_inference", "method")

    def __init__(self, cells: Cells, method: Method) -> None:
        self.method = method
        self._cells = cells
        self._counts = cells.calls[method]
        self._begun = time.perf_counter()
        self._decode_s = 0.0
        self._inference: Inference | None = None
        cells.current += 1

    def __enter__(self) -> Call:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._cells.current -= 1
            if issubclass(kind, Exception) and not (isinstance(error, Failure) and error.code in _UNCOUNTED):
                (self._counts.success if self._is_done else self._counts.fail).value += 1

    @property
    def _is_done(self) -> bool:
        """Whether it has succeeded for the reference, which counts inferences of KServe before it writes the answer."""
        return self.method is INFER and self._inference is not None

    def decoded(self) -> None:
        """The request has been read, and what is in it decoded."""
        self._decode_s = time.perf_counter() - self._begun

    def inferred(self, inference: Inference) -> None:
        """OpenVINO has done its part."""
        self._inference = inference
        self._cells.observe(inference)

    def succeed(self) -> Timing:
        """The answer has been written."""
        cells, inference = self._cells, self._inference
        taken = time.perf_counter() - self._begun
        wait, infer = (inference.wait_s, inference.infer_s) if inference is not None else (0.0, 0.0)
        timing = Timing(self._decode_s, wait, infer, max(taken - self._decode_s - wait - infer, 0.0))
        cells.current -= 1
        self._counts.success.value += 1
        cells.request_time.observe(taken * 1e6)
        decode_stage, wait_stage, infer_stage, encode_stage = cells.stages
        decode_stage.value += timing.decode
        wait_stage.value += wait
        infer_stage.value += infer
        encode_stage.value += timing.encode
        return timing
