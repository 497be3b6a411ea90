"""The load generator wrk, and what the benches that use it can be told."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile

CONNECTIONS = 8


def read_options(description: str | None, seconds: float, rounds: int) -> argparse.Namespace:
    """``seconds`` and ``rounds`` of a bench's command line; these are the defaults. Ends the program where there is no wrk."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, default, help_text in (
        ("--seconds", float, seconds, "how long each measurement takes"),
        ("--rounds", int, rounds, "how often each is made; the median counts"),
    ):
        parser.add_argument(name, type=kind, default=default, help=f"{help_text} (%(default)s)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    return options


def wrk(port: int, path: str, body: str, seconds: float, connections: int = CONNECTIONS) -> float:
    """Requests a second, of which none may have failed."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n')
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script.name]
        said = subprocess.run(
            [*command, "--timeout", "30s", f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True
        ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise AssertionError(said)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found is not None, said
    return float(found[1])
