"""The benchmark in its narrowest form, for real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.benchmark import page, rows

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
NARROW = ("--servers", "ours,tornado", "--only", "dummy", "--rounds", "1", "--seconds", "1")


def test_servers_are_started_checked_measured_and_stopped(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    """Every server that is up is asked with every load, none fails, and the page has their figures."""
    needs_program("wrk")
    documents = (ROOT / page.PAGE).read_bytes()
    command = [sys.executable, "-m", "tools.benchmark", *NARROW, "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = rows.read(tmp_path / "results.json")
    assert {"ours", "handler", "delegate"} <= {row.server for row in results.rows}
    assert {row.load for row in results.rows if row.server == "ours"} == {"1 conn.", "8 conn.", "32 conn.", "200/s"}
    assert [row for row in results.rows if row.failed or row.per_s <= 0 or row.cpu_ms <= 0] == []
    assert "10 floats, over bare Tornado" in done.stdout
    assert "tornado_ovms" in (tmp_path / "performance.md").read_text("utf-8")
    assert (tmp_path / "performance.svg").exists()
    assert (ROOT / page.PAGE).read_bytes() == documents


def test_answers_alone_can_be_checked(tmp_path: Path) -> None:
    """Without wrk, and without leaving a page that has no figures."""
    command = [sys.executable, "-m", "tools.benchmark", "--check", "--servers", "ours", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tornado_ovms: is right" in done.stderr
    assert not (tmp_path / "performance.md").exists()
