"""JSON text to values: strict but for NaN and the infinities, whichever parser reads it."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import assume, given

from tests.strategies import DEPTH, documents, raw, widen
from tornado_ovms.codec.document import MAX_DEPTH, parse
from tornado_ovms.codec.numeric import LONG, Numbers
from tornado_ovms.core.status import Code, Failure


def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which of members that come twice the first counts."""
    return dict(reversed(pairs))


def plain(value: Any) -> Any:
    """A value that compares: pairs in place of objects, floats by their text, lists in place of ``Numbers``."""
    if isinstance(value, Numbers):
        value = value.tolist()
    if isinstance(value, dict):
        return sorted((key, plain(each)) for key, each in value.items())
    if isinstance(value, list):
        return [plain(each) for each in value]
    is_huge = isinstance(value, int) and not -(2**63) <= value < 2**64
    return repr(float(value) if is_huge else value)


def expected(document: bytes) -> Any:
    """What Python's own parser reads."""
    return plain(json.loads(document, object_pairs_hook=first_of_each))


@given(documents)
def test_documents_are_read(document: bytes) -> None:
    """Every JSON value, NaN and infinities among them."""
    assert plain(parse(document, DEPTH)) == expected(document)


@given(documents)
def test_long_lists_change_nothing(document: bytes) -> None:
    """Lists that are read apart come back to their places with their values."""
    document = document.replace(b"[", b"[" + b" " * LONG)
    if b"Infinity" in document or b"NaN" in document:  # then the integers beside them are doubles, too
        assert str(plain(parse(document, DEPTH))).replace(".0'", "'") == str(expected(document)).replace(".0'", "'")
    else:
        assert plain(parse(document, DEPTH)) == expected(document)


@given(raw)
def test_any_bytes_are_a_value_or_a_failure(document: bytes) -> None:
    """Nothing else is raised, and what is read is what Python's own parser reads up to the first NUL."""
    try:
        tree = parse(document, DEPTH)
    except Failure as failure:
        assert failure.code is Code.JSON_INVALID  # noqa: PT017 - both outcomes are right
    else:
        assert plain(tree) == expected(document.partition(b"\0")[0])


@given(raw)
def test_blanks_change_no_outcome(document: bytes) -> None:
    """What is refused among short lists is refused among long ones, with the same message."""
    assume(b'"' not in document.partition(b"[")[0])
    assert outcome(widen(document)) == outcome(document)


def outcome(document: bytes) -> Any:
    """A value, or the refusal without its place."""
    try:
        return plain(parse(document, DEPTH))
    except Failure as failure:
        return failure.code, failure.detail.partition("Offset")[0]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("form", ["%s", "[%s]", '{"a": %s}', '[1, "\\"NaN\\"", {"NaN": %s}]', "[ %s\n, 1e3 ]"])
def test_words_are_numbers(text: str, form: str) -> None:
    """Clients of TensorFlow Serving send them; in strings and names they stay text."""
    document = (form % text).encode()
    assert plain(parse(document, DEPTH)) == expected(document)


@pytest.mark.parametrize("text", ["nan", "NAN", "inf", "Inf", "-NaN", "+Infinity", "infinity", "1NaN", "NaN1", "Na N"])
def test_other_words_are_not(text: str) -> None:
    """Nothing but the three spellings."""
    for document in (text, f"[{text}]", f'{{"a":{text}}}', f"[{' ' * LONG}{text}]"):
        with pytest.raises(Failure) as caught:
            parse(document.encode(), DEPTH)
        assert caught.value.code is Code.JSON_INVALID


@pytest.mark.parametrize("begin", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"--boundary\r\n", b" \n-"])
def test_what_is_no_document_is_not_too_deep(begin: bytes) -> None:
    """A picture that is sent as it is has brackets enough, and the advice to nest less would help nobody."""
    with pytest.raises(Failure) as caught:
        parse(begin + b"[{" * DEPTH * 2, DEPTH)
    assert caught.value.code is Code.JSON_INVALID


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9007199254740993", 9007199254740993),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775809", -(2.0**63)),
        (b"1.0", 1.0),
        (b"1e2", 100.0),
        (b"-0.0", -0.0),
        (b"1" * 300, float("1" * 300)),
        (b"4.9e-324", 5e-324),
        (b"1e-400", 0.0),
    ],
)
def test_numbers(text: bytes, value: float) -> None:
    """Integers up to 64 bits stay integers, others become floats."""
    assert repr(parse(text, DEPTH)) == repr(value)


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (b'{"a":1,"a":2}', {"a": 1}),
        (b'{"a":1,"b":3,"a":{"c":4}}', {"a": 1, "b": 3}),
        (b'[1,{"a":1,"a":2}]', [1, {"a": 1}]),
        (b'[{"a":[{"b":1,"b":2}]}]', [{"a": [{"b": 1}]}]),
        (b'{"a":{"b":1,"b":2},"a":7}', {"a": {"b": 1}}),
        (rb'{"a":1,"\u0061":2}', {"a": 1}),
        (b'{"a":":","a":"::"}', {"a": ":"}),
        (b'{"a":NaN,"a":1}', {"a": math.nan}),
        (b'{"a":1,"b":":","c":2}', {"a": 1, "b": ":", "c": 2}),
    ],
)
def test_of_members_that_come_twice_the_first_counts(document: bytes, value: Any) -> None:
    """As in the reference; Python's parsers take the last."""
    assert plain(parse(document, DEPTH)) == plain(value)


