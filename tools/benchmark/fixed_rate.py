"""Requests that leave on a schedule, whatever the server does. A latency counts from when a request was due.

A client that asks only after an answer would wait along with a server that stands still, and never see it.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tools.benchmark.workloads import Request

THREADS: Final = 32  # so many requests may be under way; later ones wait, and their waiting counts
LEAD_S: Final = 0.2
ANSWER_S: Final = 60.0


class Times(NamedTuple):
    """What came back, and how late."""

    latencies_ms: list[float]
    failed: int
    seconds: float


def _answer(connection: socket.socket) -> bool:
    """Read one answer; whether it is a good one."""
    data = b""
    while (split := data.find(b"\r\n\r\n")) < 0:
        if not (piece := connection.recv(1 << 16)):
            return False
        data += piece
    head, rest = data[:split].lower(), data[split + 4 :]
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), None)
    while len(rest) < length if length is not None else not rest.endswith(b"0\r\n\r\n"):
        if not (piece := connection.recv(1 << 20)):
            return False
        rest += piece
    return head[9:12] == b"200"


def run(port: int, request: Request, rate: int, seconds: float) -> Times:
    """Ask so many times a second, for so long."""
    turns, total = itertools.count(), int(rate * seconds)
    latencies: list[float] = []
    failures: list[int] = []
    start = time.perf_counter() + LEAD_S

    def ask() -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (turn := next(turns)) < total:
                due = start + turn / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                connection.sendall(request.raw)
                good = _answer(connection)
                latencies.append((time.perf_counter() - due) * 1000)
                if not good:
                    failures.append(turn)
                    return

    threads = [threading.Thread(target=ask) for _ in range(min(THREADS, total))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A thread that met a failure has gone; whatever was not asked for want of threads counts as failed.
    took = max(time.perf_counter() - start, seconds)
    return Times(latencies, total - len(latencies) + len(failures), took)
