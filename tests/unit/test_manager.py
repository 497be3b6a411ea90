"""Passes: what a look at configuration and folders leads to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import FakeClock, FakeEngine, FakeStorage, FakeWatcher, InlineExecutor, SlowRemote, elsewhere
from tornado_ovms.core.lifecycle import Key
from tornado_ovms.core.repositories import version_fault
from tornado_ovms.core.settings import Limits, MetricsSettings, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.lookout import Lookout
from tornado_ovms.serving.manager import Manager, Outcome, Source
from tornado_ovms.serving.pipelines import Pipelines
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.servable import Lease
from tornado_ovms.serving.warmup import WarmUp

SOURCE = Source("/etc/config.json")
URL = "s3://bucket/m"

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tornado_ovms.nodes.base import Library

Script = Callable[["Stage"], Coroutine[Any, Any, None]]


def entry(name: str, **keys: object) -> dict[str, object]:
    """An entry of model_config_list."""
    return {"config": {"name": name, "base_path": f"/{name}", **keys}}


def through(name: str, model: str) -> dict[str, object]:
    """An entry of pipeline_config_list: a pipeline of one model."""
    node = {
        "name": "node", "type": "DL model", "model_name": model, "inputs": [{"b": {"node_name": "request", "data_item": "b"}}],
        "outputs": [{"data_item": "a", "alias": "a"}],
    }  # fmt: skip
    return {
        "name": name, "inputs": ["b"], "nodes": [node], "outputs": [{"a": {"node_name": "node", "data_item": "a"}}],
    }  # fmt: skip


def no_library(path: str) -> Library:
    """There are no custom nodes here."""
    raise Failure(Code.PIPELINE_LIBRARY, path)


class Stage:
    """A manager on a configuration file, with everything around it faked."""

    def __init__(self, source: Source = SOURCE, threads: Executor | None = None) -> None:
        self.engine = FakeEngine()
        self.storage = FakeStorage()
        self.remote = SlowRemote()
        self.registry = Registry(Metrics())
        self.clock = FakeClock()
        inline = InlineExecutor()
        self.watcher = FakeWatcher()
        pipelines = Pipelines(self.registry, no_library, inline, inline)
        lookout = Lookout(source.config_path, self.storage, self.watcher, inline, elsewhere(self.remote, threads))  # type: ignore[arg-type]
        self.manager = Manager(
            source, self.registry, self.engine, lookout, pipelines, inline, WarmUp("none", Limits()), self.clock
        )  # type: ignore[arg-type]
        self.storage.folders = {"/a": {1: 0}, "/b": {1: 0}}
        self.write(entry("a"))

    def write(self, *entries: object, pipelines: Sequence[object] = ()) -> None:
        """Write the configuration."""
        document = {"model_config_list": entries, "pipeline_config_list": pipelines}
        self.storage.config = json.dumps(document).encode()

    def states(self) -> dict[str, dict[int, str]]:
        """The state of every version."""
        return {
            name: {number: "FAILED" if status.has_failed else status.state.name for number, status in model.statuses()}
            for name, model in self.registry.everything.items()
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


def test_what_a_folder_holds_besides_versions_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """As warnings, but for a number that is too large, which is an error in the reference's log."""
    names = ("x", str(2**63))

    async def script(stage: Stage) -> None:
        stage.storage.warnings = tuple(map(version_fault, names))
        await stage.manager.start()
        await stage.manager.reload()

    play(script)
    assert [(record.levelname, record.getMessage()) for record in caplog.records if "Got: " in record.getMessage()] == [
        ("WARNING", version_fault(names[0])),
        ("ERROR", version_fault(names[1])),
    ]


