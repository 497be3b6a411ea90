"""Unix sockets, and sockets that systemd opens: what systemd does is done here by systemd's own tool."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import struct
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import COMMAND, Server, free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW = json.dumps({"instances": [[0.5] * 10]}).encode()
PATH = "/v1/models/plus:predict"

CREDENTIALS = struct.Struct("3i")
"""Who sends something through a Unix socket: process, user, group; see unix(7)."""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One model."""
    made = Repository(tmp_path)
    made.put("plus", 1, models.adder((1, 10)))
    made.configure("plus")
    return made


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """See ``HTTPConnection``."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


def test_what_is_at_the_path_already(repository: Repository, tmp_path: Path) -> None:
    """A socket that somebody uses for something else, a file, a path that is too long: told at once, and left alone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, socket.socket(socket.AF_UNIX) as busy:
        other.bind(str(tmp_path / "datagrams"))
        busy.bind(str(tmp_path / "busy"))
        busy.listen(0)
        with ExitStack() as waiting:
            for _ in range(2):  # who connects after these waits
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                with suppress(BlockingIOError):
                    client.connect(str(tmp_path / "busy"))
            (tmp_path / "file").write_text("kept")
            for path, told in (
                (tmp_path / "datagrams", "wrong type for socket"),
                (tmp_path / "busy", "another server listens there"),
                (tmp_path / "file", "exists"),
                (tmp_path / ("x" * 120), "too long"),
            ):
                words = ("--config_path", str(repository.config), "--unix_socket", str(path), "--rest_port", "1")
                done = subprocess.run(
                    [sys.executable, "-m", "tornado_ovms", *words], capture_output=True, check=False, timeout=30
                )
                assert done.returncode == 1
                assert told in done.stdout.decode()
                assert f"Failed to start REST server - at {path}" in done.stdout.decode()
        assert (tmp_path / "file").read_text() == "kept"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(str(tmp_path / "datagrams"))


def test_the_path_refuses_while_workers_end(repository: Repository, tmp_path: Path) -> None:
    """Nobody waits for a server that does not take connections any more."""
    path = tmp_path / "s"
    repository.put("slow", 1, models.slow(512, 500))
    repository.configure("plus", "slow")
    words = ("--config_path", str(repository.config), "--workers", "2", "--unix_socket", str(path))
    with Server(*words, "--metrics_enable", log=repository.aside()) as server:
        slow = UnixConnection(path)
        slow.request("POST", "/v1/models/slow:predict", json.dumps({"instances": [[0.5]]}))
        until(lambda: b'ovms_current_requests{name="slow",version="1"} 1' in server.get("/metrics").body)
        server.process.terminate()

        def is_refused() -> bool:
            with closing(UnixConnection(path)) as other:
                try:
                    other.connect()
                except ConnectionRefusedError:
                    return True
            return False

        until(is_refused)
        assert slow.getresponse().status == 200
        slow.close()


GIVE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def predict(connection: http.client.HTTPConnection) -> object:
    """What the model answers."""
    connection.request("POST", PATH, ROW)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket(repository: Repository, tmp_path: Path, workers: str) -> None:
    """Beside the port, for its user and group; one that another server listens on is left alone."""
    path = tmp_path / "s"
    words = ("--config_path", str(repository.config), "--workers", workers, "--unix_socket", str(path))
    for _ in range(2):  # the second one finds what the first has left
        with Server(*words, log=repository.aside()) as server:
            for connection in (UnixConnection(path), http.client.HTTPConnection("127.0.0.1", server.port)):
                assert predict(connection) == (200, {"predictions": [[1.5] * 10]})
                assert predict(connection) == (200, {"predictions": [[1.5] * 10]})
                connection.close()
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            port = str(free_port())
            done = subprocess.run(
                [sys.executable, "-m", "tornado_ovms", *words, "--rest_port", port], capture_output=True, check=False
            )
            assert done.returncode == 1
            assert b"is another server listening there?" in done.stdout
            connection = UnixConnection(path)
            assert predict(connection) == (200, {"predictions": [[1.5] * 10]})
            connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_socket_that_was_given_outlives_the_server(repository: Repository, workers: str) -> None:
    """Whoever connects when one has ended is answered by the next."""
    words = sys.executable, "-m", "tornado_ovms", "--config_path", str(repository.config), "--workers", workers
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.connect()
            with subprocess.Popen(
                [sys.executable, "-c", GIVE, str(given.fileno()), *words, "--rest_port", str(port)],
                pass_fds=(given.fileno(),),
            ) as server:
                until(lambda connection=connection: predict(connection)[0] == 200)  # type: ignore[misc,index]
                connection.close()
                server.terminate()
                assert server.wait(30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_opens_the_port(
    repository: Repository, tmp_path: Path, needs_program: Callable[[str], str], workers: str
) -> None:
    """The server starts with the first connection, which waits for it; it says when it is ready, and when it ends."""
    port, told = free_port(), tmp_path / "notify"
    program = needs_program("systemd-socket-activate")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(told))
        line.settimeout(60)
        log = repository.aside().open("wb")
        process = subprocess.Popen(
            [
                program, "--listen", f"127.0.0.1:{port}", "--setenv", f"NOTIFY_SOCKET={told}", "--setenv", "PYTHONPATH",
                sys.executable, "-m", "tornado_ovms", "--config_path", str(repository.config), "--rest_port", str(port),
                "--workers", workers,
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            until(lambda: _accepts(port))
            assert line.recv(100) == b"READY=1"
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            assert predict(connection) == (200, {"predictions": [[1.5] * 10]})
            connection.close()
            process.terminate()
            assert line.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            log.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_hears_that_the_server_goes_on(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    """From the process that it has started, and from no worker: before it is ready, and until it ends."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    words = ("--config_path", str(repository.config), "--rest_port", str(free_port()), "--workers", workers)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line, repository.aside().open("wb") as log:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        line.settimeout(60)
        line.bind(str(tmp_path / "notify"))
        process = subprocess.Popen([*COMMAND, *words], stdout=log, stderr=log)

        def hear() -> bytes:
            found, ((_, _, sender),), *_ = line.recvmsg(100, socket.CMSG_SPACE(CREDENTIALS.size))
            assert CREDENTIALS.unpack(sender)[0] == process.pid
            return found

        def hear_more() -> bytes:
            while (found := hear()) == b"WATCHDOG=1":
                pass
            return found

        try:
            assert hear() == b"WATCHDOG=1"
            assert hear_more() == b"READY=1"
            assert [hear() for _ in range(9)] == [b"WATCHDOG=1"] * 9
            process.terminate()
            assert hear_more() == b"STOPPING=1"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return not client.connect_ex(("127.0.0.1", port))
