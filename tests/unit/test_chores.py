"""What goes on beside the requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tornado_ovms.chores import beside

if TYPE_CHECKING:
    import pytest


async def wait() -> None:
    """For ever."""
    await asyncio.get_running_loop().create_future()


async def fail() -> None:
    """At once."""
    raise ZeroDivisionError


def test_chores_end_with_the_block(caplog: pytest.LogCaptureFixture) -> None:
    """Without a word."""

    async def main() -> None:
        before = asyncio.all_tasks()
        async with beside(wait(), wait()):
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks() - before) == 2
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    asyncio.run(main())
    assert caplog.records == []


def test_a_chore_that_fails_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """The others go on."""

    async def main() -> None:
        before = asyncio.all_tasks()
        async with beside(fail(), wait()):
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks() - before) == 1

    asyncio.run(main())
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
