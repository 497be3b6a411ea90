"""Metrics of the served versions, in the reference's text form.

The samples are kept by prometheus_client; the text is written here, since the reference's dashboards rely on what that
library writes otherwise: whole numbers without ``.0``, counters without ``_total``. So far the families that describe
infer requests are served. Belongs to the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.utils import floatToGoString

from tornado_ovms.core.metric_families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tornado_ovms.core.settings import MetricsSettings

VERSION_GAUGES = ("ovms_streams", "ovms_current_requests", "ovms_infer_req_queue_size", "ovms_infer_req_active")


class Metrics:
    """The families that the settings ask for; nothing is served until ``enable``."""

    def __init__(self) -> None:
        self.is_enabled = False
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}

    def enable(self, settings: MetricsSettings) -> None:
        """Serve what the settings ask for."""
        self.is_enabled = settings.enable
        for family in FAMILIES:
            if family.name in (settings.families or ()) and family.name in VERSION_GAUGES:
                labels = ("name", "version")
                self._gauges[family.name] = Gauge(family.name, family.help, labels, registry=self._registry)

    def set_version(self, name: str, version: int, **values: int) -> None:
        """Set the gauges of a version, by the families' names without ``ovms_``; those that are not served are ignored."""
        for family, value in values.items():
            if gauge := self._gauges.get(f"ovms_{family}"):
                gauge.labels(name, version).set(value)

    def expose(self) -> bytes:
        """All samples as text."""
        return "".join(self._lines()).encode()

    def _lines(self) -> Iterable[str]:
        for family in self._registry.collect():
            if family.samples:
                yield f"# HELP {family.name} {family.documentation}\n# TYPE {family.name} {family.type}\n"
            for sample in family.samples:
                labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sorted(sample.labels.items()))
                yield f"{sample.name}{{{labels}}} {_number(sample.value)}\n"


def _escape(text: str) -> str:
    """A label's value (Prometheus text format 0.0.4)."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """Whole numbers without a point, as prometheus-cpp writes them."""
    if value.is_integer():
        return str(int(value))
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text
