"""Values that a client sends as text or as base64: strings, rows of text, pictures.

What they become depends on the input they are for (``codec.inputs``). Any thread may use this module.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Final

import numpy as np

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES: Final = bytes(_ALPHABET.find(digit) & 0xFF for digit in range(256))
"""What each digit stands for; 255 for what is none."""

_BLANKS: Final = b" \t\n\v\f\r"

_SLICE: Final = 1 << 20
"""Decoding holds the GIL for about a millisecond for so many characters, after which others get a turn. A multiple of 4."""

_MANY: Final = 1024
"""From so many digits on numpy is faster than ``binascii``."""


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
    decoded = _decode(data)
    return _decode(data.translate(None, _BLANKS)) if decoded is None else decoded


def _decode(data: bytes) -> bytes | None:
    """Decode what has no white space in it."""
    digits = data.rstrip(b"=")
    missing = -len(digits) % 4
    if missing == 3 or len(data) - len(digits) not in (0, missing):  # noqa: PLR2004 - one digit is not even a byte
        return None
    digits += b"A" * missing
    slices = [_decode_fours(digits[start : start + _SLICE]) for start in range(0, len(digits), _SLICE)]
    whole = b"".join(each for each in slices if each is not None)
    return whole[: len(whole) - missing] if None not in slices else None


def _decode_fours(digits: bytes) -> bytes | None:
    """Three bytes out of each four digits; numpy takes half as long for many as ``binascii``."""
    if len(digits) < _MANY:
        return None if digits.translate(None, _ALPHABET) else binascii.a2b_base64(digits)
    words = np.frombuffer(digits.translate(_VALUES), "<u4")
    if (words & 0xC0C0C0C0).any():
        return None
    threes = (words & 0x3F) << 18 | (words & 0x3F00) << 4 | (words & 0x3F0000) >> 10 | words >> 24
    places = threes.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
    decoded = np.empty((len(words), 3), np.uint8)
    for place in range(3):
        decoded[:, place] = places[:, 2 - place]
    return decoded.tobytes()
