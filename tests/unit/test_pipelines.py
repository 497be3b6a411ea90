"""Pipelines by name: their states after each event, members that change, libraries, nodes, and requests in flight."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fakes import FakeExecutable, InlineExecutor
from tests.graphs import ComputingNode, interface, node, pipeline, plain, tensor
from tornado_ovms.core.config import Config
from tornado_ovms.core.lifecycle import Blueprint, Event, Key
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.observation import PREDICT
from tornado_ovms.serving.pipelines import PipelineInstance, Pipelines
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.servable import Instance, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tornado_ovms.core.settings import NodeSettings, PipelineSettings

Arrays = dict[str, np.ndarray]

TEN = np.arange(10, dtype=np.float32).reshape(1, 10)


class Manual(Executor):
    """Keeps what it is given until it is told to run it."""

    def __init__(self) -> None:
        self.kept: list[Callable[[], None]] = []
        self.is_open = True

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See ``Executor``."""
        future: Future[Any] = Future()

        def do() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - it is handed over
                future.set_exception(error)

        if self.is_open:
            do()
        else:
            self.kept.append(do)
        return future

    def run(self) -> None:
        """Run what has been kept."""
        kept, self.kept = self.kept, []
        for do in kept:
            do()


class FakeLibrary:
    """Makes nodes that add what their parameter ``add`` says; another parameter, or ``fault`` here, keeps it from that."""

    def __init__(self) -> None:
        self.made: list[ComputingNode] = []
        self.fault: Exception | None = None
        self.looks = plain()

    def create(self, params: Mapping[str, str]) -> ComputingNode:
        """See ``Library``."""
        if params.get("fault") == "initialize":
            raise Failure(Code.NODE_INITIALIZE, "initialize returned 3")
        if params.get("fault") == "metadata":
            raise Failure(Code.NODE_METADATA, "getInputsInfo returned 4")
        if self.fault is not None:
            raise self.fault
        number = np.float32(params.get("add", "1"))
        made = ComputingNode(self.looks, lambda arrays: {"a": arrays["b"] + number})
        self.made.append(made)
        return made

    @property
    def closed(self) -> list[int]:
        """How often each node has been closed."""
        return [each.closed for each in self.made]


class Stage:
    """Pipelines over a registry, with libraries by their path."""

    def __init__(self) -> None:
        self.registry = Registry(Metrics())
        self.loaders = Manual()
        self.libraries: dict[str, FakeLibrary | Failure] = {"/lib": FakeLibrary()}
        self.opened: list[str] = []
        self.pipelines = Pipelines(self.registry, self._open, self.loaders, InlineExecutor())  # type: ignore[arg-type]

    def _open(self, path: str) -> FakeLibrary:
        self.opened.append(path)
        found = self.libraries[path]
        if isinstance(found, Failure):
            raise found
        return found

    @property
    def library(self) -> FakeLibrary:
        """That at ``/lib``."""
        found = self.libraries["/lib"]
        assert isinstance(found, FakeLibrary)
        return found

    def put(self, version: int = 1, name: str = "m", **settings: Any) -> FakeExecutable:
        """A version of a model serves, or another instance of it does."""
        blueprint = Blueprint(Key(name, version), ModelSettings(name, f"/{name}", **settings), "", ())
        there = self.registry.add_version(blueprint)
        executable = FakeExecutable(version)
        if there.instance is None:
            self.registry.advance(Key(name, version), Event.LOAD)
        there.instance = Instance(blueprint, executable)
        self.registry.advance(Key(name, version), Event.LOADED)
        return executable

    def remove(self, version: int = 1, name: str = "m") -> Instance:
        """A version goes away."""
        there = self.registry.models[name].versions[version]
        old, there.instance = there.instance, None
        self.registry.advance(Key(name, version), Event.RETIRE)
        self.registry.advance(Key(name, version), Event.UNLOADED)
        assert old is not None
        return old

    async def adopt(self, *pipelines: PipelineSettings, libraries: Mapping[str, str] | None = None) -> list[Code]:
        """Take over a configuration; the codes of what is wrong."""
        config = Config((), {}, pipelines, libraries, (), (), None)
        codes = [failure.code for failure in await self.pipelines.adopt(config)]
        await turns()
        return codes

    async def revalidate(self) -> list[Code]:
        """Check what has changed; the codes of what is wrong."""
        codes = [failure.code for failure in await self.pipelines.revalidate()]
        await turns()
        return codes

    def state(self, name: str = "pipe") -> str:
        """As clients see it."""
        (_, (state, error)), *_ = self.registry.pipelines[name].statuses()
        return f"{state.name} {error.value}"

    def instance(self, name: str = "pipe") -> PipelineInstance:
        """What serves a pipeline."""
        found = self.registry.pipelines[name].current
        assert isinstance(found, PipelineInstance)
        return found

    async def ask(self, name: str = "pipe") -> float:
        """What a pipeline adds."""
        answer = (await self.instance(name).infer({"in": TEN}, PREDICT)).outputs[0] - TEN
        return float(answer[0, 0])


