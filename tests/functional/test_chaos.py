"""One server that is never started again, while all that it depends on is broken, one thing after the other, and mended.

Clients ask all the time, and look at the numbers of each answer. One that fails is a fault, except on a connection to a worker
that has been killed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import ssl
import sys
import time
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import models
from tests.functional.certificates import Authority
from tests.functional.clients import Client, Legal
from tests.functional.repository import ALL, Repository
from tests.functional.servers import until, workers
from tests.functional.stores import Store
from tests.functional.tls_servers import TlsServer, is_ready, request, subject
from tests.libraries import compile_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 2
CLIENTS = 2
KEPT = 20
"""Requests on one connection, then comes another: certificates and workers are met anew."""

DAY_S = 24 * 60 * 60

PAUSE_S = 0.01
"""Between two requests of a client: who breaks things needs the processor, too."""

FAULTS = Path(__file__).with_name("faults")


class Asker(Client):
    """A client that trusts certain authorities; ``may_break`` while connections may end without an answer.

    A model of both kinds, with one number that all ten values of an answer have to be.
    """

    def __init__(self, server: TlsServer, name: str, legal: Legal, trust: ssl.SSLContext) -> None:
        super().__init__(server, f"/v1/models/{name}:predict", legal)
        self._connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=trust)
        self.may_break = False
        self.broken = 0

    def ask(self) -> object:
        """See ``Client``."""
        time.sleep(PAUSE_S)
        if self.answered % KEPT == 0:
            self._connection.close()
        while True:
            try:
                answer = self.post(json.dumps({"instances": [[0.0] * 10]}))
            except (OSError, http.client.HTTPException):
                if not self.may_break:
                    raise
                self.broken += 1
                self._connection.close()
                continue
            if not isinstance(answer, dict):
                return answer
            (row,) = answer["predictions"]
            return row[0] if row == [row[0]] * 10 else row


class World:
    """The server, its clients, and all that may break.

    Args:
        folder: for everything.
        openssl: the program.
        store: a store of models.
    """

    def __init__(self, folder: Path, openssl: str, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.repository = Repository(folder)
        self.disk = folder / "disk"
        self.clock = folder / "clock"
        self.full = folder / "full"
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        self._numbers = count(1)
        self.authorities = [Authority(openssl, folder, name) for name in ("one", "other")]
        self.trust = ssl.create_default_context(cafile=str(self.authorities[0].certificate))
        self.trust.load_verify_locations(str(self.authorities[1].certificate))
        self.renew("first")
        self.disk.mkdir()
        self.set_clock(0)
        self.repository.put("here", 1, models.adder(addend=1))
        self.put_away(1, 101)
        self.repository.configure(here=ALL, away={"base_path": f"{store.url}/away", **ALL})
        self.served = {"here": 1, "away": 1}
        self.here, self.away = Legal(1.0), Legal(101.0)
        words = (
            "--config_path", str(self.repository.config), "--workers", str(WORKERS), "--file_system_poll_wait_seconds", "1",
            "--tls_certificate", str(self.certificate), "--tls_key", str(self.key),
            "--cache_dir", str(self.disk / "cache"), "--log_path", str(self.disk / "server.log"),
        )  # fmt: skip
        self.server = TlsServer(*words, log=folder / "said.log")
        self.askers: list[Asker] = []

    def start_clients(self) -> None:
        """Several of each model."""
        for _ in range(CLIENTS):
            for name, legal in (("here", self.here), ("away", self.away)):
                self.askers.append(Asker(self.server, name, legal, self.trust))
                self.askers[-1].start()

    def stop_clients(self) -> None:
        """All of them."""
        for asker in self.askers:
            asker.is_over = True
        for asker in self.askers:
            asker.join()

    def renew(self, name: str, authority: int = 0, *, only_key: bool = False) -> None:
        """Another certificate and its key in the place of those before, first one file, then the other."""
        certificate, key = self.authorities[authority].issue(name)
        if not only_key:
            shutil.copyfile(certificate, self.certificate)
        shutil.copyfile(key, self.key)

    def set_clock(self, days: int) -> None:
        """How far the server's clock is off. The file stays the same, as the server has mapped it."""
        with self.clock.open("r+b" if self.clock.exists() else "wb") as file:
            file.write((days * DAY_S).to_bytes(8, sys.byteorder, signed=True))

    def put_away(self, version: int, addend: float) -> None:
        """Upload a version."""
        self.store.put(f"away/{version}", models.adder(addend=addend), self.folder / f"upload-{next(self._numbers)}")

    def change(self, name: str, version: int) -> None:
        """A new version, here or away, is served by all workers, and none answers with the one before any more."""
        legal, addend = (self.here, 0.0) if name == "here" else (self.away, 100.0)
        legal.widen(addend + version)
        if name == "here":
            self.repository.put(name, version, models.adder(addend=addend + version))
        else:
            self.put_away(version, addend + version)
        until(lambda: {self.value(name) for _ in range(10)} == {addend + version}, 60)
        self.answers()
        legal.narrow(addend + version)
        self.served[name] = version

    def said(self, text: str) -> int:
        """How often the server has said something."""
        return self.server.said().count(text)

    def kill(self, index: int) -> None:
        """End a worker, and wait until another serves in its place."""
        victim, known = workers(self.server)[index], self.said("Started REST server at")
        for asker in self.askers:
            asker.may_break = True
        os.kill(victim, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{victim}").exists())
        self.answers()
        for asker in self.askers:
            asker.may_break = False
        until(lambda: self.said("Started REST server at") > known, 60)

    def value(self, name: str) -> object:
        """What a model adds, on a connection of its own."""
        body = json.dumps({"instances": [[0.0] * 10]}).encode()
        status, answer = request(self.server, self.trust, "POST", f"/v1/models/{name}:predict", body)
        return answer["predictions"][0][0] if status == 200 else (status, answer)  # type: ignore[call-overload, index]

    def reload(self) -> int:
        """The status of a reload."""
        return request(self.server, self.trust, "POST", "/v1/config/reload", b"")[0]

    def verbose(self) -> str:
        """All that the server tells an operator."""
        return json.dumps(request(self.server, self.trust, "GET", "/v1/config?verbose=1")[1])

    def answers(self) -> None:
        """Each client gets some more good answers, and none has ever got another one."""
        before = [asker.answered for asker in self.askers]
        until(
            lambda: (
                any(asker.faults for asker in self.askers)
                or all(asker.answered > known + KEPT for asker, known in zip(self.askers, before, strict=True))
            ),
            60,
        )
        assert [fault for asker in self.askers for fault in asker.faults] == [], self.server.said()[-3000:]

    def is_well(self) -> None:
        """The same process serves, by all of its workers, and says that it is ready."""
        assert self.server.process.poll() is None
        until(lambda: all(is_ready(self.server, self.trust) for _ in range(10)))
        self.answers()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, needs_program: Callable[[str], str]) -> Iterator[World]:
    """A server in full swing."""
    folder = tmp_path_factory.mktemp("chaos")
    faults = [compile_library(needs_program("gcc"), FAULTS / name, folder) for name in ("full_disk.c", "clock.c")]
    with Store(folder / "store.log") as store, pytest.MonkeyPatch.context() as patch:
        made = World(folder, needs_program("openssl"), store)
        for name, value in {
            **store.environment,
            "AWS_EC2_METADATA_DISABLED": "true",
            "TMPDIR": str(made.disk),
            "LD_PRELOAD": ":".join(map(str, faults)),
            "CLOCK_OFFSET": str(made.clock),
            "FULL_DISK": str(made.disk),
            "FULL_DISK_FLAG": str(made.full),
        }.items():
            patch.setenv(name, value)
        with made.server as server:
            patch.undo()
            until(lambda: is_ready(server, made.trust), 60)
            made.start_clients()
            try:
                yield made
            finally:
                made.stop_clients()
        assert server.process.returncode == 0
        assert re.findall("Unforeseen|Traceback|Logging error", server.said()) == []


