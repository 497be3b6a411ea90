"""What several workers have counted, added up. Pure; any thread.

A snapshot is what one worker tells of its metrics: totals, which only grow and stay when it ends, and gauges, which end with it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tornado_ovms.core.exposition import Buckets
from tornado_ovms.core.metric_families import FamilyKind, Merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tornado_ovms.core.exposition import Samples

    Series = dict[str, float | Buckets]


class Snapshot(NamedTuple):
    """Values by family and labels; infinities and NaN included."""

    totals: dict[str, Series]
    gauges: dict[str, Series]

    def dump(self) -> bytes:
        """As bytes, for another process."""
        return json.dumps(self, separators=(",", ":")).encode()

    @classmethod
    def load(cls, text: bytes) -> Snapshot:
        """The same from bytes."""
        totals, gauges = json.loads(text)
        return cls({family: _series(values) for family, values in totals.items()}, gauges)


def _series(values: dict[str, float | list[list[int] | float]]) -> Series:
    return {labels: Buckets(*each) if isinstance(each, list) else each for labels, each in values.items()}  # type: ignore[arg-type]


def take(samples: Iterable[Samples]) -> Snapshot:
    """A snapshot of samples."""
    snapshot = Snapshot({}, {})
    for family, series in samples:
        kept = snapshot.gauges if family.kind is FamilyKind.GAUGE else snapshot.totals
        kept[family.name] = dict(series)
    return snapshot


def merge(samples: Iterable[Samples], others: Sequence[Snapshot]) -> list[Samples]:
    """Samples of this worker with those of others; series that only others have come behind."""
    merged = []
    for each in samples:
        series: Series = dict(each.series)
        for other in others:
            for labels, value in (other.totals.get(each.family.name) or other.gauges.get(each.family.name, {})).items():
                series[labels] = _merge(each.family.merge, series[labels], value) if labels in series else value
        merged.append(each._replace(series=series.items()))
    return merged


def _merge(how: Merge, one: float | Buckets, other: float | Buckets) -> float | Buckets:
    if isinstance(one, Buckets) and isinstance(other, Buckets):
        return Buckets([a + b for a, b in zip(one.counts, other.counts, strict=True)], one.sum + other.sum)
    if isinstance(one, Buckets) or isinstance(other, Buckets):
        raise TypeError("a histogram and a number")
    if how is Merge.SUM:
        return one + other
    return max(one, other) if how is Merge.MAX else min(one, other)


def add_ended(texts: Sequence[bytes]) -> bytes:
    """The totals of workers that have ended, as one snapshot without gauges."""
    totals: dict[str, Series] = {}
    for text in texts:
        for family, series in Snapshot.load(text).totals.items():
            sums = totals.setdefault(family, {})
            for labels, value in series.items():
                sums[labels] = _merge(Merge.SUM, sums[labels], value) if labels in sums else value
    return Snapshot(totals, {}).dump()
