"""A pool of real OpenVINO infer requests."""

from __future__ import annotations

import asyncio
import gc
import weakref

import numpy as np
import openvino as ov
import pytest

from tests import models
from tornado_ovms.core.model_files import NameMapping
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine.base import ExecutableStats, States
from tornado_ovms.engine.pool import ON_LOOP_BYTES, RequestPool, reason
from tornado_ovms.engine.preparation import PRECISIONS, prepare

CORE = ov.Core()


def pool(model: ov.Model, size: int = 1, refusal: Code = Code.INFERENCE) -> RequestPool:
    """A pool on the running loop."""
    prepared = prepare(model, ModelSettings("m", "/m"), NameMapping())
    compiled = CORE.compile_model(prepared.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return RequestPool(compiled, prepared.inputs, prepared.outputs, size, asyncio.get_running_loop(), refusal)


@pytest.mark.parametrize("shape", [(1, 10), (1, 100_000), (-1, -1)])
def test_it_infers(shape: tuple[int, int]) -> None:
    """Small inputs are copied into the request's own tensor, large and dynamic ones are shared: the answer is the same."""
    array = np.arange(10 if shape[1] < 0 else shape[1], dtype=np.float32).reshape(1, -1)

    async def play() -> list[np.ndarray]:
        used = pool(models.adder(shape))
        try:
            return (await used.infer({"b": array})).outputs
        finally:
            used.close()

    (answer,) = asyncio.run(play())
    np.testing.assert_array_equal(answer, array + 1)


def test_a_string_without_dimensions_passes_through() -> None:
    """It is an array, too."""

    async def play() -> list[np.ndarray]:
        used = pool(models.model([x := models.parameter("x", (), "string")], x=x))
        try:
            return (await used.infer({"x": np.array(b"ab", object)})).outputs
        finally:
            used.close()

    (answer,) = asyncio.run(play())
    assert (answer.shape, answer.dtype, answer.item()) == ((), np.dtype(object), b"ab")


@pytest.mark.parametrize("kind", [name for name in PRECISIONS if name != "string"])
def test_every_element_type_passes_through(kind: str) -> None:
    """What comes in goes out, bit for bit."""
    dtype = PRECISIONS[kind].dtype
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype)

    async def play() -> list[np.ndarray]:
        used = pool(models.passthrough((-1, -1), kind))
        try:
            return (await used.infer({"x": array})).outputs
        finally:
            used.close()

    (answer,) = asyncio.run(play())
    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, array)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_strings_pass_through(count: int) -> None:
    """Strings are arrays of bytes objects, also if there are none."""
    array = np.array([[b"a", b"\xff\xfe"], ["ü".encode(), b""]], object)[:count]

    async def play() -> list[np.ndarray]:
        used = pool(models.model([x := models.parameter("x", (-1, -1), "string")], x=x))
        try:
            return (await used.infer({"x": array})).outputs
        finally:
            used.close()

    (answer,) = asyncio.run(play())
    assert (answer.tolist(), answer.shape, answer.dtype) == (array.tolist(), array.shape, array.dtype)


def test_callers_are_served_in_line() -> None:
    """With one request, answers come in the order of the calls; nothing is left behind."""

    async def play() -> tuple[list[int], ExecutableStats]:
        used = pool(models.adder())
        done: list[int] = []

        async def ask(number: int) -> None:
            (answer,) = (await used.infer({"b": np.full((1, 10), number, np.float32)})).outputs
            assert answer[0, 0] == number + 1
            done.append(number)

        await asyncio.gather(*(ask(number) for number in range(50)))
        stats = used.stats()
        used.close()
        return done, stats

    done, stats = asyncio.run(play())
    assert done == list(range(50))
    assert stats == ExecutableStats(streams=1, requests=1, running=0, waiting=0)


def test_a_failed_inference_is_found_and_its_request_goes_on() -> None:
    """OpenVINO does not call back for a failure: the reaper finds it, and the next caller is served."""

    async def play() -> tuple[Failure, np.ndarray]:
        model = models.rigid()
        model.reshape({"b": ov.PartialShape([-1, -1])})
        used = pool(model, refusal=Code.RESHAPE)
        with pytest.raises(Failure) as caught:
            await used.infer({"b": np.zeros((1, 11), np.float32)})
        (answer,) = (await used.infer({"b": np.zeros((1, 10), np.float32)})).outputs
        used.close()
        return caught.value, answer

    failure, answer = asyncio.run(play())
    assert failure.code is Code.RESHAPE
    assert answer.tolist() == [[1.0] * 10]


