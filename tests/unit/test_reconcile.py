"""Loading and retiring, with an engine that fails when told to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import FakeClock, FakeEngine, FakeExecutable, FakeRemote, FakeStorage, InlineExecutor, elsewhere
from tornado_ovms.core.lifecycle import Blueprint, Key, State
from tornado_ovms.core.settings import AllVersions, Limits, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving import reconcile
from tornado_ovms.serving.reconcile import Converged, Reconciler, Wish
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.servable import Lease
from tornado_ovms.serving.warmup import WarmUp

if TYPE_CHECKING:
    from tornado_ovms.storage.base import Found

Play = Callable[["Stage"], Coroutine[Any, Any, None]]


class InTurn(Executor):
    """The queue of one thread, worked off by the loop, which does everything else that is due between two jobs."""

    TURNS = 10

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._worker: asyncio.Task[None] | None = None

    def submit(self, job: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """See ``Executor``."""
        future: Future[Any] = Future()
        self._jobs.append(lambda: future.set_result(job(*args)))
        if self._worker is None:
            self._worker = asyncio.ensure_future(self._work())
        return future

    async def _work(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
            for _ in range(self.TURNS):
                await asyncio.sleep(0)
        self._worker = None


class Stage:
    """A reconciler with everything around it faked."""

    def __init__(self, loaders: Executor | None = None) -> None:
        self.engine = FakeEngine()
        self.storage = FakeStorage()
        self.storage.folders["/m"] = {1: 0}
        self.registry = Registry(Metrics())
        self.clock = FakeClock()
        self.late_ends: list[None] = []
        self.reconciler = Reconciler(
            self.registry,
            self.engine,
            loaders or InlineExecutor(),
            self.clock,
            WarmUp("none", Limits()),
            elsewhere(FakeRemote()),
            lambda: self.late_ends.append(None),
        )
        self.settings = ModelSettings("m", "/m")
        self.earlier: Failure | None = None

    async def converge(self, *, retry: bool = True) -> Converged:
        """One pass over what the storage holds."""
        found: Found | Failure = Failure(Code.PATH_INVALID)
        if "/m" in self.storage.folders:
            found = replace(self.storage.versions("/m"), failure=self.earlier)
        return await self.reconciler.converge({"m": Wish(self.settings, found)}, retry=retry, wait_s=None)

    def states(self) -> dict[int, str]:
        """The state of each version; FAILED for one that did not load."""
        return {
            number: "FAILED" if status.has_failed else status.state.name
            for number, status in self.registry.model("m").statuses()
        }


@pytest.fixture
def play() -> Callable[[Play], None]:
    """Runs a test's coroutine on a stage of its own."""

    def run(script: Play) -> None:
        async def main() -> None:
            await script(Stage())

        asyncio.run(main())

    return run


def test_it_loads_and_then_rests(play: Callable[[Play], None]) -> None:
    """A second pass over the same finds nothing to do."""

    async def script(stage: Stage) -> None:
        assert await stage.converge() == Converged(changed=True)
        assert await stage.converge() == Converged(changed=False)
        assert stage.states() == {1: "AVAILABLE"}

    play(script)


def test_what_is_loaded_is_served_while_others_are_loaded() -> None:
    """Nothing of it waits behind them in the loader's queue."""

    async def main() -> None:
        stage = Stage(InTurn())
        stage.settings = ModelSettings("m", "/m", version_policy=AllVersions())
        stage.storage.folders["/m"] = {1: 0, 2: 0, 3: 0}
        serving: list[int] = []

        def load(blueprint: Blueprint) -> FakeExecutable:
            serving.append(list(stage.states().values()).count("AVAILABLE"))
            return FakeExecutable(blueprint.key.version)

        stage.engine.load = load  # type: ignore[method-assign]
        await stage.converge()
        assert serving == [0, 1, 2]

    asyncio.run(main())


