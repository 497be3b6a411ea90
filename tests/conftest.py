"""What all tests share."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# A shared machine must not fail a test by being slow.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def needs_program() -> Callable[[str], str]:
    """Finds a program that a test cannot do without, and returns its path.

    Where it is not installed the test is skipped; with CI=true in the environment it fails, lest nobody notice that it
    never runs.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing = f"{name} is not installed"
            if os.environ.get("CI", "").lower() in ("true", "1"):
                pytest.fail(missing)
            pytest.skip(missing)
        return path

    return find
