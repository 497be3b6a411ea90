"""Pipelines as what clients ask for by name: made from definitions, checked again when their members change, retired.

A pipeline looks like a model with one version, 1, whose instance runs a ``core.graph`` plan. Definitions are checked in a loader
thread, since libraries of custom nodes are opened there; everything else belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from tornado_ovms.core.graph import REQUEST, Interface, Plan, check
from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import ExecutableStats, Inference, States
from tornado_ovms.serving.run import Member, Run
from tornado_ovms.serving.servable import Instance, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    import numpy as np

    from tornado_ovms.core.config import Config
    from tornado_ovms.core.settings import NodeSettings, PipelineSettings
    from tornado_ovms.nodes.base import Library, Node
    from tornado_ovms.serving.observation import Method
    from tornado_ovms.serving.registry import Pipeline, Registry

log = logging.getLogger("modelmanager")

T = TypeVar("T")

VERSION: Final = 1
"""Of every pipeline."""

AT_ONCE: Final = frozenset({Code.PIPELINE_LIBRARY, Code.NODE_INITIALIZE})
"""What is told of custom nodes before any other rule is looked at."""


class _Owned:
    """A custom node, used by one instance or by several that came after each other.

    It is made and closed in a loader thread; its users are counted on the loop.
    """

    def __init__(self, library: Library, params: Mapping[str, str]) -> None:
        self.library = library
        self.params = params
        self.node: Node = library.create(params)
        self.users = 0


class Graph:
    """A plan with all that it needs to run: an ``Executable`` whose members are other executables."""

    is_quick: Final = False

    def __init__(
        self, plan: Plan, settings: PipelineSettings, nodes: Mapping[str, _Owned], registry: Registry, threads: Executor
    ) -> None:
        self.inputs = plan.inputs
        self.outputs = plan.outputs
        self.info: Mapping[str, Any] = {}
        self.nodes = nodes
        self.plan = plan
        self._models = [node for node in settings.nodes if not node.is_custom]
        self._registry = registry
        self._threads = threads
        self._unused: list[_Owned] = []
        for owned in nodes.values():
            owned.users += 1

    async def run(self, arrays: Mapping[str, np.ndarray], method: Method, lease: Lease) -> list[np.ndarray]:
        """Answer a request. The pipeline and its members' versions are held until it is over, also if nobody waits any more.

        Args:
            arrays: what the request carries.
            method: what its inferences are counted as.
            lease: on the pipeline.

        Raises:
            Failure: VERSION_MISSING and the like if a member has gone away; whatever goes wrong in a node.
        """
        with ExitStack() as leases:
            leases.enter_context(lease)
            members = {}
            for node in self._models:
                version = self._registry.model(node.target).version(node.version)
                instance = leases.enter_context(Lease(version.serving()))
                members[node.name] = Member(instance, version.cells, version.cells.calls[method])
            nodes = {name: owned.node for name, owned in self.nodes.items()}
            run = Run(self.plan, members, nodes, self._threads)
            task = asyncio.ensure_future(run.answer(arrays))
            task.add_done_callback(partial(_close, leases.pop_all()))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            run.abort()
            raise

    def release(self) -> None:
        """No request uses it any more; what nobody else uses either is left to ``close``."""
        for owned in self.nodes.values():
            owned.users -= 1
        self._unused = [owned for owned in self.nodes.values() if not owned.users]

    async def infer(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable``; pipelines are run with the method that their members are counted with."""
        raise NotImplementedError

    async def infer_with_states(
        self, arrays: Mapping[str, np.ndarray], states: States | None
    ) -> tuple[Inference, States]:
        """See ``Executable``; pipelines have no states."""
        raise NotImplementedError

    def infer_now(self, arrays: Mapping[str, np.ndarray]) -> Inference:
        """See ``Executable``; pipelines are never quick."""
        raise NotImplementedError

    def stats(self) -> ExecutableStats:
        """See ``Executable``: a pipeline has no infer requests of its own."""
        return ExecutableStats(0, 0, 0, 0)

    def close(self) -> None:
        """See ``Executable``."""
        for owned in self._unused:
            owned.node.close()


