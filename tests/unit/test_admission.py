"""Which requests are taken on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import FakeExecutable
from tornado_ovms.core.lifecycle import Blueprint, Event, Key
from tornado_ovms.core.settings import Batching, LoadLimits, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.admission import Admission
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.servable import Instance


def make(load: LoadLimits, **settings: Any) -> Admission:
    """With model ``m`` of these settings, whose versions 1 and 2 serve with one infer request each."""
    registry = Registry(Metrics())
    for number in (1, 2):
        blueprint = Blueprint(Key("m", number), ModelSettings("m", "/m", **settings), f"/m/{number}", ())
        version = registry.add_version(blueprint)
        registry.advance(blueprint.key, Event.LOAD)
        version.instance = Instance(blueprint, FakeExecutable())
        registry.advance(blueprint.key, Event.LOADED)
    return Admission(load, registry)


def refused(admission: Admission, name: str, version: int | None, size: int) -> Code:
    """Why a request is not taken on."""
    with pytest.raises(Failure) as caught:
        admission.enter(name, version, size)
    return caught.value.code


def test_requests_are_counted_until_they_leave() -> None:
    """Whatever they are for."""
    admission = make(LoadLimits(requests=2))
    first = admission.enter("m", 1, 5)
    admission.enter("nobody", None, 5)
    assert refused(admission, "m", 1, 5) is Code.TOO_MANY_REQUESTS
    admission.leave(first)
    admission.enter("m", 1, 5)


def test_bytes_are_counted_as_announced_and_as_received() -> None:
    """A refused growth counts for nothing."""
    admission = make(LoadLimits(bytes=10))
    ticket = admission.enter("m", 1, 4)
    admission.grow(ticket, 6)
    assert refused(admission, "m", 1, 5) is Code.TOO_MANY_BYTES
    with pytest.raises(Failure, match="Request body too large - Expected: 10 bytes at most; Actual: 11"):
        admission.grow(ticket, 11)
    other = admission.enter("m", 1, 1)
    with pytest.raises(Failure, match="Expected: 10 at most; Actual: 10, and 1 of others"):
        admission.grow(ticket, 10)
    admission.leave(other)
    admission.leave(ticket)
    admission.enter("m", 1, 10)


@pytest.mark.parametrize(("batching", "at_work"), [(None, 1), (Batching(4), 4)])
def test_each_version_has_a_line_of_its_own(batching: Batching | None, at_work: int) -> None:
    """Beyond what is at work; the default version is in the line of its number."""
    admission = make(LoadLimits(queue=2), batching=batching)
    tickets = [admission.enter("m", 2, 0) for _ in range(at_work + 2)]
    assert refused(admission, "m", 2, 0) is refused(admission, "m", None, 0) is Code.QUEUE_FULL
    admission.enter("m", 1, 0)
    admission.leave(tickets[0])
    admission.enter("m", None, 0)


@pytest.mark.parametrize(("own", "room"), [(None, 3), (0, 9), (1, 2), (4, 5)])
def test_a_model_may_have_a_line_of_another_length(own: int | None, room: int) -> None:
    """It counts whatever the command line says; 0 is a line without an end."""
    admission = make(LoadLimits(queue=2), max_queue=own)
    for _ in range(room):
        admission.enter("m", 1, 0)
    if own != 0:
        assert refused(admission, "m", 1, 0) is Code.QUEUE_FULL


@pytest.mark.parametrize(("own", "found_s"), [(None, 9), (0, 0), (0.5, 0.5)])
def test_a_model_may_have_another_time(own: float | None, found_s: float) -> None:
    """It counts whatever the command line says; what is not there has the time of the command line."""
    admission = make(LoadLimits(request_timeout_s=9), request_timeout_s=own)
    assert admission.enter("m", None, 0).timeout_s == found_s
    assert admission.enter("nobody", None, 0).timeout_s == 9


def test_who_has_been_inferred_steps_out_of_the_line() -> None:
    """Once; it counts as a request until its client has the answer."""
    admission = make(LoadLimits(queue=1, requests=3))
    tickets = [admission.enter("m", 1, 0) for _ in range(2)]
    assert refused(admission, "m", 1, 0) is Code.QUEUE_FULL
    admission.step_out(tickets[0])
    admission.enter("m", 1, 0)
    assert refused(admission, "m", 1, 0) is Code.TOO_MANY_REQUESTS
    admission.leave(tickets[0])
    assert refused(admission, "m", 1, 0) is Code.QUEUE_FULL


def test_what_is_not_there_has_no_line() -> None:
    """It is answered with 404 later."""
    admission = make(LoadLimits(queue=1))
    for _ in range(9):
        admission.enter("nobody", None, 0)
        admission.enter("m", 99, 0)
