"""HTTPS and API keys of a real process: who gets in, and what is renewed while it runs."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import models
from tests.functional.certificates import Authority
from tests.functional.repository import Repository
from tests.functional.servers import Server, until
from tests.functional.tls_servers import TlsServer, is_ready, request, subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROW = json.dumps({"instances": [[0.5] * 10]}).encode()
BIG = json.dumps({"instances": [[0.5] * 10] * 50_000}).encode()
PATH = "/v1/models/plus:predict"
ANSWER = {"predictions": [[1.5] * 10]}
REFUSED = {"error": "API key is missing or wrong - Expected: Authorization: Bearer KEY"}


class Files:
    """A repository with one model, an authority, and the files that a server is started with."""

    def __init__(self, folder: Path, openssl: str) -> None:
        self.repository = Repository(folder)
        self.repository.put("plus", 1, models.adder((-1, 10)))
        self.repository.configure("plus")
        self.authority = Authority(openssl, folder, "ours")
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        self.renew("first")

    def renew(self, name: str) -> None:
        """Another certificate in the place of the one before, first one file, then the other, as people do it."""
        for made, place in zip(self.authority.issue(name), (self.certificate, self.key), strict=True):
            shutil.copyfile(made, place)

    def serve(self, *options: str) -> Server:
        """A server with HTTPS."""
        tls = "--tls_certificate", str(self.certificate), "--tls_key", str(self.key)
        words = "--config_path", str(self.repository.config), *tls, *options
        return TlsServer(*words, log=self.repository.aside())

    def trust(self) -> ssl.SSLContext:
        """A client's side, which trusts the authority."""
        return ssl.create_default_context(cafile=str(self.authority.certificate))


@pytest.fixture
def files(tmp_path: Path, needs_program: Callable[[str], str]) -> Files:
    """As above."""
    return Files(tmp_path, needs_program("openssl"))


def ask(server: Server, context: ssl.SSLContext) -> tuple[int, object]:
    """One prediction on a connection of its own."""
    return request(server, context, "POST", PATH, ROW)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_https(files: Files, workers: str) -> None:
    """Small and large bodies, on connections that stay; nothing but TLS; the health check works as it is."""
    with files.serve("--workers", workers) as server:
        trust = files.trust()
        until(lambda: is_ready(server, trust))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=trust)
        for body, rows in ((ROW, 1), (BIG, 50_000), (ROW, 1)):
            connection.request("POST", PATH, body)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())) == (200, {"predictions": [[1.5] * 10] * rows})
        connection.close()
        with pytest.raises(OSError):  # noqa: PT011 - which of them is the client library's
            server.get("/v2/health/ready")
        words = "--healthcheck", "--rest_port", str(server.port), "--tls_certificate", str(files.certificate)
        assert subprocess.run([sys.executable, "-m", "tornado_ovms", *words], check=False).returncode == 0
        assert "Unforeseen" not in server.said()


def test_a_certificate_is_renewed(files: Files) -> None:
    """While requests go on; what cannot be used is told and changes nothing."""
    with files.serve() as server:
        trust = files.trust()
        until(lambda: is_ready(server, trust))
        assert subject(server, trust) == "first"
        kept = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=trust)
        kept.request("POST", PATH, ROW)
        assert json.loads(kept.getresponse().read()) == ANSWER
        files.renew("second")
        until(lambda: subject(server, trust) == "second")
        files.certificate.write_text("nonsense", "utf-8")
        until(lambda: "the certificate cannot be used, what was read before stays in use" in server.said())
        assert subject(server, trust) == "second"
        files.renew("third")
        until(lambda: subject(server, trust) == "third")
        kept.request("POST", PATH, ROW)
        assert json.loads(kept.getresponse().read()) == ANSWER
        kept.close()


def test_clients_that_hang_up_after_their_handshake(files: Files) -> None:
    """They cost nobody else a connection: no ticket is sent to them, whose failure OpenSSL would tell of the next connection."""
    with files.serve() as server:
        trust = files.trust()
        until(lambda: is_ready(server, trust))
        kept = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=trust)
        for _ in range(5):
            kept.request("POST", PATH, ROW)
            assert json.loads(kept.getresponse().read()) == ANSWER
            assert subject(server, trust) == "first"
        assert isinstance(kept.sock, ssl.SSLSocket)
        assert kept.sock.version() == "TLSv1.3"
        assert kept.sock.session is not None
        assert not kept.sock.session.has_ticket
        kept.close()


def test_half_a_handshake_does_not_last(files: Files) -> None:
    """Whether something of it has come or nothing: nobody needs a certificate for that."""
    with files.serve("--client_timeout", "1") as server:
        until(lambda: is_ready(server, files.trust()))
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
                client.sendall(sent)
                assert client.recv(1) == b""


