"""What it costs to be measured: predictions of a 10-float model in a second of processor time, as ratios within one run.

    python -m tests.bench.bench_metrics [--seconds S] [--rounds N]

metrics   with --metrics_enable, scraped once a second, over without (at least 0.97)
features  with --server_timing and one line of the access log for 100 requests besides, over without (at least 0.95)
counting  the first over a server that does not even count (no mark: it shows what the counting itself takes)

Prints a line for each and exits with 1 if one misses its mark. Servers take turns within each round, and the median of the
rounds counts. The processor time is that of the whole process, so that what else the machine does matters little; a server that
is busy all the time answers in proportion to it. Needs wrk.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests import models
from tests.bench.bench_server import repository
from tests.bench.wrk import read_options, wrk
from tests.functional.servers import COMMAND, Server, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = {"metrics": 0.97, "features": 0.95, "counting": 0.0}

METRICS = ["--metrics_enable"]
FEATURES = [*METRICS, "--server_timing", "--access_log", "100"]

# Runs the command line with nothing being counted.
UNCOUNTED = """
import sys
from tornado_ovms import cli, metrics
from tornado_ovms.http import traffic
from tornado_ovms.serving import observation

traffic.Traffic.answered = lambda *_: None
metrics.Histogram.observe = lambda *_: None
timing = observation.Timing(0, 0, 0, 0)
observation.Call.succeed = lambda _: timing
sys.exit(cli.main())
"""


@contextmanager
def scraping(server: Server) -> Iterator[None]:
    """Somebody scrapes the server once a second, as often as anybody does."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(1):
            assert server.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"}).status == 200

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def spent_s(server: Server) -> float:
    """The processor time of a server, with all of its threads."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, seconds: float, rounds: int) -> dict[str, float]:
    """The median ratio of each comparison."""
    body = json.dumps({"instances": [list(range(10))]})
    args = repository(folder, dummy=models.adder())
    ratios: dict[str, list[float]] = {name: [] for name in MARKS}
    with ExitStack() as stack:

        def start(name: str, *more: str, command: tuple[str, ...] = COMMAND) -> Server:
            server = Server(*args, *more, log=folder / f"{name}.log", command=command)
            return stack.enter_context(server)

        servers = {
            "plain": start("plain"),
            "metrics": start("metrics", *METRICS),
            "features": start("features", *FEATURES),
            "uncounted": start("uncounted", command=tuple(wrapped(UNCOUNTED, folder))),
        }
        for index in range(rounds):
            names = list(servers)
            names = names[index % len(names) :] + names[: index % len(names)]  # nobody is always the first
            found = {}
            for name in names:
                with ExitStack() as scrapes:
                    if name in ("metrics", "features"):
                        scrapes.enter_context(scraping(servers[name]))
                    before = spent_s(servers[name])
                    rate = wrk(servers[name].port, "/v1/models/dummy:predict", body, seconds)
                    found[name] = rate * seconds / (spent_s(servers[name]) - before)
            print("  " + ", ".join(f"{name} {found[name]:.0f}/s" for name in servers), flush=True)
            ratios["metrics"].append(found["metrics"] / found["plain"])
            ratios["features"].append(found["features"] / found["plain"])
            ratios["counting"].append(found["metrics"] / found["uncounted"])
    return {name: statistics.median(each) for name, each in ratios.items()}


def main() -> int:
    """Measure and compare."""
    options = read_options(__doc__, seconds=2, rounds=12)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.seconds, options.rounds)
    missed = False
    for name, figure in figures.items():
        good = figure >= MARKS[name]
        missed |= not good
        mark = f", at least {MARKS[name]}: {'good' if good else 'MISSED'}" if MARKS[name] else ""
        print(f"{name}: {figure:.3f}{mark}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
