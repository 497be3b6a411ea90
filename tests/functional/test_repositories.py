"""Models in object stores and archives: what is served follows them, and whatever befalls them, what serves goes on."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import os
import shutil
import signal
import socket
import socketserver
import tarfile
import threading
import zipfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from tests import models
from tests.functional.repository import ALL
from tests.functional.servers import START_S, Server, until, workers, wrapped
from tests.functional.stores import BUCKET, Azure, Google, Store, copies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL = ("--file_system_poll_wait_seconds", "1")

NO_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
from tornado_ovms import cli
sys.exit(cli.main())
"""
"""No file may be larger: writing fails in the middle, as it does on a full disk."""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's folder for temporary files; and nothing is known of any real account."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


class Place:
    """A store, and a server of what is in it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self._numbers = count()

    def put(self, version: int, addend: float, name: str = "m") -> None:
        """Upload a version that adds a number."""
        self.store.put(f"{name}/{version}", models.adder(addend=addend), self.folder / f"aside{next(self._numbers)}")

    def config(self, **base_paths: str) -> str:
        """A configuration; m is in the store unless told otherwise."""
        path = self.folder / "config.json"
        listed = {"m": f"{self.store.url}/m", **base_paths}
        entries = [{"config": {"name": name, "base_path": base, **ALL}} for name, base in listed.items()]
        path.write_text(json.dumps({"model_config_list": entries}))
        return str(path)

    def serve(self, *args: str, **base_paths: str) -> Server:
        """A server of it."""
        return Server("--config_path", self.config(**base_paths), *POLL, *args, log=self.folder / "server.log")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], None]:
    """Tells servers how to reach a store."""

    def tell(store: Store) -> None:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)

    return tell


@pytest.fixture
def place(tmp_path: Path, environment: Callable[[Store], None]) -> Iterator[Place]:
    """Amazon's protocol, and model m with version 1, which adds 1."""
    with Store(tmp_path / "store.log") as store:
        environment(store)
        made = Place(store, tmp_path)
        made.put(1, 1)
        yield made


@pytest.fixture(params=["s3", "gs", "az"])
def any_place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    environment: Callable[[Store], None],
    needs_program: Callable[[str], str],
) -> Iterator[Place]:
    """The same in each kind of store."""
    log = tmp_path / "store.log"
    kinds: dict[str, Callable[[], Store]] = {
        "s3": lambda: Store(log),
        "gs": lambda: Google(log),
        "az": lambda: Azure(log, needs_program("azurite")),
    }
    with kinds[request.param]() as store:
        environment(store)
        made = Place(store, tmp_path)
        made.put(1, 1)
        yield made


def ask(server: Server, version: int | None = None, name: str = "m") -> Any:
    """What a model adds, or the sentence with which it is refused."""
    where = f"/v1/models/{name}" if version is None else f"/v1/models/{name}/versions/{version}"
    answer = server.post(f"{where}:predict", {"instances": [[0.0] * 10]}).json
    return answer["predictions"][0][0] if "predictions" in answer else answer["error"]


def states(server: Server, name: str = "m") -> dict[int, str]:
    """The states of a model's versions."""
    found = server.get(f"/v1/models/{name}").json["model_version_status"]
    return {int(each["version"]): each["state"] for each in found}


def verbose(server: Server) -> str:
    """All that the server tells an operator."""
    return server.get("/v1/config?verbose=1").body.decode()


def test_what_is_served_follows_the_store(any_place: Place, temporary: Path) -> None:
    """New versions, changed ones and removed ones, at the next poll; copies are there as long as they are served."""
    with any_place.serve() as server:
        assert ask(server) == 1
        any_place.put(2, 2)
        until(lambda: ask(server) == 2)
        assert ask(server, 1) == 1
        any_place.put(2, 20)
        until(lambda: ask(server) == 20)
        any_place.store.remove("m/1")
        until(lambda: states(server)[1] == "END")
        until(lambda: {path.parent.name for path in copies(temporary)} == {"2"})
        assert len(copies(temporary)) == 2
        assert server.post("/v1/config/reload", {}).status == 200
    assert not list(temporary.iterdir())
    assert "secret" not in server.said()
    assert "Traceback" not in server.said()
    assert "Unclosed" not in server.said()


