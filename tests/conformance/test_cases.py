"""Plays the conformance cases: each is a test, and those of one file are played by one call of ``run.py``.

All are played against a server of one process, and in CI (elsewhere with REAL_MODELS=1) also against one of two workers and
against one that joins the requests of every model: how requests are served is nothing that a client may notice.

``pending.json`` names the cases that are known to fail, with the reason; one that passes has to be taken out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
SERVERS = {
    "process": f"{sys.executable} -m tornado_ovms",
    "workers": f"{sys.executable} -m tornado_ovms --workers 2",
    "batching": f"{sys.executable} {HERE / 'batching_server.py'}",
}
IS_PATIENT = "CI" in os.environ or "REAL_MODELS" in os.environ
JOBS = 2

TOPICS = {
    path.stem: [case["id"] for case in json.loads(path.read_text("utf-8"))]
    for path in sorted((HERE / "cases").glob("*.json"))
}
PENDING: Mapping[str, str] = json.loads((HERE / "pending.json").read_text("utf-8"))


class Results:
    """What came of the cases of each file that has been played so far."""

    def __init__(self, folder: Path, selected: Mapping[tuple[str, str], list[str]]) -> None:
        self._folder = folder
        self._selected = selected
        self._played: dict[tuple[str, str], dict[str, str]] = {}

    def fault(self, server: str, topic: str, case: str) -> str | None:
        """Why a case has failed; empty if it has not, None if it could not be played."""
        if (server, topic) not in self._played:
            self._played[server, topic] = self._play(server, topic)
        return self._played[server, topic].get(case)

    def _play(self, server: str, topic: str) -> dict[str, str]:
        """Play the selected cases of a file; their remarks, each with the end of the server's log."""
        report = self._folder / f"{server}-{topic}.xml"
        only = "^(" + "|".join(map(re.escape, self._selected[server, topic])) + ")$"
        options = ["--server", SERVERS[server], "--jobs", str(JOBS), "--filter", only, "--junit", str(report)]
        command = [sys.executable, str(HERE / "run.py"), *options, str(HERE / "cases" / f"{topic}.json")]
        ended = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        assert report.exists(), f"run.py did not come to its end:\n{ended.stdout}{ended.stderr}"
        return {
            str(case.get("name")): "\n".join(part.text or "" for part in case)
            for case in ET.parse(report).iter("testcase")  # noqa: S314 - we have just had it written
        }


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of those cases that pytest was asked for."""
    selected: dict[tuple[str, str], list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.originalname == test_case.__name__:
            parameters = item.callspec.params
            chosen = str(parameters["server"]), str(parameters["topic"])
            selected.setdefault(chosen, []).append(str(parameters["case"]))
    return Results(tmp_path_factory.mktemp("conformance"), selected)


def marks(server: str, case: str) -> list[pytest.MarkDecorator]:
    """Whether a case is played, and whether it is known to fail."""
    found = [pytest.mark.xfail(reason=PENDING[case])] if case in PENDING else []
    if server != "process":
        reason = "takes minutes: set REAL_MODELS=1 to have it run outside CI"
        found.append(pytest.mark.skipif(not IS_PATIENT, reason=reason))
    return found


@pytest.mark.parametrize(
    ("server", "topic", "case"),
    [
        pytest.param(
            server, topic, case, id=case if server == "process" else f"{case}-{server}", marks=marks(server, case)
        )
        for server in SERVERS
        for topic, cases in TOPICS.items()
        for case in cases
    ],
)
def test_case(server: str, topic: str, case: str, results: Results) -> None:
    """The server answers as the reference does, or better where that was decided."""
    fault = results.fault(server, topic, case)
    assert fault is not None, "run.py has skipped it"
    assert not fault, fault


def test_pending_cases_exist() -> None:
    """A case that is gone or renamed is not pending."""
    assert PENDING.keys() - {case for cases in TOPICS.values() for case in cases} == set()


def test_cases_follow_the_format() -> None:
    """Each file says nothing that FORMAT.md does not know."""
    ended = subprocess.run([sys.executable, HERE / "lint.py"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
