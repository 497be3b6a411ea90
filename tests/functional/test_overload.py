"""The overload run in its shortest form, for real: what is promised of it holds on a busy machine, too, if not as exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.pressure import report, trial
from tools.pressure.options import Options

if TYPE_CHECKING:
    from pathlib import Path

SLOWER = 10.0
REFUSED_MS = 1000.0
FULL = 0.4
"""Others may use the machine at any time of these few seconds."""

SATURATED = 5.0
"""Refusing connections costs half as much as serving, so that twice the rate is more than one core can even refuse."""


def test_ten_times_too_much(tmp_path: Path) -> None:
    """Those who are served hardly wait longer than at the limit, the others are told at once, and then all is as before."""
    found = trial.run(Options("slow", seconds=3, folder=tmp_path))
    assert report.broken(found, SLOWER, REFUSED_MS, FULL) == [], report.table(found)
    assert found.overload.took(*report.REFUSED).size > found.overload.took(200).size > 0
    assert "p99 of served" in report.table(found)


def test_more_connections_than_may_be_open(tmp_path: Path) -> None:
    """The same with a model that the event loop infers itself, so that nothing waits in line."""
    found = trial.run(Options("quick", seconds=2, times=2, folder=tmp_path))
    assert report.broken(found, SATURATED * SLOWER, SATURATED * REFUSED_MS, FULL) == [], report.table(found)
    assert found.overload.took(503).size > 0