GOOD = entry("a")
NOWHERE = entry("nowhere")
BROKEN = entry("b")
MALFORMED = entry("malformed", layout="Q")
UNKNOWN = entry("unknown", plugin_config={"K": "x"})


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([GOOD, NOWHERE, BROKEN, UNKNOWN, GOOD, MALFORMED], Code.PATH_INVALID),
        ([GOOD, BROKEN, NOWHERE, UNKNOWN, GOOD, MALFORMED], Code.MODEL_UNREADABLE),
        ([GOOD, UNKNOWN, NOWHERE, BROKEN], Code.MODEL_CONFIG_INVALID),
        ([GOOD, GOOD, MALFORMED, NOWHERE, BROKEN], Code.MODEL_NAME_OCCUPIED),
        ([MALFORMED, GOOD, GOOD, NOWHERE, BROKEN], Code.MODEL_CONFIG_INVALID),
        ([BROKEN, entry("b", layout="Q"), NOWHERE], Code.MODEL_UNREADABLE),
        ([entry("b", layout="Q"), BROKEN, NOWHERE], Code.MODEL_CONFIG_INVALID),
    ],
)
def test_a_reload_tells_the_fault_of_the_first_entry(entries: list[object], code: Code) -> None:
    """Whatever is found when: in the file, by the engine, in folders, or at loading."""

    async def script(stage: Stage) -> None:
        stage.engine.unknown_keys, stage.engine.broken = {"K"}, {"/b/1"}
        await stage.manager.start()
        stage.write(*entries)
        outcome = await stage.manager.reload()
        assert outcome.stage is Code.CONFIG_RELOAD
        assert outcome.failure is not None
        assert outcome.failure.code is code

    play(script)


@pytest.mark.parametrize("is_broken_first", [True, False])
def test_a_look_at_the_folders_tells_the_fault_of_the_first_model(is_broken_first: bool) -> None:  # noqa: FBT001
    """Also if it is that of a version, which is loaded after all folders have been seen."""

    async def script(stage: Stage) -> None:
        stage.storage.folders["/c"] = {1: 0}
        stage.write(*(map(entry, "bc") if is_broken_first else map(entry, "cb")))
        await stage.manager.start()
        stage.engine.broken = {"/b/2"}
        stage.storage.folders["/b"][2] = 0
        del stage.storage.folders["/c"]
        outcome = await stage.manager.reload()
        assert outcome.stage is Code.VERSIONS_RELOAD
        assert outcome.failure is not None
        assert outcome.failure.code is (Code.MODEL_UNREADABLE if is_broken_first else Code.PATH_INVALID)

    play(script)


def test_models_come_and_go() -> None:
    """A new entry is loaded; one that is gone is retired and stays known."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        stage.write(entry("b"))
        assert await stage.manager.reload() == Outcome(True, Code.CONFIG_RELOAD)
        assert stage.states() == {"a": {1: "END"}, "b": {1: "AVAILABLE"}}

    play(script)


@pytest.mark.parametrize("slow", ["list", "fetch"])
def test_local_models_do_not_wait_for_stores_at_the_start(slow: str) -> None:
    """They serve at once, also through pipelines; ready is the server when all else has come, or failed."""

    async def script(stage: Stage) -> None:
        away, broken = "s3://bucket/away", "s3://bucket/broken"
        stage.remote.folders = {away: {1: 0}, broken: {2: 0}, "s3://bucket/lost": Failure(Code.PATH_INVALID)}
        stage.remote.broken = {"/copies/2-0"}
        stage.remote.lists_at_once = slow == "fetch"
        entries = [entry(path.rpartition("/")[2], base_path=path) for path in stage.remote.folders]
        stage.write(entry("a"), *entries, pipelines=[through("of_a", "a"), through("of_away", "away")])
        stage.remote.gate.clear()
        start = asyncio.ensure_future(stage.manager.start())
        here = {"of_a": {1: "AVAILABLE"}, "a": {1: "AVAILABLE"}}
        coming = {1: "LOADING"}, {2: "LOADING"}
        first, second = coming if slow == "fetch" else ({}, {})
        await turns(stage, {**here, "away": first, "broken": second, "lost": {}}, 100_000)
        assert not stage.manager.is_ready
        stage.remote.gate.set()
        await start
        there = {"of_away": {1: "AVAILABLE"}, "away": {1: "AVAILABLE"}, "broken": {2: "FAILED"}, "lost": {}}
        assert stage.states() == {**here, **there}
        assert stage.manager.is_ready
        assert stage.remote.looks == 3
        assert samples(stage)["failed"] == 1

    async def main() -> None:
        with ThreadPoolExecutor(4) as threads:
            stage = Stage(threads=threads)
            try:
                await script(stage)
            finally:
                stage.remote.gate.set()

    asyncio.run(main())


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
            assert outcome.failure.detail.endswith(f"; in {SOURCE.config_path}")
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


def test_a_fixed_model_from_an_earlier_look() -> None:
    """Serves though its store does not answer: that is told, and keeps nothing from starting."""

    async def script(stage: Stage) -> None:
        stage.remote.folders[URL] = {1: 0}
        stage.remote.recalled[URL] = failure = Failure(Code.REPOSITORY)
        await stage.manager.start()
        assert stage.states() == {"a": {1: "AVAILABLE"}}
        assert stage.registry.models["a"].failure is failure
        assert (await stage.manager.reload()).failure is failure
        stage.remote.recalled.clear()
        assert await stage.manager.reload() == Outcome(changed=False)
        assert stage.registry.models["a"].failure is None

    play(script, Source(None, (ModelSettings("a", URL),)))


def test_reloads_at_once_share_a_pass() -> None:
    """All that wait for it get its outcome; nothing is loaded twice. Who comes later gets a pass that began later."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        stage.write(entry("a"), entry("b"))
        outcomes = await asyncio.gather(*(stage.manager.reload() for _ in range(5)))
        assert [outcome.changed for outcome in outcomes] == [True] * 5
        assert len(stage.engine.loaded) == 2
        assert not (await stage.manager.reload()).changed

    play(script)


