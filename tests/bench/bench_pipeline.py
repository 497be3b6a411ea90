"""Pipelines against what they are made of, as ratios within one run: rounds of both alternate, and medians are compared.

    python -m tests.bench.bench_pipeline [--rounds N] [--only ocr|chain]

ocr    a request to etc/pipelines/ocr over the same work by hand, with OpenVINO in this process (at most 1.10)
chain  a request to a pipeline of ten small models, one behind the other, over one to such a model (at most 10)

Also told, without a mark: the OCR request over the bare inferences (nothing decoded, cut or read), and ten small models side by
side. Prints a line for each and exits with 1 if one misses its mark. The OCR part downloads 140 MB.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tests import models
from tests.functional import ocr, real_models
from tests.functional.layout import PRECISE
from tests.functional.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MARKS = {"ocr": 1.10, "chain": 10.0}

TEN = 10
CALLS = 100
"""Requests in a round of small models."""


class Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: bytes) -> Any:
        """The outputs for a body in column form."""
        self._connection.request("POST", path, body)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise AssertionError(content)
        return json.loads(content)["outputs"]


def compare(rounds: int, calls: int, **works: Callable[[], object]) -> Mapping[str, float]:
    """The median time of one call of each, in seconds; in each round all of them have their turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(3):  # what the first calls of a shape take is not wanted
            work()
    for _ in range(rounds):
        for name, work in works.items():
            for _ in range(calls):
                begin = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found) for name, found in times.items()}


def read_text(folder: Path, rounds: int) -> float:
    """A page of seven lines."""
    real_models.fetch(folder / "real")
    args = ocr.lay_out(folder / "ocr", folder / "real")
    content = (folder / "real/data/page.png").read_bytes()
    body = json.dumps({"inputs": {"image": [real_models.in_base64(content)]}}).encode()
    by_hand = ocr.ByHand(folder / "real")
    page = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    prepared, strips = ocr.prepare(page), [ocr.strip(page, box) for box in by_hand.find(page)]
    with Server(*args, log=folder / "log") as server:
        client = Client(server.port)
        found = client.post("/v1/models/ocr:predict", body)["lines_string"]
        if found != [line.text for line in by_hand.read(content)]:
            raise AssertionError(found)
        times = compare(
            rounds,
            1,
            pipeline=lambda: client.post("/v1/models/ocr:predict", body),
            hand=lambda: by_hand.read(content),
            models=lambda: by_hand.infer(prepared, strips),
        )
    shown = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in times.items())
    print(f"  ocr: {shown}; over the bare inferences {times['pipeline'] / times['models']:.3f}")
    return times["pipeline"] / times["hand"]


def node(number: int, source: str, item: str) -> Mapping[str, object]:
    """One of ten that all use the same model."""
    return {
        "name": f"n{number}",
        "type": "DL model",
        "model_name": "tiny",
        "inputs": [{"b": {"node_name": source, "data_item": item}}],
        "outputs": [{"data_item": "a", "alias": "a"}],
    }


def small_models(folder: Path, rounds: int) -> float:
    """Ten additions of one."""
    models.save(models.adder(), folder / "tiny" / "1")
    chain = [node(0, "request", "b"), *(node(number, f"n{number - 1}", "a") for number in range(1, TEN))]
    fan = [node(number, "request", "b") for number in range(TEN)]
    document = {
        "model_config_list": [{"config": {"name": "tiny", "base_path": "tiny", **PRECISE}}],
        "pipeline_config_list": [
            {
                "name": "chain",
                "inputs": ["b"],
                "nodes": chain,
                "outputs": [{"a": {"node_name": f"n{TEN - 1}", "data_item": "a"}}],
            },
            {
                "name": "fan",
                "inputs": ["b"],
                "nodes": fan,
                "outputs": [{f"a{number}": {"node_name": f"n{number}", "data_item": "a"}} for number in range(TEN)],
            },
        ],
    }
    config = folder / "config.json"
    config.write_text(json.dumps(document))
    body = json.dumps({"inputs": {"b": [list(range(10))]}}).encode()
    with Server("--config_path", str(config), log=folder / "log") as server:
        client = Client(server.port)
        if client.post("/v1/models/chain:predict", body) != [[float(number + TEN) for number in range(10)]]:
            raise AssertionError("the chain adds something else")
        times = compare(
            rounds,
            CALLS,
            tiny=lambda: client.post("/v1/models/tiny:predict", body),
            chain=lambda: client.post("/v1/models/chain:predict", body),
            fan=lambda: client.post("/v1/models/fan:predict", body),
        )
    shown = ", ".join(f"{name} {value * 1e6:.0f} us" for name, value in times.items())
    print(f"  chain: {shown}; side by side {times['fan'] / times['tiny']:.2f}")
    return times["chain"] / times["tiny"]


def main() -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured; the median counts (15)")
    parser.add_argument("--only", choices=MARKS, help="one of them alone")
    options = parser.parse_args()
    missed = False
    for name, measure in (("ocr", read_text), ("chain", small_models)):
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            figure, mark = measure(Path(folder), options.rounds), MARKS[name]
        missed |= figure > mark
        print(f"{name}: {figure:.3f}, at most {mark}: {'good' if figure <= mark else 'MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
