"""Requests joined to one inference: which may be, when they are, and how the answers are told apart.

``BatchAxes`` counts the rows of a request, joins several and splits what came of them; a row is one position on the batch
axis. ``Groups`` holds those that wait, and knows which are due. Neither knows a clock: time is a parameter, in seconds.

The functions may be called in any thread; a ``Groups`` belongs to whoever owns it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchAxes:
    """Where the batch is: the axis of each input by its name, and that of each output in their order."""

    inputs: Mapping[str, int]
    outputs: Sequence[int]

    def count_rows(self, arrays: Mapping[str, np.ndarray]) -> int | None:
        """The rows of a request; None if its inputs differ in that, as those do that the model broadcasts, or if it has none."""
        counts = {arrays[name].shape[axis] for name, axis in self.inputs.items()}
        return counts.pop() or None if len(counts) == 1 else None

    def key(self, arrays: Mapping[str, np.ndarray]) -> Hashable:
        """What is the same for requests that may be joined: every type, and every size but the rows."""
        return tuple(
            (array.dtype, array.shape[:axis], array.shape[axis + 1 :])
            for array, axis in ((arrays[name], axis) for name, axis in self.inputs.items())
        )

    def join(self, requests: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The rows of several requests of one key, one after the other, in new C-contiguous arrays."""
        joined = {}
        for name, axis in self.inputs.items():
            parts = [arrays[name] for arrays in requests]
            sizes = list(parts[0].shape)
            sizes[axis] = sum(part.shape[axis] for part in parts)
            # Left to itself numpy may lay out the result otherwise: which way round [1,1] lies nobody can tell.
            joined[name] = np.concatenate(parts, axis, out=np.empty(sizes, parts[0].dtype))
        return joined

    def follow(self, outputs: Sequence[np.ndarray], rows: int) -> bool:
        """Whether every output has so many rows."""
        return all(
            array.ndim > axis and array.shape[axis] == rows for array, axis in zip(outputs, self.outputs, strict=True)
        )

    def split(self, outputs: Sequence[np.ndarray], rows: Sequence[int]) -> list[list[np.ndarray]]:
        """The outputs of each request, which has so many rows.

        They are copies: views would keep the outputs of all for as long as the slowest client reads its own.
        """
        answers = []
        begin = 0
        for count in rows:
            part = slice(begin, begin := begin + count)
            answers.append([
                np.array(array[(*(slice(None),) * axis, part)], order="C")
                for array, axis in zip(outputs, self.outputs, strict=True)
            ])
        return answers


@dataclass(frozen=True, slots=True)
class _Place(Generic[T]):
    """One that waits: how many rows it has, and until when it may be kept waiting for others."""

    member: T
    rows: int
    deadline: float


class Groups(Generic[T]):
    """Those that wait, in groups that may be joined; one group after the other is served, and in it first come first.

    Args:
        max_rows: how many rows are joined at most. A member that has more is served alone.
        is_wanted: whether a member still waits; one that does not is left out.
    """

    def __init__(self, max_rows: int, is_wanted: Callable[[T], bool]) -> None:
        self._max_rows = max_rows
        self._is_wanted = is_wanted
        self._groups: dict[Hashable, deque[_Place[T]]] = {}

    def add(self, key: Hashable, member: T, rows: int, deadline: float) -> None:
        """Let a member wait with those of the same key; its deadline is not before theirs."""
        self._groups.setdefault(key, deque()).append(_Place(member, rows, deadline))

    def take(self, now: float) -> list[T]:
        """The members to be served together now, who wait no longer: of the first group that is due; empty if none is.

        A group is due when its rows are enough to fill a batch, or when its first member has waited until its deadline. What
        is left of it comes after all others.
        """
        for key, group in list(self._groups.items()):
            if group[0].deadline > now and sum(place.rows for place in group) < self._max_rows:
                continue
            del self._groups[key]
            members = self._fill(group)
            if group:
                self._groups[key] = group
            if members:
                return members
        return []

    def _fill(self, group: deque[_Place[T]]) -> list[T]:
        members: list[T] = []
        room = self._max_rows
        while group and (not members or group[0].rows <= room):
            place = group.popleft()
            if self._is_wanted(place.member):
                members.append(place.member)
                room -= place.rows
        return members

    @property
    def deadline(self) -> float | None:
        """When the next group is due, unless it fills up before; None if nobody waits."""
        return min((group[0].deadline for group in self._groups.values()), default=None)

    def __iter__(self) -> Iterator[T]:
        """All that wait. May be called in another thread than the owner's."""
        return (place.member for group in list(self._groups.values()) for place in list(group))
