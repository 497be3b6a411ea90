"""One request's way through a pipeline: what runs at the same time, what is copied, and every way to fail."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.graphs import ComputingExecutable, ComputingNode, interface, make_run, node, pipeline, plain, tensor
from tornado_ovms.core.graph import MAX_SHARDS, Interface, Plan, check
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.run import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tests.fakes import FakeExecutable
    from tornado_ovms.core.settings import NodeSettings
    from tornado_ovms.serving.run import Run

    Arrays = Mapping[str, np.ndarray]
    Part = FakeExecutable | ComputingNode

TEN = np.arange(10, dtype=np.float32).reshape(1, 10)
REQUEST = {"in": TEN}
GATED = 1
"""Turns of the loop that an executable takes, if it is not to be quick."""


def add(number: float) -> Callable[[Arrays], Arrays]:
    """a = b + number."""
    return lambda arrays: {"a": arrays["b"] + np.float32(number)}


def give(array: np.ndarray) -> Callable[[Arrays], Arrays]:
    """Always the same array."""
    return lambda _: {"a": array}


def adder(number: float = 1, *, turns: int = 0, gate: asyncio.Event | None = None) -> ComputingExecutable:
    """A model of one input and one output."""
    executable = ComputingExecutable(plain(), add(number), turns=GATED if gate is not None else turns)
    executable.gate = gate
    return executable


def splitter(shards: np.ndarray, told: tuple[int, ...] = (-1, 1, 10)) -> ComputingExecutable:
    """A model that gives these shards."""
    return ComputingExecutable(interface([tensor("b", 1, 10)], [tensor("a", *told)]), give(shards))


def shards(count: int) -> np.ndarray:
    """So many of TEN, each one higher by one than the one before."""
    return np.stack([TEN + index for index in range(count)])


def plan_of(nodes: list[NodeSettings], outputs: str, parts: Mapping[str, Part], **more: Any) -> Plan:
    """The plan of these nodes, with what they take and give."""
    interfaces = {
        name: Interface(part.inputs, {spec.name: spec for spec in _outputs(part)}) for name, part in parts.items()
    }
    return check(pipeline(nodes, outputs, **more), interfaces)


def _outputs(part: Part) -> list[Any]:
    return list(part.outputs.values()) if isinstance(part, ComputingNode) else list(part.outputs)


def run_of(nodes: list[NodeSettings], outputs: str, parts: Mapping[str, Part], **more: Any) -> Run:
    """A run of them."""
    return make_run(plan_of(nodes, outputs, parts, **more), parts)


def play(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a script; one that hangs is a fault."""

    async def main() -> None:
        await asyncio.wait_for(script(), 30)

    asyncio.run(main())


async def turns(count: int = 20) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def failure_of(run: Run, request: Arrays = REQUEST) -> Failure:
    """What a run fails with."""
    with pytest.raises(Failure) as caught:
        await run.answer(request)
    return caught.value


def test_a_row_of_quick_models_needs_no_task() -> None:
    """They run one after the other on the loop; each sees what the one before gave."""

    async def script() -> None:
        parts = {"m": adder(1), "n": adder(10)}
        run = run_of([node("n", "b=m.x"), node("m")], "out=n.x", parts)
        coroutine = run.answer(REQUEST)
        with pytest.raises(StopIteration) as caught:  # it never waits
            coroutine.send(None)
        np.testing.assert_array_equal(caught.value.value[0], TEN + 11)

    play(script)


