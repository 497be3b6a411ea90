"""One request's way through a pipeline.

Nodes run once per *session*: per shard of the demultiplexers around them. A session starts as soon as all that it reads is
there, over the models' own lines of infer requests, so that independent nodes and shards run at the same time. Arrays are
handed on as they are: shards are views, only gathering copies. The first failure keeps new sessions from starting; those
that run are waited for, then it is told. Everything here belongs to the event loop; custom nodes run in threads unless they
are asynchronous.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np

from tornado_ovms.core.graph import MAX_SHARDS, MIN_RANK, REQUEST, RESPONSE
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import BY_DTYPE, Precision, Shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping
    from concurrent.futures import Executor

    from tornado_ovms.core.graph import Plan, PlanNode
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.base import Inference
    from tornado_ovms.nodes.base import Node
    from tornado_ovms.serving.observation import Cells, Counts
    from tornado_ovms.serving.servable import Instance

    Arrays = Mapping[str, np.ndarray]
    Shard = tuple[int, ...]

BATCH: Final = 64
"""So many sessions are started in a row, before others of the loop get their turn."""


class Member(NamedTuple):
    """A model node's version, held for the whole request, and where its inferences are counted."""

    instance: Instance
    cells: Cells
    counts: Counts


class Run:
    """One request.

    Args:
        plan: the pipeline.
        members: the versions behind its model nodes, by the node's name.
        nodes: its custom nodes.
        threads: for custom nodes.
    """

    def __init__(self, plan: Plan, members: Mapping[str, Member], nodes: Mapping[str, Node], threads: Executor) -> None:
        self._plan = plan
        self._members = members
        self._nodes = nodes
        self._threads = threads
        self._shards: dict[tuple[str, Shard], int] = {}
        self._waiting: dict[tuple[str, Shard], dict[str, dict[Shard, Arrays]]] = {}
        self._ready: deque[tuple[PlanNode, Shard, dict[str, np.ndarray]]] = deque()
        self._running = 0
        self._woken = asyncio.Event()
        self._failure: BaseException | None = None
        self._answer: Arrays = {}

    async def answer(self, request: Arrays) -> list[np.ndarray]:
        """The pipeline's outputs in the plan's order.

        Raises:
            Failure: the first of any session.
        """
        labels = [label for label, _ in self._plan.response.inputs]
        if len(set(labels)) < len(labels):
            raise Failure(Code.PIPELINE_OUTPUT_TWICE)
        self._deliver(REQUEST, (), request)
        started = 0
        while self._running or (self._ready and self._failure is None):
            if self._ready and self._failure is None:
                self._start(*self._ready.popleft())
                started += 1
                if started % BATCH == 0:
                    await asyncio.sleep(0)
            else:
                self._woken.clear()
                await self._woken.wait()
        if self._failure is not None:
            raise self._failure
        return [_check_output(spec, self._answer.get(spec.name)) for spec in self._plan.outputs]

    def abort(self) -> None:
        """Nobody wants the answer any more: start nothing new."""
        self._failure = self._failure or asyncio.CancelledError()

    def _start(self, node: PlanNode, shard: Shard, arrays: dict[str, np.ndarray]) -> None:
        """Run a session: at once if its model is quicker than a task."""
        if node.settings is None:
            self._answer = arrays
        elif node.settings.is_custom:
            self._begin(node, shard, self._execute(self._nodes[node.name], arrays))
        else:
            try:
                self._infer(node, shard, self._members[node.name], arrays)
            except Exception as error:  # noqa: BLE001 - it is the run's
                self._failure = self._failure or error

    def _infer(self, node: PlanNode, shard: Shard, member: Member, arrays: dict[str, np.ndarray]) -> None:
        executable = member.instance.executable
        for name, spec in executable.inputs.items():
            arrays[name] = _fit_input(node.name, spec, arrays.get(name))
        if executable.is_quick:
            self._finish(node, shard, _count(member, executable.infer_now(arrays)))
        else:
            self._begin(node, shard, _infer(member, arrays))

    async def _execute(self, node: Node, arrays: Arrays) -> Arrays:
        result: Any = None
        if node.is_async:
            result = await cast("Awaitable[Arrays]", node.execute(arrays))
        else:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, node.execute, arrays)
        return cast("Arrays", result)

    def _begin(self, node: PlanNode, shard: Shard, session: Coroutine[Any, Any, Arrays]) -> None:
        self._running += 1
        task = asyncio.ensure_future(session)
        task.add_done_callback(partial(self._ended, node, shard))

    def _ended(self, node: PlanNode, shard: Shard, task: asyncio.Future[Arrays]) -> None:
        """A session that took time is over."""
        self._running -= 1
        self._woken.set()
        try:
            outputs = task.result()
            if self._failure is None:
                self._finish(node, shard, outputs)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the run's
            self._failure = self._failure or error

    def _finish(self, node: PlanNode, shard: Shard, outputs: Arrays) -> None:
        """Hand on what others read of a session's outputs."""
        items = {}
        for alias, name in self._plan.read[node.name].items():
            if name not in outputs:
                raise Failure(Code.NODE_OUTPUT_MISSING, f"node: {node.name}; output: {name}")
            items[alias] = outputs[name]
        self._deliver(node.name, shard, items)

    def _deliver(self, source: str, shard: Shard, items: Arrays) -> None:
        """Give a node's items to those who read them, shard by shard if they are split."""
        if source not in self._plan.counts:
            self._hand(source, shard, items)
            return
        count = _count_shards(source, self._plan.counts[source], items)
        self._shards[source, shard] = count
        for index in range(count):
            self._hand(source, (*shard, index), {item: array[index] for item, array in items.items()})

    def _hand(self, source: str, path: Shard, items: Arrays) -> None:
        """Give items to the sessions that wait for them; those that have all are ready."""
        for name in self._plan.consumers.get(source, ()):
            node = self._plan.response if name == RESPONSE else self._plan.nodes[name]
            shard, rest = path[: len(node.level)], path[len(node.level) :]
            waiting = self._waiting.setdefault((name, shard), {})
            waiting.setdefault(source, {})[rest] = items
            sizes = self._sizes(node, shard)
            if len(waiting) == len(node.sources) and all(len(each) == prod(sizes) for each in waiting.values()):
                del self._waiting[name, shard]
                self._ready.append((node, shard, _collect(node, waiting, sizes)))

    def _sizes(self, node: PlanNode, shard: Shard) -> Shard:
        """How many shards a session gathers, in each of its dimensions."""
        counts = self._plan.counts
        return tuple(counts[name] if counts[name] > 0 else self._shards.get((name, shard), 0) for name in node.gathers)


