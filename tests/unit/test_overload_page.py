"""``docs/overload.md``: the limits that the deployments set are those of the page."""

from __future__ import annotations

import re

import pytest

from tests.deployments import ROOT, by_compose, by_systemd
from tests.kubernetes import kserve_container, server
from tornado_ovms.core.arguments import parse
from tornado_ovms.core.options import OPTIONS

PAGE = (ROOT / "docs/overload.md").read_text("utf-8")
LIMITS = {
    name: (int(small), int(large))
    for name, small, large in re.findall(r"^\| `--(\w+)` \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize(
    ("words", "column"),
    [(server()["args"], 0), (kserve_container()["args"], 0), (by_compose(), 1), (by_systemd()[1:], 1)],
    ids=["kubernetes", "kserve", "compose", "systemd"],
)
def test_the_limits_of_a_deployment(words: list[str], column: int) -> None:
    """None is missing, and none is set of which the page says nothing."""
    given = parse(words).given
    limits = {name: given[name] for name in given if name.startswith("max_") or name == "request_timeout"}
    assert limits == {name: values[column] for name, values in LIMITS.items()}
    assert LIMITS.keys() < OPTIONS.keys()
