"""The options of ``tools/overload``; with the standard library alone, so that help and mistakes come before any installation."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.benchmark.options import ROOT, positive

MODELS: Final = ("slow", "quick")
SECONDS: Final = 60
TIMES: Final = 10

DESCRIPTION: Final = """\
Asks this server for ten times as much as it can answer, and tells what became of it.

Makes a virtual environment for the project below .bench in the checkout (once; tools/bench uses the same), and starts a
server with a short line of waiting requests. First as many clients as there is room for ask without pause: that is the
rate it can keep, and the latency at the limit. Then requests leave at ten times that rate, on a schedule, whatever comes
back. Then the clients of the beginning ask again. Ends with a table and a verdict; the exit code is 1 if a promise is
broken. Nothing else should run on the machine meanwhile."""

EPILOG: Final = """\
models:  slow      a number in, a number out, 10 to 20 ms of matrix products between: --max_queue refuses
         quick     10 floats and an addition, which the event loop does itself: nothing waits in line there, so that
                   --max_connections is what refuses, for half of what a prediction costs: try --times 2

PYTHON names the Python to use (3.10 or newer)."""


@dataclass(frozen=True)
class Options:
    """What to run."""

    model: str = "slow"
    seconds: int = SECONDS
    workers: int = 1
    times: int = TIMES
    folder: Path = ROOT / ".bench"


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "tools/overload",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", choices=MODELS, default=Options.model, help=f"({Options.model})")
    parser.add_argument("--seconds", type=positive, metavar="S", default=SECONDS, help=f"of overload ({SECONDS})")
    parser.add_argument("--workers", type=positive, metavar="N", default=1, help="processes of the server (1)")
    parser.add_argument("--times", type=positive, metavar="N", default=TIMES, help=f"the rate it can keep ({TIMES})")
    parser.add_argument("--folder", type=Path, default=Options.folder, help="model and logs (.bench)")
    found = parser.parse_args(arguments)
    return Options(found.model, found.seconds, found.workers, found.times, found.folder.resolve())


if __name__ == "__main__":
    parse()
