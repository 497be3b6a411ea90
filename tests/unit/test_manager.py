"""Passes: what a look at configuration and folders leads to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.fakes import FakeClock, FakeEngine, FakeStorage, InlineExecutor
from tornado_ovms.core.lifecycle import Key
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.manager import Manager, Outcome, Source
from tornado_ovms.serving.registry import Registry

SOURCE = Source("/etc/config.json")

Script = Callable[["Stage"], Coroutine[Any, Any, None]]


def entry(name: str, **keys: object) -> dict[str, object]:
    """An entry of model_config_list."""
    return {"config": {"name": name, "base_path": f"/{name}", **keys}}


class Stage:
    """A manager on a configuration file, with everything around it faked."""

    def __init__(self, source: Source = SOURCE) -> None:
        self.engine = FakeEngine()
        self.storage = FakeStorage()
        self.registry = Registry()
        self.clock = FakeClock()
        inline = InlineExecutor()
        self.manager = Manager(source, self.registry, self.engine, self.storage, inline, inline, self.clock)  # type: ignore[arg-type]
        self.storage.folders = {"/a": {1: 0}, "/b": {1: 0}}
        self.write(entry("a"))

    def write(self, *entries: object) -> None:
        """Write the configuration."""
        self.storage.config = json.dumps({"model_config_list": entries}).encode()

    def states(self) -> dict[str, dict[int, str]]:
        """The state of every version."""
        return {
            name: {number: "FAILED" if status.has_failed else status.state.name for number, status in model.statuses()}
            for name, model in self.registry.models.items()
        }


def play(script: Script, source: Source = SOURCE) -> None:
    """Run a script on a stage of its own."""

    async def main() -> None:
        await script(Stage(source))

    asyncio.run(main())


def test_start_and_an_idle_reload() -> None:
    """Ready after the first pass; nothing to do after that."""

    async def script(stage: Stage) -> None:
        assert not stage.manager.is_ready
        await stage.manager.start()
        assert stage.manager.is_ready
        assert stage.states() == {"a": {1: "AVAILABLE"}}
        assert await stage.manager.reload() == Outcome(changed=False)

    play(script)


def test_models_come_and_go() -> None:
    """A new entry is loaded; one that is gone is retired and stays known."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        stage.write(entry("b"))
        assert await stage.manager.reload() == Outcome(True, Code.CONFIG_RELOAD)
        assert stage.states() == {"a": {1: "END"}, "b": {1: "AVAILABLE"}}

    play(script)


def test_white_space_is_a_change_that_touches_nothing() -> None:
    """The file was loaded, so something changed; no version was."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        assert isinstance(stage.storage.config, bytes)
        stage.storage.config += b"\n"
        assert (await stage.manager.reload()).changed
        assert len(stage.engine.loaded) == 1

    play(script)


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"model_config_list": [{"config": {"name": "b", "unknown": 1}}]}'])
def test_a_broken_configuration_changes_nothing(text: bytes) -> None:
    """Every reload says so, polls go on looking at versions, and the repaired file is taken."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        good, stage.storage.config = stage.storage.config, text
        for _ in range(2):
            outcome = await stage.manager.reload()
            assert (outcome.changed, outcome.stage) == (False, Code.CONFIG_RELOAD)
            assert outcome.failure is not None
            assert outcome.failure.code is Code.JSON_INVALID
        assert stage.states() == {"a": {1: "AVAILABLE"}}
        stage.storage.config = good
        assert (await stage.manager.reload()).failure is None
        assert stage.manager.failure is None

    play(script)


