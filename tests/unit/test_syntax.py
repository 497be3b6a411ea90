"""Refusals of texts that are not JSON: messages and offsets of the reference, lines and columns of ours."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from tests.strategies import DEPTH, raw
from tornado_ovms.codec.document import parse
from tornado_ovms.codec.syntax import explain
from tornado_ovms.core.status import Code, Failure

EMPTY = "The document is empty."
TWO_ROOTS = "The document root must not be followed by other values."
VALUE = "Invalid value."
NAME = "Missing a name for object member."
COLON = "Missing a colon after a name of object member."
OBJECT = "Missing a comma or '}' after an object member."
ARRAY = "Missing a comma or ']' after an array element."
QUOTE = "Missing a closing quotation mark in string."
ESCAPE = "Invalid escape character in string."
HEX = "Incorrect hex digit after \\u escape in string."
SURROGATE = "The surrogate pair in string is invalid."
ENCODING = "Invalid encoding in string."
BIG = "Number too big to be stored in double."
FRACTION = "Miss fraction part in number."
EXPONENT = "Miss exponent in number."

FAULTS = [
    (b"", EMPTY, 0),
    (b" \r\n\t", EMPTY, 4),
    (b"\0{}", EMPTY, 0),
    (b"{} x", TWO_ROOTS, 3),
    (b'"a" "b"', TWO_ROOTS, 4),
    (b"[1]]", TWO_ROOTS, 3),
    (b"{} 1.", TWO_ROOTS, 3),
    (b"nan", VALUE, 1),
    (b"tru", VALUE, 3),
    (b"[nul]", VALUE, 4),
    (b"[True]", VALUE, 1),
    (b"[tRUE]", VALUE, 2),
    (b"'a'", VALUE, 0),
    (b"+1", VALUE, 0),
    (b".5", VALUE, 0),
    (b"-", VALUE, 1),
    (b"[-.5]", VALUE, 2),
    (b"[--1]", VALUE, 2),
    (b"[1,]", VALUE, 3),
    (b"[1, ]", VALUE, 4),
    (b"[1,,2]", VALUE, 3),
    (b"[1,", VALUE, 3),
    (b"[", VALUE, 1),
    (b"}", VALUE, 0),
    (b'{"a":}', VALUE, 5),
    (b'{"a":', VALUE, 5),
    (b"[1,/* no */2]", VALUE, 3),
    (b"\xef\xbb\xbf{}", VALUE, 0),
    (b"\x0b1", VALUE, 0),
    (b"[Infinit]", VALUE, 8),
    (b"{{}", NAME, 1),
    (b"{'a':1}", NAME, 1),
    (b'{"a":1,}', NAME, 7),
    (b'{"a":1, }', NAME, 8),
    (b"{1:2}", NAME, 1),
    (b"{NaN:1}", NAME, 1),
    (b"{", NAME, 1),
    (b'{"signature_name:"","instances":[1]}', COLON, 18),
    (b'{"a"', COLON, 4),
    (b'{"a" 1}', COLON, 5),
    (b'{"a":1', OBJECT, 6),
    (b'{"a":1 "b":2}', OBJECT, 7),
    (b'{"a":1]', OBJECT, 6),
    (b"[1 2]", ARRAY, 3),
    (b"[01]", ARRAY, 2),
    (b"[-01]", ARRAY, 3),
    (b"[0x1]", ARRAY, 2),
    (b"[1.5.5]", ARRAY, 4),
    (b"[1 2.]", ARRAY, 3),
    (b"[NaNa]", ARRAY, 4),
    (b"[truex]", ARRAY, 5),
    (b"[1}", ARRAY, 2),
    (b"[1", ARRAY, 2),
    (b'"abc', QUOTE, 4),
    (b'{"a":"x\0y"}', QUOTE, 7),
    (rb'"\q"', ESCAPE, 1),
    (rb'{"a\U0041":1}', ESCAPE, 3),
    (rb'"\u12g4"', HEX, 1),
    (rb'["a\u12"]', HEX, 3),
    (rb'"\ud800"', SURROGATE, 1),
    (rb'"a\ud800\u0041"', SURROGATE, 2),
    (rb'[NaN,"\udc00"]', SURROGATE, 6),
    (b'"a\nb"', ENCODING, 2),
    (b'["\t"]', ENCODING, 2),
    (b'"\xff"', ENCODING, 1),
    (b"1e400", BIG, 0),
    (b"[1, -1e400]", BIG, 4),
    (b"[" + b"1" * 5000 + b"]", BIG, 1),
    (b"[NaN, 1e400]", BIG, 6),
    (b"1.", FRACTION, 2),
    (b"[-1.]", FRACTION, 4),
    (b"[1.,2]", FRACTION, 3),
    (b"[1.e5]", FRACTION, 3),
    (b"1e", EXPONENT, 2),
    (b"[1e+]", EXPONENT, 4),
    (b"[1.5e]", EXPONENT, 5),
    (b'{"a":2E-}', EXPONENT, 8),
]


@pytest.mark.parametrize(("document", "message", "offset"), FAULTS)
def test_messages_and_offsets_are_the_reference_s(document: bytes, message: str, offset: int) -> None:
    """Operators know rapidjson's words, and look at the byte that it names."""
    with pytest.raises(Failure) as caught:
        parse(document, DEPTH)
    assert caught.value.code is Code.JSON_INVALID
    assert caught.value.detail.startswith(f"Error: {message} Offset: {offset} - line ")


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (b"[1,\n  x]", "Offset: 6 - line 2, column 3"),
        (b"\n\n", "Offset: 2 - line 3, column 1"),
        ('["é", x]'.encode(), "Offset: 7 - line 1, column 7"),
        ('["é",\n"€" x]'.encode(), "Offset: 13 - line 2, column 5"),
    ],
)
def test_offsets_count_bytes_and_columns_characters(document: bytes, place: str) -> None:
    """The offset is the reference's; line and column are what an editor shows."""
    with pytest.raises(Failure) as caught:
        parse(document, DEPTH)
    assert caught.value.detail.endswith(place)


def test_the_whole_sentence() -> None:
    """The status, the reference's sentence, then where."""
    failure = explain(b"[1,]", 0)
    assert failure.http == 412
    assert failure.text == "The file is not valid json - Error: Invalid value. Offset: 3 - line 1, column 4"


def test_another_parser_s_place_counts_if_simplejson_finds_nothing() -> None:
    """It takes numbers that no double holds, and half of a surrogate pair."""
    assert explain(b"[1e400]", 1).detail == f"Error: {BIG} Offset: 1 - line 1, column 2"
    assert explain(rb'["\ud800"]', 2).detail == f"Error: {SURROGATE} Offset: 2 - line 1, column 3"


@given(raw)
def test_every_text_can_be_explained(document: bytes) -> None:
    """Nothing but a refusal comes back, with an offset within the document."""
    failure = explain(document, 0)
    assert failure.code is Code.JSON_INVALID
    found = re.fullmatch(r"Error: .+\. Offset: (\d+) - line \d+, column \d+", failure.detail)
    assert found is not None
    assert int(found[1]) <= len(document)
