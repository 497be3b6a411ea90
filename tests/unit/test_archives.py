"""Archives that somebody else has made: nothing of them gets out of the folder that they are unpacked to."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from tornado_ovms.storage.archives import ArchiveError, unpack

if TYPE_CHECKING:
    from pathlib import Path

ROOM = 1_000_000


def tar(path: Path, *members: tuple[str, bytes, str]) -> None:
    """An archive of members with a name, a type of tarfile, and what they link to; files hold one byte."""
    with tarfile.open(path, "w") as target:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, int(kind == tarfile.REGTYPE)
            target.addfile(member, io.BytesIO(b"x" * member.size))


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE

TARS = {
    "up": [("1/../../escaped", FILE, "")],
    "up at once": [("../escaped", FILE, "")],
    "up behind a dot": [("./../escaped", FILE, "")],
    "up at the end": [("1/..", tarfile.DIRTYPE, "")],
    "from the root": [("/escaped", FILE, "")],
    "from the root twice": [("//escaped", FILE, "")],
    "by backslashes": [("..\\escaped", FILE, "")],
    "a link outside": [("1", LINK, "..")],
    "through a link": [("1", LINK, ".."), ("1/escaped", FILE, "")],
    "a link inside": [("a", FILE, ""), ("b", LINK, "a")],
    "a hard link outside": [("1", HARD, "../outside")],
    "a hard link inside": [("a", FILE, ""), ("b", HARD, "a")],
    "a pipe": [("1", tarfile.FIFOTYPE, "")],
    "a device": [("1", tarfile.CHRTYPE, "")],
}


@pytest.mark.parametrize("members", TARS.values(), ids=TARS)
def test_tar_files_that_are_refused(members: list[tuple[str, bytes, str]], tmp_path: Path) -> None:
    """Names that lead out, and all that is neither a file nor a folder."""
    (tmp_path / "outside").write_text("as it was")
    (tmp_path / "folder").mkdir()
    tar(tmp_path / "m.tar", *members)
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "m.tar", tmp_path / "folder", ROOM)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "m.tar", "outside"]
    assert (tmp_path / "outside").read_text() == "as it was"
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["../escaped", "1/../../escaped", "/escaped", "..\\escaped", "1/./m", "1//m", "a\0b"])
def test_names_in_zip_files_that_are_refused(name: str, tmp_path: Path) -> None:
    """Though zipfile would make something harmless of them."""
    (tmp_path / "folder").mkdir()
    made = zipfile.ZipInfo("-" * len(name))
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as target:
        target.writestr(made, b"x")
    (tmp_path / "m.zip").write_bytes((tmp_path / "m.zip").read_bytes().replace(b"-" * len(name), name.encode()))
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "m.zip", tmp_path / "folder", ROOM)
    assert not list(tmp_path.rglob("*escaped*"))
    assert not list((tmp_path / "folder").iterdir())


def test_links_in_zip_files_are_refused(tmp_path: Path) -> None:
    """They are files with a mode of their own."""
    (tmp_path / "folder").mkdir()
    link = zipfile.ZipInfo("1")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as target:
        target.writestr(link, "..")
    with pytest.raises(ArchiveError, match="is a link"):
        unpack(tmp_path / "m.zip", tmp_path / "folder", ROOM)
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
def test_bombs_are_refused(name: str, tmp_path: Path) -> None:
    """Before they are on the disk: by what they say, and what they hold beyond that is not unpacked."""
    (tmp_path / "folder").mkdir()
    content = bytes(50 * ROOM)
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("1/model.bin", content)
    else:
        with tarfile.open(tmp_path / name, "w:gz") as target:
            member = tarfile.TarInfo("1/model.bin")
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    assert (tmp_path / name).stat().st_size < ROOM
    with pytest.raises(ArchiveError, match="larger than what is free"):
        unpack(tmp_path / name, tmp_path / "folder", ROOM)
    assert not list((tmp_path / "folder").iterdir())


def test_a_zip_file_that_says_less_than_it_holds(tmp_path: Path) -> None:
    """It is broken, and not unpacked beyond what it says."""
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("model.bin", bytes(50 * ROOM))
    size = (50 * ROOM).to_bytes(4, "little")
    data = (tmp_path / "m.zip").read_bytes()
    assert data.count(size) == 2
    (tmp_path / "m.zip").write_bytes(data.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "m.zip", tmp_path / "folder", ROOM)
    assert sum(path.stat().st_size for path in (tmp_path / "folder").rglob("*")) <= 100
