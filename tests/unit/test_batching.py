"""What may be joined, when it is due, and that nothing of it is mixed up."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.strategies import NUMERIC
from tornado_ovms.core.batching import BatchAxes, Groups

Request = dict[str, np.ndarray]


@st.composite
def requests(draw: st.DrawFn) -> tuple[BatchAxes, list[Request]]:
    """Requests that may be joined, to a model with one to three inputs of any type, rank and place of the batch."""
    dtypes = [*(precision.dtype for precision in NUMERIC), np.dtype(np.bool_), np.dtype(object)]
    rows = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    axes, made = {}, [Request() for _ in rows]
    for name in draw(st.sampled_from(["x", "xy", "xyz"])):
        dtype = draw(st.sampled_from(dtypes))
        others = draw(npst.array_shapes(min_dims=0, max_dims=3, max_side=3))
        axes[name] = draw(st.integers(0, len(others)))
        elements = st.binary(max_size=3) if dtype.kind == "O" else npst.from_dtype(dtype)
        for request, count in zip(made, rows, strict=True):
            shape = (*others[: axes[name]], count, *others[axes[name] :])
            request[name] = draw(npst.arrays(dtype, shape, elements=elements, fill=st.nothing()))
    return BatchAxes(axes, list(axes.values())), made


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Type, shape and every bit."""
    return (one.dtype, one.shape, one.tolist().__repr__()) == (other.dtype, other.shape, other.tolist().__repr__())


@given(requests())
def test_what_is_joined_and_split_is_as_it_was(drawn: tuple[BatchAxes, list[Request]]) -> None:
    """Whatever the types, the ranks, the place of the batch, and how many rows each has."""
    axes, made = drawn
    rows = [axes.count_rows(request) for request in made]
    counts = [count for count in rows if count is not None]
    assert len(counts) == len(made)
    assert len({axes.key(request) for request in made}) == 1
    joined = axes.join(made)
    assert all(array.flags.c_contiguous for array in joined.values())
    assert axes.count_rows(joined) == sum(counts)
    outputs = list(joined.values())
    assert axes.follow(outputs, sum(counts))
    assert not axes.follow(outputs, sum(counts) + 1)
    answers = axes.split(outputs, counts)
    for request, answer in zip(made, answers, strict=True):
        assert all(same(one, other) for one, other in zip(request.values(), answer, strict=True))
        assert all(array.flags.owndata and array.flags.c_contiguous for array in answer)


AXES = BatchAxes({"x": 0, "y": 1}, [0])


def request(x: tuple[int, ...] = (1, 10), y: tuple[int, ...] = (3, 1), dtype: Any = np.float32) -> Request:
    """A request of these shapes."""
    return {"x": np.zeros(x, dtype), "y": np.zeros(y, np.float32)}


@pytest.mark.parametrize(
    ("other", "may_join"),
    [
        (request((4, 10), (3, 4)), True),
        (request((1, 11)), False),
        (request(y=(2, 1)), False),
        (request((1, 10, 1)), False),
        (request(dtype=np.float64), False),
    ],
)
def test_which_may_be_joined(other: Request, may_join: bool) -> None:  # noqa: FBT001
    """Those that differ in the batch axis only."""
    assert (AXES.key(request()) == AXES.key(other)) is may_join


@pytest.mark.parametrize(
    ("shapes", "rows"), [(((4, 10), (3, 4)), 4), (((4, 10), (3, 1)), None), (((0, 10), (3, 0)), None)]
)
def test_rows_are_counted(shapes: tuple[tuple[int, int], tuple[int, int]], rows: int | None) -> None:
    """Inputs that the model broadcasts have no common number of rows; nor has nothing at all."""
    assert AXES.count_rows(request(*shapes)) == rows


def test_outputs_without_the_axis_do_not_follow() -> None:
    """A model may give anything."""
    assert not BatchAxes({"x": 0}, [1]).follow([np.zeros(2)], 2)


def groups(*members: tuple[str, int, float], most: int = 4) -> Groups[tuple[str, int]]:
    """Members by key, rows and deadline; each is its key and its place."""
    made: Groups[tuple[str, int]] = Groups(most, lambda member: not member[0].isupper())
    for index, (key, rows, deadline) in enumerate(members):
        made.add(key.lower(), (key, index), rows, deadline)
    return made


def test_a_batch_is_due_at_the_deadline_of_its_first_or_when_it_is_full() -> None:
    """Not before, and the next deadline is told."""
    assert groups().deadline is None
    assert groups().take(9) == []
    waiting = groups(("a", 1, 5.0), ("a", 2, 6.0))
    assert (waiting.take(4.9), waiting.deadline) == ([], 5.0)
    waiting.add("a", ("a", 2), 1, 7.0)
    assert waiting.take(4.9) == [("a", 0), ("a", 1), ("a", 2)]
    assert (waiting.take(9), waiting.deadline) == ([], None)
    assert groups(("a", 1, 5.0), ("a", 2, 6.0)).take(5.0) == [("a", 0), ("a", 1)]


def test_a_batch_holds_so_many_rows() -> None:
    """Whole requests, in the order in which they came; one that is larger than a batch is alone."""
    waiting = groups(("a", 3, 0), ("a", 2, 0), ("a", 1, 0), ("a", 9, 0), ("a", 1, 0))
    taken = [[index for _, index in waiting.take(0)] for _ in range(5)]
    assert taken == [[0], [1, 2], [3], [4], []]


def test_groups_take_turns() -> None:
    """Much of one kind does not keep others waiting; in a group it is first come, first served."""
    waiting = groups(("a", 2, 0), ("a", 2, 0), ("a", 2, 0), ("a", 2, 0), ("b", 1, 0), ("c", 1, 0))
    taken = [[index for _, index in waiting.take(0)] for _ in range(4)]
    assert taken == [[0, 1], [4], [5], [2, 3]]


def test_who_has_gone_is_left_out() -> None:
    """Wherever in the line; groups without anybody are passed over."""
    assert groups(("A", 2, 0), ("a", 2, 0), ("A", 1, 0), ("a", 2, 0)).take(0) == [("a", 1), ("a", 3)]
    assert groups(("A", 2, 0), ("b", 2, 0)).take(0) == [("b", 1)]
    assert list(groups(("A", 2, 0), ("b", 2, 0))) == [("A", 0), ("b", 1)]


@given(
    st.lists(st.tuples(st.sampled_from("abAB"), st.integers(1, 6), st.integers(0, 5)), max_size=20), st.integers(2, 6)
)
def test_everybody_is_served_once_and_in_order(drawn: list[tuple[str, int, int]], most: int) -> None:
    """Nobody is lost, none who has gone is served, no batch is too large, and each has one kind of requests."""
    members = sorted(((key, rows, float(deadline)) for key, rows, deadline in drawn), key=lambda member: member[2])
    waiting = groups(*members, most=most)
    lines = {key: deque(i for i, member in enumerate(members) if member[0] == key) for key in "ab"}
    while taken := waiting.take(5.0):
        assert len(taken) == 1 or sum(members[index][1] for _, index in taken) <= most
        assert len({key for key, _ in taken}) == 1
        assert [index for _, index in taken] == [lines[key].popleft() for key, _ in taken]
    assert not any(lines.values())
    assert waiting.deadline is None
