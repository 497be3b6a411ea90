"""Pipelines as graphs: a definition checked against what its nodes take and give, and the plan that comes of it.

``check`` holds the rules of the reference (``src/dags/pipelinedefinition.cpp``), in its order, and returns a ``Plan``: for
each node its place among the demultiplexers, and what the pipeline as a whole takes and gives. Words: a *demultiplexer*
splits its outputs into *shards* along their first dimension; a node's *level* is the demultiplexers that its sessions are
inside of, outermost first; *gathering* joins the shards of the innermost one. Pure; any thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tornado_ovms.core.settings import NodeSettings, PipelineSettings, Source

REQUEST: Final = "request"
RESPONSE: Final = "response"

MAX_SHARDS: Final = 10000

MIN_RANK: Final = 3
"""Dimensions that a tensor has before it is split: the one that is split, and two more."""

SHARDED: Final = "N?"
"""How the layout of an input begins if the request is split: the shards, and the batch of each."""


class Interface(NamedTuple):
    """What a node takes and gives, by the names of its model or library."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node that runs, or the response.

    Attributes:
        name: within the pipeline.
        settings: None for the response.
        inputs: by the name of the model's input, or of the answer's output.
        sources: the nodes that inputs come from, once each.
        level: the demultiplexers around a session.
        gathers: the demultiplexers whose shards are joined here, outermost first: those of the sources that the level lacks.
    """

    name: str
    settings: NodeSettings | None
    inputs: tuple[tuple[str, Source], ...]
    sources: tuple[str, ...]
    level: tuple[str, ...]
    gathers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A pipeline that can run.

    Attributes:
        nodes: those that run, by name.
        response: where the answer is put together.
        consumers: which nodes (the response too) read from each node, the request among them.
        counts: the demultiplexers, the request among them: into how many shards; -1: as many as there are.
        inputs: what a request carries, in the order of names.
        outputs: what an answer carries, in the order of the definition.
        read: the outputs of each node that somebody reads, by the names that others use.
    """

    nodes: Mapping[str, PlanNode]
    response: PlanNode
    consumers: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, int]
    inputs: Mapping[str, TensorSpec]
    outputs: Sequence[TensorSpec]
    read: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def check(settings: PipelineSettings, interfaces: Mapping[str, Interface | Failure]) -> Plan:
    """Check a definition.

    Args:
        settings: the definition.
        interfaces: by name of the node; a failure for one whose model or library cannot be used.

    Raises:
        Failure: the first rule that is broken; the detail names the node.
    """
    return _Checker(settings, interfaces).check()


