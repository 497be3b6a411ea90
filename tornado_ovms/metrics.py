"""What is counted and measured, and the answer to Prometheus.

``Counter`` and ``Histogram`` are cells that the event loop alone writes to; they are made once, when a model is loaded or a
route is first used, and whoever counts holds on to them. prometheus_client's own take a lock and walk through the bounds: five of
them and a gauge cost 5 µs a request, these 1 µs. Gauges are functions that are asked when somebody looks. The library tells
about the process; ``core.exposition`` writes the text.

Cells belong to the event loop. ``expose`` may be called in a thread: it reads numbers that may be a moment apart. It holds the
GIL while it writes, 30 ms for 300 versions, so it rests often enough for the loop to get in between.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from prometheus_client import PlatformCollector, ProcessCollector

from tornado_ovms import __version__
from tornado_ovms.core.exposition import Buckets, Samples, write, write_labels
from tornado_ovms.core.metric_families import (
    BUILD_INFO,
    FAMILIES,
    OUR_FAMILIES,
    TOTAL,
    WORKERS,
    Family,
    FamilyKind,
    Merge,
)
from tornado_ovms.core.snapshot import Snapshot, merge, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.registry import Collector

    from tornado_ovms.core.settings import MetricsSettings

T = TypeVar("T")

LINES_AT_ONCE: Final = 250
"""So many lines are written between two rests: 0.2 ms. While 300 versions are scraped the loop is 3 ms late at worst then, and 6
to 10 ms if there are no rests at all."""

REST_S: Final = 1e-5
"""The shortest sleep lets a waiting thread have the GIL; it comes to 70 µs."""


_MERGES: Final = {
    "process_start_time_seconds": Merge.MIN,
    "process_max_fds": Merge.MAX,
    "python_info": Merge.MAX,
}
"""What the library's gauges of several processes come to; memory and descriptors are added up."""


class Counter:
    """Counts up; whoever counts adds to ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def read(self) -> float:
        """The count."""
        return self.value


class Histogram:
    """Counts observations by size."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count an observation; one that equals a bound is in its bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def read(self) -> Buckets:
        """The counts so far."""
        return Buckets(self.counts.copy(), self.sum)


class Gauge:
    """Tells a number when it is asked."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read


class Metrics:
    """All families and their series. What is served is known only once the configuration has been read (``enable``)."""

    def __init__(self) -> None:
        self.is_enabled = False
        self._families: tuple[Family, ...] = ()
        self._series: dict[str, dict[str, Any]] = {family.name: {} for family in (*FAMILIES, *OUR_FAMILIES)}
        labels = {"version": __version__, "openvino": _version_of("openvino"), "python": platform.python_version()}
        self.gauge(BUILD_INFO, lambda: 1, **labels)
        self.gauge(WORKERS, lambda: 1)

    def enable(self, settings: MetricsSettings) -> None:
        """Serve what the settings ask for, and all families of ours."""
        self.is_enabled = settings.enable
        wanted = settings.families or ()
        self._families = (*(family for family in FAMILIES if family.name in wanted), *OUR_FAMILIES)

    def counter(self, family: Family, **labels: str) -> Counter:
        """The counter with these labels."""
        return self._cell(family, labels, Counter)

    def histogram(self, family: Family, **labels: str) -> Histogram:
        """The histogram with these labels."""
        return self._cell(family, labels, lambda: Histogram(family.bounds))

    def gauge(self, family: Family, read: Callable[[], float], **labels: str) -> None:
        """Let a function tell the gauge with these labels from now on."""
        self._cell(family, labels, lambda: Gauge(read)).read = read

    def _cell(self, family: Family, labels: dict[str, str], make: Callable[[], T]) -> T:
        series, key = self._series[family.name], write_labels(labels)
        if key not in series:
            series[key] = make()
        cell: T = series[key]
        return cell

    def expose(self, others: Sequence[bytes] = (), *, openmetrics: bool) -> list[bytes]:
        """All samples as text, in pieces. Any thread.

        Args:
            others: snapshots of other workers, to be added.
            openmetrics: in that format instead of Prometheus's own.
        """
        lines = write(merge(self._samples(), [Snapshot.load(each) for each in others]), openmetrics=openmetrics)
        pieces = []
        while piece := "".join(islice(lines, LINES_AT_ONCE)):
            pieces.append(piece.encode(errors="replace"))  # names from the command line need not be UTF-8
            time.sleep(REST_S)
        return pieces

    def snapshot(self) -> bytes:
        """What this process has counted, for ``expose`` of another one. Any thread."""
        return take(self._samples()).dump()

    def _samples(self) -> Iterator[Samples]:
        for family in self._families:
            yield Samples(family, self._read(family))
        yield from _about_the_process()

    def _read(self, family: Family) -> Iterator[tuple[str, float | Buckets]]:
        for labels, cell in list(self._series[family.name].items()):
            yield labels, cell.read()


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _about_the_process() -> Iterable[Samples]:
    """``process_*`` and ``python_info``."""
    collectors: tuple[Collector, ...] = (ProcessCollector(registry=None), PlatformCollector(registry=None))
    for metric in (metric for collector in collectors for metric in collector.collect()):
        family = Family(metric.name, FamilyKind(metric.type), metric.documentation, ())
        family = family._replace(merge=_MERGES.get(metric.name, Merge.SUM))
        if family.kind is FamilyKind.COUNTER:
            family = family._replace(suffix=TOTAL)
        yield Samples(family, [(write_labels(each.labels), each.value) for each in metric.samples])