def test_a_new_version_takes_over(play: Callable[[Play], None]) -> None:
    """The old one is closed after the new one serves."""

    async def script(stage: Stage) -> None:
        await stage.converge()
        stage.storage.folders["/m"][2] = 0
        await stage.converge()
        assert stage.states() == {1: "END", 2: "AVAILABLE"}
        assert [each.closed.is_set() for each in stage.engine.executables] == [True, False]

    play(script)


def test_a_broken_new_version_leaves_the_old_one_alone(play: Callable[[Play], None]) -> None:
    """It shows as failed; the outcome tells of it; a later repair is taken up."""

    async def script(stage: Stage) -> None:
        await stage.converge()
        stage.storage.folders["/m"][2] = 0
        stage.engine.broken.add(Key("m", 2))
        outcome = await stage.converge()
        assert [failure.code for _, failure in outcome.failures] == [Code.MODEL_UNREADABLE]
        assert not outcome.changed
        assert stage.states() == {1: "AVAILABLE", 2: "FAILED"}
        stage.engine.broken.clear()
        await stage.converge()
        assert stage.states() == {1: "END", 2: "AVAILABLE"}

    play(script)


def test_an_earlier_look(play: Callable[[Play], None]) -> None:
    """Brings what it tells of, and takes nothing away that it does not."""

    async def script(stage: Stage) -> None:
        stage.earlier = Failure(Code.REPOSITORY)
        await stage.converge()
        assert stage.states() == {1: "AVAILABLE"}
        stage.storage.folders["/m"] = {}
        assert not (await stage.converge()).changed
        stage.storage.folders["/m"] = {1: 0, 2: 0}
        await stage.converge()
        assert stage.states() == {1: "END", 2: "AVAILABLE"}
        stage.earlier = None
        stage.storage.folders["/m"] = {}
        await stage.converge()
        assert stage.states() == {1: "END", 2: "END"}

    play(script)


def test_the_newest_that_loads_is_taken_at_start(play: Callable[[Play], None]) -> None:
    """The last round has no failure then, so a single model may start."""

    async def script(stage: Stage) -> None:
        stage.storage.folders["/m"] = {1: 0, 2: 0, 3: 0}
        stage.engine.broken.add(Key("m", 3))
        outcome = await stage.converge()
        assert (len(outcome.failures), outcome.last_failures) == (1, ())
        assert stage.states() == {2: "AVAILABLE", 3: "FAILED"}

    play(script)


def test_without_a_substitute_the_last_round_has_failed(play: Callable[[Play], None]) -> None:
    """With the policy all, the broken one is missing for good."""

    async def script(stage: Stage) -> None:
        stage.storage.folders["/m"] = {1: 0, 2: 0}
        stage.settings = ModelSettings("m", "/m", version_policy=AllVersions())
        stage.engine.broken.add(Key("m", 2))
        assert len((await stage.converge()).last_failures) == 1

    play(script)


def test_a_replacement_that_fails_keeps_the_old_instance(play: Callable[[Play], None]) -> None:
    """The version stays available, with the reason beside it, and no older version is loaded in its place."""

    async def script(stage: Stage) -> None:
        stage.storage.folders["/m"] = {1: 0, 2: 0}
        await stage.converge()
        stage.storage.folders["/m"][2] = 1
        stage.engine.broken.add(Key("m", 2))
        outcome = await stage.converge()
        version = stage.registry.models["m"].versions[2]
        assert stage.states() == {2: "AVAILABLE"}
        assert outcome.failures == (("m", version.failure),)
        assert version.instance is not None
        assert not stage.engine.executables[0].closed.is_set()

    play(script)


def test_failures_are_retried_when_due_or_changed(play: Callable[[Play], None]) -> None:
    """Not at every poll: after a growing pause, or as soon as the files are others."""

    async def script(stage: Stage) -> None:
        stage.engine.broken.add("/m/1")
        await stage.converge(retry=False)
        for seconds, loads in ((0.0, 1), (1.1, 2), (1.1, 2), (1.1, 3)):
            stage.clock.now += seconds
            await stage.converge(retry=False)
            assert len(stage.engine.loaded) == loads
        stage.storage.folders["/m"][1] = 7
        await stage.converge(retry=False)
        assert len(stage.engine.loaded) == 4

    play(script)