def _close(leases: ExitStack, _: object) -> None:
    leases.close()


Members = dict[str, Instance | None]
"""What serves each model node, by the node's name; None if nothing does."""


class PipelineInstance(Instance):
    """A pipeline that can run, and the versions that it was checked against."""

    def __init__(self, name: str, graph: Graph, members: Members) -> None:
        super().__init__(_blueprint(name), graph)
        self.graph = graph
        self.members = members

    def check(self) -> None:
        """See ``Instance``."""
        if REQUEST in self.graph.plan.response.sources:
            raise Failure(Code.INTERNAL, "an output is taken from the request, which the reference does not do either")

    async def infer(self, arrays: Mapping[str, np.ndarray], method: Method) -> Inference:
        """See ``Instance``."""
        return Inference(await self.graph.run(arrays, method, Lease(self)), 0.0, 0.0)


class _Definition(NamedTuple):
    """A definition, and what its members were when it was last checked."""

    settings: PipelineSettings
    members: Members


def _blueprint(name: str) -> Blueprint:
    return Blueprint(Key(name, VERSION), ModelSettings(name, ""), "", ())


class Pipelines:
    """All pipelines.

    Args:
        registry: where their members are, and where they become visible.
        open_library: opens a library of custom nodes by its path; blocks.
        loaders: threads for opening libraries and for closing.
        threads: threads in which custom nodes run.
    """

    def __init__(
        self, registry: Registry, open_library: Callable[[str], Library], loaders: Executor, threads: Executor
    ) -> None:
        self._registry = registry
        self._open_library = open_library
        self._loaders = loaders
        self._threads = threads
        self._libraries: dict[str, tuple[str, Library | Failure]] = {}
        self._definitions: dict[str, _Definition] = {}
        self._disposals: set[asyncio.Task[None]] = set()

    async def adopt(self, config: Config) -> list[Failure]:
        """Take over the pipelines of a configuration, after its models; every one is checked.

        Returns:
            What is wrong, in the order of the file.
        """
        if config.libraries is not None:
            await self._open(config.libraries)
        failures = []
        wanted: dict[str, PipelineSettings] = {}
        for settings in config.pipelines:
            if settings.name in self._registry.models:
                failure = Failure(Code.PIPELINE_NAME_OCCUPIED, settings.name)
                log.error("%s", failure.text)
                failures.append(failure)
                continue
            wanted[settings.name] = settings
            pipeline = self._registry.add_pipeline(_blueprint(settings.name))
            pipeline.begin()
            failures += await self._check(pipeline, settings)
        for name in self._definitions.keys() - wanted.keys():
            self._retire(name)
        return failures

    async def revalidate(self) -> list[Failure]:
        """Check those pipelines again whose members have changed since the last time.

        Returns:
            What is wrong with those that cannot run any more.
        """
        failures = []
        for name, definition in list(self._definitions.items()):
            if definition.members != self._members(definition.settings):
                failures += await self._check(self._registry.pipelines[name], definition.settings)
        return failures

    async def retire_all(self) -> None:
        """Retire every pipeline, and wait until none runs."""
        for name in list(self._definitions):
            self._retire(name)
        if self._disposals:
            await asyncio.wait(self._disposals)

    async def _open(self, paths: Mapping[str, str]) -> None:
        """Open libraries that are new; those that are not named any more are forgotten, and stay in memory."""
        before, self._libraries = self._libraries, {}
        for name, path in paths.items():
            if name in before and before[name][0] == path and not isinstance(before[name][1], Failure):
                self._libraries[name] = before[name]
                continue
            try:
                self._libraries[name] = path, await self._in_loader(self._open_library, path)
            except Failure as failure:
                log.error("Custom node library %s: %s", name, failure.text)
                self._libraries[name] = path, failure

    def _members(self, settings: PipelineSettings) -> Members:
        """What serves each model node now."""
        return {node.name: self._find(node) for node in settings.nodes if not node.is_custom}

    def _find(self, node: NodeSettings) -> Instance | None:
        model = self._registry.models.get(node.target)
        version = model.find(node.version) if model is not None else None
        return version.instance if version is not None else None

    async def _check(self, pipeline: Pipeline, settings: PipelineSettings) -> list[Failure]:
        """Check a definition; the pipeline runs by it from now on, or not at all."""
        members = self._members(settings)
        self._definitions[settings.name] = _Definition(settings, members)
        interfaces = {name: _interface(settings, name, instance) for name, instance in members.items()}
        old = pipeline.current
        reusable = old.graph.nodes if isinstance(old, PipelineInstance) else {}
        try:
            plan, nodes = await self._in_loader(_prepare, settings, interfaces, dict(self._libraries), reusable)
        except Exception as error:
            failure = error if isinstance(error, Failure) else Failure(Code.INTERNAL, repr(error))
            trace = None if failure is error else error
            log.error("Validation of pipeline %s failed: %s", settings.name, failure.text, exc_info=trace)
            self._swap(pipeline, None, failure)
            return [failure]
        graph = Graph(plan, settings, nodes, self._registry, self._threads)
        self._swap(pipeline, PipelineInstance(settings.name, graph, members), None)
        return []

    def _swap(self, pipeline: Pipeline, fresh: PipelineInstance | None, failure: Failure | None) -> None:
        """Let a pipeline be served by a fresh instance, or by none; requests that run go on with the old one."""
        old = pipeline.swap(fresh, failure)
        if isinstance(old, PipelineInstance):
            task = asyncio.ensure_future(self._dispose(old))
            self._disposals.add(task)
            task.add_done_callback(self._disposals.discard)

    def _retire(self, name: str) -> None:
        del self._definitions[name]
        pipeline = self._registry.pipelines[name]
        self._swap(pipeline, None, None)
        pipeline.retire()

    async def _dispose(self, instance: PipelineInstance) -> None:
        await instance.idle()
        instance.graph.release()
        await self._in_loader(instance.graph.close)

    async def _in_loader(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loaders, function, *args)


