"""What is wrong with a text that is not JSON, in the reference's words.

The reference parses with rapidjson, whose messages and byte offsets clients and operators know
(``rapidjson/error/en.h``). simplejson finds the place and the kind of the fault, ``explain`` turns them into rapidjson's terms
and adds line and column. Any thread may call it; it takes about ten times as long as parsing.
"""

from __future__ import annotations

import re
from typing import Final

import simplejson

from tornado_ovms.core.status import Code, Failure

_INVALID_VALUE: Final = "Invalid value."
_INVALID_ENCODING: Final = "Invalid encoding in string."
_NUMBER_TOO_BIG: Final = "Number too big to be stored in double."

_MESSAGES: Final = (
    ("Expecting property name", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Expecting ',' delimiter or '}'", "Missing a comma or '}' after an object member."),
    ("Expecting ',' delimiter or ']'", "Missing a comma or ']' after an array element."),
    ("Illegal trailing comma before end of object", "Missing a name for object member."),
    ("Illegal trailing comma before end of array", _INVALID_VALUE),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid control character", _INVALID_ENCODING),
    ("Invalid \\uXXXX escape", "Incorrect hex digit after \\u escape in string."),
    ("Invalid \\X escape", "Invalid escape character in string."),
    ("Extra data", "The document root must not be followed by other values."),
)
"""How simplejson's messages begin, and rapidjson's; whatever else simplejson says is an invalid value."""

_LITERALS: Final = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_CUT_NUMBER: Final = re.compile(r"(?P<fraction>-?\d+\.)(?!\d)|-?\d+(?:\.\d+)?[eE][-+]?")


def explain(document: bytes, stopped: int) -> Failure:
    """The refusal of a document that could not be parsed.

    Args:
        document: the text; it may hold NaN and infinities, which are not the fault.
        stopped: where another parser gave up, in characters; it is the place if simplejson finds nothing wrong.

    The document must not be nested so deep that Python's limit of recursion is reached.

    Returns:
        JSON_INVALID: ``Error: MESSAGE Offset: N - line L, column C``, where N counts bytes from 0, L and C from 1.
    """
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        return _failure(document[: error.start].decode(), _INVALID_ENCODING)
    if text.startswith("\ufeff"):
        return _failure("", _INVALID_VALUE)
    try:
        simplejson.loads(text, allow_nan=True)
    except simplejson.JSONDecodeError as error:
        message, position = _translate(text, error.msg, error.pos)
    except ValueError:  # more digits than Python turns into an int
        message, position = _NUMBER_TOO_BIG, stopped
    else:
        position = stopped
        message = (
            "The surrogate pair in string is invalid." if text[position : position + 1] == "\\" else _NUMBER_TOO_BIG
        )
    return _failure(text[:position], message)


def _failure(before: str, message: str) -> Failure:
    """The refusal at the end of ``before``."""
    line = before.count("\n") + 1
    column = len(before) - before.rfind("\n")
    return Failure(Code.JSON_INVALID, f"Error: {message} Offset: {len(before.encode())} - line {line}, column {column}")


def _translate(text: str, message: str, position: int) -> tuple[str, int]:
    """Rapidjson's message and place for simplejson's."""
    ours = next((ours for theirs, ours in _MESSAGES if message.startswith(theirs)), _INVALID_VALUE)
    if message.startswith("Illegal trailing comma"):
        return ours, _skip_blanks(text, position + 1)
    if message.startswith(("Expecting ','", "Extra data")):
        return _find_cut_number(text, position) or (ours, position)
    if message.startswith("Unterminated string"):
        return ours, len(text)
    if message.startswith("Invalid \\X escape"):
        return ours, position - 1
    if ours is _INVALID_VALUE:
        position = _skip_blanks(text, position)
        if position == len(text) and not text.strip():
            return "The document is empty.", position
        return ours, position + max(_common(text, position, literal) for literal in _LITERALS)
    return ours, position


def _skip_blanks(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found else position


def _common(text: str, position: int, literal: str) -> int:
    """How many characters of a literal there are before the text goes on with something else."""
    for count, character in enumerate(literal):
        if text[position + count : position + count + 1] != character:
            return count
    return len(literal)


def _find_cut_number(text: str, position: int) -> tuple[str, int] | None:
    """The message for a number that ends too early, such as ``1.`` or ``1e``, if that is what ends at the position."""
    start = len(text[:position].rstrip("0123456789.-+eE"))
    found = _CUT_NUMBER.match(text, start)
    if found is None or not start < position < found.end():
        return None
    what = "fraction part" if found["fraction"] else "exponent"
    return f"Miss {what} in number.", found.end()
