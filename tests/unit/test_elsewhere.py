"""Listings and copies that take long hold up nobody."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import FakeClock, FakeEngine, FakeRemote, InlineExecutor, SlowRemote, elsewhere
from tornado_ovms.core.lifecycle import Key, State
from tornado_ovms.core.settings import Limits, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.reconcile import Reconciler, Wish
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.warmup import WarmUp

URL = "s3://bucket/m"


def test_what_was_seen_last_counts() -> None:
    """Of a store that does not answer in time; when it has, that is told."""

    async def script() -> None:
        remote = SlowRemote()
        remote.folders[URL] = {1: 0}
        told = asyncio.Event()
        with ThreadPoolExecutor(2) as threads:
            there = elsewhere(remote, threads)
            there.on_late = told.set
            remote.gate.clear()
            first = (await there.folders([URL], 0))[URL]
            assert isinstance(first, Failure)
            assert first.code is Code.REPOSITORY
            remote.gate.set()
            await told.wait()
            one = (await there.folders([URL], 0))[URL]
            assert not isinstance(one, Failure)
            assert set(one.versions) == {1}
            remote.gate.clear()
            remote.folders[URL] = Failure(Code.PATH_INVALID)
            told.clear()
            assert (await there.folders([URL], 0))[URL] == one
            remote.gate.set()
            await told.wait()
            assert isinstance((await there.folders([URL], None))[URL], Failure)
            assert await there.folders([], 0) == {}

    asyncio.run(script())


def test_a_look_that_nobody_waits_for() -> None:
    """Goes on, and is the only one of its repository, also if that is wanted again; what it has found is forgotten."""

    async def script() -> None:
        remote = SlowRemote()
        remote.folders[URL] = {1: 0}
        told = asyncio.Event()
        with ThreadPoolExecutor(2) as threads:
            there = elsewhere(remote, threads)
            there.on_late = told.set
            remote.gate.clear()
            for wanted in ([URL], [], [URL], []):
                await there.folders(wanted, 0)
                await there.keep(())
            early = list(remote.forgotten)
            remote.gate.set()
            await told.wait()
            assert remote.looks == 1
            assert not early
            for _ in range(2):
                await there.folders([], 0)
                await there.keep(())
            assert remote.forgotten == [URL]
            remote.folders[URL] = Failure(Code.PATH_INVALID)
            assert isinstance((await there.folders([URL], None))[URL], Failure)
            await there.folders([], 0)
            await there.keep(())
            assert remote.forgotten == [URL, URL]

    asyncio.run(script())


def test_arrivals_are_looked_at_once() -> None:
    """What has not come is left out; what has, or has failed, is not asked for again, and nothing is under way then."""

    async def script() -> None:
        remote = SlowRemote()
        remote.folders = {URL: {1: 0}, "s3://bucket/lost": Failure(Code.PATH_INVALID)}
        told = asyncio.Event()
        with ThreadPoolExecutor(2) as threads:
            there = elsewhere(remote, threads)
            there.on_late = told.set
            remote.gate.clear()
            assert await there.arrivals(remote.folders) == {}
            await there.keep(())
            assert remote.sweeps == 0
            remote.gate.set()
            while there.is_busy:
                await told.wait()
                told.clear()
                found = await there.arrivals(remote.folders)
                await there.keep(())
            assert [isinstance(found[path], Failure) for path in remote.folders] == [False, True]
            assert remote.looks == 2
            await there.keep(())
            assert remote.sweeps == 1

    asyncio.run(script())


def test_a_version_serves_until_its_successor_is_copied() -> None:
    """The pass ends meanwhile; the next one that is made afterwards loads it, and the old copy goes."""

    async def script() -> None:
        remote, registry = FakeRemote(), Registry(Metrics())
        told = asyncio.Event()
        with ThreadPoolExecutor(2) as threads:
            there = elsewhere(remote, threads)
            there.on_late = told.set
            inline = InlineExecutor()
            reconciler = Reconciler(
                registry, FakeEngine(), inline, FakeClock(), WarmUp("none", Limits()), there, lambda: None
            )

            async def converge(wait_s: float | None, stamp: dict[int, int]) -> bool:
                remote.folders[URL] = stamp
                found = (await there.folders([URL], None))[URL]
                done = await reconciler.converge({"m": Wish(ModelSettings("m", URL), found)}, retry=True, wait_s=wait_s)
                assert not done.failures
                return done.changed

            assert await converge(None, {1: 0})
            remote.gate.clear()
            for _ in range(2):
                assert not await converge(0, {1: 0, 2: 0})
                assert registry.model("m").available == [1]
                assert registry.model("m").versions[2].status.state is State.LOADING
            remote.gate.set()
            await told.wait()
            assert await converge(0, {1: 0, 2: 0})
            assert registry.model("m").available == [2]
            assert remote.here == {"/copies/2-0"}
            assert remote.fetched == ["/copies/1-0", "/copies/2-0"]
            await reconciler.converge({}, retry=False, wait_s=0)
            assert not remote.here

    asyncio.run(script())


def test_a_copy_that_fails() -> None:
    """Is a failure of the version, and is tried again like any other."""

    async def script() -> None:
        remote, registry = FakeRemote(), Registry(Metrics())
        remote.folders[URL] = {1: 0}
        remote.broken.add("/copies/1-0")
        there = elsewhere(remote)
        engine = FakeEngine()
        reconciler = Reconciler(
            registry, engine, InlineExecutor(), FakeClock(), WarmUp("none", Limits()), there, lambda: None
        )
        wishes = {"m": Wish(ModelSettings("m", URL), (await there.folders([URL], None))[URL])}
        done = await reconciler.converge(wishes, retry=True, wait_s=0)
        assert [failure.code for _, failure in done.failures] == [Code.REPOSITORY]
        assert registry.current()[Key("m", 1)].status.has_failed
        assert not engine.loaded
        remote.broken.clear()
        assert (await reconciler.converge(wishes, retry=True, wait_s=None)).changed

    asyncio.run(script())


def test_a_copy_that_fails_for_two_models() -> None:
    """Neither of those that share it is loaded."""

    async def script() -> None:
        remote, engine = FakeRemote(), FakeEngine()
        remote.folders[URL] = {1: 0}
        remote.broken.add("/copies/1-0")
        there = elsewhere(remote)
        reconciler = Reconciler(
            Registry(Metrics()), engine, InlineExecutor(), FakeClock(), WarmUp("none", Limits()), there, lambda: None
        )
        found = (await there.folders([URL], None))[URL]
        wishes = {name: Wish(ModelSettings(name, URL), found) for name in "mn"}
        done = await reconciler.converge(wishes, retry=True, wait_s=None)
        assert [failure.code for _, failure in done.failures] == [Code.REPOSITORY] * 2
        assert not engine.loaded

    asyncio.run(script())


@pytest.mark.parametrize("wait_s", [0, None])
def test_local_models_are_not_copied(wait_s: float | None) -> None:
    """They are where they are."""

    async def script() -> None:
        remote = FakeRemote()
        assert await elsewhere(remote).folders([], wait_s) == {}
        assert not remote.fetched

    asyncio.run(script())
