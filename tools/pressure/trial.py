"""The three phases of a run: at the limit, beyond it, after it."""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tests import models
from tools.benchmark import processes
from tools.benchmark.processes import MIB
from tools.benchmark.running import Running
from tools.benchmark.servers import Server
from tools.benchmark.workloads import Request as Question
from tools.pressure.load import OK, Load, Outcome, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    import openvino as ov
    from typing_extensions import Self

    from tools.pressure.options import Options

LIMIT_S: Final = 10.0
AGAIN_S: Final = 5.0
"""Until when a server has to be as fast as before."""

CLIENTS: Final = 900
"""Connections that the load may use; with usual limits a process may open 1024 files."""

LOOK_S: Final = 0.25


@dataclass(frozen=True)
class Subject:
    """A model and the limits that it is served with.

    Args:
        build: makes the model.
        row: what it is asked.
        options: of the server.
        room: how many requests at once are taken on by one process.
        limits: the same in words.
    """

    build: Callable[[], ov.Model]
    row: list[float]
    options: tuple[str, ...]
    room: int
    limits: str


SUBJECTS: Final = {
    "slow": Subject(
        lambda: models.slow(1024, 4), [0.5], ("--nireq", "2", "--max_queue", "4"), 6, "2 inferred, 4 in line"
    ),
    "quick": Subject(models.adder, [0.5] * 10, ("--max_connections", "50"), 50, "50 connections"),
}


@dataclass(frozen=True)
class Trial:
    """What was found. Times are those of clients, memory that of all processes of the server."""

    options: Options
    limits: str
    limit_s: float
    limit: Outcome
    overload: Outcome
    again: Outcome
    rate: float
    before_mib: float
    peak_mib: float
    after_mib: float
    client_cores: float
    other_cores: float
    """What the load itself, and what everything else has used of the machine while there was too much to do."""

    @property
    def at_limit(self) -> float:
        """Answers a second that the server can keep up."""
        return self.limit.took(OK).size / self.limit_s

    @property
    def rates_again(self) -> list[float]:
        """Answers in each second afterwards."""
        ended = (self.again.due_s + self.again.took_s)[self.again.statuses == OK]
        return [float(((ended >= second) & (ended < second + 1)).sum()) for second in range(int(AGAIN_S))]


def run(options: Options) -> Trial:
    """All phases on a server of its own."""
    subject = SUBJECTS[options.model]
    folder = options.folder / "overload" / options.model
    models.save(subject.build(), folder / "1")
    path, body = f"/v1/models/{options.model}:predict", json.dumps({"instances": [subject.row]}).encode()
    with Running(_server(options, subject, folder), options.folder / "logs") as running:
        running.wait_until_right([Question(path, body, {}, np.empty(0))])
        request = Request.post(path, body, _answer(running.port, path, body))
        limit_s = min(LIMIT_S, options.seconds)
        limit = Load(running.port, request, subject.room).run(limit_s)
        rate = options.times * limit.took(OK).size / limit_s
        load = Load(running.port, request, CLIENTS, rate)
        before = resident_mib(running)
        clocks = _clocks(running)
        with Peak(running) as peak:
            overload = load.run(options.seconds)
        passed_s, server_s, client_s, machine_s = (_clocks(running) - clocks).tolist()
        again = Load(running.port, request, subject.room).run(AGAIN_S)
        after = resident_mib(running)
    return Trial(
        options=options,
        limits=subject.limits,
        limit_s=limit_s,
        limit=limit,
        overload=overload,
        again=again,
        rate=rate,
        before_mib=before,
        peak_mib=peak.mib,
        after_mib=after,
        client_cores=client_s / passed_s,
        other_cores=max(0.0, machine_s - server_s - client_s) / passed_s,
    )


def _server(options: Options, subject: Subject, folder: Path) -> Server:
    command = (
        sys.executable, "-m", "tornado_ovms", "--model_name", options.model, "--model_path", str(folder),
        "--rest_port", "{port}", "--rest_bind_address", "127.0.0.1", "--workers", str(options.workers), *subject.options,
    )  # fmt: skip
    return Server("overload", "tornado_ovms", command, (), "ours", is_constant=True)


def _answer(port: int, path: str, body: bytes) -> bytes:
    """What every good answer has to be."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("POST", path, body)
        return connection.getresponse().read()
    finally:
        connection.close()


def _clocks(running: Running) -> np.ndarray:
    """The time of day, and CPU time of the server, of the load and of the whole machine."""
    return np.array([time.perf_counter(), running.cpu_s(), processes.own_s(), processes.busy_s()])


def resident_mib(running: Running) -> float:
    """What all processes of a server hold in memory."""
    pages = 0
    for pid in running.family():
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


class Peak(threading.Thread):
    """Looks at the memory of a server inside a ``with`` block; ``mib`` is the most that was seen."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running
        self._over = threading.Event()
        self.mib = 0.0

    def run(self) -> None:
        """See ``Thread``."""
        while not self._over.wait(LOOK_S):
            self.mib = max(self.mib, resident_mib(self._running))

    def __enter__(self) -> Self:
        """Begin to look."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._over.set()
        self.join()