def test_independent_nodes_run_at_the_same_time() -> None:
    """Each waits for the other to have begun; what comes after both begins when both have ended."""

    async def script() -> None:
        first, second = asyncio.Event(), asyncio.Event()

        class Meeting(ComputingExecutable):
            def __init__(self, mine: asyncio.Event, other: asyncio.Event) -> None:
                super().__init__(plain(), add(1), turns=1)
                self._mine, self._other = mine, other

            async def infer(self, arrays: Arrays) -> Any:
                self._mine.set()
                await self._other.wait()
                return await super().infer(arrays)

        joined = ComputingExecutable(
            interface([tensor("b", 1, 10), tensor("c", 1, 10)], [tensor("a", 1, 10)]),
            lambda arrays: {"a": arrays["b"] + arrays["c"]},
        )
        parts = {"m": Meeting(first, second), "k": Meeting(second, first), "n": joined}
        run = run_of([node("m"), node("k"), node("n", "b=m.x c=k.x")], "out=n.x", parts)
        np.testing.assert_array_equal((await run.answer(REQUEST))[0], 2 * (TEN + 1))

    play(script)


def test_shards_run_at_the_same_time_and_go_on_by_themselves() -> None:
    """A shard's next node does not wait for the other shards."""

    async def script() -> None:
        gates = {index: asyncio.Event() for index in range(3)}
        ended: list[int] = []

        class PerShard(ComputingExecutable):
            async def infer(self, arrays: Arrays) -> Any:
                await gates[int(arrays["b"][0, 0])].wait()
                return await super().infer(arrays)

        after = ComputingExecutable(plain(), lambda arrays: ended.append(int(arrays["b"][0, 0])) or add(0)(arrays))
        parts = {"m": splitter(shards(3)), "k": PerShard(plain(), add(0), turns=1), "n": after}
        run = run_of([node("m", demultiply_count=3), node("k", "b=m.x"), node("n", "b=k.x")], "out=n.x", parts)
        task = asyncio.ensure_future(run.answer(REQUEST))
        for index, seen in ((2, [2]), (0, [2, 0]), (1, [2, 0, 1])):
            await turns()
            assert ended == seen[:-1]
            gates[index].set()
            await turns()
            assert ended == seen
        np.testing.assert_array_equal((await task)[0], shards(3))

    play(script)


def test_custom_nodes_run_in_threads_at_the_same_time() -> None:
    """Two that wait for each other end; the loop goes on meanwhile."""

    async def script() -> None:
        barrier = threading.Barrier(2, timeout=30)
        names: set[str] = set()

        def compute(arrays: Arrays) -> Arrays:
            names.add(threading.current_thread().name.rpartition("_")[0])
            barrier.wait()
            return add(1)(arrays)

        parts: dict[str, Part] = {name: ComputingNode(plain(), compute) for name in ("m", "k")}
        nodes = [node("m", is_custom=True), node("k", is_custom=True)]
        with ThreadPoolExecutor(2, thread_name_prefix="node") as threads:
            run = make_run(plan_of(nodes, "out=m.x other=k.x", parts), parts, threads)
            answer = await run.answer(REQUEST)
        np.testing.assert_array_equal(answer, [TEN + 1, TEN + 1])
        assert names == {"node"}

    play(script)


def test_an_asynchronous_node_is_awaited_on_the_loop() -> None:
    """No thread is asked for."""

    async def script() -> None:
        parts: dict[str, Part] = {"n": ComputingNode(plain(), add(1), is_async=True)}
        run = make_run(plan_of([node("n", is_custom=True)], "out=n.x", parts), parts, threads=None)
        np.testing.assert_array_equal((await run.answer(REQUEST))[0], TEN + 1)

    play(script)


def test_many_quick_shards_let_others_have_their_turn() -> None:
    """The loop turns once for each batch of sessions."""

    async def script() -> None:
        count = 5 * BATCH
        parts = {"m": splitter(shards(count)), "n": adder()}
        run = run_of([node("m", demultiply_count=-1), node("n", "b=m.x")], "out=n.x", parts)
        task = asyncio.ensure_future(run.answer(REQUEST))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0)
            ticks += 1
        assert ticks >= 5
        np.testing.assert_array_equal((await task)[0], shards(count) + 1)

    play(script)


# Copies


def test_shards_are_views() -> None:
    """What is split is not copied: each session sees a part of the memory that the demultiplexer gave."""

    async def script() -> None:
        whole = shards(3)
        reader = adder(turns=1)
        parts = {"m": splitter(whole), "n": reader}
        await run_of([node("m", demultiply_count=3), node("n", "b=m.x")], "out=n.x", parts).answer(REQUEST)
        assert len(reader.seen) == 3
        assert all(np.shares_memory(seen["b"], whole) for seen in reader.seen)

    play(script)


