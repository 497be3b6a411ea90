"""The environments of the other servers, and the C++ limit: what has to be installed and built before anything can start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import openvino as ov

HERE: Final = Path(__file__).resolve().parent
REQUIREMENTS: Final = HERE / "requirements"
COMMON: Final = REQUIREMENTS / "common.txt"
SOURCE: Final = HERE / "limits" / "limit.cpp"
HEADERS: Final = {"event2/http.h": "libevent-dev", "rapidjson/document.h": "rapidjson-dev"}


class MissingError(Exception):
    """Something cannot be had; the text says what, and what to do."""


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


def require_wrk() -> None:
    """See whether the load generator is there.

    Raises:
        MissingError: It is not.
    """
    if shutil.which("wrk") is None:
        raise MissingError("wrk is not installed (on Debian and Ubuntu: apt install wrk)")


def _openvino_of(python: Path) -> str:
    """The version of OpenVINO in an environment; nothing if there is none."""
    command = [str(python), "-c", "from importlib.metadata import version; print(version('openvino'))"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def same_openvino(name: str, environments: Path) -> None:
    """See whether an environment has the OpenVINO that this process has.

    Raises:
        MissingError: It has another one, or none.
    """
    ours = ov.get_version().partition("-")[0]
    theirs = _openvino_of(environments / name / "bin" / "python")
    if not theirs:
        raise MissingError(f"there is no environment with OpenVINO in {environments / name}")
    if not ours.startswith(theirs):
        raise MissingError(f"its OpenVINO is {theirs} and this one's is {ours}; remove {environments / name}")


def install(name: str, environments: Path) -> None:
    """Make the environment of a server, unless it is there already.

    Raises:
        MissingError: pip could not install it.
    """
    place = environments / name
    python, made_for, log = place / "bin" / "python", place / "made-for", place / "install.log"
    files = (COMMON, REQUIREMENTS / f"{name}.txt")
    wanted = sys.version + "".join(file.read_text() for file in files)
    if made_for.exists() and made_for.read_text() == wanted:
        say(f"Using the environment in {place}.")
        return
    say(f"Making an environment for {name} in {place}; this takes about a minute ...")
    begun = time.monotonic()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    steps = (
        [sys.executable, "-m", "venv", str(place)],
        [*pip, *(word for file in files for word in ("-r", str(file)))],
    )
    with log.open("wb") as output:
        for step in steps:
            if subprocess.run(step, stdout=output, stderr=output, check=False).returncode:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise MissingError(f"it could not be installed: {' '.join(last)} (all of it is in {log})")
    made_for.write_text(wanted)
    say(f"  done in {time.monotonic() - begun:.0f} s.")


def _build(target: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise MissingError("g++ is not installed (on Debian and Ubuntu: apt install g++)")
    for header, package in HEADERS.items():
        probe = subprocess.run(
            [compiler, "-E", "-x", "c++", "-"],
            input=f"#include <{header}>\n".encode(),
            capture_output=True,
            check=False,
        )
        if probe.returncode:
            raise MissingError(f"<{header}> is not installed (on Debian and Ubuntu: apt install {package})")
    wheel = Path(ov.__file__).parent
    (library,) = sorted((wheel / "libs").glob("libopenvino.so.*"))[:1]
    options = ["-O3", "-march=native", "-std=c++17", f"-I{wheel / 'include'}", f"-Wl,-rpath,{wheel / 'libs'}"]
    libraries = [str(library), "-levent", "-levent_pthreads", "-lpthread"]
    command = [compiler, *options, str(SOURCE), "-o", str(target), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"g++ could not build it: {done.stderr.strip()[-500:]}")


def build(folder: Path) -> None:
    """Compile the C++ limit, unless it is there already.

    Raises:
        MissingError: A tool is missing, or the compiler does not like it.
    """
    target, made_for = folder / "limit-cpp", folder / "limit-cpp.made-for"
    wanted = f"{ov.__file__} {ov.get_version()}\n{SOURCE.read_text()}"
    if target.exists() and made_for.exists() and made_for.read_text() == wanted:
        return
    say("Building the C++ limit ...")
    _build(target)
    made_for.write_text(wanted)
