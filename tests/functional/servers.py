"""A real server process on a free port, for tests: started, asked and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

START_S = 60.0
STOP_S = 20.0
ANSWER_S = 30.0


COMMAND = (sys.executable, "-m", "tornado_ovms")


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
