"""The life of a version: transitions, policies, and plans that converge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.lifecycle import (
    TRANSITIONS,
    Aspired,
    Blueprint,
    Current,
    ErrorCode,
    Event,
    Key,
    Load,
    Retire,
    State,
    VersionStatus,
    aspire,
    default_version,
    plan,
    select,
)
from tornado_ovms.core.settings import AllVersions, LatestVersions, ModelSettings, SpecificVersions, VersionPolicy

AVAILABLE = VersionStatus(State.AVAILABLE)
FAILED = VersionStatus(State.LOADING, ErrorCode.UNKNOWN)

policies = st.one_of(
    st.builds(LatestVersions, st.integers(1, 3)),
    st.builds(SpecificVersions, st.frozensets(st.integers(1, 6), max_size=3)),
    st.just(AllVersions()),
)
version_sets = st.frozensets(st.integers(1, 6))


def blueprint(version: int, stamp: int = 0, name: str = "m") -> Blueprint:
    """A version whose files have a time of change."""
    return Blueprint(Key(name, version), ModelSettings(name, "/m"), f"/m/{version}", (("model.xml", 1, stamp),))


@given(st.lists(st.sampled_from(Event), max_size=20))
def test_any_order_of_events_stays_in_the_table(events: list[Event]) -> None:
    """An event that cannot happen is refused and changes nothing; errors show only while loading."""
    status = VersionStatus()
    for event in events:
        try:
            status = TRANSITIONS[status, event]
        except KeyError:
            assert (status, event) not in TRANSITIONS
        assert status.error is ErrorCode.OK or status.state is State.LOADING


def test_every_state_is_reached_and_left() -> None:
    """No state is a trap, and only START is never entered."""
    entered = {status.state for status in TRANSITIONS.values()}
    left = {status.state for status, _ in TRANSITIONS}
    assert entered == set(State) - {State.START}
    assert left == set(State)


@given(policies, version_sets)
def test_a_policy_chooses_among_what_is_there(policy: VersionPolicy, versions: frozenset[int]) -> None:
    """Nothing is wanted that does not exist."""
    assert select(policy, versions) <= versions


def test_latest_is_by_number() -> None:
    """10 is later than 9 and than 2."""
    assert select(LatestVersions(2), [1, 2, 9, 10]) == {9, 10}


def test_a_broken_version_has_a_substitute() -> None:
    """With latest the next older one is taken; with specific there is none."""
    assert aspire(LatestVersions(), [1, 2, 3], [3]) == Aspired(frozenset({2}), frozenset({3}))
    assert aspire(SpecificVersions(frozenset({3})), [1, 2, 3], [3]) == Aspired(frozenset(), frozenset({3}))


@given(policies, version_sets, version_sets)
def test_nothing_unusable_is_wanted(policy: VersionPolicy, versions: frozenset[int], bad: frozenset[int]) -> None:
    """What is struck was unusable, and nothing that is wanted is."""
    wanted, struck = aspire(policy, versions, bad)
    assert not wanted & bad
    assert struck <= bad & versions


def test_the_default_is_the_highest_that_serves() -> None:
    """A higher one that has failed does not count."""
    assert default_version({1: AVAILABLE, 2: AVAILABLE, 3: FAILED}) == 2
    assert default_version({3: FAILED}) is None


def test_a_successor_is_loaded_before_its_predecessor_goes() -> None:
    """The first plan only loads, the next one retires."""
    current = {Key("m", 1): Current(AVAILABLE, blueprint(1))}
    assert plan([blueprint(2)], (), current) == [Load(blueprint(2), replaces=False)]
    current[Key("m", 2)] = Current(AVAILABLE, blueprint(2))
    assert plan([blueprint(2)], (), current) == [Retire(Key("m", 1))]


def test_changed_files_replace_a_version_that_serves() -> None:
    """The same number with other files is loaded anew while the old one serves."""
    current = {Key("m", 1): Current(AVAILABLE, blueprint(1, stamp=1))}
    assert plan([blueprint(1, stamp=2)], (), current) == [Load(blueprint(1, stamp=2), replaces=True)]


def test_what_has_failed_is_left_alone() -> None:
    """A version that was tried in vain is neither loaded again nor retired."""
    current = {Key("m", 1): Current(FAILED, blueprint(1))}
    assert plan([blueprint(1)], {Key("m", 1)}, current) == []


@given(
    policies,
    st.lists(st.dictionaries(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=5),
    st.frozensets(st.tuples(st.integers(1, 4), st.integers(0, 2))),
)
def test_any_sequence_of_folders_converges(
    policy: VersionPolicy, snapshots: list[dict[int, int]], broken: frozenset[tuple[int, int]]
) -> None:
    """Plans come to an end, never step outside the table, and never leave a gap.

    While versions are wanted that can be loaded, or are served already, one of them serves after every step.
    """
    current: dict[Key, Current] = {}
    for folders in snapshots:
        tried: set[Key] = set()
        served_before = any(each.status.state is State.AVAILABLE for each in current.values())
        for _ in range(20):
            failed = {key for key in tried if current[key].status != AVAILABLE}
            wanted, struck = aspire(policy, folders, {key.version for key in failed})
            aspired = [blueprint(version, folders[version]) for version in wanted]
            kept = {key for key in tried if current[key].blueprint != blueprint(key.version, folders[key.version])}
            actions = plan(aspired, kept | {Key("m", version) for version in struck}, current)
            if not actions:
                break
            for action in actions:
                _act(action, current, tried, broken)
            if served_before and wanted:
                assert any(each.status.state is State.AVAILABLE for each in current.values())
        else:
            pytest.fail("the plans do not come to an end")
        serving = {key.version for key, each in current.items() if each.status.state is State.AVAILABLE}
        assert serving == wanted


def _act(
    action: Load | Retire, current: dict[Key, Current], tried: set[Key], broken: frozenset[tuple[int, int]]
) -> None:
    """Do what a plan says, on statuses alone."""
    if isinstance(action, Retire):
        there = current[action.key]
        status = TRANSITIONS[there.status, Event.RETIRE]
        current[action.key] = there._replace(
            status=TRANSITIONS[status, Event.UNLOADED] if status.state is State.UNLOADING else status
        )
        return
    key, made = action.blueprint.key, action.blueprint
    tried.add(key)
    status = current[key].status if key in current else VersionStatus()
    fails = (key.version, made.fingerprint[0][2]) in broken
    if not action.replaces:
        status = TRANSITIONS[status, Event.LOAD]
    status = TRANSITIONS[status, Event.FAILED if fails else Event.LOADED]
    kept = current[key].blueprint if fails and action.replaces else made
    current[key] = Current(status, kept)