def test_everything_is_closed_at_the_end() -> None:
    """No executable is left open."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        await stage.manager.retire_all()
        assert stage.states() == {"a": {1: "END"}}
        assert all(each.closed.is_set() for each in stage.engine.executables)

    play(script)


async def turns(stage: Stage, wanted: dict[str, dict[int, str]], limit: int = 1000) -> None:
    """Let the loop go round until the versions are in these states."""
    for _ in range(limit):
        if stage.states() == wanted:
            return
        await asyncio.sleep(0)
    assert stage.states() == wanted


@asynccontextmanager
async def running(stage: Stage, poll_s: float) -> AsyncIterator[None]:
    """The manager started, and making passes by itself."""
    await stage.manager.start()
    task = asyncio.ensure_future(stage.manager.run(poll_s))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def test_polls_find_changes() -> None:
    """After the pause between two looks."""

    async def script(stage: Stage) -> None:
        async with running(stage, 1.0):
            stage.storage.folders["/a"][2] = 0
            await turns(stage, {"a": {1: "END", 2: "AVAILABLE"}})
            assert stage.clock.now < 1000 + 3

    play(script)


def test_a_change_that_is_told_of_needs_no_poll() -> None:
    """A pass is made as soon as things have calmed down."""

    async def script(stage: Stage) -> None:
        async with running(stage, 1e6):
            stage.storage.folders["/a"][2] = 0
            stage.manager.wake()
            await turns(stage, {"a": {1: "END", 2: "AVAILABLE"}})
            assert stage.clock.now < 1000 + 1

    play(script)


def test_a_pass_that_goes_wrong_is_not_the_last_one() -> None:
    """What nobody foresaw is logged."""

    async def script(stage: Stage) -> None:
        async with running(stage, 1.0):
            right, stage.storage.versions = stage.storage.versions, lambda _: 1 // 0  # type: ignore[assignment,method-assign,return-value]
            for _ in range(50):
                await asyncio.sleep(0)
            stage.storage.versions = right  # type: ignore[method-assign]
            stage.storage.folders["/a"][2] = 0
            await turns(stage, {"a": {1: "END", 2: "AVAILABLE"}})

    play(script)


def test_a_version_that_is_being_written_is_left_alone() -> None:
    """Until it is complete; meanwhile the one before it serves."""

    async def script(stage: Stage) -> None:
        async with running(stage, 1.0):
            stage.storage.folders["/a"][2] = 0
            stage.storage.fresh.add("/a/2")
            for _ in range(100):
                await asyncio.sleep(0)
            assert stage.states() == {"a": {1: "AVAILABLE"}}
            stage.storage.fresh.clear()
            await turns(stage, {"a": {1: "END", 2: "AVAILABLE"}})

    play(script)


def test_a_reload_waits_for_a_version_that_is_being_written() -> None:
    """Not for ever: then it is taken as it is. So is it at the start."""

    async def script(stage: Stage) -> None:
        stage.storage.fresh.add("/a/1")
        await stage.manager.start()
        assert stage.states() == {"a": {1: "AVAILABLE"}}
        begun = stage.clock.now
        stage.storage.folders["/a"][2] = 0
        stage.storage.fresh.add("/a/2")
        assert (await stage.manager.reload()).changed
        assert stage.states() == {"a": {1: "END", 2: "AVAILABLE"}}
        assert 1 < stage.clock.now - begun < 5

    play(script)


def test_a_file_that_is_half_written_is_read_again() -> None:
    """Its writer may be done a moment later."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        stage.write(entry("a"), entry("b"))
        whole = stage.storage.config
        assert isinstance(whole, bytes)
        reads = iter([whole[:20], whole[:30], whole])
        stage.storage.read_config = lambda _: next(reads)  # type: ignore[method-assign]
        assert await stage.manager.reload() == Outcome(True, Code.CONFIG_RELOAD)
        assert stage.states() == {"a": {1: "AVAILABLE"}, "b": {1: "AVAILABLE"}}

    play(script)


