"""Libraries of custom nodes by what the configuration says: a built-in, a class in Python, a file of the C interface."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.libraries import LEDGER, compile_library
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.nodes.builtin import BUILTIN
from tornado_ovms.nodes.clib import CLibrary
from tornado_ovms.nodes.library import open_library
from tornado_ovms.nodes.python import PythonLibrary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refusal(base_path: str) -> str:
    """Why a library cannot be opened."""
    with pytest.raises(Failure) as caught:
        open_library(base_path)
    assert caught.value.code is Code.PIPELINE_LIBRARY
    return caught.value.detail


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin(name: str) -> None:
    """Each one that is listed is a class that can be had."""
    assert isinstance(open_library(f"builtin:{name}"), PythonLibrary)


def test_an_unknown_builtin() -> None:
    """The known ones are told."""
    assert "add_one" in refusal("builtin:add_two")


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class in a package, and one in a file."""
    text = (
        "from tornado_ovms.nodes.base import CustomNode\nclass Mine(CustomNode):\n    inputs = {}\n    outputs = {}\n"
    )
    (tmp_path / "nodes_of_a_test.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for base_path in ("nodes_of_a_test:Mine", f"{tmp_path}/nodes_of_a_test.py:Mine"):
        library = open_library(base_path)
        assert isinstance(library, PythonLibrary)
        library.create({}).close()
    sys.modules.pop("nodes_of_a_test")


@pytest.mark.parametrize(
    ("base_path", "told"),
    [
        ("no.such.module:Class", "no.such.module:Class: ModuleNotFoundError"),
        ("json:Missing", "has no attribute 'Missing'"),
        ("json:JSONDecoder", "Expected: a class below CustomNode"),
        ("/missing.py:Class", "/missing.py:Class: FileNotFoundError"),
        ("/missing/libmine.so", "/missing/libmine.so"),
        ("/missing", "/missing"),
        ("", ""),
        ("/a/../lib.so", "/a/../lib.so escape with .. is forbidden."),
        ("../lib.so", "is forbidden"),
        ("/lib/..", "is forbidden"),
    ],
)
def test_what_cannot_be_opened(base_path: str, told: str) -> None:
    """The failure tells of the path and the reason."""
    assert told in refusal(base_path)


def test_a_file_of_the_c_interface(needs_program: Callable[[str], str], tmp_path: Path) -> None:
    """Also one below a folder whose name has a colon in it."""
    folder = tmp_path / "v1:2"
    folder.mkdir()
    library = open_library(str(compile_library(needs_program("gcc"), LEDGER, folder)))
    assert isinstance(library, CLibrary)
    library.create({}).close()


@pytest.mark.parametrize("name", BUILTIN)
def test_the_references_files_are_replaced(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A configuration that names one which is not there gets the built-in node, and the log says so."""
    caplog.set_level("INFO")
    assert isinstance(open_library(f"{tmp_path}/libcustom_node_{name}.so"), PythonLibrary)
    assert f"the built-in node {name} takes its place" in caplog.text


def test_a_file_that_is_there_counts(tmp_path: Path) -> None:
    """Even if it is no library: nothing is replaced behind its back."""
    there = tmp_path / "libcustom_node_add_one.so"
    there.write_text("no library")
    assert str(there) in refusal(str(there))


@pytest.mark.parametrize("name", ["libcustom_node_other.so", "libcustom_node_add_one.so.1", "add_one.so"])
def test_files_of_other_names_are_not_replaced(tmp_path: Path, name: str) -> None:
    """Only those that the reference ships."""
    assert name in refusal(f"{tmp_path}/{name}")
