"""Parameters of the built-in nodes, read from text as the reference reads them.

A number is what the text begins with, as C's ``strtol`` and ``strtof`` have it (``12px`` is 12); a text that begins with none
stands for the default. The only text that means yes is ``true``. Any thread.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INTEGER: Final = re.compile(r"\s*([+-]?\d+)", re.ASCII)
_NUMBER: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.ASCII | re.IGNORECASE)

_INT_LIMIT: Final = 2.0**31
"""What is not below it does not fit into C's ``int``, and is no number for the reference."""

_FLOAT_MAX: Final = 3.4028234663852886e38


def read_integer(text: str) -> int | None:
    """The integer that a text begins with; None without one, and for one that does not fit into 32 bits.

    >>> read_integer(" -12.7"), read_integer("12px"), read_integer("px"), read_integer("3000000000")
    (-12, 12, None, None)
    """
    found = _INTEGER.match(text)
    if found is None:
        return None
    value = float(found[1])  # exact where it counts, and without int()'s limit of digits
    return int(value) if -_INT_LIMIT <= value < _INT_LIMIT else None


def read_number(text: str) -> float | None:
    """The number that a text begins with; None without one, and for one that does not fit into 32 bits.

    >>> read_number("0.5;"), read_number(".5e1"), read_number("e1"), read_number("1e39")
    (0.5, 5.0, None, None)
    """
    found = _NUMBER.match(text)
    if found is None:
        return None
    value = float(found[1])
    return value if abs(value) <= _FLOAT_MAX else None


def read_numbers(text: str) -> tuple[float, ...]:
    """The numbers of a list; empty if the text is none, or if one of its entries is no number.

    >>> read_numbers("[1,2.5, 3]"), read_numbers("1,2"), read_numbers("[1,x]"), read_numbers("[1,]")
    ((1.0, 2.5, 3.0), (), (), (1.0,))
    """
    if not (len(text) > 1 and text[0] == "[" and text[-1] == "]"):
        return ()
    entries = text[1:-1].split(",")
    if not entries[-1]:
        entries.pop()
    numbers = [number for entry in entries if (number := read_number(entry)) is not None]
    return tuple(numbers) if len(numbers) == len(entries) else ()


class Parameters:
    """The ``params`` of a node. What cannot be used is a ``ValueError``: which parameter, what was expected and what came."""

    def __init__(self, params: Mapping[str, str]) -> None:
        self._params = params

    def integer(self, name: str, default: int | None = None, *, minimum: int | None = None) -> int:
        """An integer; required if there is no default, and not below the minimum."""
        text = self._params.get(name, "")
        value = read_integer(text)
        value = default if value is None else value
        if value is None or (minimum is not None and value < minimum):
            raise self._refusal(name, "an integer" if minimum is None else f"an integer of at least {minimum}")
        return value

    def size(self, name: str) -> int | None:
        """Pixels, at least one; None where the picture keeps its own: without a number, and at -1."""
        value = self.integer(name, -1)
        if value < -1 or value == 0:
            raise self._refusal(name, "an integer of at least 1, or -1")
        return None if value == -1 else value

    def fraction(self, name: str, default: float | None = None) -> float:
        """A number from 0 to 1; required if there is no default."""
        value = self.number(name)
        value = default if value is None else value
        if value is None or not 0 <= value <= 1:
            raise self._refusal(name, "a number from 0 to 1")
        return value

    def positive(self, name: str, default: float) -> float:
        """A number that is not below 0."""
        value = self.number(name)
        value = default if value is None else value
        if value < 0:
            raise self._refusal(name, "a number of at least 0")
        return value

    def number(self, name: str) -> float | None:
        """Any number; None without one."""
        return read_number(self._params.get(name, ""))

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of so many numbers, or an empty one."""
        values = read_numbers(self._params.get(name, ""))
        if values and len(values) != count:
            raise self._refusal(name, f"{count} numbers, as [a,b,c]")
        return values

    def flag(self, name: str) -> bool:
        """Whether it is ``true``."""
        return self._params.get(name) == "true"

    def choice(self, name: str, choices: Sequence[str], default: str = "") -> str:
        """One of some words; required if there is no default. An empty text stands for the default."""
        value = self._params.get(name) or default
        if value not in choices:
            raise self._refusal(name, f"one of {', '.join(choices)}")
        return value

    def _refusal(self, name: str, expected: str) -> ValueError:
        found = repr(self._params[name]) if name in self._params else "nothing"
        return ValueError(f"parameter {name} - Expected: {expected}; Actual: {found}")