def test_a_store_that_is_gone(place: Place) -> None:
    """What serves goes on, the failure is told of once, and it is served again when the store is back."""
    with place.serve() as server:
        place.store.stop()
        until(lambda: "cannot be read" in verbose(server))
        assert ask(server) == 1
        assert server.post("/v1/config/reload", {}).status == 500
        assert ask(server) == 1
        assert server.said().count("Model m: Model repository cannot be read") == 1
        place.store.start()
        place.put(1, 1)
        place.put(2, 2)
        until(lambda: ask(server) == 2)
        until(lambda: "cannot be read" not in verbose(server))


def test_a_start_without_the_store(place: Place, tmp_path: Path) -> None:
    """Other models serve, the model is known with its failure, and comes by itself."""
    models.save(models.adder(addend=5), tmp_path / "here" / "1")
    place.store.stop()
    with place.serve(here="here") as server:
        assert ask(server, name="here") == 5
        assert "cannot be read" in verbose(server)
        assert states(server) == {}
        place.store.start()
        place.put(1, 1)
        until(lambda: ask(server) == 1)


def test_a_store_that_hangs(place: Place, tmp_path: Path) -> None:
    """It takes connections and never answers: local models are looked at and reloads are answered meanwhile."""
    models.save(models.adder(addend=5), tmp_path / "here" / "1")
    with place.serve(here="here") as server:
        place.store.stop()
        with http.server.socketserver.TCPServer(("127.0.0.1", place.store.port), None, bind_and_activate=False) as mute:  # type: ignore[attr-defined, arg-type]
            mute.allow_reuse_address = True
            mute.server_bind()
            mute.server_activate()
            models.save(models.adder(addend=6), tmp_path / "aside")
            (tmp_path / "aside").rename(tmp_path / "here" / "2")
            assert until(lambda: ask(server, name="here") == 6) < 8
            assert until(lambda: server.post("/v1/config/reload", {}).status in (200, 201, 500)) < 8
            assert ask(server) == 1


def test_a_start_while_stores_are_slow(place: Place, trickle: str, tmp_path: Path) -> None:
    """Local models are served at once, and those of another store when they have come; ready is the server after all of them."""
    models.save(models.adder(addend=5), tmp_path / "here" / "1")
    config = place.config(here="here", slow=f"{trickle}/m.tar")
    with Server("--config_path", config, *POLL, ready=False, log=tmp_path / "server.log") as server:
        until(lambda: ask(server, name="here") == 5, within_s=8)
        until(lambda: ask(server) == 1, within_s=8)
        assert server.get("/v2/health/ready").status == 503
        Trickle.is_over.set()
        until(lambda: server.get("/v2/health/ready").status == 200)
        assert "came short" in verbose(server)


def test_what_is_not_there(place: Place) -> None:
    """Is told apart from a store that does not answer; so is what this server does not read."""
    wrong = {
        "a": f"s3://{BUCKET}/nothing",
        "b": "s3://nobody/m",
        "c": "azfs://share/m",
        "d": "ftp://host/m",
        "e": "s3://",
    }
    with place.serve(**wrong) as server:
        reasons = verbose(server)
        assert f"Directory does not exist: s3://{BUCKET}/nothing" in reasons
        assert "Directory does not exist: s3://nobody/m" in reasons
        assert "azfs://share/m: Azure Files" in reasons
        assert "expected the name of a bucket" in reasons
        assert ask(server) == 1


def test_names_that_climb(place: Place, temporary: Path) -> None:
    """Keys of a store may be anything: a version with one that leads out is not served, others are."""
    place.store.client.call_s3("put_object", Bucket=BUCKET, Key="m/2/../../../escaped", Body=b"x")
    place.put(2, 2)
    with place.serve() as server:
        assert ask(server) == 1
        assert states(server) == {1: "AVAILABLE"}
        assert "Version 2 is left out" in server.said()
    assert not list(temporary.parent.rglob("escaped"))


def test_a_disk_that_is_full(place: Place, temporary: Path) -> None:
    """The version fails with the reason, nothing is left of it, and the one before serves on."""
    weights = np.random.default_rng(0).random(200_000, np.float32).reshape(1, -1)
    b = models.parameter("b", (1, 200_000))
    large = models.model([b], a=models.op.add(b, models.op.constant(weights)))
    place.store.put("m/2", large, place.folder / "large")
    args = ("--config_path", place.config(), *POLL)
    log = place.folder / "server.log"
    with Server(*args, log=log, command=wrapped(NO_ROOM, place.folder)) as server:
        assert ask(server) == 1
        assert states(server) == {1: "AVAILABLE", 2: "LOADING"}
        assert "File too large" in verbose(server)
        assert {path.parent.name for path in copies(temporary)} == {"1"}