def test_values_are_handed_on_as_they_are() -> None:
    """From the request to several nodes, from node to node, and to the answer: one array, no copy."""

    async def script() -> None:
        made = TEN + 5
        first = ComputingExecutable(plain(), give(made))
        second, third = adder(), adder(turns=1)
        parts = {"m": first, "k": second, "n": third}
        run = run_of([node("m"), node("k", "b=m.x"), node("n", "b=m.x")], "out=m.x a=k.x b=n.x", parts)
        answer = await run.answer(REQUEST)
        assert answer[0] is made
        assert first.seen[0]["b"] is TEN
        assert second.seen[0]["b"] is made
        assert third.seen[0]["b"] is made

    play(script)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda array: np.broadcast_to(array[:, :1], (2, 10))])
def test_models_get_one_piece_of_memory_of_their_own_kind(make: Callable[[np.ndarray], np.ndarray]) -> None:
    """What a custom node gives in another order, or more than once from one place, is copied before inference."""

    async def script() -> None:
        given = make(np.arange(20, dtype=np.float32).reshape(2, 10))
        assert not given.flags.c_contiguous
        reader = ComputingExecutable(plain(2, 10), add(0))
        parts: dict[str, Part] = {
            "m": ComputingNode(interface([tensor("b", 1, 10)], [tensor("a", 2, 10)]), give(given)),
            "n": reader,
        }
        answer = await run_of([node("m", is_custom=True), node("n", "b=m.x")], "out=n.x", parts).answer(REQUEST)
        np.testing.assert_array_equal(answer[0], given)
        assert reader.seen[0]["b"].flags.c_contiguous

    play(script)


def test_gathering_puts_shards_in_order_whoever_ends_first() -> None:
    """Two levels at once: the outer demultiplexer's dimension comes first."""

    async def script() -> None:
        outer = np.stack([TEN, TEN + 100])
        inner = ComputingExecutable(
            interface([tensor("b", 1, 10)], [tensor("a", 3, 1, 10)]),
            lambda arrays: {"a": np.stack([arrays["b"] + index for index in range(3)])},
        )

        class LastFirst(ComputingExecutable):
            async def infer(self, arrays: Arrays) -> Any:
                await turns(200 - int(arrays["b"][0, 0]))
                return await super().infer(arrays)

        parts = {"m": splitter(outer), "k": inner, "n": LastFirst(plain(), add(0), turns=1)}
        nodes = [node("m", demultiply_count=2), node("k", "b=m.x", demultiply_count=3), node("n", "b=k.x")]
        answer = await run_of(nodes, "out=n.x", parts).answer(REQUEST)
        wanted = np.stack([np.stack([each + index for index in range(3)]) for each in outer])
        np.testing.assert_array_equal(answer[0], wanted)

    play(script)


def test_only_what_is_read_is_asked_of_a_node() -> None:
    """An output that nobody reads may be missing, or be no array of shards."""

    async def script() -> None:
        told = interface([tensor("b", 1, 10)], [tensor("a", 3, 1, 10), tensor("c", 3, 1, 1)])
        parts: dict[str, Part] = {"m": ComputingNode(told, give(shards(3))), "n": adder()}
        nodes = [node("m", gives="x=a y=c", is_custom=True, demultiply_count=3), node("n", "b=m.x")]
        np.testing.assert_array_equal((await run_of(nodes, "out=n.x", parts).answer(REQUEST))[0], shards(3) + 1)
        nodes[1] = node("n", "b=m.y")
        parts["n"] = ComputingExecutable(plain(1, 1), add(0))
        assert (await failure_of(run_of(nodes, "out=n.x", parts))).code is Code.NODE_OUTPUT_MISSING

    play(script)


# Failures


