"""What several workers have counted, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core import metric_families as families
from tornado_ovms.core.exposition import Buckets, Samples
from tornado_ovms.core.snapshot import Snapshot, add_ended, merge, take

if TYPE_CHECKING:
    from collections.abc import Iterable

COUNTS = st.dictionaries(st.sampled_from(['name="a"', 'name="ü\\n"', 'name="\udcff"']), st.integers(0, 2**60))
HISTOGRAMS = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.builds(Buckets, st.lists(st.integers(0, 9), min_size=34, max_size=34), st.floats(0, 1e9, width=32)),
)


def samples(counts: dict[str, int], histograms: dict[str, Buckets], gauge: float) -> list[Samples]:
    """One family of each kind."""
    return [
        Samples(families.REQUESTS_SUCCESS, counts.items()),
        Samples(families.REQUEST_TIME, histograms.items()),
        Samples(families.CURRENT_REQUESTS, [("", gauge)]),
        Samples(families.MODEL_LOADED, [("", gauge)]),
        Samples(families.RELOAD_SUCCESS, [("", gauge)]),
    ]


WORKERS = st.builds(samples, COUNTS, HISTOGRAMS, st.floats(-1e9, 1e9))


def values(merged: Iterable[Samples]) -> dict[str, dict[str, float | Buckets]]:
    """Families by name, series by labels."""
    return {each.family.name: dict(each.series) for each in merged}


@given(WORKERS)
def test_a_snapshot_is_read_back(worker: list[Samples]) -> None:
    """Whatever the labels and the numbers."""
    snapshot = take(worker)
    assert Snapshot.load(snapshot.dump()) == snapshot


@given(WORKERS, st.lists(WORKERS, max_size=3))
def test_totals_are_added_up(own: list[Samples], others: list[list[Samples]]) -> None:
    """Counters and histograms of all workers, whichever is asked."""
    found = values(merge(own, [take(each) for each in others]))
    everyone = [values(own), *map(values, others)]
    for labels, value in found["ovms_requests_success"].items():
        assert value == sum(each["ovms_requests_success"].get(labels, 0) for each in everyone)  # type: ignore[misc]
    for labels, buckets in found["ovms_request_time_us"].items():
        there = [each["ovms_request_time_us"][labels] for each in everyone if labels in each["ovms_request_time_us"]]
        assert list(buckets[0]) == [sum(column) for column in zip(*(each[0] for each in there), strict=True)]  # type: ignore[index]
    assert set(found["ovms_requests_success"]) == {one for each in everyone for one in each["ovms_requests_success"]}


@given(WORKERS, WORKERS)
def test_gauges_are_added_up_or_the_family_says_otherwise(own: list[Samples], other: list[Samples]) -> None:
    """The latest load of any worker counts, and the oldest of their last good reloads."""
    found = values(merge(own, [take(other)]))
    one, two = (values(each)["ovms_current_requests"][""] for each in (own, other))
    assert found["ovms_current_requests"][""] == one + two  # type: ignore[operator]
    assert found[families.MODEL_LOADED.name][""] == max(one, two)  # type: ignore[type-var]
    assert found[families.RELOAD_SUCCESS.name][""] == min(one, two)  # type: ignore[type-var]


@given(st.lists(WORKERS, min_size=1, max_size=4))
def test_of_those_that_have_ended_only_totals_stay(workers: list[list[Samples]]) -> None:
    """However they are added up, one by one or at once."""
    texts = [take(each).dump() for each in workers]
    at_once = add_ended(texts)
    step = texts[0]
    for text in texts[1:]:
        step = add_ended([step, text])
    assert Snapshot.load(at_once).gauges == {}
    counts = [Snapshot.load(each).totals["ovms_requests_success"] for each in (at_once, step)]
    assert counts[0] == counts[1]
