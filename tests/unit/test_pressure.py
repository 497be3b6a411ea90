"""What the overload run makes of its figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tools.pressure import report
from tools.pressure.load import NO_ANSWER, Outcome
from tools.pressure.options import Options
from tools.pressure.trial import Trial


def outcome(*found: tuple[int, int, float], wrong: int = 0) -> Outcome:
    """So many answers, spread over five seconds, with a status and the seconds that each took."""
    due, took, statuses = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (np.linspace(0, 4.9, count), np.full(count, took), np.full(count, status))
                for count, status, took in found
            ),
            strict=True,
        )
    )
    return Outcome(due, took, statuses, wrong, 1)


GOOD = Trial(
    options=Options(),
    limits="a few",
    limit_s=5.0,
    limit=outcome((500, 200, 0.02)),
    overload=outcome((400, 200, 0.05), (4600, 429, 0.01), (10, 503, 0.01)),
    again=outcome((500, 200, 0.02)),
    rate=1000.0,
    before_mib=100.0,
    peak_mib=110.0,
    after_mib=105.0,
    client_cores=0.1,
    other_cores=0.0,
)


def test_a_good_run() -> None:
    """Nothing is broken, and the table has the figures."""
    assert report.broken(GOOD) == []
    table = report.table(GOOD)
    assert "400 × 200, 4600 × 429, 10 × 503" in table
    assert "| p99 of served, over that at the limit | 2.50 (at most 3) |" in table
    assert "the rate of before in second 1" in table


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"overload": outcome((400, 200, 0.05), (9, 429, 0.01), wrong=2)}, "2 answers were wrong"),
        ({"overload": outcome((400, 200, 0.05), (9, 429, 0.01), (3, NO_ANSWER, 0.01))}, "{0: 3}"),
        ({"overload": outcome((400, 200, 0.07), (9, 429, 0.01))}, "3.5 times as long as at the limit (at most 3)"),
        ({"overload": outcome((400, 200, 0.05), (9, 503, 0.12))}, "refusals took 120 ms (at most 100)"),
        ({"overload": outcome((400, 200, 0.05))}, "nothing was refused"),
        ({"peak_mib": 200.0}, "memory grew by 100 MiB (at most 64)"),
        ({"again": outcome((300, 200, 0.02))}, "the rate did not come back"),
    ],
)
def test_each_promise_can_be_broken(change: dict[str, Outcome | float], sentence: str) -> None:
    """Alone, and the sentence tells how."""
    (found,) = report.broken(replace(GOOD, **change))  # type: ignore[arg-type]
    assert sentence in found


def test_a_rate_that_comes_back_late() -> None:
    """The second is told."""
    late = outcome((500, 200, 0.02))._replace(due_s=np.concatenate([np.full(80, 0.5), np.full(420, 2.5)]))
    assert report.full_after_s(replace(GOOD, again=late)) == 3