def play(script: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Run a script on a stage of its own; one that hangs is a fault."""

    async def main() -> None:
        await asyncio.wait_for(script(Stage()), 30)

    asyncio.run(main())


async def turns(count: int = 20) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


def simple(name: str = "pipe", **more: Any) -> PipelineSettings:
    """A pipeline of one model, m."""
    return pipeline([node("n", target="m", **more)], "out=n.x", name=name)


def custom(params: Mapping[str, str] | None = None, target: str = "lib", name: str = "n") -> PipelineSettings:
    """A pipeline of one custom node."""
    return pipeline([custom_node(params, target, name)], f"out={name}.x")


def custom_node(params: Mapping[str, str] | None = None, target: str = "lib", name: str = "n") -> NodeSettings:
    """That node."""
    return node(name, target=target, is_custom=True, params=dict(params or {}))


LIB = {"lib": "/lib"}
BAD = pipeline([node("n", "c=request.in", target="m")], "out=n.x")
"""A definition that breaks a rule."""

# States


async def become_begin(stage: Stage) -> None:
    """Nothing has been heard of it."""


async def become_available(stage: Stage) -> None:
    """It is valid."""
    assert not await stage.adopt(simple())


async def become_invalid(stage: Stage) -> None:
    """It breaks a rule."""
    assert await stage.adopt(BAD) == [Code.PIPELINE_MISSING_INPUT]


async def become_retired(stage: Stage) -> None:
    """It was there."""
    await become_available(stage)
    await stage.adopt()


BECOMES = {
    "BEGIN": become_begin, "AVAILABLE": become_available, "INVALID": become_invalid, "RETIRED": become_retired,
}  # fmt: skip
STATES = {
    "BEGIN": None,
    "AVAILABLE": "AVAILABLE OK",
    "INVALID": "LOADING FAILED_PRECONDITION",
    "RETIRED": "END OK",
}
AFTER = {
    ("BEGIN", "reload, valid"): "AVAILABLE",
    ("BEGIN", "reload, invalid"): "INVALID",
    ("AVAILABLE", "reload, valid"): "AVAILABLE",
    ("AVAILABLE", "reload, invalid"): "INVALID",
    ("AVAILABLE", "member changed, valid"): "AVAILABLE",
    ("AVAILABLE", "member changed, invalid"): "INVALID",
    ("AVAILABLE", "retire"): "RETIRED",
    ("INVALID", "reload, valid"): "AVAILABLE",
    ("INVALID", "reload, invalid"): "INVALID",
    ("INVALID", "member changed, valid"): "INVALID",  # the definition itself is at fault
    ("INVALID", "member changed, invalid"): "INVALID",
    ("INVALID", "retire"): "RETIRED",
    ("RETIRED", "reload, valid"): "AVAILABLE",
    ("RETIRED", "reload, invalid"): "INVALID",
    ("RETIRED", "member changed, valid"): "RETIRED",
    ("RETIRED", "member changed, invalid"): "RETIRED",
    ("RETIRED", "retire"): "RETIRED",
}
"""Section 4 of the reference's rules, as clients see it."""


async def happen(stage: Stage, event: str) -> None:
    """Let something happen."""
    if event == "retire":
        await stage.adopt()
    elif event == "reload, valid":
        await stage.adopt(simple())
    elif event == "reload, invalid":
        await stage.adopt(BAD)
    elif event == "member changed, valid":
        stage.put(2)
        await stage.revalidate()
    else:
        stage.remove()
        await stage.revalidate()


@pytest.mark.parametrize(("before", "event"), AFTER)
def test_states(before: str, event: str) -> None:
    """What clients see after each event in each state."""

    async def script(stage: Stage) -> None:
        stage.put()
        await BECOMES[before](stage)
        if STATES[before] is not None:
            assert stage.state() == STATES[before]
        await happen(stage, event)
        assert stage.state() == STATES[AFTER[before, event]]

    play(script)


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [("BEGIN", "LOADING OK"), ("RETIRED", "LOADING OK"), ("AVAILABLE", "AVAILABLE OK"),
     ("INVALID", "LOADING FAILED_PRECONDITION")],
)  # fmt: skip
def test_while_a_definition_is_checked(before: str, meanwhile: str) -> None:
    """What serves goes on; what does not is loading, and waited for."""

    async def script(stage: Stage) -> None:
        stage.put()
        await BECOMES[before](stage)
        stage.loaders.is_open = False
        task = asyncio.ensure_future(stage.adopt(simple()))
        await turns()
        assert stage.state() == meanwhile
        version = stage.registry.pipelines["pipe"].find(None)
        assert version is not None
        if meanwhile == "LOADING OK":
            with pytest.raises(Failure) as caught:
                await version.lease_when_loaded(0)
            assert caught.value.code is Code.PIPELINE_NOT_LOADED_YET
            waiting = asyncio.ensure_future(version.lease_when_loaded())
            await turns()
            assert not waiting.done()
        elif meanwhile.startswith("AVAILABLE"):
            assert await stage.ask() == 1
        stage.loaders.run()
        assert await task == []
        with await version.lease_when_loaded() as instance:
            assert instance is stage.instance()
        assert stage.state() == "AVAILABLE OK"
        if meanwhile == "LOADING OK":
            with await waiting as instance:
                assert instance is stage.instance()

    play(script)


