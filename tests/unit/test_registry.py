"""Looking models up, leases, and waiting for a version that is being loaded."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes import FakeExecutable
from tornado_ovms.core.lifecycle import Blueprint, Event, Key
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.servable import Instance, Lease


def blueprint(version: int = 1) -> Blueprint:
    """A version of m."""
    return Blueprint(Key("m", version), ModelSettings("m", "/m"), f"/m/{version}", ())


def with_versions(*events: tuple[int, tuple[Event, ...]]) -> Registry:
    """A registry in which versions of m have lived through events."""
    registry = Registry(Metrics())
    model = registry.add_model("m")
    for number, each in events:
        model.versions[number] = registry.add_version(blueprint(number))
        for event in each:
            if event is Event.LOADED:
                model.versions[number].instance = Instance(blueprint(number), FakeExecutable(number))
            registry.advance(Key("m", number), event)
    return registry


LOADED = (Event.LOAD, Event.LOADED)
FAILED = (Event.LOAD, Event.FAILED)
RETIRED = (*LOADED, Event.RETIRE, Event.UNLOADED)


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("other", None, Code.MODEL_MISSING),
        ("m", 9, Code.VERSION_MISSING),
        ("m", 2, Code.VERSION_NOT_LOADED_YET),
        ("m", 3, Code.VERSION_RETIRED),
        ("m", 4, Code.VERSION_NOT_LOADED_YET),
    ],
)
def test_what_cannot_be_leased_says_why(name: str, version: int | None, code: Code) -> None:
    """Unknown, loading, failed and retired are told apart."""

    async def play() -> None:
        registry = with_versions((1, LOADED), (2, FAILED), (3, RETIRED), (4, (Event.LOAD,)))
        with pytest.raises(Failure) as caught:
            registry.model(name).instance(version)
        assert caught.value.code is code

    asyncio.run(play())


def test_without_a_version_the_highest_that_serves_is_meant() -> None:
    """And without any, the version is missing."""

    async def play() -> None:
        registry = with_versions((1, LOADED), (2, LOADED), (3, FAILED))
        assert registry.model("m").instance(None).version == 2
        with pytest.raises(Failure) as caught:
            with_versions((1, RETIRED)).model("m").instance(None)
        assert caught.value.code is Code.VERSION_MISSING

    asyncio.run(play())


def test_a_version_that_is_being_loaded_is_waited_for() -> None:
    """The request gets it as soon as it serves."""

    async def play() -> int:
        registry = with_versions((1, (Event.LOAD,)))
        waiting = asyncio.ensure_future(registry.model("m").version(1).lease_when_loaded())
        await asyncio.sleep(0)
        assert not waiting.done()
        registry.models["m"].versions[1].instance = Instance(blueprint(), FakeExecutable())
        registry.advance(Key("m", 1), Event.LOADED)
        with await waiting as instance:
            return instance.version

    assert asyncio.run(play()) == 1


@pytest.mark.parametrize("end", [Event.FAILED, None])
def test_waiting_ends_with_the_load_or_the_time(end: Event | None) -> None:
    """A load that fails, or takes too long, is answered with 'not loaded yet'."""

    async def play() -> None:
        registry = with_versions((1, (Event.LOAD,)))
        waiting = asyncio.ensure_future(
            registry.model("m").version(1).lease_when_loaded(timeout_s=0 if end is None else 60)
        )
        await asyncio.sleep(0)
        if end is not None:
            registry.advance(Key("m", 1), end)
        with pytest.raises(Failure) as caught:
            await waiting
        assert caught.value.code is Code.VERSION_NOT_LOADED_YET

    asyncio.run(play())


def test_an_instance_is_idle_when_its_last_lease_ends() -> None:
    """Also if somebody waited for that and gave up meanwhile."""

    async def play() -> None:
        instance = Instance(blueprint(), FakeExecutable())
        await instance.idle()
        with Lease(instance):
            gone = asyncio.ensure_future(instance.idle())
            waiting = asyncio.ensure_future(instance.idle())
            await asyncio.sleep(0)
            gone.cancel()
            with Lease(instance):
                await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
        assert instance.leases == 0

    asyncio.run(play())
