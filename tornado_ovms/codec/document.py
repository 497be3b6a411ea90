"""JSON text to Python values: strictly RFC 8259, apart from NaN and the infinities.

orjson reads the document, except for long lists of numbers, which become ``Numbers`` (``codec.numeric``). What orjson refuses
is read again by simplejson, which knows ``NaN``, ``Infinity`` and ``-Infinity``; whatever else is wrong is told in the
reference's words (``codec.syntax``). Any thread may call ``parse``.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import orjson
import simplejson

from tornado_ovms.codec.numeric import LONG, carve, restore
from tornado_ovms.codec.syntax import explain
from tornado_ovms.core.status import Code, Failure

MAX_DEPTH: Final = 800
"""No parser is asked to go deeper, whatever the limit says: simplejson recurses once a level, and Python stops it at 1000."""

SLICE: Final = 1 << 20
"""Brackets are counted in so many bytes at a time: numpy takes eight for each."""

_STEPS: Final = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1

_WORD: Final = re.compile(rb"-?Infinity|NaN")


def parse(document: bytes, depth: int, *, ends_at_nul: bool = True) -> Any:
    """Read a JSON document.

    Of members that come twice the first counts. A NUL byte ends the document, as in the reference. Integers that fit int64 or
    uint64 are exact, others become floats. Long rectangular lists of numbers are ``Numbers``, never empty.

    Args:
        document: the text, UTF-8.
        depth: how deep lists and objects may be nested; the outermost counts as 1.
        ends_at_nul: False if nothing may follow a NUL byte.

    Raises:
        Failure: JSON_TOO_DEEP, or JSON_INVALID with message, offset, line and column.
    """
    text, numbers = carve(document) if len(document) >= LONG else (document, [])
    rank = max(each.doubles.ndim for each in numbers) if numbers else 0
    limit = min(depth, MAX_DEPTH)
    if _count(text, b"[") + _count(text, b"{") + rank > limit:
        _check_depth(document, limit)
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_again(document, depth, ends_at_nul=ends_at_nul)
    if _may_repeat(text, tree):
        tree = simplejson.loads(text, object_pairs_hook=_first_of_each)
    if not numbers:
        return tree
    tree = restore(tree, numbers)
    return _parse_again(document, depth, ends_at_nul=ends_at_nul) if tree is None else tree


def _parse_again(document: bytes, depth: int, *, ends_at_nul: bool) -> Any:
    """Read a document that orjson refuses: it holds NaN, ends in a NUL byte, or is not JSON."""
    head, nul, rest = document.partition(b"\0")
    if nul and (ends_at_nul or not rest):
        return parse(head, depth)
    stopped = 0
    try:
        # simplejson alone is too lenient: it takes 1e400 and half a surrogate pair.
        orjson.loads(_without_words(document))
        return simplejson.loads(document, allow_nan=True, object_pairs_hook=_first_of_each)
    except orjson.JSONDecodeError as error:
        stopped = error.pos
    except simplejson.JSONDecodeError:  # a word where only a string may stand
        pass
    raise explain(document, stopped)


def _check_depth(document: bytes, limit: int) -> None:
    """Refuse what is nested too deep."""
    if not document.lstrip(b" \t\r\n").startswith((b"{", b"[")):
        return  # a picture, perhaps: in what is neither an object nor a list nothing is nested, and reading it ends at once
    text = np.frombuffer(_without_escapes(document), np.uint8)
    is_in_string = False
    depth = deepest = 0
    for start in range(0, len(text), SLICE):
        part = text[start : start + SLICE]
        in_strings = _in_strings(part) ^ is_in_string
        levels = depth + np.cumsum(np.where(in_strings, 0, _STEPS[part]), dtype=np.int64)
        deepest = max(deepest, int(levels.max()))
        depth, is_in_string = int(levels[-1]), bool(in_strings[-1])
    if deepest > limit:
        raise Failure(Code.JSON_TOO_DEEP, f"Expected: at most {limit}; Actual: {deepest}")


def _count(text: bytes, character: bytes) -> int:
    """How often a character is in the text; in a long one numpy counts four times as fast as ``bytes`` do."""
    if len(text) < LONG:
        return text.count(character)
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == character[0]))


def _in_strings(text: np.ndarray) -> np.ndarray:
    """Whether each character is in a string, or begins one; the text is without escapes.

    A list of the parts between quotation marks would take up to 90 times as much memory as the text.
    """
    found: np.ndarray = np.logical_xor.accumulate(text == ord('"'))
    return found


def _without_escapes(document: bytes) -> bytes:
    """The same text, as long and as valid as before, in which every quotation mark begins or ends a string.

    A backslash outside a string is replaced too, but by what is no JSON there either.
    """
    return document.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in document else document


def _without_words(document: bytes) -> bytearray:
    """The same text with strings in place of NaN and the infinities, as long as these, and without escapes of quotation marks."""
    text = bytearray(_without_escapes(document))
    in_strings = _in_strings(np.frombuffer(text, np.uint8))
    for word in _WORD.finditer(text):
        start, end = word.span()
        if not in_strings[start]:
            text[start:end] = b'"%b"' % (b" " * (end - start - 2))
    return text


def _may_repeat(text: bytes, tree: Any) -> bool:
    """Whether an object of the document has two members of one name: then there are more colons than members."""
    colons = _count(text, b":")
    if colons < 2:  # noqa: PLR2004
        return False
    members = _count_members(tree)
    if colons == members:
        return False
    plain = np.frombuffer(_without_escapes(text), np.uint8)
    return int(np.count_nonzero((plain == ord(":")) & ~_in_strings(plain))) != members


def _count_members(tree: Any) -> int:
    """How many members all objects have, apart from those in lists that do not begin with an object."""
    count = 0
    pending = [tree]
    while pending:
        value = pending.pop()
        if type(value) is dict:
            count += len(value)
            pending.extend(value.values())
        elif type(value) is list and value and type(value[0]) is dict:
            pending.extend(value)
    return count


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))
