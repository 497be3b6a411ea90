"""The options of ``tools/bench``; with the standard library alone, so that help and mistakes come before any installation."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

PEERS: Final = ("fastapi", "mosec", "kserve", "mlserver", "pytriton")
SERVERS: Final = ("ours", "tornado", "openvino", "cpp", *PEERS)
QUICK_SERVERS: Final = ("ours", "tornado", "openvino", "cpp")
WORK: Final = ("dummy", "light", "binary", "resnet", "long", "image", "mixed", "batching", "memory", "start")

ROUNDS: Final = 5
QUICK_ROUNDS: Final = 2
SECONDS: Final = 2
QUICK_SECONDS: Final = 1

DESCRIPTION: Final = """\
Compares this server with what one would use in its place, and with the limits of what it is built on.

Makes a virtual environment for the project and one for each other server below .bench in the checkout (once; about 4 GB and
5 minutes), builds the models and the C++ limit, asks every server for a right answer, and then lets them all work in turn,
round after round. Ends with each figure as a ratio within the run, beside its threshold, and writes docs/performance.md
and docs/performance.svg. A full run takes about 25 minutes more; nothing else should run on the machine meanwhile. Needs wrk,
8 GB of memory, and for the C++ limit g++, rapidjson-dev and libevent-dev.

A run that is narrowed by an option leaves docs alone and writes its page into .bench."""

EPILOG: Final = """\
servers: ours      this server, with one worker, with two, and with micro-batching
         tornado   bare Tornado: a handler, a delegate, and two that read a large body, without and with inference
         openvino  OpenVINO in a process of its own, without HTTP
         cpp       libevent, RapidJSON and OpenVINO in C++
         fastapi, mosec, kserve, mlserver, pytriton

work:    dummy     10 floats in JSON            light   1x3x224x224 floats in JSON, a model of about 2 ms
         binary    the same, a binary tensor    resnet  the same in JSON, a model of more than 30 ms
         image     a JPEG in base64             long    a number in, a number out, more than 30 ms between
         batching  small dense model, on, off   mixed   small requests beside bodies of 2 MB
         memory    of one model                 start   until the first right prediction

PYTHON names the Python to use (3.10 or newer). With CI=true a server that cannot be installed is an error."""


@dataclass(frozen=True)
class Options:
    """What to measure, how long, and where things are kept."""

    servers: tuple[str, ...]
    work: tuple[str, ...]
    rounds: int
    seconds: int
    is_check: bool
    is_full: bool
    command: str  # that says the same on another machine, without folders
    folder: Path
    environments: Path | None
    results: Path | None


def _listed(known: tuple[str, ...], text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if unknown := [word for word in words if word not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    return words


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "tools/bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="about 3 minutes, without other servers' installation")
    parser.add_argument("--check", action="store_true", help="only ask every server for right answers")
    parser.add_argument("--servers", type=lambda text: _listed(SERVERS, text), metavar="A,B", help="only these")
    parser.add_argument("--only", type=lambda text: _listed(WORK, text), metavar="A,B", help="only this work")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"medians are over so many ({ROUNDS})")
    parser.add_argument("--seconds", type=positive, metavar="S", help=f"of each run ({SECONDS})")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="models, logs, results (.bench)")
    parser.add_argument(
        "--environments", type=Path, metavar="FOLDER", help="other servers' environments are here; install nothing"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="measure nothing: write the page from these (.bench/results.json)"
    )
    found = parser.parse_args(arguments)
    words = {
        "--quick": found.quick,
        "--check": found.check,
        "--servers": found.servers and ",".join(found.servers),
        "--only": found.only and ",".join(found.only),
        "--rounds": found.rounds,
        "--seconds": found.seconds,
    }
    said = [word if value is True else f"{word} {value}" for word, value in words.items() if value]
    return Options(
        servers=found.servers or (QUICK_SERVERS if found.quick else SERVERS),
        work=found.only or WORK,
        rounds=found.rounds or (QUICK_ROUNDS if found.quick else ROUNDS),
        seconds=found.seconds or (QUICK_SECONDS if found.quick else SECONDS),
        is_check=found.check,
        is_full=not said,
        command=" ".join(["tools/bench", *said]),
        folder=found.folder.resolve(),
        environments=found.environments and found.environments.resolve(),
        results=found.results,
    )


if __name__ == "__main__":
    parse()
