"""What is copied from a store is complete and as it was listed, or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.repositories import Item
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.storage.copies import Copies
from tornado_ovms.storage.listings import NAME
from tornado_ovms.storage.local import LocalStorage
from tornado_ovms.storage.remote import YOUNG_S, RemoteStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado_ovms.core.repositories import Address

URL = "s3://bucket/m"


class FakeStore:
    """Files by name; ``on_copy`` is called before each is copied, and ``cut`` is what is lost of it."""

    def __init__(self) -> None:
        self.files = {"1/model.xml": b"xml", "1/sub/data": b"data", "2/model.xml": b"two"}
        self.on_copy: Callable[[str], None] = lambda _: None
        self.cut = 0
        self.md5 = True
        self.changed_s = 0.0
        self.failure: Exception | None = None
        self.copied: list[str] = []

    def list(self, path: str) -> list[Item]:
        """See ``ObjectStore``."""
        if self.failure is not None:
            raise self.failure
        below = path.removeprefix("bucket/m").removeprefix("/")
        prefix = f"{below}/" if below else ""
        return [
            Item(
                name.removeprefix(prefix), len(content), hash(content),
                hashlib.md5(content if self.md5 else b"other", usedforsecurity=False).hexdigest(), self.changed_s,
            )
            for name, content in self.files.items() if name.startswith(prefix)
        ]  # fmt: skip

    def copy(self, path: str, target: Path) -> None:
        """See ``ObjectStore``."""
        name = path.removeprefix("bucket/m/")
        self.on_copy(name)
        self.copied.append(name)
        content = self.files[name]
        target.write_bytes(content[: len(content) - self.cut])

    def close(self) -> None:
        """See ``ObjectStore``."""


class Stage:
    """A storage with a fake store, and a folder for copies; ``on_wait`` is called while it waits for another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FakeStore()
        self.paused: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None
        self.storage = self.make()

    def make(self, open_store: Callable[[Address], FakeStore] | None = None) -> RemoteStorage:
        """Another storage, as another process has one."""
        return RemoteStorage(
            LocalStorage(), Copies(str(self.folder), lambda _: self.on_wait()), open_store or (lambda _: self.store),  # type: ignore[arg-type]
            lambda: 1000.0, self.paused.append,
        )  # fmt: skip

    def die(self) -> None:
        """Another process goes on; this one was killed, and the system has given back its locks."""
        for descriptor in self.storage._copies._held.values():
            os.close(descriptor)
        self.storage = self.make()

    def blueprint(self, version: int = 1) -> Blueprint:
        """What is to be loaded of a version, as it is listed now."""
        found = self.storage.versions(URL).versions[version]
        return Blueprint(Key("m", version), ModelSettings("m", URL), found.path, found.fingerprint)

    def files(self) -> list[str]:
        """All that lies in the folder for copies, but for what was listed."""
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file() and path.name != NAME)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """One of its own."""
    return Stage(tmp_path)


def test_a_version_is_copied_once(stage: Stage) -> None:
    """Another process finds it there; it goes when nobody needs it."""
    blueprint, other = stage.blueprint(), stage.make()
    stage.storage.fetch(blueprint)
    stage.storage.fetch(blueprint)
    other.versions(URL)
    other.fetch(blueprint)
    assert stage.store.copied == ["1/model.xml", "1/sub/data"]
    assert Path(blueprint.path, "sub/data").read_bytes() == b"data"
    assert Path(blueprint.path).name == "1"
    stage.storage.release(blueprint.path)
    assert stage.files() == ["data", "model.xml"]
    for storage in (stage.storage, other):
        storage.remove()
    assert not list(stage.folder.iterdir())


def test_only_the_user_may_look(stage: Stage) -> None:
    """A folder that is open to others, or a link, is not used."""
    stage.storage.fetch(stage.blueprint())
    (root,) = stage.folder.iterdir()
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o777)
    other = stage.make().versions(URL).versions[1]
    assert Path(other.path).parents[1] != root


