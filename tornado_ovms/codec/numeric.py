"""Long lists of numbers in a JSON text, read without a Python object for each number.

simdjson reads the numbers of nested lists into one buffer, but it flattens ragged lists silently, so that their nesting is
proven apart: ``read`` gives ``Numbers`` only for lists that are rectangular. ``carve`` takes such lists out of a document and
leaves a mark in their place; ``restore`` puts them into the values that the rest of the document was parsed to. Whatever is
not plain (ragged lists, lists with other values in them, escapes in strings) stays in the document for the general parser,
so that nothing is ever refused here.

Any thread may use this module: each list has a parser of its own, since a parser neither is safe for threads nor parses
again while its elements live.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, Final

import numpy as np
import simdjson

LONG: Final = 1024
"""Lists of fewer bytes are read faster by the general parser."""

SHORT_LIST: Final = 350
"""Inner lists of fewer bytes are proven faster by comparing their brackets than by looking at each list."""

MAX_RANK: Final = 32
"""An array of numpy 1 has no more dimensions. ``Numbers`` have fewer, as there may be a list around them."""

_MARK: Final = "\x01"
_NOT_NESTING: Final = bytes(set(range(256)) - set(b"[],"))

# What stands for the words while simdjson reads a list; a list that holds such a number by itself is not read here. The
# blank keeps what follows a word apart from it.
_WORDS: Final = (
    (b"-Infinity", b"-1.7976931348623155e308 ", -1.7976931348623155e308, -math.inf),
    (b"Infinity", b"1.7976931348623155e308 ", 1.7976931348623155e308, math.inf),
    (b"NaN", b"1.7976931348623153e308 ", 1.7976931348623153e308, math.nan),
)


class Numbers:
    """A rectangular list of numbers, at least one.

    Attributes:
        doubles: the numbers as float64, writeable, in the list's shape.
    """

    __slots__ = ("_element", "doubles")

    def __init__(self, doubles: np.ndarray, element: simdjson.Array | None) -> None:
        self.doubles = doubles
        self._element = element

    def integers(self) -> np.ndarray | None:
        """The numbers as int64, or as uint64 if they do not fit that; None unless all are integers that fit one of them."""
        if self._element is not None:
            with contextlib.suppress(TypeError, ValueError):
                return np.frombuffer(self._element.as_buffer(of_type="i"), np.int64).reshape(self.doubles.shape)
            with contextlib.suppress(TypeError, ValueError):
                return np.frombuffer(self._element.as_buffer(of_type="u"), np.uint64).reshape(self.doubles.shape)
        return None

    def tolist(self) -> list[Any]:
        """The same as nested Python lists, integers exact unless NaN or an infinity is among them."""
        values: list[Any] = self.doubles.tolist() if self._element is None else self._element.as_list()
        return values


def carve(document: bytes) -> tuple[bytes, list[Numbers]]:
    """Take long rectangular lists of numbers out of a JSON text.

    Returns:
        The text with a mark in place of each list, and the lists. The text is the same object if there are none. It is a
        valid document if the given one is; an invalid one can become valid only if ``restore`` misses a mark then.
    """
    if b"\\" in document:  # the ends of strings are not found by looking for quotation marks alone
        return document, []
    pieces: list[bytes] = []
    found: list[Numbers] = []
    view = memoryview(document)  # a list is looked at where it is: a copy would cost a tenth of reading it
    kept = position = 0
    for _ in range(len(document) // LONG + 1):  # with more strings than that the lists between them are short
        quote = document.find(b'"', position)
        end = quote if quote >= 0 else len(document)
        if end - position >= LONG:
            first, last = _span(document, position, end)
            numbers = read(view[first:last]) if last - first >= LONG else None
            if numbers is not None:
                pieces += (document[kept:first], b'"\\u0001%d"' % len(found))
                found.append(numbers)
                kept = last
        position = document.find(b'"', quote + 1) + 1
        if quote < 0 or position == 0:
            break
    if not found:
        return document, []
    return b"".join((*pieces, document[kept:])), found


def _span(document: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the only list between two strings can be: up to the brace that closes the object around it."""
    first = document.find(b"[", start, end)
    brace = document.find(b"}", first, end)
    return first, document.rfind(b"]", first, brace if brace >= 0 else end) + 1


def restore(tree: Any, found: list[Numbers]) -> Any:
    """Put lists back into the values that a carved text was parsed to; None if one of their marks is not a value there."""
    holder = [tree]
    containers: list[Any] = [holder]
    missing = len(found)
    while containers:
        container = containers.pop()
        for key, value in container.items() if type(container) is dict else enumerate(container):
            kind = type(value)
            if kind is dict or kind is list:
                containers.append(value)
            elif kind is str and value.startswith(_MARK):
                container[key] = found[int(value[1:])]
                missing -= 1
    return None if missing else holder[0]


def read(view: bytes | memoryview) -> Numbers | None:
    """Read one list; None if it is empty, not rectangular, or has anything but numbers (NaN and infinities too) in it."""
    numbers = _read_json(view)
    if numbers is not None:
        return numbers
    text = bytes(view)
    if not (b"N" in text or b"I" in text):
        return None
    counts = []
    for word, number, _, _ in _WORDS:
        counts.append(text.count(word))
        text = text.replace(word, number)
    numbers = _read_json(text)
    if numbers is None:
        return None
    doubles = numbers.doubles
    for (_, _, stand_in, value), count in zip(_WORDS, counts, strict=True):
        places = doubles == stand_in
        if np.count_nonzero(places) != count:
            return None
        doubles[places] = value
    return Numbers(doubles, None)


def _read_json(text: bytes | memoryview) -> Numbers | None:
    """The same for a list without NaN and infinities."""
    try:
        element: Any = simdjson.Parser().parse(text)
        doubles = np.frombuffer(element.as_buffer(of_type="d"), np.float64)
    except (TypeError, ValueError, RuntimeError):  # not JSON; other values than numbers; integers beyond 64 bits
        return None
    shape = []
    inner: Any = element
    while type(inner) is simdjson.Array:
        shape.append(len(inner))
        if not shape[-1] or len(shape) == MAX_RANK:
            return None
        inner = inner[0]
    if doubles.size != math.prod(shape) or not _is_rectangular(text, element, shape):
        return None
    return Numbers(doubles.reshape(shape), element)


def _is_rectangular(text: bytes | memoryview, element: simdjson.Array, shape: list[int]) -> bool:
    """Whether the lists, which hold as many numbers as the shape, have that shape.

    Either the brackets and commas of the text are compared with those of the shape: a list between whose brackets there is no
    comma holds one number or none, but since the count is right each holds one. Or, if that means to look at few lists, each
    list's length is looked at; no list is overlooked, as there are no more opening brackets than lists.
    """
    lists = [math.prod(shape[:level]) for level in range(len(shape))]
    if sum(lists) * SHORT_LIST > len(text):
        return bytes(text).translate(None, _NOT_NESTING) == _nesting(shape)
    if np.count_nonzero(np.frombuffer(text, np.uint8) == ord("[")) != sum(lists):
        return False
    level: list[Any] = [element]
    for depth, size in enumerate(shape):
        if any(type(each) is not simdjson.Array or len(each) != size for each in level):
            return False
        if depth < len(shape) - 1:
            level = [inner for each in level for inner in each]
    return True


def _nesting(shape: list[int]) -> bytes:
    """The brackets and commas of a list of that shape."""
    text = b"[%b]" % (b"," * (shape[-1] - 1))
    for size in reversed(shape[:-1]):
        text = b"[%b]" % b",".join([text] * size)
    return text
