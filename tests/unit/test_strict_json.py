"""JSON as strictly as the reference reads it, and how messages show a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.strict_json import MAX_DEPTH, SHOWN, Members, describe, dumps, escape, loads

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS, max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' [1, 2.5, "a", true, false, null]\n', [1, 2.5, "a", True, False, None]),
        (b'"\xc3\xbc\\u00fc\\ud83d\\ude00"', "üü\U0001f600"),
        ("1e3", 1000.0),
        ("-0", 0),
        ("18446744073709551616", 2**64),
        ("1e308", 1e308),
        ("1e-400", 0.0),
        ('"NaN"', "NaN"),
        ('"/* no comment */ [[["', "/* no comment */ [[["),
        ("7", 7),
    ],
)
def test_json_is_read(text: bytes | str, value: object) -> None:
    """Bytes and text alike; what looks odd inside of a string is fine."""
    found = loads(text)
    assert found == value
    assert type(found) is type(value) or isinstance(found, Members)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is nothing in it"),
        (" \n", "there is nothing in it"),
        ("{", "line 1 column 2"),
        ('{\n  "a": 1\n  "b": 2\n}', "line 3 column 3"),
        ('{"a": 1,}', "a comma before the end of a list or an object: line 1 column 8"),
        ("[1,]", "a comma before the end of a list or an object: line 1 column 3"),
        ('{\n  "a": [\n    1,\n  ]\n}', "a comma before the end of a list or an object: line 3 column 6"),
        ("[1,,2]", "Expecting value: line 1 column 4"),
        ("{'a': 1}", "line 1"),
        ("{a: 1}", "line 1"),
        ("// comment\n{}", "line 1"),
        ("{} /* comment */", "line 1"),
        ("{} {}", "line 1"),
        ("01", "line 1"),
        ("+1", "line 1"),
        ("1.", "line 1"),
        (".5", "line 1"),
        ("0x10", "line 1"),
        ("True", "line 1"),
        ('"a\nb"', "line 1"),
        ('"\\x41"', "line 1"),
        ("NaN", "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("1e400", "the number 1e400 is beyond the range of a double"),
        ("-1e400", "the number -1e400 is beyond the range of a double"),
        ("1" + "0" * 400, "is beyond the range of a double"),
        ("-1" + "0" * 400, "is beyond the range of a double"),
        ("1" * 5000, "is beyond the range of a double"),
        ("\ufeff{}", "byte order mark"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "byte 0 is not UTF-8"),
        (b'"\xed\xa0\x80"', "byte 1 is not UTF-8"),
        ('"\\ud800"', "half of a surrogate pair"),
        ('{"\\udc00": 1}', "half of a surrogate pair"),
        ('["a\\u0000b"]', "a text holds a NUL"),
        ('{"\\\\\\u0000": 1}', "a text holds a NUL"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes | str, reason: str) -> None:
    """The reason says what is wrong, and where if that is known."""
    with pytest.raises(ValueError, match=r".") as caught:
        loads(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_a_limit(opening: str, closing: str) -> None:
    """A hundred is fine; millions do no harm; brackets in strings do not count."""
    inner = '"\\"[[[["' if opening == "[" else '"{{{{\\\\"'
    loads(opening * MAX_DEPTH + inner + closing * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 1_000_000):
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            loads(opening * depth + inner + closing * depth)


def test_depth_is_not_length() -> None:
    """Many lists side by side are not deep."""
    assert loads("[" + ",".join(["[]"] * 1000) + "]") == [[]] * 1000


def test_of_doubled_members_the_first_counts() -> None:
    """All names are kept, at every level."""
    document = loads('{"a": {"x": 1, "x": 2}, "b": 3, "a": 4}')
    assert document == {"a": {"x": 1}, "b": 3}
    assert document.names == ("a", "b", "a")
    assert document["a"].names == ("x", "x")


def test_text_is_written_as_the_reference_does() -> None:
    """Four blanks a level, a line end, and no escapes where none are needed."""
    assert dumps({"a": [{"b": "ü/"}], "c": {}}) == (
        '{\n    "a": [\n        {\n            "b": "ü/"\n        }\n    ],\n    "c": {}\n}\n'
    )


@pytest.mark.parametrize(("name", "part"), [("a", "a"), ("a/b", "a~1b"), ("a~b", "a~0b"), ("~1", "~01"), ("", "")])
def test_names_in_pointers(name: str, part: str) -> None:
    """RFC 6901: slashes and tildes are escaped, tildes first."""
    assert escape(name) == part


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Members([]), "an empty object"),
        (Members([("a", 1), ("b", 2), ("a", 3)]), "an object with the keys a, b, a"),
        ([], "a list of 0"),
        ([1, [2]], "a list of 2"),
        ("ü", '"ü"'),
        (2.0, "2.0"),
        (True, "true"),
        (None, "null"),
        ("x" * 200, '"' + "x" * (SHOWN - 1) + "…"),
        (Members([("x" * 200, 1)]), f"an object with the keys {'x' * SHOWN}…"),
    ],
)
def test_values_in_messages(value: object, text: str) -> None:
    """As JSON, in a few words, never long."""
    assert describe(value) == text


@given(DOCUMENTS)
def test_what_is_written_is_read_again(document: Any) -> None:
    """Whatever a document holds, but for half a character and NUL."""
    assert loads(dumps(document)) == document
    assert loads(json.dumps(document).encode()) == document


@given(st.binary(max_size=40) | st.text('[]{}",:\\u0dea19 .-+tfn', max_size=40))
def test_any_text_is_a_document_or_refused(text: bytes | str) -> None:
    """Nothing but ValueError comes out, and what is read can be written."""
    try:
        document = loads(text)
    except ValueError:
        return
    dumps(document).encode()


def test_what_looks_like_a_nul_is_none() -> None:
    """A backslash before the letters of its escape."""
    assert loads(r'["\\u0000"]') == [r"\u0000"]