def test_certificates_of_clients(files: Files, tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    """One of the authority gets in, whatever else it says; none, another one's, and one with too old a TLS do not."""
    with files.serve("--tls_client_ca", str(files.authority.certificate), "--tls_min_version", "1.3") as server:
        ours = files.trust()
        ours.load_cert_chain(*files.authority.issue("client"))
        until(lambda: is_ready(server, ours))
        assert ask(server, ours) == (200, ANSWER)
        bare = files.trust()
        bare.load_cert_chain(*files.authority.issue("bare", extensions=()))
        assert ask(server, bare) == (200, ANSWER)
        ours.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            ask(server, ours)
        with pytest.raises(OSError):  # noqa: PT011 - as above
            ask(server, files.trust())
        theirs = files.trust()
        theirs.load_cert_chain(*Authority(needs_program("openssl"), tmp_path, "theirs").issue("client"))
        with pytest.raises(OSError):  # noqa: PT011 - as above
            ask(server, theirs)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("missing", "the certificate: KEY: No such file or directory"),
        ("mismatch", "the certificate: the key in KEY does not belong to the certificate in CERTIFICATE"),
        ("swapped", "the certificate: expected a certificate in CERTIFICATE and its key in KEY, both as PEM\n"),
        (
            "alone",
            "the certificate: expected a certificate in CERTIFICATE and its key in KEY, both as PEM; the key may have",
        ),
        ("authorities", "the certificate: expected certificates of authorities in KEY, as PEM"),
        ("no keys", "the API keys: KEYS, "),
        ("no file of keys", "the API keys: KEYS: No such file or directory"),
    ],
)
def test_a_server_does_not_start_without_what_it_was_given(files: Files, fault: str, told: str) -> None:
    """It says which file, and ends."""
    keys = files.repository.aside()
    options: tuple[str, ...] = ()
    if fault == "missing":
        files.key.unlink()
    elif fault == "mismatch":
        shutil.copyfile(files.authority.issue("other")[1], files.key)
    elif fault == "swapped":
        files.certificate, files.key = files.key, files.certificate
    elif fault == "alone":
        files.key = files.certificate
    elif fault == "authorities":
        options = ("--tls_client_ca", str(files.key))
    else:
        options = ("--management_keys", str(keys))
    if fault == "no keys":
        keys.write_text("# none yet\n", "utf-8")
    told = told.replace("KEYS", str(keys)).replace("KEY", str(files.key)).replace("CERTIFICATE", str(files.certificate))
    with files.serve(*options) as server:
        assert server.process.wait(30) == 1
        assert f"Cannot start without {told}" in server.said()


def test_keys(tmp_path: Path) -> None:
    """For those who use models, and for those who manage the server; renewed while it runs."""
    repository = Repository(tmp_path)
    repository.put("plus", 1, models.adder((1, 10)))
    repository.configure("plus")
    users, admins = tmp_path / "users", tmp_path / "admins"
    users.write_text("# the first\nuser-1\n", "utf-8")
    admins.write_text("admin-1\n", "utf-8")
    words = "--config_path", str(repository.config), "--inference_keys", str(users), "--management_keys", str(admins)
    with Server(*words, "--metrics_enable", "--manage", log=repository.aside()) as server:

        def status(method: str, path: str, key: str | None, body: bytes | None = None) -> int:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            return server.request(method, path, body, headers).status

        for method, path, body, user in (
            ("POST", PATH, ROW, 200),
            ("GET", "/v1/models/plus", None, 200),
            ("GET", "/v2/models/plus", None, 200),
            ("GET", "/v1/config", None, 401),
            ("POST", "/v1/config/reload", b"{}", 401),
            ("POST", "/v2/repository/index", b"{}", 401),
            ("GET", "/metrics", None, 401),
        ):
            assert status(method, path, None, body) == status(method, path, "wrong", body) == 401
            assert status(method, path, "user-1", body) == user
            assert status(method, path, "admin-1", body) == 200
        assert server.get("/v2/health/ready").status == server.get("/v2/health/live").status == 200
        answer = server.request("POST", PATH, ROW)
        assert (answer.json, answer.headers["WWW-Authenticate"]) == (REFUSED, "Bearer")
        users.write_text("user-1\nuser-2\n", "utf-8")
        until(lambda: status("POST", PATH, "user-2", ROW) == 200)
        users.write_text("user-2\n", "utf-8")
        until(lambda: status("POST", PATH, "user-1", ROW) == 401)
        users.write_text("", "utf-8")
        until(lambda: "the API keys cannot be used, what was read before stays in use" in server.said())
        assert status("POST", PATH, "user-2", ROW) == 200
        assert all(key not in server.said() for key in ("user-1", "user-2", "admin-1"))
