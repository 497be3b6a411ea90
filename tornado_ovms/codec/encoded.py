"""Values that a client sends as text or as base64: strings, rows of text, pictures.

What they become depends on the input they are for (``codec.inputs``). Any thread may use this module.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Final

import pybase64

_BLANKS: Final = b" \t\n\v\f\r"


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
    try:
        # Digits in place of the padding: what the last one says beyond the last byte is of no matter.
        return pybase64.b64decode(digits + b"A" * missing, validate=True)[: len(digits) * 3 // 4]
    except binascii.Error:
        return None
