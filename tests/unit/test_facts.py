"""What the design takes for granted of its libraries; a release that changes one of these is noticed here."""

from __future__ import annotations

import asyncio
import socket
import time
from enum import Enum

import numpy as np
import openvino as ov
import orjson
import pytest
import simdjson
import simplejson
from tornado.iostream import IOStream

from tests import models

CORE = ov.Core()


def compiled(model: ov.Model) -> ov.CompiledModel:
    """A model for the CPU, in single precision."""
    return CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def test_a_failed_inference_calls_nobody_back() -> None:
    """So a timer has to look; asking then raises, and the request can be started again."""
    model = models.rigid()
    model.reshape({"b": ov.PartialShape([-1, -1])})
    request = compiled(model).create_infer_request()
    called: list[None] = []
    request.set_callback(called.append, None)
    request.set_input_tensor(0, ov.Tensor(np.zeros((1, 11), np.float32)))
    request.start_async()
    with pytest.raises(RuntimeError):
        request.wait()
    assert called == []
    request.set_input_tensor(0, ov.Tensor(np.zeros((1, 10), np.float32)))
    request.start_async()
    request.wait()
    assert request.get_output_tensor(0).data[0, 0] == 1


def test_asking_a_running_request_does_not_block() -> None:
    """``wait_for(0)`` answers False at once while the inference goes on."""
    model = models.heavy(512, 8)
    request = compiled(model).create_infer_request()
    request.set_input_tensor(0, ov.Tensor(np.zeros((1, 512, 512), np.float32)))
    request.start_async()
    assert request.wait_for(0) is False
    request.wait()
    assert request.wait_for(0) is True


def test_a_busy_request_refuses_to_start() -> None:
    """It raises instead of blocking, so the pool never starts one twice unnoticed."""
    request = compiled(models.heavy(512, 8)).create_infer_request()
    request.set_input_tensor(0, ov.Tensor(np.zeros((1, 512, 512), np.float32)))
    request.start_async()
    with pytest.raises(RuntimeError):
        request.start_async()
    request.wait()


def test_an_output_is_a_view_of_the_request() -> None:
    """The next inference writes over it, so it is copied before the request is used again."""
    request = compiled(models.adder()).create_infer_request()
    request.infer([np.zeros((1, 10), np.float32)])
    first = request.get_output_tensor(0).data
    request.infer([np.ones((1, 10), np.float32)])
    assert first[0, 0] == 2


def test_arrays_that_cannot_be_written_cannot_be_shared() -> None:
    """So what decoders hand over is writeable."""
    array = np.frombuffer(b"\0" * 40, np.float32).reshape(1, 10)
    with pytest.raises(ValueError, match="writeable"):
        ov.Tensor(array, shared_memory=True)


def test_simdjson_flattens_ragged_lists_silently() -> None:
    """So the shape has to be proven apart from reading the numbers."""
    buffer = simdjson.Parser().parse(b"[[1, 2], [3]]").as_buffer(of_type="d")
    assert np.frombuffer(buffer).tolist() == [1.0, 2.0, 3.0]


def test_simdjson_refuses_to_parse_while_elements_live() -> None:
    """So elements are dropped before a parser is used again."""
    parser = simdjson.Parser()
    element = parser.parse(b"[1]")
    with pytest.raises(RuntimeError):
        parser.parse(b"[2]")
    del element
    assert parser.parse(b"[2]").as_list() == [2]


@pytest.mark.parametrize("text", [b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1e400]"])
def test_fast_parsers_are_strict(text: bytes) -> None:
    """What is not JSON goes to simplejson."""
    with pytest.raises(ValueError, match=r"."):
        simdjson.Parser().parse(text)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(text)


def test_simplejson_reads_nan_when_asked() -> None:
    """And only then; its errors tell line and column."""
    assert np.isnan(simplejson.loads("[NaN]", allow_nan=True)[0])
    with pytest.raises(simplejson.JSONDecodeError) as caught:
        simplejson.loads("[1,\n x]")
    assert (caught.value.lineno, caught.value.colno) == (2, 2)


def test_orjson_writes_single_precision_shortest() -> None:
    """Digits that read back the same as float32, and null for what is not finite."""
    text = orjson.dumps(np.array([0.1, np.nan, np.inf], np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
    assert text == b"[0.1,null,null]"


def test_equal_members_of_an_enum_are_one() -> None:
    """So codes are ``auto()``, and their table is a mapping apart."""

    class Two(Enum):
        A = 1
        B = 1  # noqa: PIE796 - that is the point

    assert Two.A is Two.B
    assert len(Two) == 1


def test_compiling_leaves_the_loop_alone() -> None:
    """The GIL is free while a model is compiled, so a loader thread is enough."""

    async def play() -> tuple[int, float]:
        ticks = 0
        job = asyncio.get_running_loop().run_in_executor(None, compiled, models.heavy(512, 40))
        begin = time.perf_counter()
        while not job.done():
            ticks += 1
            await asyncio.sleep(0)
        return ticks, time.perf_counter() - begin

    ticks, _ = asyncio.run(play())
    assert ticks > 10


def test_tornado_tells_what_its_streams_hold() -> None:
    """Attributes that are not public; ``http.patience`` finds no slow client without them."""

    async def look() -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            stream = IOStream(ours)
            return stream._read_buffer_size, stream._total_write_done_index

    assert asyncio.run(look()) == (0, 0)