class _Checker:
    """The rules, in their order; each method is one step."""

    def __init__(self, settings: PipelineSettings, interfaces: Mapping[str, Interface | Failure]) -> None:
        self._settings = settings
        self._given = interfaces
        self._known: dict[str, Interface] = {}
        self._names = Counter([REQUEST, RESPONSE, *(node.name for node in settings.nodes)])
        self._nodes = {node.name: node for node in settings.nodes}
        counts = {REQUEST: settings.demultiply_count, **{node.name: node.demultiply_count for node in settings.nodes}}
        self._counts = {name: count or -1 for name, count in counts.items() if count is not None}

    def check(self) -> Plan:
        self._check_demultiplexers()
        self._check_name(REQUEST)
        for node in self._settings.nodes:
            self._check_name(node.name)
            self._check_node(node)
        self._check_response()
        self._check_paths()
        levels = self._check_levels()
        inputs = self._find_inputs()
        outputs = [self._find_output(label, source, levels) for label, source in self._settings.outputs]
        return self._plan(levels, inputs, outputs)

    def _check_demultiplexers(self) -> None:
        if len(self._counts) > 1 and -1 in self._counts.values():
            raise Failure(Code.NOT_IMPLEMENTED, "several nodes demultiply, and one of them into any number of shards")

    def _check_name(self, name: str) -> None:
        if self._names[name] > 1:
            raise Failure(Code.PIPELINE_NODE_NAME_DUPLICATE, f"node: {name}")

    def _check_node(self, node: NodeSettings) -> None:
        interface = self._interface(node)
        where = f"node: {node.name}"
        if node.name in self._counts:
            if not node.is_custom and _has_string(interface.inputs.values()):
                raise Failure(Code.PIPELINE_STRING_DEMULTIPLY, where)
            _check_shards(interface.outputs.values(), self._counts[node.name], where)
        self._check_gathering(node.gather_from, where)
        connected: set[str] = set()
        for name, source in node.inputs:
            self._check_source(source, f"{where}; input: {name}")
            if name not in interface.inputs:
                known = ", ".join(interface.inputs)
                raise Failure(Code.PIPELINE_MISSING_INPUT, f"{where}; Expected: one of {known}; Actual: {name}")
            if name in connected:
                raise Failure(Code.PIPELINE_INPUT_TWICE, f"{where}; input: {name}")
            connected.add(name)
            spec = self._check_item(source, f"{where}; input: {name}")
            self._check_fit(node, interface.inputs[name], source, spec)
        for name in interface.inputs:
            if name not in connected:
                raise Failure(Code.PIPELINE_OPEN_INPUT, f"{where}; input: {name}")

    def _check_gathering(self, gather_from: str | None, where: str) -> None:
        if gather_from is None or gather_from in self._counts:
            return
        is_there = gather_from in self._nodes or gather_from == REQUEST
        code = Code.PIPELINE_GATHER_FROM_PLAIN_NODE if is_there else Code.PIPELINE_GATHER_FROM_MISSING_NODE
        raise Failure(code, f"{where}; gather_from_node: {gather_from}")

    def _check_response(self) -> None:
        for label, source in self._settings.outputs:
            self._check_source(source, f"output: {label}")
            self._check_item(source, f"output: {label}")

    def _interface(self, node: NodeSettings) -> Interface:
        """What a node takes and gives; looked up when its turn comes, so that the first node's failure is told."""
        if node.name not in self._known:
            given = self._given[node.name]
            if isinstance(given, Failure):
                raise given
            self._known[node.name] = given
        return self._known[node.name]

    def _check_source(self, source: Source, where: str) -> None:
        if source.node == RESPONSE:
            raise Failure(Code.PIPELINE_RESPONSE_AS_SOURCE, where)
        if source.node != REQUEST and source.node not in self._nodes:
            raise Failure(Code.PIPELINE_MISSING_NODE, f"{where}; node_name: {source.node}")

    def _check_item(self, source: Source, where: str) -> TensorSpec | None:
        """The output that a source stands for; None for an item of the request."""
        if source.node == REQUEST:
            if source.item not in self._settings.inputs:
                raise Failure(Code.PIPELINE_MISSING_ITEM, f"{where}; data_item: {source.item}")
            return None
        node = self._nodes[source.node]
        if source.item not in node.outputs:
            raise Failure(Code.PIPELINE_MISSING_ITEM, f"{where}; node_name: {source.node}; data_item: {source.item}")
        outputs = self._interface(node).outputs
        if node.outputs[source.item] not in outputs:
            known = ", ".join(outputs)
            found = node.outputs[source.item]
            raise Failure(Code.PIPELINE_MISSING_OUTPUT, f"node: {node.name}; Expected: one of {known}; Actual: {found}")
        return outputs[node.outputs[source.item]]

    def _check_fit(self, node: NodeSettings, spec: TensorSpec, source: Source, given: TensorSpec | None) -> None:
        """Whether what a source gives can be what an input takes."""
        where = f"node: {node.name}; input: {spec.name}; from: {source.node}/{source.item}"
        shape = spec.shape
        if node.gather_from is not None:
            _check_shards([spec], self._counts[node.gather_from], where)
            shape = Shape(shape[1:])
        if given is None:
            if source.node in self._counts and spec.precision is Precision.STRING:
                raise Failure(Code.PIPELINE_STRING_DEMULTIPLY, where)
            return
        found = Shape(given.shape[1:]) if source.node in self._counts else given.shape
        if len(found) != len(shape) or not all(map(_overlap, found, shape)):
            raise Failure(Code.SHAPE, f"{where}; Expected: {shape}; Actual: {found}")
        if spec.precision is not given.precision:
            actual = given.precision.value
            raise Failure(Code.PRECISION, f"{where}; Expected: {spec.precision.value}; Actual: {actual}")
        if spec.precision is Precision.STRING:
            raise Failure(Code.NOT_IMPLEMENTED, f"{where}: strings between nodes")

    def _sources(self, name: str) -> tuple[str, ...]:
        """The nodes that a node reads from, once each."""
        inputs = self._settings.outputs if name == RESPONSE else self._nodes[name].inputs
        return tuple(dict.fromkeys(source.node for _, source in inputs))

    def _check_paths(self) -> None:
        """From the response every node is reached, and none twice on one path."""
        done: set[str] = {REQUEST}
        path: dict[str, None] = {}
        steps: list[tuple[str, bool]] = [(RESPONSE, False)]
        while steps:
            name, is_left = steps.pop()
            if is_left:
                del path[name]
                done.add(name)
            elif name in path:
                raise Failure(Code.PIPELINE_CYCLE, f"node: {name}")
            elif name not in done:
                path[name] = None
                steps.append((name, True))
                steps += [(source, False) for source in self._sources(name)]
        lost = [name for name in self._nodes if name not in done or not self._sources(name)]
        if not any(REQUEST in self._sources(name) for name in done - {REQUEST}):
            lost.append(REQUEST)
        if lost:
            raise Failure(Code.PIPELINE_UNCONNECTED, f"nodes: {', '.join(lost)}")

    def _check_levels(self) -> dict[str, tuple[str, ...]]:
        """The demultiplexers that each node's outputs are inside of; every node is reached with the same ones still open.

        Walked from the response towards the request, with a stack of the sets that are gathered there and further on.
        """
        gathered = {node.gather_from for node in self._settings.nodes}
        rest = frozenset(name for name in self._counts if name not in gathered)
        open_at: dict[str, tuple[frozenset[str], ...]] = {}
        pending: list[tuple[str, tuple[frozenset[str], ...]]] = [(RESPONSE, (rest,) if rest else ())]
        while pending:
            name, stack = pending.pop()
            if name in open_at:
                if open_at[name] != stack:
                    raise Failure(Code.PIPELINE_GATHER_ORDER, f"node: {name} is used at two levels")
                continue
            open_at[name] = stack
            if name in self._counts:
                if not stack or name not in stack[-1]:
                    raise Failure(Code.PIPELINE_GATHER_ORDER, f"node: {name}: its shards are not gathered behind it")
                stack = tuple(filter(None, (*stack[:-1], stack[-1] - {name})))
            if name == REQUEST:
                if stack:
                    left = ", ".join(sorted(each for names in stack for each in names))
                    raise Failure(Code.PIPELINE_GATHER_ORDER, f"gathered, but not on every path: {left}")
                continue
            if name in self._nodes and self._nodes[name].gather_from is not None:
                stack = (*stack, frozenset([str(self._nodes[name].gather_from)]))
            pending += [(source, stack) for source in self._sources(name)]
        return self._levels()

    def _levels(self) -> dict[str, tuple[str, ...]]:
        """The level of each node's sessions, and of the request's; all sources of a node are at one level by now."""
        levels: dict[str, tuple[str, ...]] = {REQUEST: ()}
        for name in self._in_order():
            inside = self._inside(self._sources(name)[0], levels)
            gather_from = self._nodes[name].gather_from
            levels[name] = inside if gather_from is None else inside[:-1]
        levels[RESPONSE] = ()
        return levels

    def _inside(self, name: str, levels: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """The demultiplexers around what a node gives."""
        return (*levels[name], name) if name in self._counts else levels[name]

    def _in_order(self) -> Iterable[str]:
        """The nodes, sources first."""
        done = {REQUEST}
        steps = [(name, False) for name in self._nodes]
        while steps:
            name, is_ready = steps.pop()
            if name in done:
                continue
            if is_ready:
                done.add(name)
                yield name
            else:
                steps.append((name, True))
                steps += [(source, False) for source in self._sources(name)]

    def _find_inputs(self) -> dict[str, TensorSpec]:
        """What a request carries: what all readers of an item can take."""
        inputs: dict[str, TensorSpec] = {}
        for node in self._settings.nodes:
            for name, source in node.inputs:
                if source.node == REQUEST:
                    spec = self._known[node.name].inputs[name]
                    if node.gather_from is not None:
                        spec = TensorSpec(spec.name, spec.precision, Shape(spec.shape[1:]), spec.layout)
                    inputs[source.item] = _intersect(source.item, inputs.get(source.item), spec)
        if REQUEST in self._counts:
            count = self._counts[REQUEST]
            inputs = {name: _with_shards(spec, count) for name, spec in inputs.items()}
        return dict(sorted(inputs.items()))

    def _find_output(self, label: str, source: Source, levels: Mapping[str, tuple[str, ...]]) -> TensorSpec:
        """What an answer carries: the node's output, with a dimension for each demultiplexer around it."""
        if source.node == REQUEST:
            return TensorSpec(label, Precision.UNDEFINED, Shape(), Layout.default(0))
        node = self._nodes[source.node]
        spec = self._known[node.name].outputs[node.outputs[source.item]]
        own = spec.shape[1:] if node.name in self._counts else spec.shape
        shape = Shape([*(self._shard_dim(name) for name in self._inside(node.name, levels)), *own])
        return TensorSpec(label, spec.precision, shape, Layout.default(len(shape)))

    def _shard_dim(self, name: str) -> Dim:
        """The dimension that gathering the shards of a demultiplexer gives."""
        count = self._counts[name]
        if count > 0:
            return Dim.fixed(count)
        if name != REQUEST and self._nodes[name].is_custom:
            outputs = self._known[name].outputs
            return outputs[min(outputs)].shape[0]
        return ANY

    def _plan(
        self, levels: Mapping[str, tuple[str, ...]], inputs: Mapping[str, TensorSpec], outputs: Sequence[TensorSpec]
    ) -> Plan:
        nodes = {name: self._plan_node(name, levels) for name in self._nodes}
        response = self._plan_node(RESPONSE, levels)
        consumers: dict[str, tuple[str, ...]] = {}
        read: dict[str, dict[str, str]] = {name: {} for name in self._nodes}
        for node in (*nodes.values(), response):
            for source in node.sources:
                consumers[source] = (*consumers.get(source, ()), node.name)
            for _, each in node.inputs:
                if each.node != REQUEST:
                    read[each.node][each.item] = self._nodes[each.node].outputs[each.item]
        return Plan(nodes, response, consumers, self._counts, inputs, outputs, read)

    def _plan_node(self, name: str, levels: Mapping[str, tuple[str, ...]]) -> PlanNode:
        settings = self._nodes.get(name)
        inputs = self._settings.outputs if settings is None else settings.inputs
        sources = self._sources(name)
        inside = self._inside(sources[0], levels)
        return PlanNode(name, settings, inputs, sources, levels[name], inside[len(levels[name]) :])


def _has_string(specs: Iterable[TensorSpec]) -> bool:
    return any(spec.precision is Precision.STRING for spec in specs)


def _check_shards(specs: Iterable[TensorSpec], count: int, where: str) -> None:
    """Whether tensors can be split, or put together, from so many shards."""
    for spec in specs:
        if len(spec.shape) < MIN_RANK:
            found = f"Expected: at least {MIN_RANK}; Actual: {spec.shape}"
            raise Failure(Code.PIPELINE_TOO_FEW_DIMENSIONS, f"{where}; tensor: {spec.name}; {found}")
        if count > 0 and not spec.shape[0].accepts(count):
            found = f"Expected: {count}; Actual: {spec.shape[0]}"
            raise Failure(Code.PIPELINE_DEMULTIPLY_COUNT, f"{where}; tensor: {spec.name}; {found}")


def _overlap(one: Dim, other: Dim) -> bool:
    """Whether a size exists that both dimensions may have."""
    return _meet(one, other) is not None


def _meet(one: Dim, other: Dim) -> Dim | None:
    """The sizes that both dimensions may have; None if there are none."""
    low = max(one.low, other.low)
    high = one.high if other.high is None else other.high if one.high is None else min(one.high, other.high)
    return None if high is not None and high < low else Dim(low, high)


def _intersect(item: str, one: TensorSpec | None, other: TensorSpec) -> TensorSpec:
    """What two readers of an item can both take."""
    if one is None:
        return TensorSpec(item, other.precision, other.shape, other.layout)
    met = [_meet(a, b) for a, b in zip(one.shape, other.shape, strict=False)]
    dims = [dim for dim in met if dim is not None]
    if (
        one.precision is not other.precision
        or len(one.shape) != len(other.shape)
        or len(dims) < len(met)
        or not one.layout.agrees_with(other.layout, len(one.shape))
    ):
        raise Failure(
            Code.PIPELINE_AMBIGUOUS_INPUT,
            f"input: {item}: {one.precision.value} {one.shape} and {other.precision.value} {other.shape}",
        )
    layout = max(one.layout, other.layout, key=lambda layout: _count_names(layout, len(dims)))
    return TensorSpec(item, one.precision, Shape(dims), layout)


def _count_names(layout: Layout, rank: int) -> int:
    """How many dimensions a layout has a name for."""
    return sum(letter != "?" for letter in layout.named(rank) or ())


def _with_shards(spec: TensorSpec, count: int) -> TensorSpec:
    """An input with a dimension in front, along which the request is split."""
    shape = Shape([Dim.fixed(count) if count > 0 else ANY, *spec.shape])
    return TensorSpec(spec.name, spec.precision, shape, Layout(SHARDED + spec.layout.text.removeprefix("N")))
