"""The shell scripts that a stranger runs first."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SCRIPTS = ["tools/bench", "tools/demo", "tools/overload", "tools/pin", "tools/test", ".ci/run", "docker/slim.sh"]

NO_PYTHON = "#!/bin/sh\nexit 1\n"
NO_VENV = '#!/bin/sh\n[ "$2" != venv ]\n'
NO_PIP = """#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") echo "ERROR: $PIP_SAYS"; exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts need, so that they leave the environments of this one alone."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str, needs_program: Callable[[str], str]) -> None:
    """Quoting and other traps of the shell."""
    command = [needs_program("shellcheck"), "--external-sources", script]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run(script: str) -> None:
    """A checkout keeps the permission to execute."""
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("script", ["tools/bench", "tools/demo", "tools/overload", "tools/pin", "tools/test"])
def test_help_says_what_will_happen(script: str) -> None:
    """Before it does anything, and without doing it."""
    found = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith(f"usage: {script}")
    assert "virtual environment" in found.stdout


def test_unknown_arguments_of_the_demo_are_refused(checkout: Path) -> None:
    """A misspelt option does not start a server that runs for ever."""
    found = subprocess.run([checkout / "tools/demo", "--twice"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (1, "demo: unknown arguments: --twice; see tools/demo --help.\n")


def test_a_misspelt_option_of_the_benchmark_is_refused(checkout: Path) -> None:
    """Before anything is installed."""
    found = subprocess.run([checkout / "tools/bench", "--fast"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.splitlines()[-1]) == (
        2,
        "tools/bench: error: unrecognized arguments: --fast",
    )
    assert not (checkout / ".bench").exists()


@pytest.mark.parametrize("script", ["bench", "demo", "overload", "pin", "test"])
@pytest.mark.parametrize(
    ("python", "pip_says", "sentence"),
    [
        (NO_PYTHON, "", "is not a Python of version 3.10 or newer; name one, or unset PYTHON."),
        (NO_VENV, "", "(on Debian and Ubuntu: apt install python3-venv)."),
        (
            NO_PIP,
            "Could not connect",
            "pip could not install it. Check the network and pip's settings, then try again;",
        ),
        (NO_PIP, "No space left on device", "the disk is full; 700 MB are needed."),
    ],
    ids=["too-old", "no-venv", "no-network", "disk-full"],
)
def test_a_failure_ends_in_a_sentence_that_says_what_to_do(
    checkout: Path, script: str, python: str, pip_says: str, sentence: str
) -> None:
    """On the last line of stderr, with exit code 1."""
    fake = checkout / "python"
    fake.write_text(python)
    fake.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(fake), "PIP_SAYS": pip_says}
    found = subprocess.run([checkout / "tools" / script], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith(f"{script}: ")
    assert sentence in found.stderr.splitlines()[-1]


def test_a_machine_without_python_is_told_which_are_wanted(checkout: Path) -> None:
    """There is nothing of that name on the path, nor of its other names."""
    programs = checkout / "bin"
    programs.mkdir()
    for name in ("dirname", "basename", "bash"):
        (programs / name).symlink_to(str(shutil.which(name)))
    found = subprocess.run(
        [programs / "bash", checkout / "tools/test"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr == "test: no Python from 3.10 to 3.13 was found; install one, or set PYTHON to its path.\n"
