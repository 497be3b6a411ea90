"""The families of metrics, and which of them are served.

Names, kinds and help texts are the reference's: ``src/metric_config.cpp``, ``src/model_metric_reporter.cpp``.
Any thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from tornado_ovms.core.settings import MetricsSettings


class FamilyKind(Enum):
    """The type of a family, as Prometheus calls it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(Enum):
    """What the values of several workers come to. Counters and histograms are always added up."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


class Family(NamedTuple):
    """One family of metrics.

    Attributes:
        name: as the names of its samples begin.
        kind: its type.
        help: what it says.
        labels: names of its labels, in alphabetical order; a series may lack ``version``.
        by_default: whether it is served unless a list leaves it out.
        bounds: of a histogram's buckets, without the last one.
        suffix: what a counter's samples have behind the name; the reference's have nothing there.
        merge: what a gauge of several workers comes to.
    """

    name: str
    kind: FamilyKind
    help: str
    labels: tuple[str, ...] = ("name", "version")
    by_default: bool = True
    bounds: tuple[float, ...] = ()
    suffix: str = ""
    merge: Merge = Merge.SUM


TOTAL: Final = "_total"

BOUNDS_US: Final = tuple(int(10 * 1.8**exponent) for exponent in range(33))
"""The reference's, in microseconds, for all of its histograms; dashboards name some of them."""

_CALLS: Final = ("api", "interface", "method", "name", "version")

REQUESTS_SUCCESS: Final = Family(
    "ovms_requests_success", FamilyKind.COUNTER, "Number of successful requests to a model or a DAG.", _CALLS
)
REQUESTS_FAIL: Final = Family(
    "ovms_requests_fail", FamilyKind.COUNTER, "Number of failed requests to a model or a DAG.", _CALLS
)
REQUEST_TIME: Final = Family(
    "ovms_request_time_us",
    FamilyKind.HISTOGRAM,
    "Processing time of requests to a model or a DAG.",
    ("interface", "name", "version"),
    bounds=BOUNDS_US,
)
INFERENCE_TIME: Final = Family(
    "ovms_inference_time_us",
    FamilyKind.HISTOGRAM,
    "Inference execution time in the OpenVINO backend.",
    bounds=BOUNDS_US,
)
WAIT_TIME: Final = Family(
    "ovms_wait_for_infer_req_time_us",
    FamilyKind.HISTOGRAM,
    "Request waiting time in the scheduling queue.",
    bounds=BOUNDS_US,
)
STREAMS: Final = Family("ovms_streams", FamilyKind.GAUGE, "Number of OpenVINO execution streams.", merge=Merge.MAX)
CURRENT_REQUESTS: Final = Family(
    "ovms_current_requests", FamilyKind.GAUGE, "Number of inference requests currently in process."
)
QUEUE_SIZE: Final = Family(
    "ovms_infer_req_queue_size", FamilyKind.GAUGE, "Inference request queue size (nireq).", by_default=False,
    merge=Merge.MAX,
)  # fmt: skip
ACTIVE: Final = Family(
    "ovms_infer_req_active",
    FamilyKind.GAUGE,
    "Number of currently consumed inference request from the processing queue.",
    by_default=False,
)

FAMILIES: Final = (
    REQUESTS_SUCCESS,
    REQUESTS_FAIL,
    REQUEST_TIME,
    INFERENCE_TIME,
    WAIT_TIME,
    STREAMS,
    CURRENT_REQUESTS,
    QUEUE_SIZE,
    ACTIVE,
)
"""The reference's."""

PREFIX: Final = "tornado_ovms_"

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _ours(
    name: str,
    kind: FamilyKind,
    text: str,
    *labels: str,
    bounds: tuple[float, ...] = (),
    merge: Merge = Merge.SUM,
) -> Family:
    suffix = TOTAL if kind is FamilyKind.COUNTER else ""
    return Family(PREFIX + name, kind, text, labels, bounds=bounds, suffix=suffix, merge=merge)