def test_workers_are_killed(world: World) -> None:
    """Only what they were answering is lost; those that take their place serve the same."""
    for index in range(WORKERS):
        world.kill(index)
        world.is_well()
    assert sum(asker.broken for asker in world.askers) <= WORKERS * len(world.askers)


@pytest.mark.parametrize("kind", ["empty", "half", "binary", "schema", "missing"])
def test_the_configuration_is_corrupted(world: World, kind: str) -> None:
    """It is refused, what serves goes on, and the next good one is taken up."""
    config = world.repository.config
    good = config.read_bytes()
    if kind == "missing":
        config.unlink()
    else:
        bad = {
            "empty": b"",
            "half": good[: len(good) // 2],
            "binary": b"\xff\x00",
            "schema": b'{"model_config_list": 1}',
        }
        config.write_bytes(bad[kind])
    try:
        assert world.reload() >= 400
        world.is_well()
    finally:  # the tests that follow want it
        config.write_bytes(good)
    until(lambda: world.reload() in (200, 201))
    world.is_well()


def test_certificates_are_swapped(world: World) -> None:
    """For one of another authority; by way of garbage, and of a key that belongs to another one."""
    breaks: list[Callable[[], object]] = [
        lambda: world.renew("mismatch", authority=1, only_key=True),
        lambda: world.certificate.write_text("garbage", "utf-8"),
    ]
    for number, do in enumerate(breaks, 1):
        do()
        until(lambda: world.said("the certificate cannot be used") == WORKERS * number)  # noqa: B023 - called at once
        assert {subject(world.server, world.trust) for _ in range(10)} == {"first"}
        world.is_well()
    world.renew("second", authority=1)
    until(lambda: {subject(world.server, world.trust) for _ in range(10)} == {"second"})
    world.is_well()


def test_the_store_is_stopped_and_started(world: World) -> None:
    """What was copied goes on serving, and what is new there is taken up."""
    world.store.stop()
    until(lambda: "cannot be read" in world.verbose())
    world.is_well()
    world.store.start()
    world.put_away(1, 101)
    world.change("away", 2)
    until(lambda: "cannot be read" not in world.verbose())
    world.is_well()


def test_the_disk_is_full(world: World) -> None:
    """Where models are copied to, where compiled ones are kept, and where the log is."""
    world.full.touch()
    world.put_away(3, 103)
    until(lambda: "No space left" in world.verbose())
    world.change("here", 3)
    world.is_well()
    world.away.widen(103)
    world.full.unlink()
    world.change("away", 3)
    world.kill(0)  # the next one reads the compiled models, as far as they could be written
    world.change("here", 4)
    until(lambda: "Version 4 of model here" in (world.disk / "server.log").read_text("utf-8"))
    assert 0 < world.said("the log file cannot be written") <= WORKERS
    world.is_well()


@pytest.mark.parametrize("days", [1, 3650, -1])
def test_the_clock_jumps(world: World, days: int) -> None:
    """Nothing is hurried, nothing stands still: changes of models and of the certificate are taken up."""
    world.set_clock(days)
    for name in ("here", "away"):
        world.change(name, world.served[name] + 1)
    world.renew(f"{days} days")
    until(lambda: subject(world.server, world.trust) == f"{days} days")
    assert world.reload() in (200, 201)
    world.is_well()
    today = datetime.now(tz=timezone.utc).astimezone() + timedelta(days=days)
    assert world.said(f"[{today:%Y-%m-%d} ") > 0
