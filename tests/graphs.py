"""Pipelines for tests: short words for definitions, nodes that compute functions, and random graphs with a plain evaluation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.fakes import FakeExecutable, InlineExecutor
from tornado_ovms.core.graph import REQUEST, RESPONSE, Interface, Plan
from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.settings import ModelSettings, NodeSettings, PipelineSettings, Source
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec
from tornado_ovms.engine.base import Inference
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.observation import PREDICT, Cells
from tornado_ovms.serving.registry import Version
from tornado_ovms.serving.run import Member, Run
from tornado_ovms.serving.servable import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from hypothesis.strategies import DrawFn

    Arrays = Mapping[str, np.ndarray]
    Compute = Callable[[Arrays], Arrays]

Size = int | tuple[int, int]


# Definitions


def tensor(name: str, *sizes: Size, kind: str = "FP32", layout: str | None = None) -> TensorSpec:
    """A tensor; -1 is any size, a pair is a range."""
    dims = [ANY if size == -1 else Dim(*size) if isinstance(size, tuple) else Dim.fixed(size) for size in sizes]
    return TensorSpec(
        name, Precision(kind), Shape(dims), Layout.default(len(dims)) if layout is None else Layout(layout)
    )


def interface(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Interface:
    """What a node takes and gives."""
    return Interface({spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs})


def plain(*sizes: Size, kind: str = "FP32") -> Interface:
    """b -> a, both alike; [1,10] unless told otherwise."""
    sizes = sizes or (1, 10)
    return interface([tensor("b", *sizes, kind=kind)], [tensor("a", *sizes, kind=kind)])


def sources(text: str) -> tuple[tuple[str, Source], ...]:
    """``b=request.in c=first.x`` as the configuration has it."""
    pairs = (each.split("=") for each in text.split())
    return tuple((name, Source(*source.split("."))) for name, source in pairs)


def node(name: str, reads: str = "b=request.in", gives: str = "x=a", target: str = "", **more: Any) -> NodeSettings:
    """A node; ``gives`` is ``alias=output``, ``more`` is what ``NodeSettings`` has besides."""
    outputs = dict(each.split("=") for each in gives.split())
    return NodeSettings(name, target or name, more.pop("is_custom", False), sources(reads), outputs, **more)


def pipeline(
    nodes: Sequence[NodeSettings], outputs: str, items: str = "in", count: int | None = None, name: str = "pipe"
) -> PipelineSettings:
    """A definition."""
    return PipelineSettings(name, tuple(items.split()), tuple(nodes), sources(outputs), count)


# Nodes that run


class ComputingExecutable(FakeExecutable):
    """A model that computes a function; how often it has run, and on which arrays."""

    def __init__(self, interface: Interface, compute: Compute, *, turns: int = 0) -> None:
        super().__init__()
        self.inputs = interface.inputs
        self.outputs = list(interface.outputs.values())
        self.compute = compute
        self.is_quick = not turns
        self.turns = turns
        self.seen: list[dict[str, np.ndarray]] = []

    async def infer(self, arrays: Arrays) -> Inference:
        """See ``Executable``."""
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return await super().infer(arrays)

    def infer_now(self, arrays: Arrays) -> Inference:
        """See ``Executable``."""
        if self.failure is not None:
            raise self.failure
        self.seen.append(dict(arrays))
        outputs = self.compute(arrays)
        return Inference([outputs[spec.name] for spec in self.outputs], 0.25, 0.5)


class ComputingNode:
    """A custom node that computes a function."""

    def __init__(self, interface: Interface, compute: Compute, *, is_async: bool = False) -> None:
        self.inputs = interface.inputs
        self.outputs = interface.outputs
        self.is_async = is_async
        self.compute = compute
        self.closed = 0

    def execute(self, arrays: Arrays) -> Any:
        """See ``Node``."""
        return self._later(arrays) if self.is_async else self.compute(arrays)

    async def _later(self, arrays: Arrays) -> Arrays:
        await asyncio.sleep(0)
        return self.compute(arrays)

    def close(self) -> None:
        """See ``Node``."""
        self.closed += 1


def member(executable: FakeExecutable, name: str = "m") -> Member:
    """A version that serves a model node."""
    blueprint = Blueprint(Key(name, 1), ModelSettings(name, ""), "", ())
    cells: Cells = Version(blueprint, Metrics()).cells
    return Member(Instance(blueprint, executable), cells, cells.calls[PREDICT])


def make_run(plan: Plan, parts: Mapping[str, FakeExecutable | ComputingNode], threads: Executor | None = None) -> Run:
    """A run of a plan whose nodes are executables or custom nodes."""
    members = {name: member(part, name) for name, part in parts.items() if isinstance(part, FakeExecutable)}
    nodes = {name: part for name, part in parts.items() if isinstance(part, ComputingNode)}
    return Run(plan, members, nodes, threads or InlineExecutor())


# Random graphs

WIDTH = 2
"""Of all values: [1, WIDTH] between nodes."""

_ONE = (-1, -1)
_MANY = (-1, -1, -1)


class Graph(NamedTuple):
    """A valid pipeline, what its nodes compute, and a request for it."""

    settings: PipelineSettings
    interfaces: Mapping[str, Interface]
    computes: Mapping[str, Compute]
    turns: Mapping[str, int]
    request: Mapping[str, np.ndarray]

    def parts(self) -> dict[str, FakeExecutable | ComputingNode]:
        """Its nodes, able to run."""
        parts: dict[str, FakeExecutable | ComputingNode] = {}
        for each in self.settings.nodes:
            arguments = self.interfaces[each.name], self.computes[each.name]
            turns = self.turns[each.name]
            parts[each.name] = (
                ComputingNode(*arguments, is_async=turns > 0)
                if each.is_custom
                else ComputingExecutable(*arguments, turns=turns)
            )
        return parts

    def evaluate(self) -> dict[str, np.ndarray]:
        """The outputs, by plain recursion from the response."""
        return _Evaluation(self).outputs()


def _mix(seed: int, shards: int | None, *, is_gathered: bool) -> Compute:
    """A function of all inputs, none of which may be confused with another; into ``shards`` pieces, joined from several."""

    def compute(arrays: Arrays) -> Arrays:
        total = np.zeros((1, WIDTH), np.float64)
        for name in sorted(arrays):
            value = arrays[name].astype(np.float64)
            if is_gathered:  # the order of the shards counts
                value = np.tensordot(np.arange(1, len(value) + 1), value, 1)
            total = total + value * (sum(name.encode()) % 97 + 1.5)
        total = np.remainder(total + seed, 1009)
        if shards is not None:
            total = np.stack([total * (index + 1) + index for index in range(shards)])
        return {"a": total.astype(np.float32), "c": (total + 0.5).astype(np.float32)}

    return compute


@dataclass
class _Level:
    """Values that can be read inside of a demultiplexer; ``is_closed`` is whether a node gathers its shards."""

    demultiplexer: str | None
    is_closed: bool
    values: list[Source] = field(default_factory=list)
    unread: list[Source] = field(default_factory=list)

    def add(self, values: Iterable[Source]) -> None:
        for value in values:
            self.values.append(value)
            self.unread.append(value)


class _Builder:
    """Adds node after node; what has been built can always be brought to a valid end."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw
        self.nodes: list[NodeSettings] = []
        self.shards: dict[str, int] = {}
        self.seeds: dict[str, int] = {}
        self.items = [f"i{index}" for index in range(draw(st.integers(1, 3)))]
        request = [Source(REQUEST, item) for item in self.items]
        self.levels = [_Level(None, is_closed=False)]
        if draw(st.integers(0, 3)) == 0:
            self.shards[REQUEST] = draw(st.integers(1, 3))
            self.levels.append(_Level(REQUEST, is_closed=draw(st.booleans())))
        self.levels[-1].add(request)

    def read(self, *, everything: bool) -> list[Source]:
        """Values of the present level, among them all that nobody reads yet, or some."""
        level = self.levels[-1]
        wanted = list(level.unread) if everything else []
        wanted += self._draw(st.lists(st.sampled_from(level.values), min_size=0 if wanted else 1, max_size=3))
        level.unread = [value for value in level.unread if value not in wanted]
        return wanted

    def add(self, reads: Sequence[Source], *, splits: bool, gathers: str | None) -> list[Source]:
        """One node more; what it gives."""
        name = f"n{len(self.nodes)}"
        count = self._draw(st.integers(1, 3)) if splits else None
        if count is not None:
            self.shards[name] = count
        gives = self._draw(st.sampled_from([{"x": "a"}, {"x": "c"}, {"x": "a", "y": "c"}]))
        inputs = tuple((f"b{index}", source) for index, source in enumerate(reads))
        self.nodes.append(
            NodeSettings(
                name, name, self._draw(st.booleans()), inputs, gives, demultiply_count=count, gather_from=gathers
            )
        )
        self.seeds[name] = self._draw(st.integers(0, 100))
        return [Source(name, alias) for alias in gives]

    def step(self) -> None:
        """One node of a random kind."""
        kind = self._draw(st.sampled_from(["plain", "plain", "open", "close", "turn"]))
        level = self.levels[-1]
        if kind == "open":
            may_stay_open = all(not each.is_closed for each in self.levels)
            is_closed = self._draw(st.booleans()) if may_stay_open else True
            given = self.add(self.read(everything=not is_closed), splits=True, gathers=None)
            self.levels.append(_Level(given[0].node, is_closed=is_closed))
            self.levels[-1].add(given)
        elif kind == "close" and level.is_closed:
            self.close()
        elif kind == "turn" and level.is_closed:  # gathers, and splits again
            given = self.add(self.read(everything=True), splits=True, gathers=level.demultiplexer)
            self.levels[-1] = _Level(given[0].node, is_closed=True)
            self.levels[-1].add(given)
        else:
            level.add(self.add(self.read(everything=False), splits=False, gathers=None))

    def close(self) -> None:
        """Gather the innermost shards; at times in two nodes."""
        level = self.levels[-1]
        reads = self.read(everything=True)
        given = self.add(reads, splits=False, gathers=level.demultiplexer)
        if self._draw(st.booleans()):
            given += self.add(self.read(everything=False), splits=False, gathers=level.demultiplexer)
        self.levels.pop()
        self.levels[-1].add(given)

    def cover(self) -> None:
        """What the request gives cannot be an output: what is left of it goes through a node."""
        level = self.levels[-1]
        if any(source.node == REQUEST for source in level.unread):
            level.add(self.add(self.read(everything=True), splits=False, gathers=None))

    def end(self) -> PipelineSettings:
        """The definition."""
        self.cover()
        while self.levels[-1].is_closed:
            self.close()
            self.cover()
        self.levels[-1].values = [value for value in self.levels[-1].values if value.node != REQUEST]
        outputs = [(f"o{index}", source) for index, source in enumerate(self.read(everything=True))]
        counts: dict[str, int] = dict(self.shards)
        if len(counts) == 1 and self._draw(st.booleans()):
            counts = {name: self._draw(st.sampled_from([-1, 0])) for name in counts}
        nodes = [replace(each, demultiply_count=counts.get(each.name)) for each in self.nodes]
        order = self._draw(st.permutations(nodes))
        return PipelineSettings("pipe", tuple(self.items), tuple(order), tuple(outputs), counts.get(REQUEST))