def test_what_a_killed_process_left_goes(stage: Stage) -> None:
    """Its locks are gone with it."""
    slot = Path(stage.blueprint().path).parent
    (slot / "partial").mkdir(parents=True)
    (slot / "partial" / "half").write_bytes(b"x")
    other = stage.make()
    other.versions(URL)
    other.sweep()
    assert not slot.exists()


def test_what_was_listed_last(stage: Stage) -> None:
    """Counts for another process while the store does not answer, as far as it is here; also if those that copied it are dead."""
    stage.storage.fetch(stage.blueprint(1))
    stage.die()
    other, listed = stage.make(), stage.storage.versions(URL).versions[1]
    stage.die()
    stage.store.failure = ConnectionError("refused")
    found = other.versions(URL)
    assert found.versions == {1: listed}
    assert found.failure is not None
    assert found.failure.code is Code.REPOSITORY
    other.fetch(Blueprint(Key("m", 1), ModelSettings("m", URL), listed.path, listed.fingerprint))
    other.sweep()
    assert other.versions(URL).versions == found.versions
    assert stage.store.copied == ["1/model.xml", "1/sub/data"]
    stage.store.failure = None
    del stage.store.files["1/model.xml"]
    assert set(stage.storage.versions(URL).versions) == {1, 2}
    stage.store.failure = ConnectionError("refused")
    with pytest.raises(Failure):  # the version with these files was never copied
        other.versions(URL)
    other.forget(URL)
    for storage in (stage.storage, other):
        storage.remove()
    assert not list(stage.folder.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"1": 1}', '{"x": []}', '{"1": [[1, 2, 3]]}'])
def test_a_listing_of_another_release(stage: Stage, text: str) -> None:
    """Is as none."""
    stage.storage.fetch(stage.blueprint())
    (path,) = stage.folder.rglob(NAME)
    path.write_text(text)
    stage.store.failure = ConnectionError("refused")
    with pytest.raises(Failure, match="refused"):
        stage.make().versions(URL)
    stage.store.failure = None
    stage.storage.versions(URL)
    assert len(path.read_text()) > len(text)


def test_the_end_while_a_listing_is_removed(stage: Stage) -> None:
    """Is what it is: a failure of the store."""
    stage.storage.fetch(stage.blueprint())
    (path,) = stage.folder.rglob(NAME)
    other, stage.store.failure = stage.make(), ConnectionError("refused")
    stage.die()
    stage.on_wait = other.close
    theirs = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(Failure, match="refused"):
            other.versions(URL)
    finally:
        os.close(theirs)


