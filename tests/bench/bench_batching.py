"""Requests a second with batching over those without, as ratios within one run.

    python -m tests.bench.bench_batching [--seconds S] [--rounds N]

dense   four layers of 2048 by 2048 numbers, which have to be read for each inference: here it pays (at least 1.5; 3 is wanted)
images  convolutions, where two rows take twice as long as one: they are not joined, and it costs nothing (at least 0.95)
quick   a model of 10 numbers, which takes less time than joining does: the same (at least 0.95)

32 connections, up to 16 rows, no delay. Prints a line for each and exits with 1 if one misses its mark. Needs wrk.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests import models
from tests.bench.wrk import read_options, wrk
from tests.functional.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import openvino as ov

CONNECTIONS = 32
MAX_BATCH = 16
"""Half of them: while one half is inferred, the other half is read and answered."""

MARKS = {"dense": 1.5, "images": 0.95, "quick": 0.95}
BUILD: dict[str, tuple[Callable[[], ov.Model], Sequence[int]]] = {
    "dense": (models.deep, (16,)),
    "images": (models.convolutions, (3, 32, 32)),
    "quick": (models.adder, (10,)),
}


def ratio(folder: Path, name: str, seconds: float, rounds: int) -> float:
    """One server with a model twice, with batching and without; the median of the rounds."""
    build, sizes = BUILD[name]
    entries = []
    for kind, more in (("plain", {}), ("joined", {"batching": {"max_batch": MAX_BATCH}})):
        models.save(build(), folder / kind / "1")
        precise = {"INFERENCE_PRECISION_HINT": "f32"}
        entries.append({"config": {"name": kind, "base_path": kind, "plugin_config": precise, **more}})
    config = folder / "config.json"
    config.write_text(json.dumps({"model_config_list": entries}))
    body = json.dumps({"instances": [np.random.default_rng(0).random(sizes).round(3).tolist()]})
    ratios = []
    with Server("--config_path", str(config), log=folder / "log") as server:
        for _ in range(rounds):
            plain, joined = (
                wrk(server.port, f"/v1/models/{kind}:predict", body, seconds, CONNECTIONS)
                for kind in ("plain", "joined")
            )
            ratios.append(joined / plain)
            print(f"  {name}: joined {joined:.0f}/s, plain {plain:.0f}/s")
    return statistics.median(ratios)


def main() -> int:
    """Measure and compare."""
    options = read_options(__doc__, seconds=3, rounds=5)
    missed = False
    for name, mark in MARKS.items():
        with tempfile.TemporaryDirectory() as folder:
            figure = ratio(Path(folder), name, options.seconds, options.rounds)
        missed |= figure < mark
        print(f"{name}: {figure:.2f}, at least {mark}: {'good' if figure >= mark else 'MISSED'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
