"""A server that runs: started, asked, measured, stopped."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from tools.benchmark import processes
from tools.benchmark.workloads import WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from tools.benchmark.servers import Server
    from tools.benchmark.workloads import Request

START_S: Final = 120.0
STOP_S: Final = 15.0
ANSWER_S: Final = 60.0
SETTLE_S: Final = 8.0
LOOK_S: Final = 0.1
WORDS: Final = 250
IDLE_S: Final = 0.02  # of CPU in one look: less is a server that has nothing left to do


class ServerError(Exception):
    """A server does not start, or does not answer as it should."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def fault(port: int, request: Request, *, is_constant: bool = False) -> str:
    """Ask once; what is wrong with the answer, or nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    if is_constant:
        return "" if answer.status == http.client.OK else f"{answer.status} {body[:200]!r}"
    return request.fault(answer.status, {name.lower(): value for name, value in answer.getheaders()}, body)


class Running:
    """The processes of a server. Use it in a ``with`` block, which stops them."""

    def __init__(self, server: Server, logs: Path, command: Sequence[str] | None = None) -> None:
        names = ("port", "port2", "port3")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        logs.mkdir(parents=True, exist_ok=True)
        self.server, self.port, self.log = server, ports["port"], logs / f"{server.name}.log"
        environment = {name: value.format(**ports) for name, value in server.environment.items()}
        words = [word if word.startswith('{"') else word.format(**ports) for word in command or server.command]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                words,
                cwd=server.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the benchmark, which then stops its servers
            )

    def __enter__(self) -> Self:
        """Nothing is left to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def wait_until_right(self, requests: Sequence[Request], pause_s: float = 0.1) -> None:
        """Ask until all answers are right.

        Raises:
            ServerError: It has ended, an answer is wrong, or there is none until the time runs out.
        """
        deadline = time.monotonic() + START_S
        for request in requests:
            while trouble := fault(self.port, request, is_constant=self.server.is_constant):
                if self._process.poll() is not None:
                    raise ServerError(f"ended with exit code {self._process.returncode}: {self._last_words()}")
                if trouble.startswith(WRONG) or time.monotonic() > deadline:
                    raise ServerError(f"{trouble}; see {self.log}")
                time.sleep(pause_s)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        said = [line for line in lines if re.search(r"\w{3}", line)]
        return re.sub(r"^(\[[^]]*\])+ *", "", (said or ["without a word"])[-1])[:WORDS]

    def family(self) -> list[int]:
        """Its processes."""
        return processes.family(self._process.pid)

    def cpu_s(self) -> float:
        """CPU time that they have used so far."""
        return processes.cpu_s(self.family())

    def settle(self) -> None:
        """Wait until what the last run has left in its queues is done."""
        deadline, before = time.monotonic() + SETTLE_S, self.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            now = self.cpu_s()
            if now - before < IDLE_S:
                return
            before = now

    def stop(self) -> None:
        """End it, and whatever it has left behind."""
        family = self.family()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in family[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