HTTP_RESPONSES: Final = _ours("http_responses", FamilyKind.COUNTER, "Answers over HTTP.", "code", "method", "route")
HTTP_REQUEST_BYTES: Final = _ours(
    "http_request_bytes", FamilyKind.COUNTER, "Bytes of request bodies, as received.", "route"
)
HTTP_RESPONSE_BYTES: Final = _ours(
    "http_response_bytes", FamilyKind.COUNTER, "Bytes of the bodies of answers, as sent.", "route"
)
REFUSED: Final = _ours("refused_requests", FamilyKind.COUNTER, "Requests refused because of a limit.", "reason")
STAGE_SECONDS: Final = _ours(
    "request_stage_seconds", FamilyKind.COUNTER,
    "Seconds that successful predictions have spent in each stage.", "name", "stage", "version",
)  # fmt: skip
WAITING: Final = _ours(
    "waiting_requests", FamilyKind.GAUGE, "Requests that wait for an infer request.", "name", "version"
)
MODEL_STATE: Final = _ours(
    "model_state", FamilyKind.GAUGE, "1 for the state that a version is in.", "name", "state", "version",
    merge=Merge.MAX,
)  # fmt: skip
MODEL_LOADS: Final = _ours(
    "model_loads", FamilyKind.COUNTER, "Attempts to load a version.", "name", "result", "version"
)
MODEL_LOAD_SECONDS: Final = _ours(
    "model_load_seconds", FamilyKind.GAUGE, "How long the last load of a version took.", "name", "version",
    merge=Merge.MAX,
)  # fmt: skip
MODEL_LOADED: Final = _ours(
    "model_last_load_timestamp_seconds", FamilyKind.GAUGE,
    "When a version was last loaded, in seconds since 1970; 0: never.", "name", "version", merge=Merge.MAX,
)  # fmt: skip
RELOADS: Final = _ours(
    "reloads", FamilyKind.COUNTER, "Passes that changed something, failed, or were asked for.", "result"
)
RELOAD_SUCCESS: Final = _ours(
    "last_successful_reload_timestamp_seconds", FamilyKind.GAUGE,
    "When the last pass without a fault ended, in seconds since 1970.", merge=Merge.MIN,
)  # fmt: skip
SEQUENCES: Final = _ours("open_sequences", FamilyKind.GAUGE, "Open sequences of stateful models.", "name", "version")
WORKERS: Final = _ours("workers", FamilyKind.GAUGE, "Processes that serve.")
BATCH_ROWS: Final = _ours(
    "batch_rows", FamilyKind.HISTOGRAM, "Rows of inferences that requests are joined to.", "name", "version",
    bounds=(1, 2, 4, 8, 16, 32, 64, 128),
)  # fmt: skip
BATCH_WINDOW_SECONDS: Final = _ours(
    "batch_window_seconds", FamilyKind.COUNTER, "Seconds that requests have waited to be joined by others.",
    "name", "version",
)  # fmt: skip
LOOP_LAG: Final = _ours("loop_lag_seconds", FamilyKind.HISTOGRAM, "How late the event loop is.", bounds=_SECONDS)
BUILD_INFO: Final = _ours(
    "build_info", FamilyKind.GAUGE, "1, with the versions of what runs.", "openvino", "python", "version",
    merge=Merge.MAX,
)  # fmt: skip

OUR_FAMILIES: Final = (
    HTTP_RESPONSES,
    HTTP_REQUEST_BYTES,
    HTTP_RESPONSE_BYTES,
    REFUSED,
    STAGE_SECONDS,
    WAITING,
    MODEL_STATE,
    MODEL_LOADS,
    MODEL_LOAD_SECONDS,
    MODEL_LOADED,
    RELOADS,
    RELOAD_SUCCESS,
    SEQUENCES,
    WORKERS,
    BATCH_ROWS,
    BATCH_WINDOW_SECONDS,
    LOOP_LAG,
    BUILD_INFO,
)
"""Those that the reference does not have; served whenever metrics are, beside what a list names."""

GRAPH_FAMILIES: Final = (
    "ovms_current_graphs",
    "ovms_requests_accepted",
    "ovms_requests_rejected",
    "ovms_responses",
    "ovms_graph_error",
    "ovms_graph_processing_time_us",
)
"""May be listed, as in the reference, but never have a sample: they are about MediaPipe graphs."""

DEFAULT_FAMILIES: Final = tuple(family.name for family in FAMILIES if family.by_default)

_NAMES: Final = frozenset((*(family.name for family in FAMILIES), *GRAPH_FAMILIES))


def resolve_metrics(command_line: MetricsSettings, config: MetricsSettings | None, rest_port: int) -> MetricsSettings:
    """What is served, of what the command line and the ``monitoring`` section of the configuration file say.

    Returns:
        Settings with every family named.

    Raises:
        Failure: METRICS_TWICE if both speak, METRICS_FAMILY for a name that is unknown or listed twice,
            METRICS_WITHOUT_REST_PORT.
    """
    if config is not None and command_line.enable:
        raise Failure(Code.METRICS_TWICE, "expected --metrics_enable or /monitoring, found both")
    chosen = command_line if config is None else config
    families = DEFAULT_FAMILIES if chosen.families is None else chosen.families
    for name, count in Counter(families).items():
        if name not in _NAMES:
            known = ", ".join(family.name for family in FAMILIES)
            raise Failure(Code.METRICS_FAMILY, f"Metrics family name not supported: {name}; expected some of {known}")
        if count > 1:
            raise Failure(Code.METRICS_FAMILY, f"Metrics family name not supported: {name} is listed {count} times")
    if chosen.enable and rest_port == 0:
        raise Failure(Code.METRICS_WITHOUT_REST_PORT)
    return replace(chosen, families=families)
