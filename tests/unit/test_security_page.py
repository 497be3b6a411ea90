"""``docs/security.md``: a test stands for each promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_test_is_there(file: str, name: str) -> None:
    """Under the name that the page gives."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in [each.name for each in tree.body if isinstance(each, ast.FunctionDef)]


def test_each_promise_has_one() -> None:
    """In the last column."""
    table = PAGE.partition("| promise | how | test |\n|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) > 20
    assert [line for line in table if not re.search(r"\| `tests/[^|]*::[^|]*` \|$", line)] == []