def test_the_first_failure_wins_and_what_runs_is_waited_for() -> None:
    """Nothing new starts: neither what waits for the one that failed, nor what the other one would start."""

    async def script() -> None:
        gate = asyncio.Event()
        slow, late, after = adder(gate=gate), adder(), adder()
        broken = adder(turns=1)
        broken.failure = Failure(Code.INFERENCE, "first")
        parts = {"m": broken, "k": slow, "n": late, "o": after}
        nodes = [node("m"), node("k"), node("n", "b=m.x"), node("o", "b=k.x")]
        task = asyncio.ensure_future(run_of(nodes, "out=n.x other=o.x", parts).answer(REQUEST))
        await turns()
        assert not task.done(), "the slow one still runs"
        slow.failure = Failure(Code.INTERNAL, "second")
        gate.set()
        with pytest.raises(Failure) as caught:
            await task
        assert caught.value.detail == "first"
        assert not late.seen
        assert not after.seen

    play(script)


def test_a_failing_shard_stops_the_rest() -> None:
    """Those that wait for their start are not started any more."""

    async def script() -> None:
        def compute(arrays: Arrays) -> Arrays:
            if arrays["b"][0, 0] == 2:
                raise Failure(Code.INFERENCE, "shard 2")
            return add(0)(arrays)

        reader = ComputingExecutable(plain(), compute)
        parts = {"m": splitter(shards(100)), "n": reader}
        run = run_of([node("m", demultiply_count=-1), node("n", "b=m.x")], "out=n.x", parts)
        assert (await failure_of(run)).detail == "shard 2"
        assert len(reader.seen) == 3

    play(script)


def test_what_is_not_foreseen_fails_the_run_too() -> None:
    """An error in a thread, on the loop, or in a model comes out as it is, after all have ended."""

    async def script() -> None:
        def broken(_: Arrays) -> Arrays:
            raise ZeroDivisionError

        for is_async in (True, False):
            parts: dict[str, Part] = {"n": ComputingNode(plain(), broken, is_async=is_async)}
            with pytest.raises(ZeroDivisionError):
                await run_of([node("n", is_custom=True)], "out=n.x", parts).answer(REQUEST)
        for turns_taken in (0, 1):
            models = {"n": ComputingExecutable(plain(), broken, turns=turns_taken)}
            with pytest.raises(ZeroDivisionError):
                await run_of([node("n")], "out=n.x", models).answer(REQUEST)

    play(script)


def test_abort_starts_nothing_new() -> None:
    """What runs is waited for; the answer is a cancellation."""

    async def script() -> None:
        gate = asyncio.Event()
        after = adder()
        run = run_of([node("m"), node("n", "b=m.x")], "out=n.x", {"m": adder(gate=gate), "n": after})
        task = asyncio.ensure_future(run.answer(REQUEST))
        await turns()
        run.abort()
        await turns()
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not after.seen

    play(script)


def test_abort_before_the_first_step() -> None:
    """Nothing is started at all."""

    async def script() -> None:
        only = adder()
        run = run_of([node("n")], "out=n.x", {"n": only})
        run.abort()
        with pytest.raises(asyncio.CancelledError):
            await run.answer(REQUEST)
        assert not only.seen

    play(script)


SHARD_FAULTS = [
    (-1, shards(3)[:0], Code.PIPELINE_NO_CONTENT),
    (3, shards(3)[:0], Code.PIPELINE_SHARD_COUNT),
    (3, shards(2), Code.PIPELINE_SHARD_COUNT),
    (3, shards(4), Code.PIPELINE_SHARD_COUNT),
    (-1, TEN, Code.PIPELINE_SHARD_DIMENSIONS),
    (3, TEN, Code.PIPELINE_SHARD_DIMENSIONS),
    (-1, np.float32(1), Code.PIPELINE_SHARD_DIMENSIONS),
    (-1, np.zeros((MAX_SHARDS + 1, 1, 0), np.float32), Code.PIPELINE_TOO_MANY_SHARDS),
    (3, np.zeros((MAX_SHARDS + 1, 1, 0), np.float32), Code.PIPELINE_TOO_MANY_SHARDS),
    (-1, np.zeros(MAX_SHARDS + 1, np.float32), Code.PIPELINE_TOO_MANY_SHARDS),  # before the dimensions
    (-1, np.full((3, 1, 1), b"a", object), Code.PIPELINE_STRING_DEMULTIPLY),
    (-1, np.full(3, b"a", object), Code.PIPELINE_STRING_DEMULTIPLY),  # before the dimensions
]


