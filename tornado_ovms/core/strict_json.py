"""JSON as the reference reads configuration: strict, with members of one name told apart.

Refused are comments, trailing commas, ``NaN`` and ``Infinity``, numbers beyond a double, a byte order mark, halves of
surrogate pairs, deep nesting. So is, unlike there, a NUL in a text: no path and no name may have one. Any thread.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

MAX_DEPTH: Final = 100

SHOWN: Final = 80
"""Characters of a value that a message shows."""

_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_TRAILING_COMMA: Final = re.compile(r",\s*[\]}]")

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class Members(dict[str, Any]):
    """An object of JSON. Of several members with one name the first counts; ``names`` lists them all."""

    __slots__ = ("names",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        for name, value in pairs:
            self.setdefault(name, value)
        self.names = tuple(name for name, _ in pairs)


def loads(text: bytes | str) -> Any:
    """The document that a text holds, its objects as ``Members``.

    Raises:
        ValueError: it is not JSON; the message says what is wrong and, where that is known, at which line and column.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start} is not UTF-8") from error
    if text.startswith("\ufeff"):
        raise ValueError("there is a byte order mark before the document")
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"objects and lists are nested more than {MAX_DEPTH} deep")
    if not text.strip():
        raise ValueError("there is nothing in it")
    try:
        document = json.loads(
            text, object_pairs_hook=Members, parse_int=_whole, parse_float=_finite, parse_constant=_refuse
        )
    except json.JSONDecodeError as error:
        raise _find_trailing_comma(text, error.pos) or error from error
    written = dumps(document)
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text holds half of a surrogate pair") from error
    if _NUL.search(written):
        raise ValueError("a text holds a NUL")
    return document


def _find_trailing_comma(text: str, stopped: int) -> ValueError | None:
    """The most frequent mistake in files that people write, which Python's releases tell in different words, if it is that."""
    comma = stopped if text[stopped : stopped + 1] == "," else len(text[:stopped].rstrip()) - 1
    if comma < 0 or not _TRAILING_COMMA.match(text, comma):
        return None
    return ValueError(str(json.JSONDecodeError("a comma before the end of a list or an object", text, comma)))


def dumps(document: Any) -> str:
    """The text of a document as the reference writes it: four blanks a level, and a line end."""
    return json.dumps(document, indent=4, ensure_ascii=False) + "\n"


def escape(name: str) -> str:
    """A member's name as part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def describe(value: Any) -> str:
    """A value as a message shows it, in a few words.

    >>> describe(Members([("b", 1), ("b", 2)]))
    'an object with the keys b, b'
    """
    if isinstance(value, Members):
        return f"an object with the keys {_shorten(', '.join(value.names))}" if value.names else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return _shorten(json.dumps(value, ensure_ascii=False))


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _depth(text: str) -> int:
    """How deep brackets are nested, outside of strings; whether they match is not looked at."""
    depth = deepest = 0
    for part in _STRING_OR_BRACKET.findall(text):
        if part in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif part in "]}":
            depth -= 1
    return deepest


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {_shorten(text)} is beyond the range of a double")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