def test_a_configuration_that_is_gone() -> None:
    """What serves goes on; the sentence is one of its own."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        stage.storage.config = Failure(Code.CONFIG_UNREADABLE)
        assert (await stage.manager.reload()).stage is Code.CONFIG_FILE_MISSING
        assert stage.states() == {"a": {1: "AVAILABLE"}}

    play(script)


@pytest.mark.parametrize("keys", [{"layout": "nc>nc"}, {"plugin_config": {"WRONG": 1}}, {"stateful": True}])
def test_an_entry_that_cannot_be_served_as_written_keeps_its_model(keys: dict[str, object]) -> None:
    """The old settings stay in force, the fault is told of, and the entries behind it are served."""

    async def script(stage: Stage) -> None:
        stage.engine.unknown_keys = {"WRONG"}
        await stage.manager.start()
        stage.write(entry("a", **keys), entry("b"))
        outcome = await stage.manager.reload()
        assert outcome.failure is not None
        assert stage.registry.models["a"].failure is not None
        assert stage.states() == {"a": {1: "AVAILABLE"}, "b": {1: "AVAILABLE"}}
        stage.write(entry("a"), entry("b"))
        assert (await stage.manager.reload()).failure is None
        assert stage.registry.models["a"].failure is None

    play(script)


def test_an_entry_that_was_never_good_is_left_out() -> None:
    """Its name is unknown."""

    async def script(stage: Stage) -> None:
        stage.write(entry("a", layout="NXC"), entry("b"))
        await stage.manager.start()
        assert stage.states() == {"b": {1: "AVAILABLE"}}

    play(script)


def test_a_path_that_turns_bad() -> None:
    """The version goes on; every reload says so; in the stage of versions if the file has not changed."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        del stage.storage.folders["/a"]
        outcome = await stage.manager.reload()
        assert outcome.stage is Code.VERSIONS_RELOAD
        assert outcome.failure is not None
        assert outcome.failure.code is Code.PATH_INVALID
        assert stage.states() == {"a": {1: "AVAILABLE"}}
        stage.storage.folders["/a"] = {1: 0}
        assert await stage.manager.reload() == Outcome(changed=False)
        assert stage.registry.models["a"].failure is None

    play(script)


def test_a_version_that_fails_belongs_to_the_stage_that_found_it() -> None:
    """With the file: its reload; afterwards too, as long as that has not succeeded."""

    async def script(stage: Stage) -> None:
        stage.engine.broken.add(Key("a", 1))
        await stage.manager.start()
        assert (await stage.manager.reload()).stage is Code.CONFIG_RELOAD
        stage.engine.broken.clear()
        assert await stage.manager.reload() == Outcome(True, Code.CONFIG_RELOAD)
        stage.storage.folders["/a"] = {1: 0, 2: 0}
        stage.engine.broken.add(Key("a", 2))
        assert (await stage.manager.reload()).stage is Code.VERSIONS_RELOAD

    play(script)


def test_fixed_models_must_be_servable() -> None:
    """A single model that does not load stops the start; one without versions does not."""

    async def broken(stage: Stage) -> None:
        stage.engine.broken.add(Key("a", 1))
        with pytest.raises(Failure) as caught:
            await stage.manager.start()
        assert caught.value.code is Code.MODEL_UNREADABLE

    async def empty(stage: Stage) -> None:
        stage.storage.folders["/a"] = {}
        await stage.manager.start()
        assert stage.states() == {"a": {}}

    async def missing(stage: Stage) -> None:
        del stage.storage.folders["/a"]
        with pytest.raises(Failure):
            await stage.manager.start()

    for script in (broken, empty, missing):
        play(script, Source(None, (ModelSettings("a", "/a"),)))


def test_reloads_at_once_are_made_one_after_the_other() -> None:
    """Each answers for a pass of its own; nothing is loaded twice."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        stage.write(entry("a"), entry("b"))
        outcomes = await asyncio.gather(*(stage.manager.reload() for _ in range(5)))
        assert [outcome.changed for outcome in outcomes] == [True, False, False, False, False]
        assert len(stage.engine.loaded) == 2

    play(script)


def test_everything_is_closed_at_the_end() -> None:
    """No executable is left open."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        await stage.manager.retire_all()
        assert stage.states() == {"a": {1: "END"}}
        assert all(each.closed.is_set() for each in stage.engine.executables)

    play(script)