def test_an_array_that_openvino_refuses_is_a_failure() -> None:
    """Whatever is raised while starting reaches the caller, and the request is free again."""

    async def play() -> np.ndarray:
        used = pool(models.adder((-1, 10)))
        with pytest.raises(Failure):
            await used.infer({"b": np.zeros((1, 10), np.int8)})
        (answer,) = (await used.infer({"b": np.zeros((1, 10), np.float32)})).outputs
        used.close()
        return answer

    assert asyncio.run(play()).tolist() == [[1.0] * 10]


def test_who_leaves_the_line_costs_nothing() -> None:
    """Callers that give up, waiting or running, leave every request idle and nobody waiting."""

    async def play() -> ExecutableStats:
        used = pool(models.heavy(256, 4))
        array = np.zeros((1, 256, 256), np.float32)
        tasks = [asyncio.ensure_future(used.infer({"x": array})) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[:-1]:
            task.cancel()
        await tasks[-1]
        stats = used.stats()
        used.close()
        return stats

    assert asyncio.run(play()) == ExecutableStats(streams=1, requests=1, running=0, waiting=0)


def test_close_gives_everything_back() -> None:
    """Nothing keeps a closed pool alive: not the callbacks, not the requests."""

    async def play() -> weakref.ref[RequestPool]:
        used = pool(models.adder(), size=4)
        await used.infer({"b": np.zeros((1, 10), np.float32)})
        used.close()
        return weakref.ref(used)

    closed = asyncio.run(play())
    for _ in range(1000):  # OpenVINO's thread may not have come back from its last callback yet
        gc.collect()
        if closed() is None:
            return
    pytest.fail("something keeps it")


def test_close_gives_the_model_back_at_once() -> None:
    """Not when Python next looks for rings, which may be never in a server that is idle: a model takes hundreds of MB."""

    async def play() -> list[weakref.ref[ov.InferRequest]]:
        used = pool(models.heavy(64, 2), size=3)
        await used.infer({"x": np.zeros((1, 64, 64), np.float32)})
        requests = [weakref.ref(slot.request) for slot in used._slots]
        await asyncio.to_thread(used.close)
        await asyncio.sleep(0)
        return requests

    gc.disable()
    try:
        assert [request() for request in asyncio.run(play())] == [None] * 3
    finally:
        gc.enable()


def test_close_waits_for_what_runs() -> None:
    """A request whose caller has gone is let finish before its memory goes."""

    async def play() -> None:
        used = pool(models.heavy(256, 4))
        task = asyncio.ensure_future(used.infer({"x": np.zeros((1, 256, 256), np.float32)}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.to_thread(used.close)

    asyncio.run(play())


def test_reasons_leave_out_places_in_source() -> None:
    """Clients hear what is wrong, not where in OpenVINO it was noticed."""
    error = RuntimeError("Exception from src/a.cpp:1:\nCheck 'x' failed at src/b.cpp:2:\nwrong shape\n\n")
    assert reason(error) == "wrong shape"
    assert reason(RuntimeError("Exception from src/a.cpp:1:")) == "Exception from src/a.cpp:1:"


def test_states_go_from_one_inference_to_the_next() -> None:
    """Whatever request runs it: each sequence of states is the caller's own, and None begins anew."""

    async def play() -> list[float]:
        used = pool(models.accumulator(), size=2)
        sums = []
        states: dict[str, States | None] = {"a": None, "b": None}
        for name, value in (("a", 1), ("b", 10), ("a", 2), ("b", 20), ("a", 5)):
            inference, states[name] = await used.infer_with_states(
                {"input": np.array([[value]], np.float32)}, states[name]
            )
            sums.append(float(inference.outputs[0][0, 0]))
        used.close()
        return sums

    assert asyncio.run(play()) == [1, 10, 3, 30, 8]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_large_outputs_are_copied_beside_the_loop(is_wanted: bool) -> None:  # noqa: FBT001
    """The answer is the same; a request comes back also if nobody waits for its outputs any more."""
    array = np.arange(ON_LOOP_BYTES // 4 + 1, dtype=np.float32).reshape(1, -1)

    async def play() -> tuple[list[np.ndarray], ExecutableStats]:
        used = pool(models.adder(array.shape))
        first = asyncio.ensure_future(used.infer({"b": array}))
        await asyncio.sleep(0)
        if is_wanted:
            await first
        else:
            first.cancel()
        outputs = (await used.infer({"b": array})).outputs
        stats = used.stats()
        used.close()
        return list(outputs), stats

    (answer,), stats = asyncio.run(play())
    np.testing.assert_array_equal(answer, array + 1)
    assert stats == ExecutableStats(streams=1, requests=1, running=0, waiting=0)
