"""Pictures and binary tensors against the plain ways, as ratios of CPU time within one run.

    python -m tests.bench.bench_formats [--rounds N]

picture    a JPEG file of 224x224 in base64 over base64, cv2.imdecode and cv2.resize called directly (at most 1.25)
binary     a tensor of 1x3x224x224 floats as binary data over the same tensor in JSON (at most 0.35)

What is compared is the CPU time of a server's process (user and system, all its threads) for each request. ``picture``: the
model takes u8 [1,64,64,3] and gives its first number. From the cost of a request that of the same request with a picture of 1x1
is taken away, so that what is left is what the picture costs. The direct calls are made by a bare Tornado handler that gets
nothing but the base64, and its cost is found in the same way: code in a loop by itself runs up to twice as fast as code that
is asked over a connection, and on a core that shares its parts with the client's. ``binary`` compares whole requests; the
answers are one number. The models run in one thread: with more, OpenVINO's threads look for work for a millisecond after each
inference, the longer the later the next one comes. All take turns, and the lower quartile counts. Prints a line for each and
exits with 1 if one misses its mark.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from openvino import opset15 as op

from tests import models
from tests.functional.layout import lay_out
from tests.functional.servers import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import openvino as ov

MARKS = {"picture": 1.25, "binary": 0.35}

TURN = 10
"""So many requests of one kind, then of the next."""


def corner(shape: Sequence[int], kind: str, layout: str = "") -> ov.Model:
    """x -> its first element."""
    x = models.parameter("x", shape, kind, layout)
    zeros = op.constant(np.zeros(len(shape), np.int64))
    ones = op.constant(np.ones(len(shape), np.int64))
    return models.model([x], y=op.slice(x, zeros, ones, ones))


BUILT = {
    "picture": corner((1, 64, 64, 3), "u8", "NHWC"),
    "tensor": corner((1, 3, 224, 224), "f32"),
}


class Question(NamedTuple):
    """A request that is sent again and again."""

    path: str
    body: bytes
    headers: Mapping[str, str]


def predict(name: str, document: object) -> Question:
    """Over ``/v1``."""
    return Question(f"/v1/models/{name}:predict", json.dumps(document).encode(), {})


def infer(array: np.ndarray) -> Question:
    """Over ``/v2``, as binary data."""
    entry = {
        "name": "x",
        "shape": list(array.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }
    head = json.dumps({"inputs": [entry]}).encode()
    return Question(
        "/v2/models/tensor/infer", head + array.tobytes(), {"Inference-Header-Content-Length": str(len(head))}
    )


def infer_in_json(array: np.ndarray) -> Question:
    """Over ``/v2``, as a list."""
    entry = {"name": "x", "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}
    return Question("/v2/models/tensor/infer", json.dumps({"inputs": [entry]}).encode(), {})


def cpu_s(process: int) -> float:
    """The CPU time that a process has taken so far: its clock, as ``clock_getcpuclockid`` names it on Linux."""
    return time.clock_gettime((~process << 3) | 2)


class Client:
    """Asks a server on one connection, and tells what that costs the server."""

    def __init__(self, port: int, process: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._process = process

    def cost_s(self, question: Question) -> float:
        """What a request costs."""
        begin = cpu_s(self._process)
        for _ in range(TURN):
            self._connection.request("POST", question.path, question.body, dict(question.headers))
            answer = self._connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise AssertionError(content[:500])
        return (cpu_s(self._process) - begin) / TURN


def take_turns(rounds: int, *ways: tuple[Client, Question]) -> list[float]:
    """The cost of each way: the lower quartile, since whoever else uses the machine only ever adds to it."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for (client, question), costs in zip(ways, taken, strict=True):
            costs.append(client.cost_s(question))
    return [statistics.quantiles(costs[1:], n=4)[0] for costs in taken]


BARE = """
import asyncio, base64, sys
import cv2, numpy
from tornado import web

class Handler(web.RequestHandler):
    def post(self):
        data = numpy.frombuffer(base64.b64decode(self.request.body), numpy.uint8)
        cv2.resize(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), (64, 64))
        self.finish(b"{}")

async def main():
    web.Application([(".*", Handler)], log_function=lambda handler: None).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def bare() -> Iterator[Client]:
    """A handler that calls the three steps directly."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        time.sleep(2)
        yield Client(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def draw(size: int) -> bytes:
    """A JPEG file with as much in it as a photograph has."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    noisy = np.clip(smooth + random.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", noisy)
    assert done
    return data.tobytes()


def picture(client: Client, rounds: int) -> float:
    """A picture through the server over the same steps called directly."""
    dot = cv2.imencode(".jpg", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    file, small = (base64.b64encode(each).decode() for each in (draw(224), dot))
    ours = [(client, predict("picture", {"instances": [{"b64": text}]})) for text in (file, small)]
    with bare() as handler:
        theirs = [(handler, Question("/", text.encode(), {})) for text in (file, small)]
        whole, empty, direct, nothing = take_turns(rounds, *ours, *theirs)
    print(
        f"  picture of {len(file) * 3 // 4 / 1024:.0f} KiB: {whole * 1e6:.0f} us less {empty * 1e6:.0f} us of one of 1x1; "
        f"directly {direct * 1e6:.0f} us less {nothing * 1e6:.0f} us"
    )
    return (whole - empty) / (direct - nothing)


def binary(client: Client, rounds: int) -> float:
    """A tensor as binary data over the same in JSON."""
    array = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    packed, listed = take_turns(rounds, (client, infer(array)), (client, infer_in_json(array)))
    print(f"  binary: {packed * 1e6:.0f} us, in JSON {listed * 1e6:.0f} us")
    return packed / listed


def main() -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help=f"how often each sends {TURN} requests (100)")
    rounds = parser.parse_args().rounds
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entries = {model: {"plugin_config": {"INFERENCE_NUM_THREADS": 1}} for model in BUILT}
        with Server(*lay_out(folder, BUILT, **entries), log=folder / "log") as server:
            client = Client(server.port, server.process.pid)
            figures = {"picture": picture(client, rounds), "binary": binary(client, rounds // 5)}
    for name, figure in figures.items():
        good = figure <= MARKS[name]
        missed |= not good
        print(f"{name}: {figure:.2f}, at most {MARKS[name]}: {'good' if good else 'MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
