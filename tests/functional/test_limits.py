"""What a server takes on, and what it does with clients that want more, or nothing: over sockets, against a real process."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import COMMAND, Answer, Server, until, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROW = json.dumps({"instances": [[0.5]]}).encode()
PATH = "/v1/models/slow:predict"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"

FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from tornado_ovms import cli
sys.exit(cli.main())
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A model that takes its time, one request after the other."""
    made = Repository(tmp_path)
    made.put("slow", 1, models.slow(512, 200))
    made.configure(slow={"nireq": 1})
    return made


def serve(repository: Repository, *options: str) -> Server:
    """A server with these options."""
    return start(repository, COMMAND, *options)


def start(repository: Repository, command: Sequence[str], *options: str) -> Server:
    """The same by another command."""
    words = "--config_path", str(repository.config), "--metrics_enable", *options
    return Server(*words, log=repository.aside(), command=command)


def refused(server: Server, reason: str) -> float:
    """How many requests were refused for it."""
    lines = server.get("/metrics").body.decode().splitlines()
    sample = f'tornado_ovms_refused_requests_total{{reason="{reason}"}} '
    return next((float(line.removeprefix(sample)) for line in lines if line.startswith(sample)), 0.0)


def ask(server: Server, **headers: str) -> Answer:
    """One prediction on a connection of its own."""
    return server.request("POST", PATH, ROW, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("options", "reason", "most"),
    [
        (("--max_queue", "2"), "queue", 3),
        (("--max_open_requests", "3"), "requests", 3),
        (("--max_open_bytes", str(3 * len(ROW))), "bytes", 3),
    ],
)
def test_a_burst(repository: Repository, options: tuple[str, ...], reason: str, most: int) -> None:
    """As many as there is room for are answered, the rest is refused at once and may come again; health is always told."""
    with serve(repository, *options) as server:
        answers: list[tuple[int, str | None]] = []

        def call() -> None:
            answer = ask(server)
            answers.append((answer.status, answer.headers.get("Retry-After")))

        threads = [threading.Thread(target=call) for _ in range(24)]
        for thread in threads:
            thread.start()
        assert server.get("/v2/health/ready").status == 200
        for thread in threads:
            thread.join(60)
        assert set(answers) == {(200, None), (429, "1")}
        good = answers.count((200, None))
        assert good >= most
        assert refused(server, reason) == 24 - good
        assert ask(server).status == 200


def test_a_model_may_have_limits_of_its_own(repository: Repository) -> None:
    """They count whatever the command line says, and a change of them counts from then on."""
    repository.configure(slow={"nireq": 1, "request_timeout": 0.001})
    with serve(repository, "--request_timeout", "30", "--max_queue", "100") as server:
        answer = ask(server)
        assert (answer.status, answer.json["error"]) == (
            504,
            "Inference did not finish in time - Expected: 0.001 s at most",
        )
        repository.configure(slow={"nireq": 1, "request_timeout": 0})
        until(lambda: ask(server).status == 200)


def test_a_refused_request_keeps_its_connection(repository: Repository) -> None:
    """The next one on it is taken on, once there is room."""
    with serve(repository, "--max_open_bytes", str(len(ROW))) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for body, status in ((ROW + b" ", 413), (ROW, 200)):
            connection.request("POST", PATH, body)
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.will_close) == (status, False)
        connection.close()


