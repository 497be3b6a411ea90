"""Models and configuration change on disk while a server runs: what is served follows, and no request is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from tests import models
from tests.functional.repository import ALL, Repository
from tests.functional.servers import BLIND, Server, until, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

AT_ONCE_S = 1.0
"""A change that inotify tells of is served after so long at most (issue 3)."""

POLL_S = 1
MARGIN_S = 1.0
"""Settling and loading after a poll, on a machine that does something else, too."""

NEVER = ("--file_system_poll_wait_seconds", "0")
TOLD = ("--file_system_poll_wait_seconds", "3600")
MISSING = "Model with requested version is not found"
UNKNOWN = "Model with requested name is not found"
RETIRED = "Model with requested version is retired"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Model m with version 1, which adds 1; the configuration lists it and nothing else."""
    made = Repository(tmp_path)
    made.put("m", 1, models.adder(addend=1))
    made.configure(m=ALL)
    return made


@contextlib.contextmanager
def serve(repository: Repository, *args: str) -> Iterator[Server]:
    """A server of this repository."""
    log = repository.aside()
    with Server("--config_path", str(repository.config), *args, log=log) as server:
        yield server


def ask(server: Server, name: str = "m", version: int | None = None) -> Any:
    """What a model adds, or the sentence with which it is refused."""
    place = f"/v1/models/{name}" if version is None else f"/v1/models/{name}/versions/{version}"
    answer = server.post(f"{place}:predict", {"instances": [[0.0] * 10]}).json
    return answer["predictions"][0][0] if "predictions" in answer else answer["error"].partition(" - ")[0]


def states(server: Server, name: str = "m") -> dict[int, str]:
    """The states of a model's versions."""
    found = server.get(f"/v1/models/{name}").json["model_version_status"]
    return {int(each["version"]): each["state"] for each in found}


def verbose(server: Server) -> str:
    """All that the server tells an operator."""
    return server.get("/v1/config?verbose=1").body.decode()


class Change(NamedTuple):
    """Something on disk before the server starts, what happens then, and what ``ask`` gives after it."""

    prepare: Callable[[Repository], None]
    happen: Callable[[Repository], None]
    name: str
    version: int | None
    after: Any


def nothing(_: Repository) -> None:
    """Do nothing."""


def two_versions(repository: Repository) -> None:
    """Version 2 is there, too."""
    repository.put("m", 2, models.adder(addend=2))


def more_models(repository: Repository) -> None:
    """Models that are not in the configuration."""
    repository.put("other", 1, models.adder(addend=5))


def write_in_place(repository: Repository) -> None:
    """Write into the configuration file like ``>`` does."""
    repository.config.write_bytes(repository.write("other", m=ALL))


def mount(repository: Repository) -> None:
    """Lay the configuration out like Kubernetes mounts a ConfigMap."""
    more_models(repository)
    folder = repository.folder
    old, new = folder / "..2026_1", folder / "..2026_2"
    for version, text in ((old, repository.write("m")), (new, repository.write("m", "other"))):
        version.mkdir()
        (version / "config.json").write_bytes(text.replace(b'"base_path": "', f'"base_path": "{folder}/'.encode()))
    repository.config.unlink()
    (folder / "..data").symlink_to(old.name)
    repository.config.symlink_to("..data/config.json")


def swap(repository: Repository) -> None:
    """Change a mounted ConfigMap like Kubernetes does: with one rename of a link."""
    folder = repository.folder
    (folder / "..data_tmp").symlink_to("..2026_2")
    (folder / "..data_tmp").rename(folder / "..data")
    shutil.rmtree(folder / "..2026_1")


def no_folder(repository: Repository) -> None:
    """The configuration names a folder that is not there, nor that above it."""
    repository.configure(m=ALL, late={"base_path": str(repository.folder / "not" / "yet")})


def folder_appears(repository: Repository) -> None:
    """Make it, then rename a version into it."""
    (repository.folder / "not" / "yet").mkdir(parents=True)
    repository.put("not/yet", 1, models.adder(addend=6))


