"""The server against what it is built on, as ratios within one run: machines are noisy, ratios are not.

    python -m tests.bench.bench_server [--seconds S] [--rounds N]

requests   requests/s of a 10-float model over those of a bare Tornado handler that answers a constant (at least 0.55)
inference  inferences/s of a model of 30 ms and more over OpenVINO's AsyncInferQueue in this process (at least 0.95)
body       how late the event loop is at worst while bodies of 2 MB arrive (at most 20 ms)
loading    how late it is at worst while a model of 100 MB is loaded (at most 20 ms)

Prints a line for each and exits with 1 if one misses its mark. Needs wrk.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from tests import models
from tests.bench.wrk import read_options, wrk
from tests.functional.servers import Server, free_port, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = {"requests": 0.55, "inference": 0.95, "body": 0.020, "loading": 0.020}

BARE = """
import asyncio, sys
from tornado import web

class Handler(web.RequestHandler):
    def post(self):
        self.set_header("Content-Type", "application/json")
        self.finish(b'{"predictions":[[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,10.0]]}')

async def main():
    web.Application([(".*", Handler)], log_function=lambda handler: None).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def bare() -> Iterator[int]:
    """A bare Tornado handler; its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        time.sleep(1)
        yield port
    finally:
        process.terminate()
        process.wait()


def repository(folder: Path, **built: ov.Model) -> list[str]:
    """Lay out models; the arguments that serve them."""
    entries = []
    for name, model in built.items():
        models.save(model, folder / name / "1")
        precise = {"INFERENCE_PRECISION_HINT": "f32"}
        entries.append({"config": {"name": name, "base_path": name, "plugin_config": precise}})
    config = folder / "config.json"
    config.write_text(json.dumps({"model_config_list": entries}))
    return ["--config_path", str(config)]


def requests(folder: Path, seconds: float, rounds: int) -> float:
    """Small predictions over constant answers."""
    body = json.dumps({"instances": [list(range(10))]})
    ratios = []
    with Server(*repository(folder, dummy=models.adder()), log=folder / "log") as server, bare() as port:
        for _ in range(rounds):
            theirs = wrk(port, "/", body, seconds)
            ours = wrk(server.port, "/v1/models/dummy:predict", body, seconds)
            ratios.append(ours / theirs)
            print(f"  requests: {ours:.0f}/s, bare handler {theirs:.0f}/s")
    return statistics.median(ratios)


def inference(folder: Path, seconds: float, rounds: int) -> float:
    """A model that computes for long, served and in this process."""
    model = models.slow()
    compiled = ov.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    queue = ov.AsyncInferQueue(compiled)
    array = np.ones((1, 1), np.float32)
    begin = time.perf_counter()
    compiled([array])
    print(f"  inference: the model takes {(time.perf_counter() - begin) * 1000:.0f} ms")
    ratios = []
    with Server(*repository(folder, slow=models.slow()), log=folder / "log") as server:
        for _ in range(rounds):
            begin, count = time.perf_counter(), 0
            while time.perf_counter() - begin < seconds:
                queue.start_async([array])
                count += 1
            queue.wait_all()
            theirs = count / (time.perf_counter() - begin)
            ours = wrk(server.port, "/v1/models/slow:predict", '{"inputs":[[1.0]]}', seconds, 4)
            ratios.append(ours / theirs)
            print(f"  inference: {ours:.2f}/s, AsyncInferQueue {theirs:.2f}/s")
    return statistics.median(ratios)


def body(folder: Path, seconds: float) -> float:
    """The loop's worst delay under large bodies."""
    text = json.dumps({"inputs": np.random.default_rng(0).random((1, 3, 224, 224)).round(8).tolist()})
    with watched(folder, repository(folder, wide=models.adder((1, 3, 224, 224)))) as (server, worst):
        wrk(server.port, "/v1/models/wide:predict", text, seconds, 2)
    print(f"  body: {len(text) / 1e6:.1f} MB each")
    return worst[0]


def loading(folder: Path) -> float:
    """The loop's worst delay while a model is loaded and another one retired."""
    with watched(folder, repository(folder, big=models.heavy(1024, 24))) as (server, worst):
        for number in range(2, 5):
            models.save(models.heavy(1024, 24), folder / "big" / f"new{number}")
            (folder / "big" / f"new{number}").rename(folder / "big" / str(number))
            assert server.post("/v1/config/reload", {}).status == 201
    return worst[0]


def main() -> int:
    """Measure and compare."""
    options = read_options(__doc__, seconds=3, rounds=5)
    missed = False
    for name, measure in (
        ("requests", lambda folder: requests(folder, options.seconds, options.rounds)),
        ("inference", lambda folder: inference(folder, options.seconds, options.rounds)),
        ("body", lambda folder: body(folder, options.seconds)),
        ("loading", loading),
    ):
        with tempfile.TemporaryDirectory() as folder:
            figure, mark = measure(Path(folder)), MARKS[name]
        is_delay = name in ("body", "loading")
        good = figure <= mark if is_delay else figure >= mark
        missed |= not good
        shown = (
            f"{figure * 1000:.1f} ms, at most {mark * 1000:.0f} ms" if is_delay else f"{figure:.2f}, at least {mark}"
        )
        print(f"{name}: {shown}: {'good' if good else 'MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
