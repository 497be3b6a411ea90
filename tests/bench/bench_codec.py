"""Decoding of large bodies against the usual ways to do it, as ratios within one run.

    python -m tests.bench.bench_codec [--rounds N]

Reads a predict request of 150,528 floats, once with long inner lists (1x3x224x224) and once with short ones
(1x224x224x3), each by this project's codec, by orjson and numpy, and by simplejson and numpy. The ways take turns; each
figure is the median of all rounds. Prints a line for each and exits with 1 if one misses its mark.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import orjson
import simplejson

from tests.fakes import spec
from tornado_ovms.codec import tfs
from tornado_ovms.core.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

MARKS = {(1, 3, 224, 224): (6.0, 2.0), (1, 224, 224, 3): (6.0, 3.0)}
"""How many times as fast as simplejson and numpy, and as orjson and numpy."""


def ways(shape: tuple[int, ...]) -> dict[str, Callable[[bytes], np.ndarray]]:
    """Each turns a body into the same array."""
    specs = {"x": spec("x", shape)}

    def ours(body: bytes) -> np.ndarray:
        value = tfs.read_predict(body, specs, Limits()).values["x"]
        assert isinstance(value, np.ndarray)
        return value

    return {
        "ours": ours,
        "simplejson": lambda body: np.asarray(simplejson.loads(body)["instances"], np.float32),
        "orjson": lambda body: np.asarray(orjson.loads(body)["instances"], np.float32),
    }


def measure(shape: tuple[int, ...], rounds: int) -> dict[str, float]:
    """The median time of each way, in seconds."""
    array = np.random.default_rng(0).random(shape, np.float32)
    body = orjson.dumps({"instances": array}, option=orjson.OPT_SERIALIZE_NUMPY)
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in ways(shape).items():
            begin = time.perf_counter()
            result = way(body)
            taken.setdefault(name, []).append(time.perf_counter() - begin)
            np.testing.assert_array_equal(result, array)
    return {name: statistics.median(each) for name, each in taken.items()}


def main() -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=45, help="how often each way is taken (45)")
    rounds = parser.parse_args().rounds
    missed = False
    for shape, marks in MARKS.items():
        seconds = measure(shape, rounds)
        for name, mark in zip(("simplejson", "orjson"), marks, strict=True):
            ratio = seconds[name] / seconds["ours"]
            missed |= ratio < mark
            print(
                f"decode {'x'.join(map(str, shape))}: {seconds['ours'] * 1000:.1f} ms, {name} and numpy "
                f"{seconds[name] * 1000:.1f} ms: {ratio:.1f} times as fast, at least {mark}: "
                f"{'MISSED' if ratio < mark else 'good'}",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