def release(repository: Repository) -> None:
    """Two releases of a repository somewhere else, and a link to the first one above the model's folder."""
    releases = repository.releases
    for number in (1, 2):
        models.save(models.adder(addend=10 * number), releases / f"release{number}" / "linked" / "1")
    (releases / "current").symlink_to("release1")
    repository.configure(m=ALL, linked={"base_path": str(releases / "current" / "linked")})


def next_release(repository: Repository) -> None:
    """Let the link show the second release."""
    (repository.releases / "next").symlink_to("release2")
    (repository.releases / "next").rename(repository.releases / "current")


def replace_version(repository: Repository) -> None:
    """Replace version 1 by another of the same number, the same size and, as in archives, the same time."""
    made = repository.make(models.adder(addend=3))
    for file in repository.place("m", 1).iterdir():
        shutil.copystat(file, made / file.name)
    repository.move_in(made, "m", 1)


CHANGES = {
    "a version renamed in": Change(nothing, two_versions, "m", None, 2.0),
    "a version replaced": Change(nothing, replace_version, "m", 1, 3.0),
    "a version removed": Change(
        two_versions, lambda repository: shutil.rmtree(repository.place("m", 2)), "m", None, 1.0
    ),
    "the last version removed": Change(
        nothing, lambda repository: shutil.rmtree(repository.place("m", 1)), "m", None, MISSING
    ),
    "the configuration replaced": Change(more_models, lambda each: each.configure("m", "other"), "other", None, 5.0),
    "an entry removed": Change(nothing, lambda repository: repository.configure(), "m", 1, RETIRED),
    "the configuration written in place": Change(more_models, write_in_place, "other", None, 5.0),
    "a ConfigMap swapped": Change(mount, swap, "other", None, 5.0),
    "a folder that appears": Change(no_folder, folder_appears, "late", None, 6.0),
    "a link above the folder swapped": Change(release, next_release, "linked", None, 20.0),
}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest, repository: Repository) -> Change:
    """Each of the changes, before it happens."""
    found: Change = CHANGES[request.param]
    found.prepare(repository)
    return found


def test_a_change_is_served_at_once(repository: Repository, change: Change) -> None:
    """Within a second, by inotify alone: the next poll would be an hour later."""
    with serve(repository, *TOLD) as server:
        assert ask(server, change.name, change.version) != change.after
        change.happen(repository)
        until(lambda: ask(server, change.name, change.version) == change.after, AT_ONCE_S)
        assert "polling only" not in server.said()


def test_a_change_is_found_by_polling(repository: Repository, change: Change) -> None:
    """Without inotify within one interval, and the log says so."""
    log = repository.aside()
    args = ("--config_path", str(repository.config), "--file_system_poll_wait_seconds", str(POLL_S))
    with Server(*args, log=log, command=wrapped(BLIND, log.parent)) as server:
        assert "changes are found by polling only" in server.said()
        change.happen(repository)
        until(lambda: ask(server, change.name, change.version) == change.after, POLL_S + MARGIN_S)


def test_nothing_by_itself(repository: Repository) -> None:
    """With 0 nobody looks, until somebody asks for it."""
    with serve(repository, *NEVER) as server:
        assert server.watches() == 0
        two_versions(repository)
        repository.put("other", 1, models.adder(addend=5))
        repository.configure("other", m=ALL)
        time.sleep(1.5)
        assert (ask(server), ask(server, "other")) == (1.0, UNKNOWN)
        answer = server.post("/v1/config/reload", {})
        assert (answer.status, sorted(answer.json)) == (201, ["m", "other"])
        assert (ask(server), ask(server, "other")) == (2.0, 5.0)
        assert server.post("/v1/config/reload", {}).status == 200


def test_sighup_reloads(repository: Repository) -> None:
    """Like POST /v1/config/reload: it looks, tries again what has failed, and the log tells what came of it."""
    with serve(repository, *NEVER) as server:
        two_versions(repository)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "Reloaded: something has changed" in server.said())
        assert ask(server) == 2.0
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "Reloaded: nothing has changed" in server.said())
        repository.config.write_text("{")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "Reload failed: " in server.said())
        assert (ask(server), ask(server, version=1)) == (2.0, 1.0)