def test_everything_that_counts_is_watched() -> None:
    """The configuration file, the folders of the models, and those that are not there yet."""

    async def script(stage: Stage) -> None:
        stage.write(entry("a"), entry("lost"))
        await stage.manager.start()
        assert stage.watcher.watched == {"/etc/config.json", "/a", "/a/1", "/lost"}
        stage.write(entry("b"))
        await stage.manager.reload()
        assert stage.watcher.watched == {"/etc/config.json", "/b", "/b/1"}

    play(script)


def test_a_retired_version_that_is_wanted_again() -> None:
    """While its last request holds it, it is not loaded; as soon as that has ended it is, without a poll."""

    async def script(stage: Stage) -> None:
        async with running(stage, 1e6):
            with Lease(stage.registry.model("a").instance(1)):
                stage.storage.folders["/a"] = {}
                outcome = asyncio.ensure_future(stage.manager.reload())
                await turns(stage, {"a": {1: "UNLOADING"}})
            assert (await outcome).changed
            assert stage.states() == {"a": {1: "END"}}
            stage.storage.folders["/a"] = {1: 0}
            stage.manager.wake()
            await turns(stage, {"a": {1: "AVAILABLE"}})

    play(script)


def test_a_model_is_unloaded_until_it_is_loaded() -> None:
    """Neither a poll nor a reload brings it back; it stays in the repository."""

    async def script(stage: Stage) -> None:
        stage.write(entry("b"), entry("a"))
        async with running(stage, 1.0):
            await stage.manager.unload("a")
            gone = {"a": {1: "END"}, "b": {1: "AVAILABLE"}}
            assert stage.states() == gone
            await stage.manager.unload("a")
            assert not (await stage.manager.reload()).changed
            stage.storage.folders["/a"][2] = 0
            for _ in range(100):
                await asyncio.sleep(0)
            assert stage.states() == gone
            assert stage.manager.names == ["a", "b"]
            await stage.manager.load("a")
            assert stage.states()["a"] == {1: "END", 2: "AVAILABLE"}
            loaded = len(stage.engine.loaded)
            await stage.manager.load("a")
            assert len(stage.engine.loaded) == loaded

    play(script)


@pytest.mark.parametrize("source", [SOURCE, Source(None, (ModelSettings("a", "/a"),))])
def test_only_what_is_configured_can_be_loaded(source: Source) -> None:
    """Neither what is unknown nor what was configured once; a model of the command line is configured, too."""

    async def script(stage: Stage) -> None:
        stage.write(entry("a"), entry("b"))
        await stage.manager.start()
        names = ["x"]
        if source is SOURCE:
            stage.write(entry("a"))
            await stage.manager.reload()
            names.append("b")
        for name in names:
            for action in (stage.manager.load, stage.manager.unload):
                with pytest.raises(Failure) as caught:
                    await action(name)
                assert caught.value.code is Code.MODEL_MISSING
        await stage.manager.unload("a")
        assert stage.states()["a"] == {1: "END"}
        await stage.manager.load("a")
        assert stage.states()["a"] == {1: "AVAILABLE"}

    play(script, source)