@pytest.mark.parametrize(
    ("state", "code"), [("INVALID", Code.PIPELINE_NOT_LOADED_YET), ("RETIRED", Code.PIPELINE_RETIRED)]
)
def test_requests_to_what_does_not_serve(state: str, code: Code) -> None:
    """They are told at once, whatever version they ask for."""

    async def script(stage: Stage) -> None:
        stage.put()
        await BECOMES[state](stage)
        with pytest.raises(Failure) as caught:
            stage.registry.model("pipe").instance(7)
        assert caught.value.code is code
        assert caught.value.http == 404

    play(script)


# Members


def test_a_member_that_changes() -> None:
    """Requests use the new version before the next check; the check makes a new instance, and a second one finds nothing."""

    async def script(stage: Stage) -> None:
        stage.put(1)
        await stage.adopt(simple())
        first = stage.instance()
        stage.put(2)
        assert await stage.ask() == 2
        assert await stage.revalidate() == []
        second = stage.instance()
        assert second is not first
        assert await stage.revalidate() == []
        assert stage.instance() is second
        stage.put(2)  # another instance of the same version
        await stage.revalidate()
        assert stage.instance() is not second

    play(script)


def test_the_default_version_falls_back() -> None:
    """The highest that is left serves."""

    async def script(stage: Stage) -> None:
        stage.put(1)
        stage.put(2)
        await stage.adopt(simple())
        assert await stage.ask() == 2
        stage.remove(2)
        assert await stage.revalidate() == []
        assert await stage.ask() == 1

    play(script)