def test_sighup_while_the_first_models_are_loaded(repository: Repository) -> None:
    """It does not end the process, as it would by default, and what has changed meanwhile is taken up."""
    repository.put("big", 1, models.heavy(2048, 20))
    repository.configure("big", m=ALL)
    log = repository.aside()
    with Server("--config_path", str(repository.config), *NEVER, log=log, ready=False) as server:
        two_versions(repository)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "Reloaded: " in server.said())
        assert ask(server) == 2.0


def test_many_reloads_at_once(repository: Repository) -> None:
    """Twenty callers, again and again, while versions come and go: each gets an answer that fits."""
    with serve(repository, *NEVER) as server, ThreadPoolExecutor(20) as callers:
        for number in range(2, 7):
            repository.put("m", number, models.adder(addend=number))
            if number > 2:
                shutil.rmtree(repository.place("m", number - 1))
            answers = list(callers.map(lambda _: server.post("/v1/config/reload", {}), range(20)))
            assert {answer.status for answer in answers} <= {200, 201}
            assert any(answer.status == 201 for answer in answers)
            for answer in answers:  # each has begun after the change, so each has seen it
                found = {each["version"]: each["state"] for each in answer.json["m"]["model_version_status"]}
                assert found[str(number)] == "AVAILABLE"
            assert ask(server) == number
        assert "Unforeseen" not in server.said()


class Client(threading.Thread):
    """Asks without pause, and keeps what it has got."""

    def __init__(self, server: Server, ask: Callable[[Server], Any]) -> None:
        super().__init__()
        self._server = server
        self._ask = ask
        self._over = threading.Event()
        self.answers: list[Any] = []

    def __enter__(self) -> Self:
        self.start()
        until(lambda: bool(self.answers))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """See ``Thread``."""
        while not self._over.is_set():
            try:
                self.answers.append(self._ask(self._server))
            except Exception as error:  # noqa: BLE001 - the test compares it with what it expects
                self.answers.append(error)


def ask_table(server: Server) -> Any:
    """The one number that model t adds to all of 1000, or whatever else it answers."""
    answer = server.post("/v1/models/t:predict", {"inputs": [[0.0] * 1000]})
    return set(np.array(answer.json["outputs"]).ravel().tolist()) if answer.status == 200 else answer