def test_a_listing_that_cannot_be_written(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: models are listed nevertheless, and what was written before stays."""
    stage.storage.fetch(stage.blueprint())
    (path,) = stage.folder.rglob(NAME)
    before = path.read_text()
    stage.store.files["3/model.xml"] = b"three"

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert set(stage.storage.versions(URL).versions) == {1, 2, 3}
    assert path.read_text() == before


def test_what_a_killed_process_left_is_in_the_way(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes when there is no room."""
    stage.storage.fetch(stage.blueprint(1))
    stage.die()
    left = stage.files()
    monkeypatch.setattr(Copies, "free_bytes", lambda _: 0 if "sub" in str(list(stage.folder.rglob("*"))) else 100)
    stage.storage.fetch(stage.blueprint(2))
    assert left == ["data", "model.xml"]
    assert stage.files() == ["model.xml"]


@pytest.mark.parametrize("is_over", [False, True])
def test_another_process_copies_it(stage: Stage, is_over: bool) -> None:  # noqa: FBT001
    """That is waited for, and no longer than until the end."""
    blueprint, other = stage.blueprint(), stage.make()
    waits: list[None] = []

    def wait() -> None:
        waits.append(None)
        if is_over:
            other.close()
        else:
            fcntl.flock(theirs, fcntl.LOCK_UN)

    slot = Path(blueprint.path).parent
    slot.mkdir()
    theirs = os.open(slot, os.O_RDONLY)
    stage.on_wait = wait
    try:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        if is_over:
            with pytest.raises(Failure, match="about to end"):
                other.fetch(blueprint)
        else:
            other.fetch(blueprint)
    finally:
        os.close(theirs)
    assert waits == [None]
    assert stage.files() == ([] if is_over else ["data", "model.xml"])


@pytest.mark.parametrize("fault", ["changes", "grows", "vanishes", "short", "garbled", "full", "gone"])
def test_what_does_not_come_whole(stage: Stage, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Is not there afterwards, and comes when it is tried again."""
    blueprint, store = stage.blueprint(), stage.store
    before = dict(store.files)

    def change(_name: str) -> None:
        if fault == "changes":
            store.files["1/model.xml"] = b"new"
        elif fault == "grows":
            store.files["1/more"] = b"more"
        elif fault == "vanishes":
            store.files.pop("1/sub/data", None)
        elif fault == "gone":
            store.failure = ConnectionError("refused")

    store.on_copy = change
    store.cut = fault == "short"
    store.md5 = fault != "garbled"
    with monkeypatch.context() as patch:
        if fault == "full":
            patch.setattr(Copies, "free_bytes", lambda _: 5)
        with pytest.raises((Failure, KeyError)) as caught:
            stage.storage.fetch(blueprint)
    assert isinstance(caught.value, Failure)
    assert caught.value.code is Code.REPOSITORY
    assert stage.files() == []
    store.files, store.on_copy, store.cut, store.md5, store.failure = before, lambda _: None, 0, True, None
    stage.storage.fetch(stage.blueprint())
    assert stage.files() == ["data", "model.xml"]


def test_a_young_version_is_looked_at_again(stage: Stage) -> None:
    """Its upload may go on; of an old one nothing is waited for."""
    stage.storage.fetch(stage.blueprint(1))
    assert stage.paused == []
    stage.store.changed_s = 999.5
    stage.storage.fetch(stage.blueprint(2))
    assert stage.paused == [YOUNG_S]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (FileNotFoundError(), Code.PATH_INVALID, "Directory does not exist"),
        (PermissionError(13, "Forbidden"), Code.REPOSITORY, "Forbidden"),
        (ConnectionError("http://a:b@h is down"), Code.REPOSITORY, "ConnectionError: http://***@h is down"),
    ],
)
def test_why_it_cannot_be_seen(stage: Stage, error: Exception, code: Code, text: str) -> None:
    """What is not there is told apart from what cannot be reached."""
    stage.store.failure = error
    with pytest.raises(Failure, match=text.replace("*", ".")) as caught:
        stage.storage.versions(URL)
    assert caught.value.code is code


def test_a_client_that_is_not_installed(stage: Stage) -> None:
    """The failure says what to install."""

    def refuse(_address: Address) -> FakeStore:
        raise ModuleNotFoundError("No module named 's3fs'")

    with pytest.raises(Failure, match=r"pip install 'tornado-ovms\[s3\]'"):
        stage.make(refuse).versions(URL)


def test_one_client_for_each_store(stage: Stage) -> None:
    """However many threads come first: ``close`` has to reach all that are at work."""
    made: list[Used] = []
    is_second, has_listed = threading.Event(), threading.Event()

    class Used(FakeStore):
        uses = 0
        is_closed = False

        def list(self, path: str) -> list[Item]:
            self.uses += 1
            return super().list(path)

        def close(self) -> None:
            self.is_closed = True

    def make(_address: Address) -> FakeStore:
        made.append(Used())
        if len(made) == 1:
            is_second.wait()
            return made[0]
        is_second.set()
        has_listed.wait()
        return made[1]

    storage = stage.make(make)
    with ThreadPoolExecutor(2) as threads:
        looks = [threads.submit(storage.versions, URL) for _ in range(2)]
        next(as_completed(looks)).result()
        has_listed.set()
        for look in looks:
            look.result()
    storage.close()
    assert [(store.uses, store.is_closed) for store in made] == [(2, True), (0, False)]


def test_the_end(stage: Stage) -> None:
    """Nothing begins any more."""
    blueprint = stage.blueprint()
    stage.storage.close()
    with pytest.raises(Failure, match="about to end"):
        stage.storage.fetch(blueprint)
    with pytest.raises(Failure, match="about to end"):
        stage.storage.versions("http://127.0.0.1:1/m.zip")
