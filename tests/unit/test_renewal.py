"""Files that are read again when they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tornado_ovms.renewal import Renewed

if TYPE_CHECKING:
    from pathlib import Path


def renewed(*paths: Path) -> Renewed[str]:
    """All of what they hold; "bad" cannot be used."""

    def load() -> str:
        text = "".join(path.read_text("utf-8") for path in paths)
        if "bad" in text:
            raise ValueError("it is bad")
        return text

    return Renewed("the text", [str(path) for path in paths], load)


def test_a_change_is_read_once_it_has_settled(tmp_path: Path) -> None:
    """At the second look that sees it, and once."""
    path = tmp_path / "a"
    path.write_text("1", "utf-8")
    files = renewed(path)
    assert files.first() == "1"
    assert files.look() is None
    path.write_text("22", "utf-8")
    assert files.look() is None
    path.write_text("333", "utf-8")
    assert [files.look() for _ in range(3)] == [None, "333", None]


def test_what_cannot_be_used_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And what comes after it is read."""
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_text("1", "utf-8")
    other.write_text("2", "utf-8")
    files = renewed(one, other)
    assert files.first() == "12"
    other.write_text("bad", "utf-8")
    assert [files.look() for _ in range(4)] == [None] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "the text cannot be used, what was read before stays in use: it is bad"
    ]
    other.unlink()
    assert [files.look() for _ in range(4)] == [None] * 4
    assert len(caplog.records) == 2
    other.write_text("3", "utf-8")
    assert [files.look() for _ in range(3)] == [None, "13", None]


def test_what_could_not_be_read_once_is_read_later(tmp_path: Path) -> None:
    """Not only when it changes again: there may have been no file descriptor left."""
    path = tmp_path / "a"
    path.write_text("1", "utf-8")
    is_broken = False

    def load() -> str:
        if is_broken:
            raise OSError("too many open files")
        return path.read_text("utf-8")

    files = Renewed("the text", [str(path)], load)
    assert files.first() == "1"
    path.write_text("22", "utf-8")
    is_broken = True
    assert [files.look() for _ in range(3)] == [None, None, None]
    is_broken = False
    assert [files.look() for _ in range(2)] == ["22", None]


def test_a_link_above_that_is_swapped(tmp_path: Path) -> None:
    """As Kubernetes renews secrets."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(name, "utf-8")
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "key").symlink_to("data/key")
    files = renewed(tmp_path / "key")
    assert files.first() == "old"
    (tmp_path / "other").symlink_to("new")
    (tmp_path / "other").replace(tmp_path / "data")
    assert [files.look() for _ in range(3)] == [None, "new", None]


def test_the_first_look_tells_why(tmp_path: Path) -> None:
    """There is nothing to go on with."""
    (tmp_path / "a").write_text("bad", "utf-8")
    with pytest.raises(ValueError, match="it is bad"):
        renewed(tmp_path / "a").first()
