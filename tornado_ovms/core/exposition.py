"""Samples as text, for Prometheus to read.

Two formats: the text format 0.0.4, and OpenMetrics 1.0 for clients that ask for it. In both the reference's samples have the
names that its dashboards use: counters without ``_total``, whole numbers and bounds of buckets without a point. OpenMetrics has
no counter of such a name, so that there they are of the type ``unknown``, and wants powers of ten to be written with a point:
of the reference's bounds only 10 is one. Pure; any thread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.metric_families import FamilyKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tornado_ovms.core.metric_families import Family

TEXT: Final = "text/plain; charset=utf-8"
"""As the reference sends it, which names no version of the format."""

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_CANONICAL: Final = frozenset(float(f"1e{exponent}") for exponent in range(-10, 11))
"""Numbers whose text OpenMetrics prescribes."""


class Buckets(NamedTuple):
    """A histogram's value: how many observations fell into each bucket (not added up, the last one is +Inf), and their sum."""

    counts: Sequence[int]
    sum: float


class Samples(NamedTuple):
    """A family and its series: the text of its labels, as ``write_labels`` gives it, and a number or ``Buckets``."""

    family: Family
    series: Iterable[tuple[str, float | Buckets]]


def write_labels(labels: Mapping[str, str]) -> str:
    r"""Labels as text, in alphabetical order.

    >>> write_labels({"name": "m", "api": 'a"b'})
    'api="a\\"b",name="m"'
    """
    return ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()))


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(families: Iterable[Samples], *, openmetrics: bool) -> Iterator[str]:
    """The text, in pieces. Families without series are left out."""
    for family, series in families:
        head = _head(family, openmetrics=openmetrics)
        bounds = [*(_bound(bound, openmetrics=openmetrics) for bound in family.bounds), "+Inf"]
        for labels, value in series:
            if head:
                yield head
                head = ""
            if isinstance(value, Buckets):
                yield from _histogram(family.name, labels, bounds, value)
            else:
                yield f"{family.name}{family.suffix}{_in_braces(labels)} {_number(value)}\n"
    if openmetrics:
        yield "# EOF\n"


def _head(family: Family, *, openmetrics: bool) -> str:
    """``HELP`` and ``TYPE``. In the text format a counter is named as its samples are, in OpenMetrics without the suffix."""
    kind, name = family.kind.value, family.name
    if openmetrics and family.kind is FamilyKind.COUNTER and not family.suffix:
        kind = "unknown"
    elif not openmetrics:
        name += family.suffix
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n"


def _histogram(name: str, labels: str, bounds: Sequence[str], value: Buckets) -> Iterator[str]:
    before = f"{labels}," if labels else ""
    total = 0
    for bound, count in zip(bounds, value.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{before}le="{bound}"}} {total}\n'
    outer = _in_braces(labels)
    yield f"{name}_count{outer} {total}\n{name}_sum{outer} {_number(value.sum)}\n"


def _in_braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _bound(bound: float, *, openmetrics: bool) -> str:
    """The upper bound of a bucket."""
    return str(float(bound)) if openmetrics and bound in _CANONICAL else _number(bound)


def _number(value: float) -> str:
    """Whole numbers without a point, as prometheus-cpp writes them."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
