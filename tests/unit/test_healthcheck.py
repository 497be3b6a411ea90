"""``--healthcheck`` against a small HTTP server in a thread."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from tornado_ovms import healthcheck
from tornado_ovms.core.arguments import parse
from tornado_ovms.healthcheck import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(status: int = 200, body: bytes = b"") -> Iterator[tuple[int, list[str]]]:
    """A server that gives one answer to everything; its port, and the paths that it was asked for."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def first_process(tmp_path: Path) -> Path:
    """Stands for /proc/1/cmdline; there is no such process yet."""
    return tmp_path / "cmdline"


def test_a_server_that_is_ready(first_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is asked whether it is; nothing is printed."""
    with serving() as (port, paths):
        assert check(parse(["--healthcheck", "--rest_port", str(port)]), first_process) == 0
    assert paths == ["/v2/health/ready"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("status", [400, 503])
def test_a_server_that_is_not(status: int, first_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says is passed on, for the record that containers keep of their checks."""
    with serving(status, b'{"error":"Server is not ready"}') as (port, _):
        assert check(parse(["--rest_port", str(port)]), first_process) == 1
    said = f'healthcheck: 127.0.0.1:{port} answers {status}: {{"error":"Server is not ready"}}\n'
    assert capsys.readouterr() == ("", said)


def test_nobody_listens(first_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence instead of a traceback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes it meanwhile
        port = probe.getsockname()[1]
        assert check(parse(["--rest_port", str(port)]), first_process) == 1
    assert capsys.readouterr().err.startswith(f"healthcheck: 127.0.0.1:{port} does not answer: ")


def test_a_server_that_hangs_up(first_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that speaks HTTPS does so with those who do not: they are told how to ask."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert check(parse(["--rest_port", str(port)]), first_process) == 1
        thread.join()
    assert capsys.readouterr().err.endswith("; if it speaks HTTPS, say so by --tls_certificate\n")


def test_a_certificate_that_is_not_there(first_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named."""
    words = ["--rest_port", "1", "--tls_certificate", "/none/crt", "--tls_client_ca", "/none/ca"]
    assert check(parse(words), first_process) == 1
    assert capsys.readouterr().err == "healthcheck: /none/crt or its key cannot be read: No such file or directory\n"


def test_a_server_that_says_nothing(
    first_process: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Containers would wait for ever."""
    monkeypatch.setattr(healthcheck, "TIMEOUT_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert check(parse(["--rest_port", str(silent.getsockname()[1])]), first_process) == 1
    assert "does not answer: timed out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "before",
    [
        ["tornado-ovms"],
        ["/usr/bin/python3", "/opt/bin/tornado-ovms"],
        ["python", "-m", "tornado_ovms"],
        ["/sbin/docker-init", "--", "tornado-ovms"],
        ["tini", "--", "python", "-m", "tornado_ovms"],
    ],
)
@pytest.mark.parametrize("words", [["--rest_port", "{}"], ["--rest-port={}", "--rest_bind_address", "0.0.0.0,::"]])
def test_the_port_is_that_of_process_1(before: list[str], words: list[str], first_process: Path) -> None:
    """In a container that is the server, or an init that started it; nothing has to be said twice."""
    with serving() as (port, paths):
        line = [*before, "--config_path", "/models/config.json", *(word.format(port) for word in words)]
        first_process.write_bytes(b"".join(word.encode() + b"\0" for word in line))
        assert check(parse(["--healthcheck"]), first_process) == 0
    assert len(paths) == 1


@pytest.mark.parametrize(
    "line",
    [
        None,
        b"",
        b"/sbin/init\0",
        b"sh\0-c\0tornado-ovms --rest_port 1\0",
        b"x\0--\xff\0",
        b"tornado-ovms\0--port\0001\0",
    ],
)
def test_process_1_is_something_else(
    line: bytes | None, first_process: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the port has to be said."""
    if line is not None:
        first_process.write_bytes(line)
    assert check(parse(["--healthcheck"]), first_process) == 1
    assert "there is no --rest_port" in capsys.readouterr().err


def test_the_port_that_is_given_counts_more(first_process: Path) -> None:
    """Process 1 is not asked."""
    first_process.write_bytes(b"tornado-ovms\0--rest_port\0001\0")
    with serving() as (port, _):
        assert check(parse(["--rest_port", str(port)]), first_process) == 0


def test_addresses_that_stand_for_all(monkeypatch: pytest.MonkeyPatch, first_process: Path) -> None:
    """This host is asked by a name of its own; of several addresses the first."""
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(healthcheck, "_ask", lambda host, port, _: asked.append((host, port)) or "")
    for address in ("0.0.0.0", "::", "::1", "localhost,127.0.0.1", "192.0.2.7"):  # noqa: S104
        check(parse(["--rest_port", "1", "--rest_bind_address", address]), first_process)
    assert [host for host, _ in asked] == ["127.0.0.1", "::1", "::1", "localhost", "192.0.2.7"]
    check(parse(["--demo"]), first_process)
    assert asked[-1] == ("127.0.0.1", 8000)