def test_a_public_bucket(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs no credentials; the host may be part of the path, as for MinIO."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_ENDPOINT"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    place.store.client.call_s3("put_bucket_acl", Bucket=BUCKET, ACL="public-read")
    for path in place.store.client.find(BUCKET):
        bucket, _, key = path.partition("/")
        place.store.client.call_s3("put_object_acl", Bucket=bucket, Key=key, ACL="public-read")
    url = f"s3://127.0.0.1:{place.store.port}/{BUCKET}/m"
    with place.serve(m=url) as server:
        assert ask(server) == 1
    with Server("--model_name", "m", "--model_path", url, log=place.folder / "single.log") as server:
        assert ask(server) == 1


def test_credentials_that_come_late(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret may be mounted, or a role be known, after the start: no restart is needed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    with place.serve() as server:
        until(lambda: "Forbidden" in verbose(server) or "Access Denied" in verbose(server))
        credentials.write_text("[default]\naws_access_key_id = somebody\naws_secret_access_key = anything\n")
        until(lambda: states(server) == {1: "AVAILABLE"})
    assert "Unclosed" not in server.said()


def test_workers_share_copies(place: Place, temporary: Path) -> None:
    """They copy a version once, and all of it goes when the last one ends; what a killed process left, at the next start."""
    with place.serve("--workers", "2") as server:
        assert ask(server) == 1
        assert len(copies(temporary)) == 2
    assert not list(temporary.iterdir())
    with place.serve() as server:
        server.process.kill()
        server.process.wait()
    assert len(copies(temporary)) == 2
    place.store.remove("m/1")
    place.put(3, 3)
    with place.serve() as server:
        assert ask(server) == 3
        assert {path.parent.name for path in copies(temporary)} == {"3"}


def test_a_worker_that_starts_without_the_store(place: Place) -> None:
    """It serves what its siblings serve; so does a whole server that was killed, from what that has left."""
    args = ("--config_path", place.config(), *POLL, "--workers", "2")
    with Server(*args, log=place.folder / "server.log") as server:
        place.store.stop()
        until(lambda: "cannot be read" in verbose(server))
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: workers(server)[0] != victim)
        until(lambda: server.said().count("Started REST server at") == 3)
        assert {ask(server) for _ in range(20)} == {1}
        processes = server.process.pid, *workers(server)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # else a worker whose supervisor is gone would end in order
            for process in processes:
                os.kill(process, number)
        server.process.wait()
    with Server(*args, log=place.folder / "again.log") as server:
        assert {ask(server) for _ in range(20)} == {1}
        assert "cannot be read" in verbose(server)
        place.store.start()
        place.put(2, 2)
        until(lambda: {ask(server) for _ in range(20)} == {2})
        until(lambda: states(server)[1] == "END")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; of those in ``short`` only a half comes, those in ``signed`` only to who asks with ``GET``."""

    short: frozenset[str] = frozenset()
    signed: frozenset[str] = frozenset()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """See the base class."""
        if self.path in self.signed:
            self.send_error(403)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        """See the base class."""
        if self.headers["Range"] != "bytes=0-0":
            super().do_GET()
            return
        there = Path(self.translate_path(self.path)).stat()
        self.send_response(206)
        self.send_header("Content-Length", "1")
        self.send_header("Content-Range", f"bytes 0-0/{there.st_size}")
        self.send_header("Last-Modified", self.date_time_string(int(there.st_mtime)))
        self.end_headers()
        self.wfile.write(b"x")

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """See the base class."""
        content = source.read()
        outputfile.write(content[: len(content) // 2] if self.path in self.short else content)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server: its address and its folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", folder
        finally:
            server.shutdown()
            thread.join()


def pack(archive: Path, folder: Path, **addends: float) -> None:
    """Make an archive of versions ``v1``, ``v2`` …; it takes its place at once."""
    for name, addend in addends.items():
        models.save(models.adder(addend=addend), folder / name[1:])
    made = archive.with_name(f"made-{archive.name}")
    if archive.suffix == ".zip":
        with zipfile.ZipFile(made, "w") as target:
            for path in sorted(folder.rglob("*")):
                target.write(path, path.relative_to(folder))
    else:
        with tarfile.open(made, "w:gz" if archive.suffix != ".tar" else "w") as target:
            target.add(folder, ".")
    made.rename(archive)


@pytest.mark.parametrize("name", ["m.zip", "m.tar", "m.tar.gz", "m.tgz"])
def test_archives(name: str, web: tuple[str, Path], tmp_path: Path, temporary: Path) -> None:
    """Are unpacked and served, and again when they change; one that comes short is not."""
    url, folder = web
    pack(folder / name, tmp_path / "one", v1=1)
    config = tmp_path / "config.json"
    entry = {"name": "m", "base_path": f"{url.replace('://', '://me:secret@')}/{name}?token=secret", **ALL}
    config.write_text(json.dumps({"model_config_list": [{"config": entry}]}))
    with Server("--config_path", str(config), *POLL, log=tmp_path / "server.log") as server:
        assert ask(server) == 1
        Handler.short = frozenset({f"/{name}?token=secret"})
        pack(folder / name, tmp_path / "two", v2=2, v3=3)
        until(lambda: "came short" in verbose(server))
        assert ask(server) == 1
        Handler.short = frozenset()
        until(lambda: states(server) == {1: "END", 2: "AVAILABLE", 3: "AVAILABLE"})
        (folder / name).unlink()
        until(lambda: "does not exist" in verbose(server))
        assert ask(server) == 3
        told = verbose(server)
    assert "secret" not in told
    assert "secret" not in server.said()
    assert not list(temporary.iterdir())


def test_an_archive_with_a_folder_around_its_versions(web: tuple[str, Path], tmp_path: Path, temporary: Path) -> None:
    """Has none; the log says where that is, and what is wrong with it, not where its copy lies."""
    url, folder = web
    models.save(models.adder(addend=1), tmp_path / "around" / "resnet" / "1")
    with zipfile.ZipFile(folder / "around.zip", "w") as packed:
        for path in (tmp_path / "around").rglob("*"):
            packed.write(path, path.relative_to(tmp_path / "around"))
    address = f"{url.replace('://', '://me:secret@')}/around.zip?token=secret"
    with Server("--model_name", "m", "--model_path", address, log=tmp_path / "server.log") as server:
        assert states(server) == {}
    shown = f"{url.replace('://', '://***@')}/around.zip?***"
    assert f"No version found for model in path: {shown}\n" in server.said()
    assert f"{shown}: the version folders (1, 2, ...) have to be at the top of the archive" in server.said()
    assert str(temporary) not in server.said()


def test_copies_of_archives(web: tuple[str, Path], tmp_path: Path, temporary: Path) -> None:
    """Are there as long as a model has their URL, and come back when somebody removes them."""
    url, folder = web
    pack(folder / "one.zip", tmp_path / "one", v1=1)
    pack(folder / "two.zip", tmp_path / "two", v2=2)
    config = tmp_path / "config.json"

    def configure(*names: str) -> None:
        entries = [{"config": {"name": "m", "base_path": f"{url}/{name}", **ALL}} for name in names]
        config.write_text(json.dumps({"model_config_list": entries}))

    def there() -> set[str]:
        return {path.parent.name for path in copies(temporary)}

    configure("one.zip")
    with Server("--config_path", str(config), *POLL, log=tmp_path / "server.log") as server:
        assert ask(server) == 1
        configure("two.zip")
        until(lambda: ask(server) == 2)
        until(lambda: there() == {"2"})
        for slot in temporary.glob("*/*"):
            shutil.rmtree(slot)
        until(lambda: there() == {"2"})
        assert ask(server) == 2
        assert "does not exist" not in verbose(server)
        configure()
        until(lambda: not list(temporary.glob("*/*")))


def test_an_archive_whose_server_is_gone(web: tuple[str, Path], tmp_path: Path, temporary: Path) -> None:
    """Is served from what a killed process has left, which tells nothing secret."""
    url, folder = web
    pack(folder / "m.zip", tmp_path / "one", v1=1)
    args = ("--model_name", "m", "--model_path", f"{url.replace('://', '://me:secret@')}/m.zip?token=secret", *POLL)
    with Server(*args, log=tmp_path / "server.log") as server:
        server.process.kill()
        server.process.wait()
    for path in temporary.rglob("*"):
        assert "secret" not in str(path)
        assert path.is_dir() or b"secret" not in path.read_bytes()
    (folder / "m.zip").unlink()
    with Server(*args, log=tmp_path / "again.log") as server:
        assert ask(server) == 1
        assert "does not exist" in verbose(server)
    assert not list(temporary.iterdir())


def test_a_signed_url(web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signature may be for ``GET`` alone: changes are seen nevertheless. No level of the log has it, nor the password."""
    url, folder = web
    monkeypatch.setattr(Handler, "signed", frozenset({"/m.zip?sig=secret"}))
    pack(folder / "m.zip", tmp_path / "one", v1=1)
    path = f"{url.replace('://', '://me:secret@')}/m.zip?sig=secret"
    args = ("--model_name", "m", "--model_path", path, *POLL, "--log_level", "DEBUG")
    with Server(*args, log=tmp_path / "server.log") as server:
        assert ask(server) == 1
        pack(folder / "m.zip", tmp_path / "two", v2=2, v3=3)
        until(lambda: ask(server) == 3)
        assert "[debug]" in server.said()
        assert "/m.zip?***" in server.said()
        assert "secret" not in server.said()


class Trickle(http.server.BaseHTTPRequestHandler):
    """Has an archive that comes in small pieces, for a long time, or until it ``is_over``."""

    asked: ClassVar[list[str]] = []
    is_over = threading.Event()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """See the base class."""
        self.asked.append(self.command)
        self.send_response(200)
        self.send_header("Content-Length", "5000000")
        self.end_headers()

    def do_GET(self) -> None:
        """See the base class."""
        self.do_HEAD()
        with contextlib.suppress(OSError):
            for _ in range(600):
                self.wfile.write(b"x" * 1000)
                if self.is_over.wait(0.05):
                    return


@pytest.fixture
def trickle() -> Iterator[str]:
    """Its address."""
    Trickle.asked.clear()
    Trickle.is_over.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as slow:
        thread = threading.Thread(target=slow.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{slow.server_address[1]}"
        finally:
            Trickle.is_over.set()
            slow.shutdown()
            thread.join()


def test_the_end_while_stores_are_slow(trickle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings of one store that hang, and a download of which a little comes, do not hold it up."""
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        contextlib.ExitStack() as closing,
    ):
        for name, value in Store(tmp_path / "none").environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("S3_ENDPOINT", f"127.0.0.1:{mute.getsockname()[1]}")
        paths = [f"{trickle}/m.tar", *(f"s3://{BUCKET}/{name}" for name in "abc")]
        entries = [{"config": {"name": f"m{place}", "base_path": path}} for place, path in enumerate(paths)]
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"model_config_list": entries}))
        with Server("--config_path", str(config), ready=False, log=tmp_path / "server.log") as server:
            mute.settimeout(START_S)
            for _ in "abc":
                closing.enter_context(mute.accept()[0])
            until(lambda: "GET" in Trickle.asked)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.process.poll() is not None, within_s=5)


def test_the_end_while_another_server_downloads(trickle: str, tmp_path: Path) -> None:
    """Its download is waited for, as it will be shared; a server that is told to end does not wait for that."""
    args = ("--model_name", "m", "--model_path", f"{trickle}/m.tar")
    with (
        Server(*args, ready=False, log=tmp_path / "first.log") as first,
        Server(*args, ready=False, log=tmp_path / "second.log") as second,
    ):
        until(lambda: sorted(Trickle.asked) == ["GET", "HEAD", "HEAD"])
        for server in (second, first):
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.process.poll() is not None, within_s=5)  # noqa: B023 - called at once


def test_archives_that_lead_out(web: tuple[str, Path], tmp_path: Path, temporary: Path) -> None:
    """Nothing of them is unpacked elsewhere; the model has its failure, others serve."""
    url, folder = web
    with tarfile.open(folder / "climbs.tar", "w") as target:
        member = tarfile.TarInfo("1/../../../escaped")
        member.size = 1
        target.addfile(member, io.BytesIO(b"x"))
    with tarfile.open(folder / "link.tar", "w") as target:
        member = tarfile.TarInfo("1")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        target.addfile(member)
    with zipfile.ZipFile(folder / "absolute.zip", "w") as packed:
        packed.writestr("/1/escaped", "x")
    (folder / "broken.zip").write_bytes(b"PK no archive")
    pack(folder / "good.zip", tmp_path / "one", v1=1)
    names = ("climbs.tar", "link.tar", "absolute.zip", "broken.zip", "good.zip")
    entries = [{"config": {"name": name.split(".")[0], "base_path": f"{url}/{name}"}} for name in names]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_config_list": entries}))
    with Server("--config_path", str(config), log=tmp_path / "server.log") as server:
        assert ask(server, name="good") == 1
        told = verbose(server)
    assert told.count("leads out of it") == 2
    assert "neither a file nor a folder" in told
    assert "cannot be read: " in told
    with contextlib.suppress(FileNotFoundError):
        assert not list(tmp_path.rglob("escaped"))
    assert not list(temporary.iterdir())
