"""base64 as clients send it."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.codec.encoded import decode_base64, is_base64


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("QQ==", b"A"),
        ("QQ", b"A"),
        ("QUI=", b"AB"),
        ("QUI", b"AB"),
        ("QUJD", b"ABC"),
        ("+/+/", b"\xfb\xff\xbf"),
        (" Q Q\t=\n=\r\v\f", b"A"),
        (" \n", b""),
    ],
)
def test_base64_is_read(text: str, data: bytes) -> None:
    """The padding is complete or left out, white space may be anywhere: ``absl::Base64Unescape``."""
    assert decode_base64(text) == data


@pytest.mark.parametrize(
    "text",
    [
        *("Q", "QUJDR", "QQ=", "QUI==", "QUJD=", "====", "=", "=QQ=", "Q=Q=", "QQ==QQ=="),
        *("-_-_", "QU?D", "QQ\0=", "QÜJD", "QUJD\xa0", "\ud800"),
    ],
)
def test_all_else_is_not_base64(text: str) -> None:
    """Python's decoder takes some of these, and drops what it does not know."""
    assert decode_base64(text) is None


@given(st.binary(), st.lists(st.sampled_from(" \t\n\v\f\r"), max_size=3).map("".join))
def test_what_is_encoded_is_decoded(data: bytes, blanks: str) -> None:
    """With padding and without, in one line and in many."""
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == data
    assert decode_base64(text.rstrip("=")) == data
    assert decode_base64(blanks + blanks.join(re.findall(r".{1,3}", text)) + blanks) == data


@given(st.text() | st.text("AQ=/ \n-", max_size=12))
def test_any_text_is_bytes_or_nothing(text: str) -> None:
    """Nothing is raised, and what is read is what the text says."""
    data = decode_base64(text)
    if data is not None:
        kept = re.sub(r"[ \t\n\v\f\r=]", "", text)
        assert len(data) == len(kept) * 3 // 4
        assert base64.b64encode(data).decode().rstrip("=")[: len(data) * 4 // 3] == kept[: len(data) * 4 // 3]


@pytest.mark.parametrize("size", [786431, 786432, 786433, 2000000])
def test_long_texts_are_decoded_in_slices(size: int) -> None:
    """Whatever the size is, none of the seams shows."""
    data = bytes(range(251)) * (size // 251 + 1)
    assert decode_base64(base64.b64encode(data[:size]).decode()) == data[:size]


@given(
    st.binary(min_size=765, max_size=800), st.integers(0, 1100), st.sampled_from("?-_= \n\0é@[`{:/+A"), st.booleans()
)
def test_many_digits_are_read_like_few(data: bytes, at: int, odd: str, is_padded: bool) -> None:  # noqa: FBT001
    """In another way, but what is no digit is found, and what is left at the end is not lost."""
    text = base64.b64encode(data).decode()
    text = text if is_padded else text.rstrip("=")
    assert decode_base64(text) == data
    changed = text[:at] + odd + text[at + 1 :]
    found = decode_base64(changed)
    kept = re.sub(r"[ \n]", "", changed)
    if not re.fullmatch(r"[A-Za-z0-9+/]*=*", kept, re.ASCII):
        assert found is None
    elif found is not None:
        assert found == base64.b64decode(kept.rstrip("=") + "=" * (-len(kept.rstrip("=")) % 4))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b64": "QQ=="}, True),
        ({"b64": "?"}, True),
        ({"b64": 1}, False),
        ({"b64": None}, False),
        ({"b64": "QQ==", "a": 1}, False),
        ({"B64": "QQ=="}, False),
        ({}, False),
        ("QQ==", False),
        (["b64"], False),
    ],
)
def test_the_form_of_base64(value: Any, expected: bool) -> None:  # noqa: FBT001
    """Exactly this one member, and a string in it."""
    assert is_base64(value) is expected
