"""Instances, and leases on them."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes import FakeExecutable
from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.serving.servable import Instance, Lease


def instance(version: int = 1) -> Instance:
    """A version of m."""
    return Instance(
        Blueprint(Key("m", version), ModelSettings("m", "/m"), f"/m/{version}", ()), FakeExecutable(version)
    )


async def turns(number: int = 3) -> None:
    """Lets the loop go on."""
    for _ in range(number):
        await asyncio.sleep(0)


def test_an_instance_knows_its_version() -> None:
    """It is that of its blueprint."""
    assert instance(3).version == 3


def test_a_lease_lasts_from_its_making_to_the_end_of_its_block() -> None:
    """So that it can be handed to whoever goes on with the request."""
    used = instance()
    lease = Lease(used)
    assert used.leases == 1
    with lease as inside:
        assert inside is used
        assert used.leases == 1
    assert used.leases == 0


def test_a_lease_ends_with_an_error_too() -> None:
    """And does not swallow it."""
    used = instance()
    with pytest.raises(ValueError, match="from inside"), Lease(used):
        raise ValueError("from inside")
    assert used.leases == 0


def test_leases_are_counted() -> None:
    """In whichever order they end."""
    used = instance()
    first, second = Lease(used), Lease(used)
    with first:
        assert used.leases == 2
    assert used.leases == 1
    with second:
        assert used.leases == 1
    assert used.leases == 0


def test_who_has_no_leases_is_idle_at_once() -> None:
    """Also if it had some before."""

    async def play() -> None:
        used = instance()
        for _ in range(2):
            waiting = asyncio.ensure_future(used.idle())
            await turns(1)
            assert waiting.done()
            with Lease(used):
                pass

    asyncio.run(play())


def test_all_who_wait_are_told_when_the_last_lease_ends() -> None:
    """One that is taken meanwhile counts."""

    async def play() -> None:
        used = instance()
        first, second = Lease(used), Lease(used)
        waiting = [asyncio.ensure_future(used.idle()) for _ in range(3)]
        with first:
            await turns()
        with Lease(used), second:
            await turns()
            assert not any(each.done() for each in waiting)
        await asyncio.gather(*waiting)

    asyncio.run(play())


def test_who_gives_up_waiting_takes_nobody_along() -> None:
    """And the end of the last lease is no error, even if nobody waits any more."""

    async def play() -> None:
        used = instance()
        with Lease(used):
            gone, waiting = (asyncio.ensure_future(used.idle()) for _ in range(2))
            await turns()
            gone.cancel()
            await turns()
            assert gone.cancelled()
            assert not waiting.done()
        await waiting
        with Lease(used):
            alone = asyncio.ensure_future(used.idle())
            await turns()
            alone.cancel()
            await turns()
        assert used.leases == 0
        await used.idle()

    asyncio.run(play())


def test_an_instance_can_become_busy_again() -> None:
    """Each wait is for the leases of its own time."""

    async def play() -> None:
        used = instance()
        for _ in range(3):
            with Lease(used):
                waiting = asyncio.ensure_future(used.idle())
                await turns()
                assert not waiting.done()
            await waiting

    asyncio.run(play())
