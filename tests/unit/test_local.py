"""What a look at the disk finds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.storage.local import FRESH_S, LocalStorage

if TYPE_CHECKING:
    from pathlib import Path


def test_version_folders_are_found(tmp_path: Path) -> None:
    """Folders and links to folders with a number above 0 are versions; the rest is told of."""
    for name in ("1", "10", "0", "-2", "01", "3_old", "99999999999999999999"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").symlink_to(tmp_path / "10")
    (tmp_path / "5").write_text("a file")
    found = LocalStorage().versions(str(tmp_path))
    assert set(found.versions) == {1, 7, 10}
    assert set(found.warnings) == {
        "Expected version directory name to be a number greater than 0. Got: 0",
        "Expected version directory name to be a number greater than 0. Got: -2",
        "Expected version directory name to be a number greater than 0. Got: 01",
        "Expected version directory name to be in number format. Got: 3_old",
        "Directory name is out of range for supported version format. Got: 99999999999999999999",
    }


def test_a_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    """Content of another size, or a file more, is another fingerprint; no change is the same one."""
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "model.pb").write_text("x")
    storage = LocalStorage()
    first = storage.versions(str(tmp_path))
    assert first == storage.versions(str(tmp_path))
    (tmp_path / "1" / "variables" / "data").write_text("y")
    second = storage.versions(str(tmp_path))
    assert {path for path, _, _ in second.versions[1].fingerprint} == {"model.pb", "variables/data"}
    assert first != second


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time(tmp_path: Path) -> None:
    """As archives have them, which give all files the same time."""
    (tmp_path / "1").mkdir()
    for name in ("model.onnx", "new"):
        (tmp_path / "1" / name).write_text(name[0])
        os.utime(tmp_path / "1" / name, (1, 1))
    (tmp_path / "1" / "new").rename(tmp_path / "new")
    first = LocalStorage().versions(str(tmp_path))
    (tmp_path / "new").rename(tmp_path / "1" / "model.onnx")
    assert LocalStorage().versions(str(tmp_path)) != first


def test_a_ring_of_links_ends(tmp_path: Path) -> None:
    """A link to its own folder does not keep the scan going for ever."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "again").symlink_to(tmp_path / "1")
    (tmp_path / "1" / "model.xml").write_text("x")
    paths = [path for path, _, _ in LocalStorage().versions(str(tmp_path)).versions[1].fingerprint]
    assert paths[-1] == "model.xml"
    assert len(paths) < 10


def test_a_link_to_itself_hides_no_versions(tmp_path: Path) -> None:
    """It cannot be followed, so that asking what it leads to is an error."""
    (tmp_path / "1").mkdir()
    (tmp_path / "2").symlink_to(tmp_path / "2")
    assert list(LocalStorage().versions(str(tmp_path)).versions) == [1]


def test_an_empty_folder_has_no_versions(tmp_path: Path) -> None:
    """That is worth a warning, not an error."""
    found = LocalStorage().versions(str(tmp_path))
    assert (dict(found.versions), found.warnings) == ({}, (f"No version found for model in path: {tmp_path}",))


def test_files_in_the_place_of_versions(tmp_path: Path) -> None:
    """The most frequent mistake: what serves then is ready, and has nothing."""
    for name in ("a.txt", "model.bin", "model.xml", "z"):
        (tmp_path / name).touch()
    _, hint = LocalStorage().versions(str(tmp_path)).warnings
    assert hint.endswith(f"such as {tmp_path}/1; found here: a.txt, model.bin, model.xml")


@pytest.mark.parametrize("path", ["../models", "/a/../b", "/a/..", "/a\\..\\b", "..\\x", "/no/such/folder"])
def test_paths_that_are_refused(path: str) -> None:
    """Climbing is refused wherever it leads; so are folders that are not there."""
    with pytest.raises(Failure) as caught:
        LocalStorage().versions(path)
    assert caught.value.code is Code.PATH_INVALID


@pytest.mark.parametrize("name", ["a..b", "..b", "b..", "..."])
def test_dots_inside_a_name_are_fine(tmp_path: Path, name: str) -> None:
    """Only an element of two dots climbs."""
    (tmp_path / name / "1").mkdir(parents=True)
    assert set(LocalStorage().versions(str(tmp_path / name)).versions) == {1}


def test_the_configuration_is_read(tmp_path: Path) -> None:
    """A folder counts as an empty file; what is not there is a failure."""
    (tmp_path / "config.json").write_bytes(b"{}")
    storage = LocalStorage()
    assert storage.read_config(str(tmp_path / "config.json")) == b"{}"
    assert storage.read_config(str(tmp_path)) == b""
    with pytest.raises(Failure) as caught:
        storage.read_config(str(tmp_path / "none.json"))
    assert caught.value.code is Code.CONFIG_UNREADABLE


def test_what_has_just_changed_is_fresh(tmp_path: Path) -> None:
    """By the newest file of a version, also if its time was set back as copying tools do; a moment later it is not."""
    (tmp_path / "1" / "variables").mkdir(parents=True)
    file = tmp_path / "1" / "variables" / "data"
    file.write_text("x")
    os.utime(file, (1e9, 1e9))
    changed_s = file.stat().st_ctime
    for age_s, is_fresh in ((0.0, True), (FRESH_S / 2, True), (FRESH_S * 2, False), (-1.0, False)):
        found = LocalStorage(lambda age_s=age_s: changed_s + age_s).versions(str(tmp_path))  # type: ignore[misc]
        assert found.is_fresh is found.versions[1].is_fresh is is_fresh
        assert not found.as_it_is().is_fresh


def test_every_folder_that_counts_is_named(tmp_path: Path) -> None:
    """The model's, the versions', and those in them; not others."""
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "assets").mkdir()
    found = LocalStorage().versions(str(tmp_path))
    assert set(found.folders) == {str(tmp_path / name) for name in ("", "1", "1/variables")}