def test_a_pinned_version() -> None:
    """Others are none of its business; when it goes the pipeline falls, and comes back with it."""

    async def script(stage: Stage) -> None:
        stage.put(1)
        await stage.adopt(simple(version=1))
        first = stage.instance()
        stage.put(2)
        await stage.revalidate()
        assert stage.instance() is first
        assert await stage.ask() == 1
        stage.remove(1)
        assert await stage.revalidate() == [Code.PIPELINE_MISSING_MODEL]
        assert stage.state() == STATES["INVALID"]
        assert await stage.revalidate() == []  # told once
        stage.put(1)
        assert await stage.revalidate() == []
        assert await stage.ask() == 1

    play(script)


def test_a_pinned_version_that_was_never_there() -> None:
    """It is taken up when it appears; the reference waits for the configuration to change."""

    async def script(stage: Stage) -> None:
        stage.put(1)
        assert await stage.adopt(simple(version=2)) == [Code.PIPELINE_MISSING_MODEL]
        stage.put(2)
        assert await stage.revalidate() == []
        assert await stage.ask() == 2

    play(script)


def test_a_model_that_does_not_fit_any_more() -> None:
    """The pipeline falls with the rule that is broken, which the verbose status shows, and comes back."""

    async def script(stage: Stage) -> None:
        stage.put(1)
        await stage.adopt(simple())
        stage.put(2).inputs = {"c": tensor("c", 1, 10)}
        assert await stage.revalidate() == [Code.PIPELINE_MISSING_INPUT]
        version = stage.registry.pipelines["pipe"].find(None)
        assert version is not None
        assert version.failure is not None
        assert version.failure.code is Code.PIPELINE_MISSING_INPUT
        stage.remove(2)
        assert await stage.revalidate() == []
        assert version.failure is None
        assert await stage.ask() == 1

    play(script)


def test_only_pipelines_on_a_member_are_checked() -> None:
    """The others keep their instance."""

    async def script(stage: Stage) -> None:
        stage.put()
        stage.put(name="k")
        other = pipeline([node("n", target="k")], "out=n.x", name="other")
        await stage.adopt(simple(), other)
        before = stage.instance("other")
        stage.put(2)
        await stage.revalidate()
        assert stage.instance("other") is before

    play(script)


def test_a_stateful_model_is_no_member() -> None:
    """Stateful models may not be used."""

    async def script(stage: Stage) -> None:
        stage.put(stateful=True)
        assert await stage.adopt(simple()) == [Code.NOT_IMPLEMENTED]

    play(script)


def test_a_pipeline_is_no_member() -> None:
    """A node's model is looked for among the models only."""

    async def script(stage: Stage) -> None:
        stage.put()
        outer = pipeline([node("n", target="pipe")], "out=n.x", name="outer")
        assert await stage.adopt(simple(), outer) == [Code.PIPELINE_MISSING_MODEL]

    play(script)


@pytest.mark.parametrize("outputs", ["out=n.x same=request.in", "out=n.x same=request.other", "same=request.in"])
@pytest.mark.parametrize("count", [None, -1])
def test_an_output_of_the_request(outputs: str, count: int | None) -> None:
    """Such a pipeline is served and answers nothing, also if the request is split."""

    async def script(stage: Stage) -> None:
        stage.put()
        nodes = [node("n", target="m")] if "n.x" in outputs else []
        assert await stage.adopt(pipeline(nodes, outputs, items="in other", count=count), simple("good")) == []
        with pytest.raises(Failure) as caught:
            stage.instance().check()
        assert caught.value.code is Code.INTERNAL
        stage.instance("good").check()

    play(script)