def test_of_long_lists_that_come_twice_the_first_counts() -> None:
    """The second one may not take the first one's place."""
    document = b'{"a":[%b],"b":[3],"a":[%b]}' % (b"1," * LONG + b"1", b"2," * LONG + b"2")
    assert plain(parse(document, DEPTH)) == plain({"a": [1] * (LONG + 1), "b": [3]})


def test_a_list_cannot_be_a_name() -> None:
    """A long one is not let in by the mark that stands for it while the rest is parsed."""
    with pytest.raises(Failure) as caught:
        parse(b"{[%b]:1}" % (b"1," * LONG + b"1"), DEPTH)
    assert caught.value.detail == "Error: Missing a name for object member. Offset: 1 - line 1, column 2"


@pytest.mark.parametrize("document", [b'{"a":1}\0', b'{"a":1}\0{"a":', b'{"a":1} \0\xff\0'])
def test_a_nul_byte_ends_the_document(document: bytes) -> None:
    """The reference reads a C string."""
    assert parse(document, DEPTH) == {"a": 1}


def test_nothing_may_follow_a_nul_byte_where_that_is_wanted() -> None:
    """Binary data may begin with one; at the end, as in a C string, it does no harm."""
    assert parse(b'{"a":1}\0', DEPTH, ends_at_nul=False) == {"a": 1}
    for rest in (b"\0", b"\0\0\x80\x3f", b'{"b":2}'):
        with pytest.raises(Failure) as caught:
            parse(b'{"a":1}\0' + rest, DEPTH, ends_at_nul=False)
        assert caught.value.code is Code.JSON_INVALID


def test_long_lists_become_numbers() -> None:
    """In place of one Python object a number."""
    tree = parse(b'{"instances":[%b],"x":[[1,2],[3]]}' % b",".join([b"[1,2,3]"] * LONG), DEPTH)
    assert isinstance(tree["instances"], Numbers)
    assert tree["instances"].doubles.shape == (LONG, 3)
    assert tree["x"] == [[1, 2], [3]]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("inner", [b"1", b"NaN", b'"[[[{{{"', rb'"\"[["'])
def test_the_limit_of_nesting_is_exact(opening: bytes, inner: bytes) -> None:
    """So many levels are read, one more is refused; brackets in strings are none."""
    closing = b"]" if opening == b"[" else b"}"
    document = opening * 5 + inner + closing * 5
    assert plain(parse(document, 5)) == expected(document)
    with pytest.raises(Failure) as caught:
        parse(document, 4)
    assert (caught.value.code, caught.value.detail) == (Code.JSON_TOO_DEEP, "Expected: at most 4; Actual: 5")


def test_levels_of_long_lists_count() -> None:
    """Although they are not in the text any more when it is parsed."""
    document = b'{"a":[[[%b]]]}' % (b"1," * LONG + b"1")
    assert parse(document, 4)["a"].doubles.ndim == 3
    with pytest.raises(Failure) as caught:
        parse(document, 3)
    assert caught.value.detail == "Expected: at most 3; Actual: 4"


def test_many_lists_are_not_deep() -> None:
    """Only lists within lists count."""
    assert parse(b"[" + b'[{"a":[]}],' * 1000 + b"1]", 4)


@pytest.mark.parametrize("document", [b"[" * 10**6, b'{"a":' * 10**6, b"]" * 10**6, b"[" * 10**6 + b"]" * 10**6])
def test_deep_nesting_reaches_no_parser(document: bytes) -> None:
    """They recurse, so that a limit that an operator has lifted has one of its own behind it."""
    with pytest.raises(Failure) as caught:
        parse(document, 10**9)
    assert caught.value.code in (Code.JSON_TOO_DEEP, Code.JSON_INVALID)


@pytest.mark.parametrize("inner", [b"1", b"NaN", b'{"a":1,"a":2}', b"[" * 99 + b"x"])
def test_the_deepest_documents_are_read_by_every_parser(inner: bytes) -> None:
    """Python's limit of recursion is never reached: not for a value, not to explain a fault."""
    depth = MAX_DEPTH - 99
    document = b"[" * depth + inner + b"]" * depth
    try:
        tree = parse(document, MAX_DEPTH)
    except Failure as failure:
        assert failure.detail.startswith("Error: Invalid value.")  # noqa: PT017 - the last of the documents
    else:
        for _ in range(depth):
            (tree,) = tree
        assert plain(tree) == expected(inner)


@pytest.mark.parametrize(
    "text",
    [b'"' * 1_000_000, b'["' + b'x"y"' * 250_000, b"[" + b'"",' * 300_000 + b"NaN]x", b"[" * 1_000_000],
    ids=["quotation marks", "strings", "strings and a word", "brackets"],
)
def test_what_is_refused_takes_little_memory(text: bytes) -> None:
    """So many times its size, whatever it is made of."""
    tracemalloc.start()
    try:
        with pytest.raises(Failure):
            parse(text, DEPTH)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * len(text)