def _interface(settings: PipelineSettings, name: str, instance: Instance | None) -> Interface | Failure:
    """What a model node takes and gives."""
    node = next(each for each in settings.nodes if each.name == name)
    if instance is None:
        version = "" if node.version is None else f"; version: {node.version}"
        return Failure(Code.PIPELINE_MISSING_MODEL, f"node: {name}; model: {node.target}{version}")
    if instance.sequences is not None:
        return Failure(Code.NOT_IMPLEMENTED, f"node: {name}; model: {node.target} is stateful")
    return Interface(instance.executable.inputs, {spec.name: spec for spec in instance.executable.outputs})


def _prepare(
    settings: PipelineSettings,
    interfaces: dict[str, Interface | Failure],
    libraries: Mapping[str, tuple[str, Library | Failure]],
    reusable: Mapping[str, _Owned],
) -> tuple[Plan, Mapping[str, _Owned]]:
    """Make a pipeline's custom nodes and check its definition. Loader thread."""
    nodes: dict[str, _Owned] = {}
    fresh: list[_Owned] = []
    try:
        for node in settings.nodes:
            if node.is_custom:
                made = _make(node, libraries, reusable)
                if isinstance(made, Failure):
                    interfaces[node.name] = made
                    continue
                nodes[node.name] = made
                if reusable.get(node.name) is not made:
                    fresh.append(made)
                interfaces[node.name] = Interface(made.node.inputs, made.node.outputs)
        return check(settings, interfaces), nodes
    except BaseException:
        for owned in fresh:
            owned.node.close()
        raise


def _make(
    node: NodeSettings, libraries: Mapping[str, tuple[str, Library | Failure]], reusable: Mapping[str, _Owned]
) -> _Owned | Failure:
    """A custom node: the one that the pipeline has had so far if nothing about it has changed; why there is none."""
    _, library = libraries.get(node.target, ("", Failure(Code.PIPELINE_LIBRARY, f"library_name: {node.target}")))
    if isinstance(library, Failure):
        raise library
    before = reusable.get(node.name)
    if before is not None and before.library is library and before.params == node.params:
        return before
    try:
        return _Owned(library, node.params)
    except Failure as failure:
        if failure.code in AT_ONCE:
            raise
        return failure