def test_failures_come_in_the_order_of_the_file_and_leave_the_others() -> None:
    """Each is checked by itself."""

    async def script(stage: Stage) -> None:
        stage.put()
        lost = pipeline([node("n", target="nothing")], "out=n.x", name="lost")
        codes = await stage.adopt(BAD, simple("good"), lost)
        assert codes == [Code.PIPELINE_MISSING_INPUT, Code.PIPELINE_MISSING_MODEL]
        assert await stage.ask("good") == 1

    play(script)


def test_a_model_has_the_name() -> None:
    """The pipeline is not created; also if the model serves no more."""

    async def script(stage: Stage) -> None:
        stage.put()
        assert await stage.adopt(simple("m")) == [Code.PIPELINE_NAME_OCCUPIED]
        stage.remove()
        assert await stage.adopt(simple("m"), simple("ok")) == [
            Code.PIPELINE_NAME_OCCUPIED, Code.PIPELINE_MISSING_MODEL,
        ]  # fmt: skip
        assert set(stage.registry.pipelines) == {"ok"}

    play(script)


def test_what_nobody_foresaw_fails_one_pipeline(caplog: pytest.LogCaptureFixture) -> None:
    """A library in Python may raise anything; it is logged with its trace, and the other pipelines serve."""

    async def script(stage: Stage) -> None:
        stage.put()
        stage.library.fault = ZeroDivisionError()
        assert await stage.adopt(custom(), simple("good"), libraries=LIB) == [Code.INTERNAL]
        assert stage.state() == STATES["INVALID"]
        assert await stage.ask("good") == 1

    play(script)
    assert "ZeroDivisionError" in caplog.text


# Libraries


def test_libraries_are_opened_once() -> None:
    """A known name and path are left alone; a new path takes the name over."""

    async def script(stage: Stage) -> None:
        stage.libraries["/new"] = FakeLibrary()
        for _ in range(2):
            assert await stage.adopt(custom(), libraries=LIB) == []
        assert stage.opened == ["/lib"]
        assert await stage.adopt(custom(), libraries={"lib": "/new"}) == []
        assert stage.opened == ["/lib", "/new"]
        assert stage.library.closed == [1]

    play(script)


def test_libraries_are_forgotten_only_if_the_file_speaks_of_any() -> None:
    """Without the key they stay; with it, those that are not in it are gone for the pipelines."""

    async def script(stage: Stage) -> None:
        await stage.adopt(custom(), libraries=LIB)
        assert await stage.adopt(custom(), libraries=None) == []
        assert await stage.adopt(custom(), libraries={}) == [Code.PIPELINE_LIBRARY]
        assert stage.library.closed == [1]
        assert await stage.adopt(custom(), libraries=LIB) == []
        assert stage.opened == ["/lib", "/lib"]

    play(script)


def test_a_library_that_cannot_be_opened() -> None:
    """Only pipelines with nodes of it fail; it is tried again with the next configuration."""

    async def script(stage: Stage) -> None:
        good, stage.libraries["/lib"] = stage.libraries["/lib"], Failure(Code.PIPELINE_LIBRARY, "no such file")
        stage.put()
        assert await stage.adopt(simple("good"), libraries=LIB) == []
        assert await stage.adopt(simple("good"), custom(), libraries=LIB) == [Code.PIPELINE_LIBRARY]
        stage.libraries["/lib"] = good
        assert await stage.adopt(simple("good"), custom(), libraries=LIB) == []
        assert await stage.ask() == 1

    play(script)


def test_what_is_told_of_custom_nodes_first() -> None:
    """A missing library and a failed initialize go before all other rules, failed metadata calls come in their turn."""

    async def script(stage: Stage) -> None:
        def doubled(each: NodeSettings) -> PipelineSettings:
            return pipeline([custom_node(), each, each], "out=n.x")

        codes = {
            Code.PIPELINE_LIBRARY: custom_node(target="other", name="k"),
            Code.NODE_INITIALIZE: custom_node({"fault": "initialize"}, name="k"),
            Code.PIPELINE_NODE_NAME_DUPLICATE: custom_node({"fault": "metadata"}, name="k"),
        }
        for code, each in codes.items():
            assert await stage.adopt(doubled(each), libraries=LIB) == [code]
        assert await stage.adopt(custom({"fault": "metadata"}), libraries=LIB) == [Code.NODE_METADATA]
        assert set(stage.library.closed) == {1}, "nodes made in vain are closed"

    play(script)