def test_a_large_body_is_refused_before_it_is_sent(repository: Repository) -> None:
    """The client has sent the head only."""
    with (
        serve(repository, "--max_open_bytes", "100000") as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n".encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.will_close) == (413, True)


@pytest.mark.parametrize(
    ("options", "status"), [(("--max_body_bytes", "100000"), 413), (("--max_open_bytes", "100000"), 413), ((), 401)]
)
def test_a_refusal_is_read_by_those_who_send_first(
    repository: Repository, guarded: Server, options: Sequence[str], status: int
) -> None:
    """As most clients do; nothing is left unread that would reset the connection, and take the answer with it."""
    with ExitStack() as stack:
        server = stack.enter_context(serve(repository, *options)) if options else guarded
        for _ in range(10):
            answer = server.request("POST", PATH, bytes(5_000_000))
            assert (answer.status, answer.headers["Connection"]) == (status, "close")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose keys nobody knows."""
    folder = tmp_path_factory.mktemp("guarded")
    made = Repository(folder)
    made.put("slow", 1, models.slow(8, 1))
    made.configure("slow")
    keys = folder / "keys"
    keys.write_text("secret\n")
    with serve(made, "--inference_keys", str(keys), "--manage") as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v1/config", 401),
        ("GET", "/v1/models/slow", 401),
        ("POST", "/v1/models/slow:predict", 401),
        ("POST", "/v1/models/slow:classify", 401),
        ("POST", "/v1/nothing", 400),
        ("POST", "/v2/repository/models/slow/load", 401),
    ],
)
@pytest.mark.parametrize("length", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
def test_a_body_that_nobody_reads_takes_no_memory(
    guarded: Server, method: str, path: str, status: int, length: str
) -> None:
    """Whoever sends it, and needs no key for that: what is refused by its head, or needs no body, keeps none of it."""
    before = guarded.resident_bytes()
    piece = b"x" * 10**6 if length[0] == "C" else b"%x\r\n%b\r\n" % (10**6, b"x" * 10**6)
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=30) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        with suppress(ConnectionError):  # refused already
            for _ in range(100):
                client.sendall(piece)
            client.sendall(b"" if length[0] == "C" else b"0\r\n\r\n")
        grown = guarded.resident_bytes() - before
        answer = b""
        with suppress(ConnectionError):  # the kernel drops what it said if more was sent after that
            answer = client.recv(12)
    assert answer in (b"", f"HTTP/1.1 {status}".encode())
    assert grown < 30_000_000


def test_an_answer_in_time_or_none(repository: Repository) -> None:
    """What waits behind others is refused at its time, and never inferred."""
    with serve(repository, "--request_timeout", "30") as server:
        lone = min(_seconds(server) for _ in range(3))
        first = threading.Thread(target=lambda: [ask(server) for _ in range(3)])
        first.start()
        answer = ask(server, X_Request_Timeout_Ms=str(max(1, int(lone * 100))))
        assert answer.status == 504
        assert b"Inference did not finish in time" in answer.body
        first.join()
        assert refused(server, "request_timeout") == 1
        until(lambda: _waiting(server) == 0)
        assert ask(server, X_Request_Timeout_Ms="30000").status == 200


def _seconds(server: Server) -> float:
    begun = time.perf_counter()
    ask(server)
    return time.perf_counter() - begun


def _waiting(server: Server) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith("tornado_ovms_waiting_requests{")))


def test_slow_clients(repository: Repository) -> None:
    """Half a head, half a body and an answer that is not taken end; idle connections do not."""
    with serve(repository, "--client_timeout", "1") as server, ExitStack() as stack:

        def connect(begin: bytes) -> socket.socket:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            client.sendall(begin)
            return client

        idle = connect(b"")
        head = connect(b"GET /v2/health/live HTTP/1.1\r\nX: ")
        body = connect(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode())
        assert body.makefile("rb").read().startswith(b"HTTP/1.1 408 ")
        assert head.recv(100) == b""
        until(lambda: refused(server, "client_timeout") == 2)
        idle.sendall(LIVE)
        assert idle.recv(100).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections(repository: Repository) -> None:
    """Those beyond are told so; when others end there is room again."""
    with serve(repository, "--max_connections", "2", "--metrics_enable") as server, ExitStack() as stack:
        kept = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)) for _ in range(2)]
        for client in kept:
            client.sendall(LIVE)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        answer = server.get("/v2/health/live")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json == {"error": "Too many connections"}
        for client in kept:
            client.close()
        until(lambda: server.get("/v2/health/live").status == 200)
        assert refused(server, "connections") >= 1


def test_far_too_many_connections(repository: Repository) -> None:
    """A thousand at once: all are told, none has to try again, and none of their files stays open."""
    with serve(repository, "--max_connections", "1") as server, ExitStack() as stack:
        kept = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        kept.sendall(LIVE)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")
        before = server.files()
        begun = time.monotonic()
        clients = [stack.enter_context(socket.socket()) for _ in range(900)]
        for client in clients:
            client.settimeout(30)
            client.connect(("127.0.0.1", server.port))
            client.sendall(LIVE)
        assert {client.recv(1000)[:13] for client in clients} == {b"HTTP/1.1 503 "}
        assert time.monotonic() - begun < 30
        until(lambda: server.files() == before)
        kept.sendall(LIVE)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_no_file_can_be_opened(repository: Repository) -> None:
    """Connections beyond are refused without a word in the log, and without work while nothing comes."""
    with start(repository, wrapped(FEW_FILES, repository.folder)) as server, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)) for _ in range(100)
        ]
        for client in clients:
            client.sendall(LIVE)
        said = [_said(client) for client in clients]
        assert said[0] == b"HTTP/1.1 200 "
        assert said[-1] in (b"HTTP/1.1 503 ", b"")
        worked = _cpu_s(server)
        time.sleep(0.5)
        assert _cpu_s(server) - worked < 0.25
        assert "Traceback" not in server.said()
        stack.close()
        until(lambda: server.get("/v2/health/ready").status == 200)
        assert refused(server, "connections") > 30
        assert ask(server).status == 200


def _said(client: socket.socket) -> bytes:
    """The beginning of an answer; nothing if the connection broke off."""
    try:
        return client.recv(1000)[:13]
    except ConnectionError:
        return b""


def _cpu_s(server: Server) -> float:
    """What a server has computed so far."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
