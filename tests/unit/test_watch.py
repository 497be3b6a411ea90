"""The watcher, on a real inotify and real files; the event loop is played by the test."""

from __future__ import annotations

import errno
import logging
import select
from typing import TYPE_CHECKING, Any

import pytest

from tornado_ovms import watch
from tornado_ovms.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class FakeLoop:
    """Calls the reader when a test asks for it, if there is anything to read."""

    def __init__(self) -> None:
        self.readers: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def add_reader(self, fd: int, function: Callable[..., None], *args: Any) -> None:
        """See asyncio."""
        self.readers[fd] = function, args

    def remove_reader(self, fd: int) -> None:
        """See asyncio."""
        del self.readers[fd]

    def turn(self) -> None:
        """One turn of the loop. The kernel queues events before the call that caused them returns, so nothing is waited for."""
        for fd in select.select(list(self.readers), [], [], 0)[0]:
            function, args = self.readers[fd]
            function(*args)


class Stage:
    """A watcher, and how often it has called back."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.watcher = Watcher()
        self.calls = 0
        self.watcher.start(self.loop, self._changed)  # type: ignore[arg-type]

    def _changed(self) -> None:
        self.calls += 1

    def told(self) -> bool:
        """Whether it has called back since the last time."""
        before = self.calls
        self.loop.turn()
        return self.calls > before


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A running watcher."""
    stage = Stage()
    yield stage
    stage.watcher.close()
    assert stage.loop.readers == {}


def test_what_happens_in_a_folder_is_told(stage: Stage, tmp_path: Path) -> None:
    """A file written, renamed, removed; a folder made. Not: a file read, or open for writing."""
    (tmp_path / "old").write_text("x")
    assert stage.watcher.watch([str(tmp_path)])
    assert not stage.told()
    (tmp_path / "old").read_text()
    assert not stage.told()
    with (tmp_path / "new").open("w") as file:
        assert stage.told()
        file.write("x")
        file.flush()
        assert not stage.told()
    assert stage.told()
    (tmp_path / "new").rename(tmp_path / "newer")
    assert stage.told()
    (tmp_path / "newer").unlink()
    assert stage.told()
    (tmp_path / "folder").mkdir()
    assert stage.told()


def test_only_new_watches_are_worth_another_look(stage: Stage, tmp_path: Path) -> None:
    """The same paths again: nothing; one more: yes."""
    (tmp_path / "more").mkdir()
    assert stage.watcher.watch([str(tmp_path)])
    assert not stage.watcher.watch([str(tmp_path)])
    assert stage.watcher.watch([str(tmp_path), str(tmp_path / "more")])
    assert not stage.watcher.watch([str(tmp_path / "more")])


def test_what_is_not_watched_any_more_is_silent(stage: Stage, tmp_path: Path) -> None:
    """And giving up a watch is no change by itself, nor is the deletion of what is not watched."""
    for name in "ab":
        (tmp_path / name).mkdir()
    stage.watcher.watch([str(tmp_path / "a"), str(tmp_path / "b")])
    stage.watcher.watch([str(tmp_path / "b")])
    assert not stage.told()
    (tmp_path / "a" / "file").write_text("x")
    assert not stage.told()


def test_a_folder_that_is_deleted_and_made_anew(stage: Stage, tmp_path: Path) -> None:
    """Its deletion is told; watched again, it is a new watch."""
    folder = tmp_path / "a"
    folder.mkdir()
    stage.watcher.watch([str(folder)])
    folder.rmdir()
    assert stage.told()
    folder.mkdir()
    assert stage.watcher.watch([str(folder)])
    assert not stage.told()
    (folder / "file").write_text("x")
    assert stage.told()


def test_what_is_not_there_is_waited_for_above(stage: Stage, tmp_path: Path) -> None:
    """Step by step, as its folders appear."""
    wanted = tmp_path / "a" / "b"
    stage.watcher.watch([str(wanted)])
    (tmp_path / "a").mkdir()
    assert stage.told()
    assert stage.watcher.watch([str(wanted)])
    wanted.mkdir()
    assert stage.told()


def test_a_file_that_is_replaced_by_a_rename(stage: Stage, tmp_path: Path) -> None:
    """As editors do; again and again, without watches of the old files being kept."""
    config = tmp_path / "config.json"
    config.write_text("0")
    stage.watcher.watch([str(config)])
    for text in "123":
        (tmp_path / "config.json.new").write_text(text)
        (tmp_path / "config.json.new").rename(config)
        assert stage.told()
        stage.watcher.watch([str(config)])
        assert not stage.told()


def test_a_mounted_config_map_whose_link_is_swapped(stage: Stage, tmp_path: Path) -> None:
    """config.json -> ..data/config.json, ..data -> a folder that is replaced by another (Kubernetes)."""
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "config.json").symlink_to("..data/config.json")
    stage.watcher.watch([str(tmp_path / "config.json")])
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert stage.told()
    stage.watcher.watch([str(tmp_path / "config.json")])
    stage.told()
    (tmp_path / "..2" / "config.json").write_text("3")
    assert stage.told()


def test_a_link_to_a_file_elsewhere(stage: Stage, tmp_path: Path) -> None:
    """The file behind it is watched, too, and a ring of links ends nowhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "config.json"
    target.write_text("1")
    link = tmp_path / "here" / "config.json"
    link.symlink_to(target)
    (tmp_path / "here" / "ring").symlink_to("ring")
    stage.watcher.watch([str(link), str(tmp_path / "here" / "ring")])
    target.with_suffix(".new").write_text("2")
    target.with_suffix(".new").rename(target)
    assert stage.told()


def test_a_link_above_a_folder(stage: Stage, tmp_path: Path) -> None:
    """models -> current/models, current -> a release that is replaced by another."""
    for name in ("1", "2"):
        (tmp_path / "releases" / name / "models" / "m").mkdir(parents=True)
    current = tmp_path / "releases" / "current"
    current.symlink_to("1")
    (tmp_path / "models").symlink_to("releases/current/models")
    path = str(tmp_path / "models" / "m")
    stage.watcher.watch([path])
    (tmp_path / "releases" / "next").symlink_to("2")
    assert stage.told()
    (tmp_path / "releases" / "next").rename(current)
    assert stage.told()
    assert stage.watcher.watch([path])
    (tmp_path / "releases" / "2" / "models" / "m" / "1").mkdir()
    assert stage.told()
    (tmp_path / "releases" / "1" / "models" / "m" / "1").mkdir()
    assert not stage.told()


def test_without_inotify_polling_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One warning; all calls do nothing."""

    def refuse(**_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(watch, "INotify", refuse)
    loop = FakeLoop()
    with caplog.at_level(logging.WARNING):
        watcher = Watcher()
    assert "found by polling only" in caplog.text
    watcher.start(loop, lambda: None)  # type: ignore[arg-type]
    assert not watcher.watch(["/"])
    watcher.close()
    assert loop.readers == {}


def test_out_of_watches_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stage: Stage, tmp_path: Path
) -> None:
    """With the setting to raise."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage.watcher._inotify, "add_watch", refuse)
    with caplog.at_level(logging.WARNING):
        assert not stage.watcher.watch([str(tmp_path)])
        assert not stage.watcher.watch([str(tmp_path)])
    assert caplog.text.count("fs.inotify.max_user_watches") == 1