# Nodes


def test_a_node_is_kept_while_nothing_about_it_changes() -> None:
    """Through reloads and checks; also while a request is still on an older instance."""

    async def script(stage: Stage) -> None:
        stage.put()
        both = pipeline([node("m"), custom_node({"add": "10"})], "out=m.x other=n.x")
        await stage.adopt(both, libraries=LIB)
        old = Lease(stage.instance())
        for version in (2, 3):
            stage.put(version)
            await stage.revalidate()
            await stage.adopt(both, libraries=LIB)
        with old:
            pass
        await turns()
        assert stage.library.closed == [0]
        await stage.adopt()
        assert stage.library.closed == [1]

    play(script)


@pytest.mark.parametrize(
    "after", [custom({"add": "5"}), custom(target="second"), custom(name="other")], ids=["params", "library", "name"]
)
def test_a_node_that_changes_is_made_anew(after: PipelineSettings) -> None:
    """The old one is closed, once."""

    async def script(stage: Stage) -> None:
        stage.libraries["/second"] = second = FakeLibrary()
        libraries = {**LIB, "second": "/second"}
        await stage.adopt(custom(), libraries=libraries)
        await stage.adopt(after, libraries=libraries)
        assert stage.library.closed + second.closed == [1, 0]
        await stage.adopt()
        assert stage.library.closed + second.closed == [1, 1]

    play(script)


def test_a_check_that_fails_closes_what_it_has_made() -> None:
    """And what served so far is closed with its last request, once."""

    async def script(stage: Stage) -> None:
        await stage.adopt(custom(), libraries=LIB)
        old = Lease(stage.instance())
        bad = pipeline([custom_node(), custom_node(name="fresh")], "out=n.x other=fresh.nothing")
        assert await stage.adopt(bad, libraries=LIB) == [Code.PIPELINE_MISSING_ITEM]
        assert stage.library.closed == [0, 1]
        with old as instance:
            assert float((await instance.infer({"in": TEN}, PREDICT)).outputs[0][0, 0]) == 1
        await turns()
        assert stage.library.closed == [1, 1]
        assert await stage.adopt(custom(), libraries=LIB) == []
        assert stage.library.closed == [1, 1, 0]

    play(script)


def test_each_node_has_its_own_state() -> None:
    """Two nodes of one library, and those of two pipelines, are made separately."""

    async def script(stage: Stage) -> None:
        pair = pipeline([custom_node(name="k"), custom_node()], "out=n.x other=k.x", name="pair")
        await stage.adopt(custom(), pair, libraries=LIB)
        assert len(stage.library.made) == 3
        await stage.adopt(custom(), libraries=LIB)
        assert sorted(stage.library.closed) == [0, 1, 1]

    play(script)


def test_a_node_of_other_sizes_is_checked() -> None:
    """What a library tells is looked at like what a model has."""

    async def script(stage: Stage) -> None:
        stage.put()
        stage.library.looks = interface([tensor("b", 1, 10)], [tensor("a", 1, 9)])
        row = pipeline([custom_node(), node("m", "b=n.x")], "out=m.x")
        assert await stage.adopt(row, libraries=LIB) == [Code.SHAPE]

    play(script)


# Requests in flight


