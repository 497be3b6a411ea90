"""Samples as text, read back by the parsers of Prometheus's own client library."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tornado_ovms.core.exposition import Buckets, Samples, write, write_labels
from tornado_ovms.core.metric_families import (
    BOUNDS_US,
    FAMILIES,
    LOOP_LAG,
    OUR_FAMILIES,
    REFUSED,
    REQUEST_TIME,
    REQUESTS_SUCCESS,
    STREAMS,
    FamilyKind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client.metrics_core import Metric

    from tornado_ovms.core.metric_families import Family

PARSERS = {False: parse_text, True: parse_openmetrics}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def text_of(family: Family, value: float | Buckets, *, openmetrics: bool, **labels: str) -> str:
    """One series."""
    return "".join(write([Samples(family, [(write_labels(labels), value)])], openmetrics=openmetrics))


def parsed(family: Family, value: float | Buckets, *, openmetrics: bool, **labels: str) -> Metric:
    """The same, read back."""
    [found] = PARSERS[openmetrics](text_of(family, value, openmetrics=openmetrics, **labels))
    return found


@pytest.mark.parametrize("openmetrics", [False, True])
@given(value=TEXTS)
def test_any_text_can_be_a_label(openmetrics: bool, value: str) -> None:  # noqa: FBT001
    """Quotes, backslashes, line feeds and whatever else a name may hold."""
    found = parsed(STREAMS, 1, openmetrics=openmetrics, name=value, version="1")
    assert [(sample.name, sample.labels, sample.value) for sample in found.samples] == [
        ("ovms_streams", {"name": value, "version": "1"}, 1)
    ]


@pytest.mark.parametrize("openmetrics", [False, True])
@given(value=st.floats() | st.integers(0, 2**70))
def test_any_number_comes_through(openmetrics: bool, value: float) -> None:  # noqa: FBT001
    """NaN and the infinities, too, which no gauge should have; one of them must not cost all others."""
    [sample] = parsed(STREAMS, value, openmetrics=openmetrics, name="m").samples
    assert float(sample.value) == float(value) or (math.isnan(value) and math.isnan(sample.value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (42, "42"),
        (42.0, "42"),
        (0.5, "0.5"),
        (1e-7, "1e-07"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_numbers_are_written_as_the_reference_does(value: float, text: str) -> None:
    """Whole ones without a point."""
    assert text_of(STREAMS, value, openmetrics=False).endswith(f"\novms_streams {text}\n")


@given(
    counts=st.lists(st.integers(0, 2**40), min_size=34, max_size=34),
    total=st.floats(0, 1e12),
    name=TEXTS,
)
@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_histogram_adds_up(openmetrics: bool, counts: list[int], total: float, name: str) -> None:  # noqa: FBT001
    """Buckets are cumulative, the last one is the count, and labels stand beside ``le``."""
    found = parsed(REQUEST_TIME, Buckets(counts, total), openmetrics=openmetrics, name=name)
    assert found.type == "histogram"
    samples = {(sample.name[len(REQUEST_TIME.name) :], sample.labels.get("le")): sample for sample in found.samples}
    assert len(samples) == 36
    assert all(sample.labels["name"] == name for sample in samples.values())
    below = 0
    for bound, count in zip([*map(float, BOUNDS_US), math.inf], counts, strict=True):
        below += count
        [value] = [sample.value for (_, le), sample in samples.items() if le is not None and float(le) == bound]
        assert value == below
    assert samples["_count", None].value == below
    assert samples["_sum", None].value == total


def test_bounds_are_those_that_dashboards_name() -> None:
    """``le="67466"`` in both formats, whichever a scraper asks for; OpenMetrics prescribes how powers of ten are written."""
    for openmetrics in (False, True):
        text = text_of(REQUEST_TIME, Buckets([0] * 34, 0), openmetrics=openmetrics)
        bounds = re.findall(r'le="(.*?)"', text)
        assert bounds == ["10.0" if openmetrics else "10", *map(str, BOUNDS_US[1:]), "+Inf"]
    text = text_of(LOOP_LAG, Buckets([0] * 14, 0), openmetrics=True)
    assert re.findall(r'le="(.*?)"', text)[-5:] == ["1.0", "2.5", "5", "10.0", "+Inf"]


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, *OUR_FAMILIES], ids=lambda family: family.name)
def test_every_family_can_be_read(family: Family, openmetrics: bool) -> None:  # noqa: FBT001
    """By strict parsers, with its help and its type; OpenMetrics knows no counter without ``_total``."""
    value = Buckets([1] * (len(family.bounds) + 1), 1.5) if family.kind is FamilyKind.HISTOGRAM else 3
    found = parsed(family, value, openmetrics=openmetrics, **dict.fromkeys(family.labels, "x"))
    unknown = openmetrics and family.kind is FamilyKind.COUNTER and not family.suffix
    assert (found.documentation, found.type) == (family.help, "unknown" if unknown else family.kind.value)


def test_counters_keep_their_names() -> None:
    """The reference's have no suffix, whatever the format; ours have it in samples, and in the head of the text format."""
    for openmetrics in (False, True):
        assert "\novms_requests_success 3\n" in text_of(REQUESTS_SUCCESS, 3, openmetrics=openmetrics)
        assert "\ntornado_ovms_refused_requests_total 3\n" in text_of(REFUSED, 3, openmetrics=openmetrics)
    assert "# TYPE ovms_requests_success counter\n" in text_of(REQUESTS_SUCCESS, 3, openmetrics=False)
    assert "# TYPE ovms_requests_success unknown\n" in text_of(REQUESTS_SUCCESS, 3, openmetrics=True)
    assert "# TYPE tornado_ovms_refused_requests_total counter\n" in text_of(REFUSED, 3, openmetrics=False)
    assert "# TYPE tornado_ovms_refused_requests counter\n" in text_of(REFUSED, 3, openmetrics=True)


def test_a_family_without_series_is_left_out() -> None:
    """And an answer without any is empty, but for the end that OpenMetrics wants."""
    assert list(write([Samples(STREAMS, [])], openmetrics=False)) == []
    assert list(write([Samples(STREAMS, [])], openmetrics=True)) == ["# EOF\n"]


@pytest.mark.parametrize("labels", [{}, {"b": "1", "a": "2"}])
def test_labels_come_in_the_order_of_their_names(labels: Mapping[str, str]) -> None:
    """As in the reference; without any there are no braces."""
    text = text_of(STREAMS, 1, openmetrics=False, **labels)
    assert text.splitlines()[-1] == ('ovms_streams{a="2",b="1"} 1' if labels else "ovms_streams 1")
