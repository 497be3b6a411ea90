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


class Family(NamedTuple):
    """One family of metrics; those that are not ``by_default`` are served only if they are listed."""

    name: str
    kind: FamilyKind
    help: str
    by_default: bool = True


FAMILIES: Final = (
    Family("ovms_requests_success", FamilyKind.COUNTER, "Number of successful requests to a model or a DAG."),
    Family("ovms_requests_fail", FamilyKind.COUNTER, "Number of failed requests to a model or a DAG."),
    Family("ovms_request_time_us", FamilyKind.HISTOGRAM, "Processing time of requests to a model or a DAG."),
    Family("ovms_inference_time_us", FamilyKind.HISTOGRAM, "Inference execution time in the OpenVINO backend."),
    Family("ovms_wait_for_infer_req_time_us", FamilyKind.HISTOGRAM, "Request waiting time in the scheduling queue."),
    Family("ovms_streams", FamilyKind.GAUGE, "Number of OpenVINO execution streams."),
    Family("ovms_current_requests", FamilyKind.GAUGE, "Number of inference requests currently in process."),
    Family("ovms_infer_req_queue_size", FamilyKind.GAUGE, "Inference request queue size (nireq).", by_default=False),
    Family(
        "ovms_infer_req_active",
        FamilyKind.GAUGE,
        "Number of currently consumed inference request from the processing queue.",
        by_default=False,
    ),
)

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