def test_a_request_ends_on_the_plan_that_it_began_with() -> None:
    """The definition changes, its node is made anew, its member is replaced: the answer is the old one's, all of it."""

    async def script(stage: Stage) -> None:
        executable = stage.put()
        executable.gate = asyncio.Event()
        row = [node("m"), node("n", "b=m.x", target="lib", is_custom=True, params={"add": "10"})]
        await stage.adopt(pipeline(row, "out=n.x"), libraries=LIB)
        member = stage.registry.models["m"].instance(None)
        task = asyncio.ensure_future(stage.ask())
        await turns()
        assert member.leases == 1
        stage.put(2)
        row[1] = node("n", "b=m.x", target="lib", is_custom=True, params={"add": "100"})
        assert await stage.adopt(pipeline(row, "out=n.x"), libraries=LIB) == []
        stage.remove(1)
        assert await stage.ask() == 102
        assert stage.library.closed == [0, 0]
        executable.gate.set()
        assert await task == 11
        await turns()
        assert member.leases == 0
        assert stage.library.closed == [1, 0]

    play(script)


def test_members_are_held_from_the_beginning() -> None:
    """Also those whose turn comes last: the version that a request began with is not closed before."""

    async def script(stage: Stage) -> None:
        stage.put(name="k").gate = gate = asyncio.Event()
        stage.put()
        await stage.adopt(pipeline([node("k"), node("n", "b=k.x", target="m")], "out=n.x"))
        task = asyncio.ensure_future(stage.ask())
        await turns()
        stage.put(2)  # the model that runs second
        old = stage.remove(1)
        idle = asyncio.ensure_future(old.idle())
        await turns()
        assert not idle.done()
        gate.set()
        assert await task == 2, "1 and 1: not the version that came meanwhile"
        await idle

    play(script)


@pytest.mark.parametrize("times", [1, 2])
def test_nobody_waits_any_more(times: int) -> None:
    """What runs is let end, and holds what it uses as long, however often it is cancelled; nothing else is started."""

    async def script(stage: Stage) -> None:
        executable = stage.put()
        executable.gate = asyncio.Event()
        row = pipeline([node("m"), node("n", "b=m.x", target="lib", is_custom=True)], "out=n.x")
        await stage.adopt(row, libraries=LIB)
        executions: list[Arrays] = []
        stage.library.made[0].compute = lambda arrays: executions.append(dict(arrays)) or {"a": TEN}
        instance, member = stage.instance(), stage.registry.models["m"].instance(None)
        task = asyncio.ensure_future(instance.infer({"in": TEN}, PREDICT))
        await turns()
        for _ in range(times):
            task.cancel()
            await turns()
        await stage.adopt()
        assert (instance.leases, member.leases) == (1, 1)
        assert stage.library.closed == [0]
        executable.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert (instance.leases, member.leases) == (0, 0)
        assert stage.library.closed == [1]
        assert not executions

    play(script)


def test_a_member_that_is_gone() -> None:
    """Between its end and the next check requests fail with the model's own error, and nothing stays held."""

    async def script(stage: Stage) -> None:
        stage.put()
        stage.put(name="k")
        await stage.adopt(pipeline([node("k"), node("n", "b=k.x", target="m")], "out=n.x"))
        stage.remove()
        with pytest.raises(Failure) as caught:
            await stage.ask()
        assert caught.value.code in (Code.VERSION_MISSING, Code.VERSION_RETIRED)
        assert caught.value.http == 404
        assert stage.registry.models["k"].instance(None).leases == 0
        assert stage.instance().leases == 0

    play(script)


def test_retire_all_waits_for_requests() -> None:
    """At the end of the process nodes are closed after the last request."""

    async def script(stage: Stage) -> None:
        executable = stage.put()
        executable.gate = asyncio.Event()
        row = pipeline([node("m"), node("n", "b=m.x", target="lib", is_custom=True)], "out=n.x")
        await stage.adopt(row, libraries=LIB)
        asked = asyncio.ensure_future(stage.ask())
        await turns()
        end = asyncio.ensure_future(stage.pipelines.retire_all())
        await turns()
        assert not end.done()
        executable.gate.set()
        assert await asked == 2
        await end
        assert stage.library.closed == [1]
        assert stage.state() == "END OK"

    play(script)
