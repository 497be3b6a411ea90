"""What unit tests share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Lets a test configure logging; afterwards it is as it was."""
    root, asyncio, tornado = map(logging.getLogger, (None, "asyncio", "tornado.general"))
    before, levels, filters = root.handlers[:], (root.level, asyncio.level), tornado.filters[:]
    yield
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(levels[0])
    asyncio.setLevel(levels[1])
    tornado.filters[:] = filters