@st.composite
def graphs(draw: DrawFn) -> Graph:
    """Valid pipelines of up to a dozen nodes."""
    builder = _Builder(draw)
    for _ in range(draw(st.integers(0, 8))):
        builder.step()
    settings = builder.end()
    interfaces, computes, turns = {}, {}, {}
    for each in settings.nodes:
        splits, gathers = each.name in builder.shards, each.gather_from is not None
        takes, gives = _MANY if gathers else _ONE, _MANY if splits else _ONE
        interfaces[each.name] = interface(
            [tensor(name, *takes) for name, _ in each.inputs], [tensor(name, *gives) for name in ("a", "c")]
        )
        computes[each.name] = _mix(builder.seeds[each.name], builder.shards.get(each.name), is_gathered=gathers)
        turns[each.name] = draw(st.integers(0, 2))
    read = {source.item for each in settings.nodes for _, source in each.inputs if source.node == REQUEST}
    shape = (*((builder.shards[REQUEST],) if REQUEST in builder.shards else ()), 1, WIDTH)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    request = {item: generator.integers(0, 100, shape).astype(np.float32) for item in sorted(read)}
    return Graph(settings, interfaces, computes, turns, request)


class _Evaluation:
    """The meaning of a graph, without sessions and counters: what is read is computed, every time anew."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes = {each.name: each for each in graph.settings.nodes}
        self._splits = {each.name for each in graph.settings.nodes if each.demultiply_count is not None}
        if graph.settings.demultiply_count is not None:
            self._splits.add(REQUEST)
        self._known: dict[tuple[str, tuple[int, ...]], Arrays] = {}

    def outputs(self) -> dict[str, np.ndarray]:
        return {label: self._joined(source, ()) for label, source in self._graph.settings.outputs}

    def _inside(self, name: str) -> list[str]:
        """The demultiplexers around what a node gives."""
        level: list[str] = []
        if name != REQUEST:
            each = self._nodes[name]
            level = self._inside(each.inputs[0][1].node)
            if each.gather_from is not None:
                level = level[:-1]
        return [*level, name] if name in self._splits else level

    def _joined(self, source: Source, shard: tuple[int, ...]) -> np.ndarray:
        """A value with all its shards below a given one."""
        inside = self._inside(source.node)
        if len(shard) == len(inside):
            return self._value(source, shard)
        name = inside[len(shard)]
        item = next(iter(self._whole(name, shard).values()))
        return np.stack([self._joined(source, (*shard, index)) for index in range(len(item))])

    def _whole(self, name: str, shard: tuple[int, ...]) -> Arrays:
        """All that a node gives in one of its sessions."""
        if name == REQUEST:
            return self._graph.request
        if (name, shard) not in self._known:
            each = self._nodes[name]
            arrays = {
                label: self._value(source, shard) if each.gather_from is None else self._joined_once(source, shard)
                for label, source in each.inputs
            }
            self._known[name, shard] = self._graph.computes[name](arrays)
        return self._known[name, shard]

    def _joined_once(self, source: Source, shard: tuple[int, ...]) -> np.ndarray:
        name = self._inside(source.node)[-1]
        count = len(next(iter(self._whole(name, shard).values())))
        return np.stack([self._value(source, (*shard, index)) for index in range(count)])

    def _value(self, source: Source, shard: tuple[int, ...]) -> np.ndarray:
        if source.node == REQUEST:
            whole = self._graph.request[source.item]
            return whole[shard[0]] if REQUEST in self._splits else whole
        output = self._nodes[source.node].outputs[source.item]
        if source.node in self._splits:
            return self._whole(source.node, shard[:-1])[output][shard[-1]]
        return self._whole(source.node, shard)[output]


# Graphs with faults


class Mutant:
    """A graph in which faults are made.

    Attributes:
        settings: its definition now.
        interfaces: of its nodes now; a failure for one that cannot be used.
    """

    def __init__(self, graph: Graph, draw: DrawFn) -> None:
        self.graph = graph
        self.settings = graph.settings
        self.interfaces: dict[str, Interface | Failure] = dict(graph.interfaces)
        self._draw = draw
        self._names = [*graph.interfaces, REQUEST, RESPONSE, "nobody"]

    def _pick(self, values: Sequence[Any]) -> Any:
        return self._draw(st.sampled_from(values))

    def _replace(self, **more: Any) -> None:
        """Change something about a node."""
        nodes = list(self.settings.nodes)
        at = self._pick(range(len(nodes)))
        nodes[at] = replace(nodes[at], **more)
        self.settings = replace(self.settings, nodes=tuple(nodes))

    def _bend(self, inputs: Sequence[tuple[str, Source]]) -> tuple[tuple[str, Source], ...]:
        """Change something about what is read."""
        at = self._pick(range(len(inputs))) if inputs else 0
        label, source = inputs[at] if inputs else ("b0", Source(REQUEST, "i0"))
        name = self._pick(self._names)
        bent = self._pick([
            [(label, Source(name, "i0" if name == REQUEST else "x"))],
            [(label, Source(source.node, self._pick(["x", "y", "i0", "i1", "nothing"])))],
            [],
            [(label, source)] * 2,
            [("other", source)],
        ])
        return (*inputs[:at], *bent, *inputs[at + 1 :])

    def bend_node(self) -> None:
        """A node reads something else."""
        nodes = list(self.settings.nodes)
        at = self._pick(range(len(nodes)))
        nodes[at] = replace(nodes[at], inputs=self._bend(nodes[at].inputs))
        self.settings = replace(self.settings, nodes=tuple(nodes))

    def bend_outputs(self) -> None:
        """The response reads something else."""
        self.settings = replace(self.settings, outputs=self._bend(self.settings.outputs))

    def split(self) -> None:
        """A node splits into another number of shards, or not at all."""
        self._replace(demultiply_count=self._pick([None, -1, 0, 1, 2, 3]))

    def split_request(self) -> None:
        """The request does."""
        self.settings = replace(self.settings, demultiply_count=self._pick([None, -1, 0, 1, 2, 3]))

    def gather(self) -> None:
        """A node gathers from another one, or from none."""
        self._replace(gather_from=self._pick([None, *self._names]))

    def rename_outputs(self) -> None:
        """A node gives something else."""
        self._replace(outputs={"x": self._pick(["a", "c", "nothing"])})

    def rename(self) -> None:
        """A node has another name."""
        name = self._pick(self._names)
        self._replace(name=name)
        self.interfaces.setdefault(name, plain())

    def reshape(self) -> None:
        """An input or an output looks otherwise."""
        name = self._pick(list(self.graph.interfaces))
        old = self.graph.interfaces[name]
        sizes = self._draw(st.lists(st.sampled_from([-1, 1, 3, (1, 2), (2, 3)]), max_size=4))
        kind = self._pick(["FP32", "FP32", "I32", "STRING"])
        self.interfaces[name] = self._pick([
            Interface({**old.inputs, "b0": tensor("b0", *sizes, kind=kind)}, old.outputs),
            Interface(old.inputs, {**old.outputs, "a": tensor("a", *sizes, kind=kind)}),
        ])

    def lose(self) -> None:
        """A node's model is missing."""
        self.interfaces[self._pick(list(self.graph.interfaces))] = Failure(Code.PIPELINE_MISSING_MODEL, "node")

    def parts(self) -> dict[str, FakeExecutable | ComputingNode]:
        """Its nodes, able to run."""
        known = {name: each for name, each in self.interfaces.items() if isinstance(each, Interface)}
        return self.graph._replace(settings=self.settings, interfaces=known).parts()


_FAULTS = [
    Mutant.bend_node, Mutant.bend_node, Mutant.bend_outputs, Mutant.split, Mutant.split_request, Mutant.gather,
    Mutant.rename_outputs, Mutant.rename, Mutant.reshape, Mutant.lose,
]  # fmt: skip


@st.composite
def mutants(draw: DrawFn) -> Mutant:
    """Valid graphs with one fault or several."""
    mutant = Mutant(draw(graphs()), draw)
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(_FAULTS))(mutant)
    return mutant
