"""The metadata is complete and in one place."""

from __future__ import annotations

import ast
import fnmatch
import re
from pathlib import Path

import tornado_ovms

ROOT = Path(__file__).parents[2]
SETUP = (ROOT / "setup.py").read_text("utf-8")


def setup_arguments() -> dict[str, ast.expr]:
    """The keyword arguments of the call of ``setup``."""
    calls = [node for node in ast.walk(ast.parse(SETUP)) if isinstance(node, ast.Call)]
    (call,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "setup"]
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def bounds(text: str, sign: str) -> dict[str, str]:
    """Libraries and versions joined by the sign, with versions in their shortest form."""
    found = re.findall(rf"\b([a-z][a-z0-9-]*){sign}([0-9.]+)", text)
    return {name: re.sub(r"(\.0)+$", "", version) for name, version in found}


def test_the_version_is_read_from_the_package() -> None:
    """setup.py finds the same version as a program that imports it."""
    pattern = re.search(r"re\.search\(r'([^']+)'", SETUP)
    assert pattern is not None
    source = (ROOT / "tornado_ovms/__init__.py").read_text("utf-8")
    assert re.findall(pattern[1], source, re.MULTILINE) == [tornado_ovms.__version__]


def test_every_data_file_is_installed() -> None:
    """A file of the package that is no module is named by package_data, and every pattern there finds one."""
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, names in ast.literal_eval(setup_arguments()["package_data"]).items()
        for pattern in names
    ]
    files = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tornado_ovms").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not fnmatch.filter(files, pattern)] == []


def test_the_lowest_versions_are_those_of_setup() -> None:
    """What `tox -e lowest` tries is what setup.py allows."""
    requires = SETUP.split("REQUIRES = [")[1].split("TEST = [")[0]
    assert bounds((ROOT / "tests/lowest.txt").read_text("utf-8"), "==") == bounds(requires, ">=")


def test_one_version_of_ruff_is_named() -> None:
    """An editor's ruff and tox's format alike."""
    named = [re.findall(r"ruff(~=[0-9.]+)", text) for text in (SETUP, (ROOT / "tox.ini").read_text("utf-8"))]
    assert named[0] == named[1]
    assert len(named[0]) == 1


def test_metadata_has_one_home() -> None:
    """pyproject.toml holds the build system and the tools."""
    sections = re.findall(r"^\[+([\w.-]+)\]+$", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert {section.partition(".")[0] for section in sections} == {"build-system", "tool"}