async def _infer(member: Member, arrays: Arrays) -> Arrays:
    return _count(member, await member.instance.executable.infer(arrays))


def _count(member: Member, inference: Inference) -> Arrays:
    """The outputs of an inference by name, which is counted with its model."""
    member.cells.observe(inference)
    member.counts.success.value += 1
    specs = member.instance.executable.outputs
    return {spec.name: array for spec, array in zip(specs, inference.outputs, strict=True)}


def _count_shards(source: str, count: int, items: Arrays) -> int:
    """How many shards the items have, which are to be split into ``count``, -1 for as many as there are."""
    for index, (item, array) in enumerate(items.items()):
        where = f"node: {source}; item: {item}"
        first = array.shape[0] if array.ndim else 0
        if index == 0 and first > MAX_SHARDS:
            raise Failure(Code.PIPELINE_TOO_MANY_SHARDS, f"{where}; Expected: at most {MAX_SHARDS}; Actual: {first}")
        if array.dtype == object:
            raise Failure(Code.PIPELINE_STRING_DEMULTIPLY, where)
        if array.ndim < MIN_RANK:
            raise Failure(
                Code.PIPELINE_SHARD_DIMENSIONS, f"{where}; Expected: at least {MIN_RANK}; Actual: {array.ndim}"
            )
        if index and count < 0:
            count = len(next(iter(items.values())))
        if count > 0 and first != count:
            raise Failure(Code.PIPELINE_SHARD_COUNT, f"{where}; Expected: {count}; Actual: {first}")
        if not first:
            raise Failure(Code.PIPELINE_NO_CONTENT, where)
    return len(next(iter(items.values())))


def _collect(node: PlanNode, waiting: Mapping[str, Mapping[Shard, Arrays]], sizes: Shard) -> dict[str, np.ndarray]:
    """A session's inputs; what it gathers is put together."""
    if not sizes:
        return {name: waiting[source.node][()][source.item] for name, source in node.inputs}
    return {name: _gather(node.name, name, waiting[source.node], source.item, sizes) for name, source in node.inputs}


def _gather(node: str, name: str, shards: Mapping[Shard, Arrays], item: str, sizes: Shard) -> np.ndarray:
    places = list(product(*map(range, sizes)))
    first = shards[places[0]][item]
    joined = np.empty((*sizes, *first.shape), first.dtype)
    for place in places:
        array = shards[place][item]
        if array.shape != first.shape or array.dtype != first.dtype:
            found = f"{first.dtype} {first.shape} and {array.dtype} {array.shape}"
            raise Failure(Code.PIPELINE_SHARDS_DIFFER, f"node: {node}; input: {name}: {found}")
        joined[place] = array
    return joined


def _fit_input(node: str, spec: TensorSpec, array: np.ndarray | None) -> np.ndarray:
    """An array that a model can take: of its dtype and sizes, in one piece of memory that may be shared."""
    what = f"Node: {node} input: {spec.name}"
    if array is None:  # the model has changed, and the pipeline has not been checked again yet
        raise Failure(Code.MISSING_INPUT, what)
    if array.dtype != spec.precision.dtype:
        found = BY_DTYPE.get(array.dtype, Precision.UNDEFINED).value
        raise Failure(Code.PRECISION, f"{what} Invalid precision - Expected: {spec.precision.value}; Actual: {found}")
    if not spec.shape.accepts(array.shape):
        actual = Shape.of(array.shape)
        if array.ndim != len(spec.shape):
            raise Failure(Code.NUMBER_OF_DIMENSIONS, f"{what} Invalid shape - Expected: {spec.shape}; Actual: {actual}")
        axis = spec.batch_axis
        wrong = [index for index, size in enumerate(array.shape) if not spec.shape[index].accepts(size)]
        if wrong == [axis]:
            sizes = f"Expected: {spec.shape[wrong[0]]}; Actual: {array.shape[wrong[0]]}"
            raise Failure(Code.BATCH_SIZE, f"{what} Invalid batch size - {sizes}")
        raise Failure(Code.SHAPE, f"{what} Invalid shape - Expected: {spec.shape}; Actual: {actual}")
    if array.dtype != object and not (array.flags.c_contiguous and array.flags.writeable):
        return array.copy()
    return array


def _check_output(spec: TensorSpec, array: np.ndarray | None) -> np.ndarray:
    """An output, which has to be what the metadata promises."""
    if array is None or array.dtype != spec.precision.dtype or not spec.shape.accepts(array.shape):
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        expected = f"{spec.precision.value} {spec.shape}"
        raise Failure(Code.INTERNAL, f"output: {spec.name}; Expected: {expected}; Actual: {found}")
    return array
