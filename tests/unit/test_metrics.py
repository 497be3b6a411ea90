"""Cells, and all samples together."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tornado_ovms import metrics as metrics_module
from tornado_ovms.core import metric_families as families
from tornado_ovms.core.settings import MetricsSettings
from tornado_ovms.metrics import LINES_AT_ONCE, Metrics


def enabled(*names: str) -> Metrics:
    """Metrics of which these families of the reference are served."""
    metrics = Metrics()
    metrics.enable(MetricsSettings(enable=True, families=names))
    return metrics


def text_of(metrics: Metrics, *, openmetrics: bool = False) -> str:
    """All samples."""
    return b"".join(metrics.expose(openmetrics=openmetrics)).decode()


def test_a_counter_counts() -> None:
    """The same labels are the same counter, in whatever order they come."""
    metrics = enabled("ovms_requests_success")
    labels = {"api": "KServe", "interface": "REST", "method": "ModelInfer", "name": "m", "version": "1"}
    metrics.counter(families.REQUESTS_SUCCESS, **labels).value += 1
    metrics.counter(families.REQUESTS_SUCCESS, **dict(reversed(labels.items()))).value += 2
    assert (
        'ovms_requests_success{api="KServe",interface="REST",method="ModelInfer",name="m",version="1"} 3\n'
        in text_of(metrics)
    )


@pytest.mark.parametrize(("value", "bucket"), [(0, "10"), (10, "10"), (10.5, "18"), (67466, "67466"), (2e9, "+Inf")])
def test_an_observation_is_in_its_bucket(value: float, bucket: str) -> None:
    """One that equals a bound is below it."""
    metrics = enabled("ovms_inference_time_us")
    metrics.histogram(families.INFERENCE_TIME, name="m", version="1").observe(value)
    lines = text_of(metrics).splitlines()
    counts = [line.rpartition(" ") for line in lines if line.startswith("ovms_inference_time_us_bucket")]
    assert len(counts) == 34
    first = next(name for name, _, count in counts if count == "1")
    assert first == f'ovms_inference_time_us_bucket{{name="m",version="1",le="{bucket}"}}'


def test_a_gauge_is_asked() -> None:
    """When somebody looks; the last one that was given tells."""
    metrics = enabled("ovms_streams")
    metrics.gauge(families.STREAMS, lambda: 1, name="m", version="1")
    value = 4
    metrics.gauge(families.STREAMS, lambda: value, name="m", version="1")
    value = 5
    assert 'ovms_streams{name="m",version="1"} 5\n' in text_of(metrics)


def test_names_may_hold_anything() -> None:
    """Quotes, backslashes and line feeds come through parsers unharmed."""
    metrics = enabled("ovms_streams")
    name = 'a"b\\c\nd/ü'
    metrics.gauge(families.STREAMS, lambda: 1, name=name, version="1")
    for parse, openmetrics in ((parse_text, False), (parse_openmetrics, True)):
        found = {family.name: family for family in parse(text_of(metrics, openmetrics=openmetrics))}
        assert found["ovms_streams"].samples[0].labels["name"] == name


def test_a_list_names_the_reference_s_families_only() -> None:
    """Ours are served all the same, and so is what is about the process; nothing has a head without samples."""
    metrics = enabled("ovms_streams")
    metrics.gauge(families.STREAMS, lambda: 1, name="m", version="1")
    metrics.gauge(families.CURRENT_REQUESTS, lambda: 1, name="m", version="1")
    heads = {line.split()[2] for line in text_of(metrics).splitlines() if line[:6] == "# TYPE"}
    assert "ovms_current_requests" not in heads
    assert {"ovms_streams", "tornado_ovms_build_info", "process_cpu_seconds_total", "python_info"} <= heads
    assert "tornado_ovms_loop_lag_seconds" not in heads


def test_both_formats_have_the_same_samples() -> None:
    """The reference's counters keep their names in OpenMetrics, where a counter could not have them."""
    metrics = enabled(*families.DEFAULT_FAMILIES)
    metrics.counter(families.REQUESTS_SUCCESS, name="m").value += 2
    metrics.counter(families.REFUSED, reason="body_bytes").value += 3
    metrics.histogram(families.REQUEST_TIME, name="m").observe(100.5)
    text, openmetrics = (text_of(metrics, openmetrics=each) for each in (False, True))
    assert openmetrics.endswith("# EOF\n")

    def samples(found: object) -> set[tuple[str, str]]:
        return {
            (
                sample.name.removesuffix("_total"),
                str({key: float(each) if key == "le" else each for key, each in sample.labels.items()}),
            )
            for family in found  # type: ignore[attr-defined]
            for sample in family.samples
            if not sample.name.startswith(("process_", "python_"))
        }

    assert samples(parse_text(text)) == samples(parse_openmetrics(openmetrics))
    for each in (text, openmetrics):  # the parser of the text format gives every counter the suffix
        assert '\novms_requests_success{name="m"} 2\n' in each
        assert '\ntornado_ovms_refused_requests_total{reason="body_bytes"} 3\n' in each


def test_many_lines_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rest after each, so that the loop need not wait for the GIL until all of them are written."""
    rests: list[float] = []
    monkeypatch.setattr(metrics_module.time, "sleep", rests.append)
    metrics = enabled("ovms_inference_time_us")
    for number in range(100):
        metrics.histogram(families.INFERENCE_TIME, name="m", version=str(number))
    for openmetrics in (False, True):
        rests.clear()
        pieces = metrics.expose(openmetrics=openmetrics)
        assert len(pieces) == len(rests) >= 100 * 36 / LINES_AT_ONCE
        # A head is two lines, and so are the last two of a histogram.
        assert all(piece.count(b"\n") <= 2 * LINES_AT_ONCE for piece in pieces)
        assert b"".join(pieces).count(b"ovms_inference_time_us_count{") == 100


def test_a_name_that_is_not_unicode_costs_nobody_else_its_samples() -> None:
    """Command lines may hold any bytes."""
    metrics = enabled("ovms_streams")
    metrics.gauge(families.STREAMS, lambda: 1, name="m\udcff", version="1")
    assert 'ovms_streams{name="m?",version="1"} 1\n' in text_of(metrics)
