"""The unit for systemd."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deployments import UNIT, by_systemd
from tornado_ovms.core.arguments import parse
from tornado_ovms.core.checks import find_conflict
from tornado_ovms.systemd import watchdog_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_command_line_is_one() -> None:
    """Its options are known, and do not contradict each other."""
    words = by_systemd()
    assert words[0].endswith("/tornado-ovms")
    arguments = parse(words[1:])
    assert find_conflict(arguments) is None
    assert arguments.number("rest_port") == 8000


def test_systemd_understands_it(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    """Every line of both units; only the program is another one, since this machine need not have the server installed."""
    units = [tmp_path / unit.name for unit in sorted(UNIT.parent.iterdir())]
    for unit in units:
        unit.write_text((UNIT.parent / unit.name).read_text("utf-8").replace(by_systemd()[0], sys.executable), "utf-8")
    done = subprocess.run(
        [needs_program("systemd-analyze"), "verify", *map(str, units)], capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "tornado-ovms" in line]
    assert (said, done.returncode) == ([], 0), done.stderr


def test_the_server_may_do_little(needs_program: Callable[[str], str]) -> None:
    """systemd's own measure, in tenths: 0 is a service that may do nothing."""
    done = subprocess.run(
        [needs_program("systemd-analyze"), "security", "--no-pager", "--offline=yes", "--threshold=25", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_socket_is_the_server_s() -> None:
    """One port in both units."""
    assert "ListenStream=8000\n" in UNIT.with_suffix(".socket").read_text("utf-8")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "7"}, 2.5),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_which_process_systemd_watches(environment: dict[str, str], seconds: float | None) -> None:
    """The one that it names, if it names one; none if it does not say for how long."""
    assert watchdog_s(environment, 7) == seconds
