"""Metrics as text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tornado_ovms.core.settings import MetricsSettings
from tornado_ovms.metrics import Metrics


def test_gauges_are_exposed_as_the_reference_does() -> None:
    """Whole numbers, sorted labels, only what was asked for."""
    metrics = Metrics()
    metrics.enable(MetricsSettings(enable=True, families=("ovms_streams",)))
    metrics.set_version("m", 3, streams=4, infer_req_active=1)
    assert metrics.expose().decode() == (
        "# HELP ovms_streams Number of OpenVINO execution streams.\n"
        "# TYPE ovms_streams gauge\n"
        'ovms_streams{name="m",version="3"} 4\n'
    )


def test_names_may_hold_anything() -> None:
    """Quotes, backslashes and line feeds come through a parser unharmed."""
    metrics = Metrics()
    metrics.enable(MetricsSettings(enable=True, families=("ovms_streams",)))
    name = 'a"b\\c\nd/ü'
    metrics.set_version(name, 1, streams=1)
    (family,) = text_string_to_metric_families(metrics.expose().decode())
    assert family.samples[0].labels["name"] == name


def test_nothing_is_exposed_before_there_is_something() -> None:
    """Not even the head of a family."""
    metrics = Metrics()
    metrics.enable(MetricsSettings(enable=True, families=("ovms_streams",)))
    assert metrics.expose() == b""
