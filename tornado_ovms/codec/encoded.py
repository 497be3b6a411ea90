"""Values that a client sends as text or as base64: strings, rows of text, pictures.

What they become depends on the input they are for (``codec.inputs``). Any thread may use this module.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Final

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANKS: Final = b" \t\n\v\f\r"

_SLICE: Final = 1 << 20
"""Decoding holds the GIL: 2 ms for so many characters, after which others get a turn. A multiple of 4."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a client sent as strings or as ``{"b64": "..."}``: the bytes, row by row, and the shape of the lists around them."""

    values: tuple[bytes, ...]
    shape: tuple[int, ...]


def is_base64(value: object) -> bool:
    """Whether a JSON value is ``{"b64": "..."}`` and nothing else."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def decode_base64(text: str) -> bytes | None:
    """Decode as ``absl::Base64Unescape`` does; None if the text is not base64.

    The alphabet is the standard one; white space may be anywhere; the padding is complete or left out.
    """
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        return None
    digits = data.rstrip(b"=")
    if digits.translate(None, _ALPHABET):
        data = data.translate(None, _BLANKS)
        digits = data.rstrip(b"=")
        if digits.translate(None, _ALPHABET):
            return None
    missing = -len(digits) % 4
    if missing == 3 or len(data) - len(digits) not in (0, missing):  # noqa: PLR2004 - one digit is not even a byte
        return None
    whole = digits + b"=" * missing
    return b"".join([binascii.a2b_base64(whole[start : start + _SLICE]) for start in range(0, len(whole), _SLICE)])