@pytest.mark.parametrize(("count", "given", "code"), SHARD_FAULTS)
@pytest.mark.parametrize("is_custom", [True, False])
def test_what_cannot_be_split(count: int, given: np.ndarray, code: Code, is_custom: bool) -> None:  # noqa: FBT001
    """The reference's checks, in its order."""

    async def script() -> None:
        told = interface([tensor("b", 1, 10)], [tensor("a", -1, 1, -1)])
        make = ComputingNode if is_custom else ComputingExecutable
        parts: dict[str, Part] = {"n": make(told, give(np.asarray(given)))}
        run = run_of([node("n", is_custom=is_custom, demultiply_count=count)], "out=n.x", parts)
        assert (await failure_of(run)).code is code

    play(script)


def test_as_many_shards_as_there_may_be() -> None:
    """Ten thousand, from the request, through a quick model."""

    async def script() -> None:
        one = plain(1, 1)
        run = run_of([node("n")], "out=n.x", {"n": ComputingExecutable(one, add(1))}, count=-1)
        many = np.arange(MAX_SHARDS, dtype=np.float32).reshape(-1, 1, 1)
        np.testing.assert_array_equal((await run.answer({"in": many}))[0], many + 1)

    play(script)


def test_outputs_of_a_demultiplexer_that_disagree() -> None:
    """The reference then gives anything; here it is a wrong count."""

    async def script() -> None:
        told = interface([tensor("b", 1, 10)], [tensor("a", -1, 1, 10), tensor("c", -1, 1, 10)])
        both = interface([tensor("b", 1, 10), tensor("c", 1, 10)], [tensor("a", 1, 10)])
        parts: dict[str, Part] = {
            "m": ComputingNode(told, lambda _: {"a": shards(3), "c": shards(2)}),
            "n": ComputingExecutable(both, add(1)),
        }
        nodes = [node("m", gives="x=a y=c", is_custom=True, demultiply_count=-1), node("n", "b=m.x c=m.y")]
        assert (await failure_of(run_of(nodes, "out=n.x", parts))).code is Code.PIPELINE_SHARD_COUNT

    play(script)


@pytest.mark.parametrize("odd", [np.zeros((1, 9), np.float32), np.zeros((1, 10), np.float64), np.zeros(10, np.float32)])
def test_shards_that_differ(odd: np.ndarray) -> None:
    """Size, precision and rank have to be those of the first one."""

    async def script() -> None:
        def compute(arrays: Arrays) -> Arrays:
            return {"a": odd if arrays["b"][0, 0] == 1 else arrays["b"]}

        part = ComputingNode(interface([tensor("b", 1, 10)], [tensor("a", 1, -1)]), compute)
        parts: dict[str, Part] = {"m": splitter(shards(3)), "n": part}
        nodes = [node("m", demultiply_count=3), node("n", "b=m.x", is_custom=True)]
        assert (await failure_of(run_of(nodes, "out=n.x", parts))).code is Code.PIPELINE_SHARDS_DIFFER

    play(script)