def test_a_folder_that_cannot_be_seen_changes_nothing(play: Callable[[Play], None]) -> None:
    """Versions go on being served."""

    async def script(stage: Stage) -> None:
        await stage.converge()
        del stage.storage.folders["/m"]
        assert await stage.converge() == Converged()
        assert stage.states() == {1: "AVAILABLE"}

    play(script)


def test_a_failed_version_that_nobody_wants_ends(play: Callable[[Play], None]) -> None:
    """Its folder is gone: it is listed as END, as what has been served."""

    async def script(stage: Stage) -> None:
        stage.engine.broken.add(Key("m", 1))
        await stage.converge()
        stage.storage.folders["/m"] = {2: 0}
        await stage.converge()
        assert stage.states() == {1: "END", 2: "AVAILABLE"}

    play(script)


def test_a_version_is_closed_when_its_last_request_ends(play: Callable[[Play], None]) -> None:
    """Retiring waits for those who hold a lease; new requests are refused meanwhile."""

    async def script(stage: Stage) -> None:
        await stage.converge()
        with Lease(stage.registry.model("m").instance(1)):
            stage.storage.folders["/m"] = {}
            retiring = asyncio.ensure_future(stage.converge())
            for _ in range(5):
                await asyncio.sleep(0)
            assert stage.registry.models["m"].versions[1].status.state is State.UNLOADING
            with pytest.raises(Failure) as caught:
                stage.registry.model("m").instance(1)
            assert caught.value.code is Code.VERSION_RETIRED
            assert not stage.engine.executables[0].closed.is_set()
        await retiring
        assert stage.states() == {1: "END"}
        assert stage.engine.executables[0].closed.is_set()

    play(script)


def test_an_unforeseen_error_is_a_failure_too(play: Callable[[Play], None]) -> None:
    """A bug in a back end shows as a failed version; the server goes on."""

    async def script(stage: Stage) -> None:
        stage.engine.load = lambda _: 1 // 0  # type: ignore[assignment,method-assign,return-value]
        outcome = await stage.converge()
        assert [failure.code for _, failure in outcome.failures] == [Code.INTERNAL]
        assert stage.states() == {1: "FAILED"}

    play(script)


def test_requests_that_take_long_do_not_hold_up_the_next_pass(
    play: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is unloaded beside it; if it is wanted again it is loaded after that, and its substitute serves until then."""
    monkeypatch.setattr(reconcile, "UNLOADING_WAIT_S", 0)

    async def script(stage: Stage) -> None:
        await stage.converge()
        with Lease(stage.registry.model("m").instance(1)):
            stage.storage.folders["/m"] = {2: 0}
            assert (await stage.converge()).changed
            assert stage.states() == {1: "UNLOADING", 2: "AVAILABLE"}
            stage.storage.folders["/m"] = {1: 0}
            stage.settings = ModelSettings("m", "/m", version_policy=AllVersions())
            assert not (await stage.converge()).changed
            assert stage.states() == {1: "UNLOADING", 2: "AVAILABLE"}
            assert stage.late_ends == []
        while not stage.late_ends:  # noqa: ASYNC110 - each turn of the loop is what is waited for
            await asyncio.sleep(0)
        await stage.converge()
        assert stage.states()[1] == "AVAILABLE"
        assert stage.states()[2] in ("UNLOADING", "END")

    play(script)


def test_a_version_that_fails_its_warm_up_is_not_served(play: Callable[[Play], None]) -> None:
    """It is closed again, and the one before it goes on."""

    async def script(stage: Stage) -> None:
        await stage.converge()
        stage.storage.folders["/m"][2] = 0
        stage.settings = ModelSettings("m", "/m", warmup="not-there.json")
        outcome = await stage.converge()
        assert {failure.code for _, failure in outcome.failures} == {Code.WARMUP}
        assert stage.states() == {1: "AVAILABLE", 2: "FAILED"}
        assert [each.closed.is_set() for each in stage.engine.executables][-1]
        assert not stage.engine.executables[0].closed.is_set()

    play(script)
