"""The whole benchmark: installs, checks, measures in rounds, writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from tools.benchmark import environments, footprint, machine, models, page, rows, runs, servers, tables, workloads
from tools.benchmark.environments import MissingError, say
from tools.benchmark.options import PEERS, ROOT
from tools.benchmark.processes import CORES
from tools.benchmark.rows import Figure, Results, Row
from tools.benchmark.running import Running, ServerError
from tools.benchmark.workloads import WORKLOADS, Load, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.benchmark.options import Options
    from tools.benchmark.servers import Server

SMALL: Final = Load(rate=200, patience=2)
IN_PROCESS: Final = ("light", "resnet", "long")
NOISE_CORES: Final = 0.2
OVERHEAD_S: Final = 0.3  # of a run: until a server has settled, and the clocks


class Run(NamedTuple):
    """A server under a load of a workload."""

    work: Workload
    load: Load
    server: str


class Benchmark:
    """What runs, what was found, and what had to be left out."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.folder = options.folder
        self.running: dict[str, Running] = {}
        self.rows: list[Row] = []
        self.figures: list[Figure] = []
        self.left_out: list[str] = []
        self.is_ours_wrong = False
        self.is_incomplete = False
        self._environments = options.environments or options.folder

    def leave_out(self, name: str, why: object) -> None:
        """Go on without a server, and tell so at the end."""
        line = f"{name}: {why}".replace(f"{self.folder}/", "").replace(f"{self._environments}/", "")
        say(f"Left out: {line}")
        self.left_out.append(line)

    def install(self) -> tuple[str, ...]:
        """Make what is needed; the groups of servers that can be started."""
        there = []
        for group in self.options.servers:
            try:
                if group in PEERS:
                    if self.options.environments is None:
                        environments.install(group, self._environments)
                    environments.same_openvino(group, self._environments)
                elif group == "cpp":
                    environments.build(self.folder)
            except MissingError as error:
                self.leave_out(group, error)
                self.is_incomplete = True
            else:
                there.append(group)
        return tuple(there)

    def _works(self, server: Server) -> list[Workload]:
        return [work for name, work in WORKLOADS.items() if name in server.works and name in self._wanted()]

    def _wanted(self) -> tuple[str, ...]:
        """The workloads that have to run; small requests beside large ones need two of them checked."""
        wanted = self.options.work
        return (*wanted, "dummy", "light") if "mixed" in wanted else wanted

    def _request(self, server: Server, work: Workload) -> workloads.Request:
        return workloads.request(self.folder / "models", work, server.protocol)

    def start(self, groups: tuple[str, ...], stack: ExitStack) -> None:
        """Start all servers, one after the other, and see whether they answer right."""
        servers.prepare_mlserver(self.folder)
        for server in servers.chosen(groups, self.folder, self._environments):
            if not (works := self._works(server)):
                continue
            begun = time.monotonic()
            try:
                # On a busy machine pytriton's processes miss each other at times.
                running = self._started(server, works, tries=2 if server.group in PEERS else 1)
            except ServerError as error:
                self.leave_out(server.title, error)
                self.is_ours_wrong |= server.name in ("ours", "ours-2")
            else:
                stack.callback(running.stop)
                self.running[server.name] = running
                what = "answers" if server.is_constant else "is right"
                names = ", ".join(work.name for work in works)
                say(f"{server.title}: {what} after {time.monotonic() - begun:.1f} s ({names})")

    def _started(self, server: Server, works: list[Workload], tries: int) -> Running:
        """A server that answers right."""
        running = Running(server, self.folder / "logs")
        try:
            running.wait_until_right([self._request(server, work) for work in works])
        except BaseException as error:
            running.stop()
            if isinstance(error, ServerError) and tries > 1:
                return self._started(server, works, tries - 1)
            raise
        return running

    def _plan(self) -> Iterator[Run]:
        """The runs of a round; servers alternate within a load, so that what is compared is measured next to each other."""
        for name, work in WORKLOADS.items():
            if name not in self.options.work:
                continue
            for load in work.loads:
                for server, running in self.running.items():
                    # What answers a constant has no latency to speak of at a fixed rate.
                    if name in running.server.works and not (running.server.is_constant and load.rate):
                        yield Run(work, load, server)

    def estimate_s(self) -> float:
        """How long the rounds will take."""
        a_round = sum(self.options.seconds * load.patience + OVERHEAD_S for _, load, _ in self._plan())
        a_round += 8 * self.options.seconds + 6 if "mixed" in self.options.work else 0
        works = {run.work.name for run in self._plan()} if "openvino" in self.options.servers else set()
        a_round += sum(2 * self.options.seconds + 1 for name in works if name in IN_PROCESS)
        return self.options.rounds * a_round

    def measure_footprint(self) -> None:
        """Memory and start, before anyone else runs: a page that others use too would count as less."""
        measures = {"memory": footprint.sizes, "start": footprint.starts}
        for number in range(1, self.options.rounds + 1):
            for name, measure in measures.items():
                if name in self.options.work and "ours" in self.options.servers:
                    found = measure(self.folder)
                    self.figures += [Figure(number, what, value) for what, value in found.items()]
                    said = ", ".join(f"{what} {value:.2f}" for what, value in found.items())
                    say(f"  {number}/{self.options.rounds} {said}")

    def measure(self) -> None:
        """All rounds."""
        for number in range(1, self.options.rounds + 1):
            self._round(number)

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        failed = f"  {row.failed} FAILED" if row.failed else ""
        failed += f"  (others: {row.other_cores:.1f} cores)" if row.other_cores > NOISE_CORES else ""
        say(
            f"  {row.round}/{self.options.rounds} {row.work:9}{row.load:>11} {row.server:13}"
            f"{row.per_s:>10,.1f}/s  p50 {row.p50_ms:9.2f} ms  p99 {row.p99_ms:9.2f} ms  CPU {row.cpu_ms:8.3f} ms{failed}"
        )

    def _round(self, number: int) -> None:
        say(f"Round {number} of {self.options.rounds}")
        for work, loads in groupby(self._plan(), lambda run: run.work):
            for _, load, name in loads:
                running = self.running[name]
                running.settle()
                request = self._request(running.server, work)
                measured = runs.run(running, request, load, self.options.seconds * load.patience, self.folder)
                self._keep(runs.row(number, running, work.name, load, measured))
            if "openvino" in self.options.servers and work.name in IN_PROCESS:
                self._keep(self._in_process(number, work.name))
        if "mixed" in self.options.work:
            self._mixed(number)

    def _in_process(self, number: int, model: str) -> Row:
        seconds = self.options.seconds * WORKLOADS[model].loads[-1].patience
        command = [sys.executable, "-m", "tools.benchmark.openvino_alone", str(self.folder / "models"), model]
        done = subprocess.run([*command, str(seconds)], cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        return Row(number, "openvino", model, "in process", found["per_s"], 0.0, 0.0, found["cpu_ms"])

    def _mixed(self, number: int) -> None:
        large, seconds = workloads.large(self.folder / "models"), self.options.seconds * SMALL.patience
        for name in ("ours", "ours-2"):
            if (running := self.running.get(name)) is None:
                continue
            small = self._request(running.server, WORKLOADS["dummy"])
            running.settle()
            alone = runs.run(running, small, SMALL, seconds, self.folder)
            self._keep(replace(runs.row(number, running, "mixed", SMALL, alone), load="alone"))
            beside = runs.beside(running, small, large, SMALL, seconds, self.folder)
            self._keep(replace(runs.row(number, running, "mixed", SMALL, beside), load="beside"))

    def results(self, described: dict[str, str]) -> Results:
        """What was found."""
        titles = {name: running.server.title for name, running in self.running.items()}
        if any(row.server == "openvino" for row in self.rows):
            titles["openvino"] = "OpenVINO in process, AsyncInferQueue"
        return Results(tuple(self.rows), tuple(self.figures), described, titles, tuple(self.left_out))


def _show(results: Results) -> None:
    """The end of it: each figure beside its mark."""
    print()
    for threshold, ratio in tables.measured(results):
        if ratio is not None:
            said = tables.figure(threshold, ratio.middle)
            mark, verdict = tables.mark(threshold, threshold.mark), threshold.verdict(ratio.middle)
            print(f"{threshold.short:36} {said:>10}  {mark:>10}  {verdict}")
    for line in results.left_out:
        print(f"Left out: {line}")


def _target(options: Options) -> Path:
    target = ROOT / page.PAGE
    return target if options.is_full else options.folder / target.name


def _measured(options: Options) -> tuple[Results | None, int]:
    """The results, or none if only answers were checked; the exit code."""
    options.folder.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(options)
    if not options.is_check:
        environments.require_wrk()
    described = {
        **machine.describe(),
        "cores": str(CORES),
        "command": options.command,
        "run": f"{options.rounds} rounds, {options.seconds} s a run",
    }
    say(f"Models, logs and results are kept in {options.folder}.")
    groups = benchmark.install()
    models.make(options.folder / "models")
    if not options.is_check:
        benchmark.measure_footprint()
    with ExitStack() as stack:
        benchmark.start(groups, stack)
        if not options.is_check:
            say(f"The rounds ({options.rounds}) will take about {benchmark.estimate_s() / 60:.1f} minutes.")
            benchmark.measure()
    code = int(benchmark.is_ours_wrong or (benchmark.is_incomplete and os.environ.get("CI", "") in ("true", "1")))
    return (None if options.is_check else benchmark.results(described)), code


def main(options: Options) -> int:
    """Do what the options say; the exit code."""
    # An exception, so that servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if options.results is not None:
            results, code = rows.read(options.results), 0
        else:
            found, code = _measured(options)
            if found is None:
                return code
            results = found
            rows.write(results, options.folder / "results.json")
    except MissingError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: stopped.")
        return 130
    target = _target(options)
    page.write(results, target)
    _show(results)
    print(f"Written: {target} and {target.with_suffix('.svg').name} beside it.")
    return code
