"""Codes, their table and the exception."""

import re
from collections import Counter
from http import HTTPStatus
from pathlib import Path

import pytest

import tornado_ovms
from tornado_ovms.core.status import TABLE, Code, Failure


def test_every_code_has_an_answer() -> None:
    """A code without a row would be a KeyError in front of a client."""
    assert set(TABLE) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_every_answer_is_an_http_error_with_a_sentence(code: Code) -> None:
    """No failure may look like success, and none may be silent."""
    lowest = HTTPStatus.NO_CONTENT if code is Code.PIPELINE_NO_CONTENT else HTTPStatus.BAD_REQUEST
    assert HTTPStatus(TABLE[code].http) >= lowest
    assert TABLE[code].text


def test_details_follow_the_sentence() -> None:
    """The form of the reference: sentence, dash, details."""
    assert Failure(Code.SHAPE, "Expected: (1)").text == "Invalid input shape - Expected: (1)"
    assert str(Failure(Code.SHAPE)) == "Invalid input shape"
    assert Failure(Code.JSON_INVALID).http == HTTPStatus.PRECONDITION_FAILED


def test_every_code_is_used() -> None:
    """A code that nobody raises is dead."""
    sources = "".join(path.read_text() for path in Path(tornado_ovms.__file__).parent.rglob("*.py"))
    used = Counter(re.findall(r"Code\.([A-Z0-9_]+)\b", sources))
    assert [code.name for code in Code if used[code.name] < 2] == []
