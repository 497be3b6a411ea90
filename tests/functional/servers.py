"""A real server process on a free port, for tests: started, asked and stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

START_S = 60.0
STOP_S = 20.0
ANSWER_S = 30.0

COMMAND = (sys.executable, "-m", "tornado_ovms")

# Runs the command line with a task on its loop that looks every millisecond how late it is; told at the end. Time in which
# the process did not compute does not count: then it was the machine that was busy with something else.
LATENESS = """
import asyncio, sys, time
from tornado_ovms import cli, server

serve = server._Server.serve
worst = 0.0

async def watch():
    global worst
    loop = asyncio.get_running_loop()
    while True:
        due, spent = loop.time() + 0.001, time.process_time()
        await asyncio.sleep(0.001)
        worst = max(worst, min(loop.time() - due, time.process_time() - spent))

async def watched(self):
    global worst
    task = asyncio.ensure_future(watch())
    def start_over():
        global worst
        print("WORST", worst, flush=True)
        worst = 0.0
    import signal
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, start_over)
    return await serve(self)

server._Server.serve = watched
sys.exit(cli.main())
"""

# Runs the command line where inotify cannot be had.
BLIND = """
import errno, os, sys
import inotify_simple

def refuse(*_, **__):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

inotify_simple.INotify = refuse
from tornado_ovms import cli
sys.exit(cli.main())
"""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as strict JSON."""
        return json.loads(self.body, parse_constant=_refuse)


def _refuse(literal: str) -> None:
    raise ValueError(f"{literal} is not JSON")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """``python -m tornado_ovms`` with the given arguments, ready for requests inside a ``with`` block."""

    def __init__(self, *args: str, log: Path, ready: bool = True, command: Sequence[str] = COMMAND) -> None:
        self.port = free_port()
        self.log = log
        self._ready = ready
        self._command = command
        self._args = [*args, "--rest_port", str(self.port), "--rest_bind_address", "127.0.0.1"]
        self._output: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        """Start it and wait until it is ready."""
        self._output = self.log.open("ab")
        command = [*self._command, *self._args]
        self.process = subprocess.Popen(command, stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL)
        try:
            self._wait("/v2/health/ready" if self._ready else "/v2/health/live")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it; one that does not stop is killed, and that is an error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server does not stop: {self.said()[-2000:]}") from None
        finally:
            if self._output is not None:
                self._output.close()

    def _wait(self, path: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}: {self.said()[-2000:]}")
            try:
                if self.get(path).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the server is not ready: {self.said()[-2000:]}")

    def said(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as found:  # noqa: S310
                return Answer(found.status, dict(found.headers), found.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def get(self, path: str) -> Answer:
        """Ask for something."""
        return self.request("GET", path)

    def post(self, path: str, document: object) -> Answer:
        """Send a JSON document."""
        return self.request("POST", path, json.dumps(document).encode())

    def resident_bytes(self) -> int:
        """How much memory it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def forget_peak(self) -> None:
        """Let ``peak_bytes`` begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # see proc(5)

    def peak_bytes(self) -> int:
        """The most memory that it has held."""
        (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(line) * 1024

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def files(self) -> int:
        """How many file descriptors it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def watches(self) -> int:
        """How many inotify watches it has."""
        count = 0
        for info in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed just now
                count += info.read_text().count("inotify wd:")
        return count


def wrapped(script: str, folder: Path) -> Sequence[str]:
    """The command that starts the server through one of the scripts above, which is written into a folder."""
    path = folder / "wrapped.py"
    path.write_text(script)
    return sys.executable, str(path)


@contextmanager
def watched(folder: Path, args: list[str]) -> Iterator[tuple[Server, list[float]]]:
    """A server whose loop is watched; the list holds its worst delay after the block."""
    worst: list[float] = []
    with Server(*args, log=folder / "server.log", command=wrapped(LATENESS, folder)) as server:
        server.process.send_signal(signal.SIGUSR2)  # SIGUSR2: forget what starting up has cost
        time.sleep(0.2)
        yield server, worst
        server.process.send_signal(signal.SIGUSR2)
        time.sleep(0.2)
        worst.append(float(re.findall(r"WORST ([\d.e-]+)", server.said())[-1]))


def workers(server: Server) -> list[int]:
    """The processes of a server's workers, by their number."""
    said = re.findall(r"Worker (\d+) is process (\d+)", server.said())
    return [int(process) for _, process in sorted({int(index): process for index, process in said}.items())]


def until(holds: Callable[[], bool], within_s: float = ANSWER_S) -> float:
    """Wait until something holds, and tell how many seconds that took."""
    begin = time.monotonic()
    while not holds():
        waited = time.monotonic() - begin
        assert waited < within_s, f"not after {waited:.2f} s"
        time.sleep(0.005)
    return time.monotonic() - begin