def test_a_model_that_does_not_load_says_why() -> None:
    """Its versions', or its folder's; asked again, it is tried again, without a pause."""

    async def script(stage: Stage) -> None:
        stage.engine.broken.add(Key("a", 1))
        await stage.manager.start()
        for _ in range(2):
            tried = len(stage.engine.loaded)
            with pytest.raises(Failure) as caught:
                await stage.manager.load("a")
            assert caught.value.code is Code.MODEL_UNREADABLE
            assert len(stage.engine.loaded) > tried
        stage.storage.folders["/a"] = {}
        with pytest.raises(Failure) as caught:
            await stage.manager.load("a")
        del stage.storage.folders["/a"]
        with pytest.raises(Failure) as caught:
            await stage.manager.load("a")
        assert caught.value.code is Code.PATH_INVALID
        stage.engine.broken.clear()
        stage.storage.folders["/a"] = {1: 0}
        await stage.manager.load("a")
        assert stage.states() == {"a": {1: "AVAILABLE"}}

    play(script)


def test_an_unload_waits_for_those_who_use_the_model() -> None:
    """It is done when the last request is."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        with Lease(stage.registry.model("a").instance(1)):
            unloaded = asyncio.ensure_future(stage.manager.unload("a"))
            await turns(stage, {"a": {1: "UNLOADING"}})
            assert not unloaded.done()
        await unloaded
        assert stage.states() == {"a": {1: "END"}}

    play(script)


def samples(stage: Stage) -> dict[str, float]:
    """What is counted of passes, and when the last good one ended."""
    stage.registry.metrics.enable(MetricsSettings(enable=True))
    text = b"".join(stage.registry.metrics.expose(openmetrics=False)).decode()
    found = re.findall(r"^tornado_ovms_(?:reloads_total\{result=\"(\w+)\"\}|last_(suc)\w+) (\S+)$", text, re.MULTILINE)
    return {result or when: float(value) for result, when, value in found}


def test_a_start_without_a_fault_is_a_success_already() -> None:
    """And counts as no reload; one with a fault is none."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        found = samples(stage)
        assert found.pop("suc") > 0
        assert found == {"changed": 0, "unchanged": 0, "failed": 0}

    async def faulty(stage: Stage) -> None:
        stage.engine.broken.add(Key("a", 1))
        await stage.manager.start()
        assert samples(stage) == {"changed": 0, "unchanged": 0, "failed": 1, "suc": 0}

    play(script)
    play(faulty)


@pytest.mark.parametrize("trouble", [b"{", Failure(Code.CONFIG_UNREADABLE)])
def test_a_configuration_that_stays_broken_fails_each_pass(trouble: bytes | Failure) -> None:
    """An alert goes on until somebody has mended it, also when nobody asks for a reload; then it is forgotten."""

    async def script(stage: Stage) -> None:
        await stage.manager.start()
        good, since = stage.storage.config, samples(stage)["suc"]
        stage.storage.config = trouble
        for count in (1, 2, 3):
            await stage.manager._pass(asked_for=False)
            found = samples(stage)
            assert (found["failed"], found["suc"]) == (count, since)
            assert stage.manager.failure is not None
        stage.storage.config = good
        await stage.manager._pass(asked_for=False)
        found = samples(stage)
        assert (found["failed"], found["suc"] > since) == (3, True)
        assert stage.manager.failure is None

    play(script)


@pytest.mark.parametrize("source", [SOURCE, Source(None, (ModelSettings("a", "/a"),))], ids=["file", "fixed"])
def test_what_the_configuration_says_about_metrics_is_told_before_models_are_loaded(source: Source) -> None:
    """They can be scraped meanwhile, and what is wrong with it ends the start before it has cost anything."""

    async def script(stage: Stage) -> None:
        told: list[MetricsSettings | None] = []

        def refuse(found: MetricsSettings | None) -> None:
            told.append(found)
            raise Failure(Code.METRICS_FAMILY)

        stage.storage.config = json.dumps({
            "model_config_list": [entry("a")],
            "monitoring": {"metrics": {"enable": True, "metrics_list": ["x"]}},
        }).encode()
        with pytest.raises(Failure) as caught:
            await stage.manager.start(refuse)
        assert caught.value.code is Code.METRICS_FAMILY
        assert stage.engine.loaded == []
        assert told == [None if source.config_path is None else MetricsSettings(enable=True, families=("x",))]

    play(script, source)
