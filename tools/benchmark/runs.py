"""One run: load on one server for some seconds, and what it cost."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tools.benchmark import fixed_rate, processes
from tools.benchmark.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.benchmark.running import Running
    from tools.benchmark.workloads import Load, Request

SCRIPT: Final = Path(__file__).resolve().with_name("wrk.lua")
PERCENT: Final = 100


class Clocks(NamedTuple):
    """CPU time of the server, of the load generator and of the whole machine, and the time of day."""

    server_s: float
    client_s: float
    machine_s: float
    now_s: float


def _clocks(running: Running) -> Clocks:
    return Clocks(running.cpu_s(), processes.own_s(), processes.busy_s(), time.perf_counter())


def wrk_command(port: int, request: Request, connections: int, seconds: int, folder: Path) -> Sequence[str]:
    """The command line of wrk for a closed loop: who has an answer asks again."""
    body = folder / f"body-{len(request.body)}"
    body.write_bytes(request.body)
    headers = [word for pair in request.headers.items() for word in pair]
    url = f"http://127.0.0.1:{port}{request.path}"
    load = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    return ["wrk", *load, "-s", str(SCRIPT), url, "--", str(body), *headers]


def wrk_result(said: str) -> dict[str, Any]:
    """What the script has printed.

    Raises:
        ValueError: It has printed nothing.
    """
    found = re.search(r"^RESULT (.*)$", said, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk said: {said[-500:]}")
    result: dict[str, Any] = json.loads(found[1])
    return result


def _percentiles(latencies_ms: list[float]) -> tuple[float, float]:
    if len(latencies_ms) < 2:  # noqa: PLR2004 (quantiles wants two)
        return (latencies_ms * 2 or [float("nan")] * 2)[0], (latencies_ms or [float("nan")])[0]
    cuts = quantiles(latencies_ms, n=PERCENT, method="inclusive")
    return cuts[49], cuts[98]


def run(running: Running, request: Request, load: Load, seconds: int, folder: Path) -> dict[str, float]:
    """Load a server; the fields of a row from ``per_s`` on."""
    before = _clocks(running)
    if load.connections:
        command = wrk_command(running.port, request, load.connections, seconds, folder)
        result = wrk_result(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        requests, took, p50, p99, failed = (
            result[key] for key in ("requests", "seconds", "p50_ms", "p99_ms", "failed")
        )
    else:
        times = fixed_rate.run(running.port, request, load.rate, seconds)
        requests, took, failed = len(times.latencies_ms), times.seconds, times.failed
        p50, p99 = _percentiles(times.latencies_ms)
    after = _clocks(running)
    passed = after.now_s - before.now_s
    server, client = after.server_s - before.server_s, after.client_s - before.client_s
    others = after.machine_s - before.machine_s - server - client
    return {
        "per_s": requests / took,
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_ms": server / max(requests, 1) * 1000,
        "client_cores": client / passed,
        "other_cores": max(0.0, others / passed),
        "failed": failed,
    }


def beside(
    running: Running, small: Request, large: Request, load: Load, seconds: int, folder: Path
) -> dict[str, float]:
    """Load a server with small requests while large bodies arrive one after the other; the fields of the small ones."""
    command = wrk_command(running.port, large, 1, seconds + 2, folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        time.sleep(1)  # until they do arrive
        measured = run(running, small, load, seconds, folder)
        said, _ = client.communicate()
    return {**measured, "failed": measured["failed"] + wrk_result(said)["failed"]}


def row(number: int, running: Running, work: str, load: Load, measured: dict[str, float]) -> Row:
    """A run as a value."""
    return Row(number, running.server.name, work, str(load), **measured)  # type: ignore[arg-type]