def test_empty_dimensions_pass() -> None:
    """Other than the one that is split, they are sizes like all others: [2,1,1,0] gathers to [2,1,1,0]."""

    async def script() -> None:
        empty = np.zeros((2, 1, 1, 0), np.float32)
        told = interface([tensor("b", 1, 10)], [tensor("a", -1, 1, 1, -1)])
        parts: dict[str, Part] = {"n": ComputingNode(told, give(empty))}
        run = run_of([node("n", is_custom=True, demultiply_count=2)], "out=n.x", parts)
        assert (await run.answer(REQUEST))[0].shape == empty.shape

    play(script)


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        (
            np.zeros((1, 3), np.float32), Code.SHAPE,
            "Invalid input shape - Node: n input: b Invalid shape - Expected: (1,10); Actual: (1,3)",
        ),
        (
            np.zeros((2, 10), np.float32), Code.BATCH_SIZE,
            "Invalid input batch size - Node: n input: b Invalid batch size - Expected: 1; Actual: 2",
        ),
        (
            np.zeros((2, 3), np.float32), Code.SHAPE,
            "Invalid input shape - Node: n input: b Invalid shape - Expected: (1,10); Actual: (2,3)",
        ),
        (
            np.zeros(10, np.float32), Code.NUMBER_OF_DIMENSIONS,
            "Invalid number of shape dimensions - Node: n input: b Invalid shape - Expected: (1,10); Actual: (10)",
        ),
        (
            np.zeros((1, 10), np.int32), Code.PRECISION,
            "Invalid input precision - Node: n input: b Invalid precision - Expected: FP32; Actual: I32",
        ),
    ],
)  # fmt: skip
def test_what_a_model_is_given(given: np.ndarray, code: Code, text: str) -> None:
    """A custom node's open dimensions are caught here, with the reference's sentences and its 400."""

    async def script() -> None:
        told = interface([tensor("b", 1, 10)], [tensor("a", -1, -1)])
        parts: dict[str, Part] = {"m": ComputingNode(told, give(given)), "n": adder()}
        failure = await failure_of(run_of([node("m", is_custom=True), node("n", "b=m.x")], "out=n.x", parts))
        assert failure.code is code
        assert failure.http == 400
        assert failure.text.startswith(text)

    play(script)


@pytest.mark.parametrize("given", [TEN[:, :9], TEN.astype(np.float64), TEN[0], np.full((1, 10), b"", object)])
def test_what_the_metadata_promises_is_kept(given: np.ndarray) -> None:
    """An output that is not of the precision, rank and sizes told is an inner failure."""

    async def script() -> None:
        parts: dict[str, Part] = {"n": ComputingNode(plain(), give(given))}
        assert (await failure_of(run_of([node("n", is_custom=True)], "out=n.x", parts))).code is Code.INTERNAL

    play(script)


def test_a_model_that_has_other_inputs_by_now() -> None:
    """Between a change of a member and the next check a plan may be older than its models: that is a failure, no accident."""

    async def script() -> None:
        parts = {"n": adder()}
        plan = plan_of([node("n")], "out=n.x", parts)
        other = ComputingExecutable(interface([tensor("c", 1, 10)], [tensor("a", 1, 10)]), add(1))
        assert (await failure_of(make_run(plan, {"n": other}))).code is Code.MISSING_INPUT
        renamed = ComputingExecutable(interface([tensor("b", 1, 10)], [tensor("z", 1, 10)]), lambda _: {"z": TEN})
        assert (await failure_of(make_run(plan, {"n": renamed}))).code is Code.NODE_OUTPUT_MISSING

    play(script)


def test_one_label_twice() -> None:
    """Two outputs of one name load, and fail each request."""

    async def script() -> None:
        run = run_of([node("n")], "out=n.x out=n.x", {"n": adder()})
        assert (await failure_of(run)).code is Code.PIPELINE_OUTPUT_TWICE

    play(script)


def test_inferences_are_counted_with_their_models() -> None:
    """Each shard is one; one that failed is none."""

    async def script() -> None:
        parts = {"m": splitter(shards(3)), "n": adder(turns=1)}
        run = run_of([node("m", demultiply_count=3), node("n", "b=m.x")], "out=n.x", parts)
        await run.answer(REQUEST)
        members = run._members
        assert {name: each.counts.success.value for name, each in members.items()} == {"m": 1, "n": 3}
        assert {name: each.counts.fail.value for name, each in members.items()} == {"m": 0, "n": 0}

    play(script)