def copy_slowly(made: Path, place: Path, pieces: int = 8, pause_s: float = 0.2) -> None:
    """Copy a version like a thin line does: first the description, then the weights in pieces."""
    place.mkdir(parents=True)
    shutil.copy(made / "model.xml", place / "model.xml")
    weights = (made / "model.bin").read_bytes()
    with (place / "model.bin").open("wb") as file:
        for index in range(pieces):
            time.sleep(pause_s)
            file.write(weights[len(weights) * index // pieces : len(weights) * (index + 1) // pieces])
            file.flush()


@pytest.mark.parametrize("args", [TOLD, ("--file_system_poll_wait_seconds", "1")])
def test_a_version_that_is_copied_slowly(repository: Repository, args: tuple[str, str]) -> None:
    """It is served when it is complete, and never before; until then the old one serves, without one lost request."""
    repository.put("t", 1, models.table(1))
    repository.configure("t")
    made = repository.make(models.table(2))
    with serve(repository, *args) as server, Client(server, ask_table) as client:
        copy_slowly(made, repository.place("t", 2))
        until(lambda: client.answers[-1] == {2.0}, AT_ONCE_S)
        until(lambda: states(server, "t") == {1: "END", 2: "AVAILABLE"})
    first = client.answers.index({2.0})
    assert set(map(repr, client.answers[:first])) == {"{1.0}"}
    assert set(map(repr, client.answers[first:])) == {"{2.0}"}


def test_a_version_that_is_overwritten_in_place(repository: Repository) -> None:
    """By ``cp`` over the files that serve, of which the weights may be mapped: the old ones serve until the new ones do."""
    repository.put("t", 1, models.table(1, 1_000_000))
    repository.configure("t")
    made = repository.make(models.table(2, 1_000_000))
    path, body = "/v1/models/t:predict", json.dumps({"inputs": [[0.0] * 1_000_000]}).encode()

    def ask_all(server: Server) -> Any:
        answer = server.request("POST", path, body)
        return set(np.array(answer.json["outputs"]).ravel().tolist()) if answer.status == 200 else answer

    with serve(repository, *TOLD) as server, Client(server, ask_all) as client:
        weights = repository.place("t", 1) / "model.bin"
        weights.write_bytes(b"")
        time.sleep(1)
        assert client.answers[-1] == {1.0}
        weights.write_bytes((made / "model.bin").read_bytes())
        until(lambda: client.answers[-1] == {2.0})
    first = client.answers.index({2.0})
    assert set(map(repr, client.answers[:first])) == {"{1.0}"}
    assert set(map(repr, client.answers[first:])) == {"{2.0}"}


def broken_xml(folder: Path) -> None:
    """No model at all."""
    (folder / "model.xml").write_text("<net")


def cut_weights(folder: Path) -> None:
    """Weights of which half is missing."""
    weights = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(weights[: len(weights) // 2])


def no_files(folder: Path) -> None:
    """An empty folder."""
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("damage", [broken_xml, cut_weights, no_files])
def test_a_broken_version_takes_nothing_down(repository: Repository, damage: Callable[[Path], None]) -> None:
    """Neither one with a number of its own nor one in the place of the version that serves; put right, it is served."""
    with serve(repository, *TOLD) as server, Client(server, ask) as client:
        for number in (1, 2):
            made = repository.make(models.adder(addend=5))
            damage(made)
            repository.move_in(made, "m", number)
        until(lambda: states(server).get(2) == "LOADING")
        assert states(server)[1] == "AVAILABLE"
        answer = server.post("/v1/config/reload", {})
        assert answer.status == 500
        assert answer.json["error"].startswith("Reloading models versions failed. Check server logs for more info.")
        assert set(client.answers) == {1.0}
        repository.put("m", 2, models.adder(addend=2))
        until(lambda: client.answers[-1] == 2.0, AT_ONCE_S)
        assert ask(server, version=1) == 1.0
        repository.put("m", 1, models.adder(addend=4))
        until(lambda: ask(server, version=1) == 4.0, AT_ONCE_S)
        assert server.post("/v1/config/reload", {}).status == 200
    assert set(client.answers) <= {1.0, 2.0}


def test_a_broken_configuration_changes_nothing(repository: Repository) -> None:
    """Every way to break it; the reason is shown, and a good one is taken up."""
    with serve(repository, *TOLD) as server, Client(server, ask) as client:
        for text in (b"", b"{", b"[]", b'{"model_config_list": 5}', b"\xff\xfe", b'{"model_config_list": [{}]}'):
            repository.replace_config(text)
            assert server.post("/v1/config/reload", {}).status == 412
            assert "error" in verbose(server)
            assert states(server) == {1: "AVAILABLE"}
        repository.config.unlink()
        answer = server.post("/v1/config/reload", {})
        assert (answer.status, answer.json["error"]) == (500, "Config file not found or cannot open.")
        assert "No such file" in verbose(server)
        repository.put("other", 1, models.adder(addend=5))
        repository.configure("other", m=ALL)
        until(lambda: ask(server, "other") == 5.0, AT_ONCE_S)
    assert set(client.answers) == {1.0}


def test_a_long_request_outlives_its_version(repository: Repository) -> None:
    """It is answered; whoever comes later is told that the version is retired."""
    repository.put("slow", 1, models.slow())
    repository.configure("slow", m=ALL)

    def ask_slow(server: Server) -> tuple[int, str]:
        answer = server.post("/v1/models/slow/versions/1:predict", {"inputs": [[1.0]]})
        return answer.status, answer.json.get("error", "")

    with serve(repository, *TOLD) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server, ask_slow)) for _ in range(6)]
        shutil.rmtree(repository.place("slow", 1))
        until(lambda: states(server, "slow")[1] == "END")
        assert server.post("/v1/models/slow:predict", {"inputs": [[1.0]]}).json["error"] == MISSING
        for client in clients:
            until(lambda client=client: client.answers[-1] == (404, RETIRED))  # type: ignore[misc]
    assert "Waiting to unload model: slow version: 1. Blocked by: " in server.said()
    for client in clients:
        served = client.answers.index((404, RETIRED))
        assert set(client.answers[:served]) == {(200, "")}
        assert set(client.answers[served:]) == {(404, RETIRED)}


def test_memory_of_a_retired_model_is_given_back(repository: Repository) -> None:
    """200 MB of weights, added and removed three times."""
    made = repository.make(models.dense(7200))
    assert (made / "model.bin").stat().st_size > 200e6
    repository.configure("big", m=ALL)
    (repository.folder / "big").mkdir()
    with serve(repository, *TOLD) as server:
        before = server.resident_bytes()
        for number in (1, 2, 3):
            made.rename(repository.place("big", number))
            until(lambda number=number: states(server, "big").get(number) == "AVAILABLE")  # type: ignore[misc]
            assert server.resident_bytes() > before + 200e6
            repository.place("big", number).rename(made)
            until(lambda number=number: states(server, "big")[number] == "END")  # type: ignore[misc]
            until(lambda: server.resident_bytes() < before + 100e6, 5)


def test_warm_up_with_zeros(repository: Repository) -> None:
    """All versions that come and can take zeros."""
    with serve(repository, *TOLD, "--warmup", "zeros") as server:
        assert "Warmed up model: m; version: 1" in server.said()
        two_versions(repository)
        until(lambda: ask(server) == 2.0, AT_ONCE_S)
        assert "Warmed up model: m; version: 2" in server.said()


def test_warm_up_with_a_file(repository: Repository) -> None:
    """A request beside the model; a version whose request is missing or fails is not served, and the reason is shown."""
    good, bad = {"instances": [[1.0] * 10]}, {"instances": [[1.0] * 7]}

    def make(addend: float, body: object) -> Path:
        made = repository.make(models.adder(addend=addend))
        if body is not None:
            (made / "warm.json").write_text(json.dumps(body))
        return made

    repository.move_in(make(1, good), "warm", 1)
    repository.configure("m", warm={**ALL, "warmup": "warm.json"})
    with serve(repository, *TOLD) as server:
        assert ask(server, "warm") == 1.0
        assert "Warmed up model: warm; version: 1" in server.said()
        assert "Warmed up model: m" not in server.said()
        for number, body in ((2, bad), (3, None), (4, "no request")):
            repository.move_in(make(number, body), "warm", number)
            until(lambda: f"warm/{number}/warm.json" in verbose(server), AT_ONCE_S)  # noqa: B023
            assert states(server, "warm") == {1: "AVAILABLE", **dict.fromkeys(range(2, number + 1), "LOADING")}
            assert ask(server, "warm") == 1.0
        assert "Warm-up failed" in verbose(server)
        assert "Invalid input shape" in verbose(server)
        assert os.strerror(errno.ENOENT) in verbose(server)
        repository.move_in(make(4, good), "warm", 4)
        until(lambda: ask(server, "warm") == 4.0, AT_ONCE_S)


def test_killed_while_loading(repository: Repository) -> None:
    """What is on disk counts: after kill -9 in a reload a new server serves it."""
    repository.configure("big", m=ALL)
    with serve(repository, *NEVER) as server, ThreadPoolExecutor(1) as caller:
        repository.put("big", 1, models.heavy(2048, 20))
        two_versions(repository)
        reload = caller.submit(server.post, "/v1/config/reload", {})
        until(lambda: "Loading model: big" in server.said())
        server.process.kill()
        assert isinstance(reload.exception(), OSError)
    with serve(repository, *NEVER) as server:
        assert (ask(server), ask(server, version=1), states(server, "big")) == (2.0, 1.0, {1: "AVAILABLE"})
