"""What a run has shown, as a table in Markdown, and which promises were broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.benchmark.tables import table as rows_table
from tools.pressure.load import OK, quantile_ms

if TYPE_CHECKING:
    import numpy as np

    from tools.pressure.trial import Trial

REFUSED: Final = (429, 503)

SLOWER: Final = 3.0
"""So many times as long as at the limit a served request may take, of the slowest in a hundred."""

REFUSED_MS: Final = 100.0
MORE_MIB: Final = 64.0
FULL: Final = 0.9
"""Of the rate before; it varies by that much from second to second."""


def slower(trial: Trial) -> float:
    """How many times as long the slowest served request of a hundred has taken as at the limit."""
    return quantile_ms(trial.overload.took(OK), 0.99) / quantile_ms(trial.limit.took(OK), 0.99)


def full_after_s(trial: Trial, share: float = FULL) -> int | None:
    """After how many seconds the rate was what it had been; None if it was not."""
    return next((s for s, rate in enumerate(trial.rates_again, 1) if rate >= share * trial.at_limit), None)


def broken(trial: Trial, most_slower: float = SLOWER, refused_ms: float = REFUSED_MS, share: float = FULL) -> list[str]:
    """The promises that were not kept, a sentence each."""
    overload = trial.overload
    refused = quantile_ms(overload.took(*REFUSED), 0.99)
    other = {status: count for status, count in overload.counts().items() if status not in (OK, *REFUSED)}
    found = []
    if overload.wrong:
        found.append(f"{overload.wrong} answers were wrong")
    if other:
        found.append(f"requests were answered otherwise than with 200, 429 or 503 (0: not at all): {other}")
    if not slower(trial) <= most_slower:
        found.append(
            f"served requests took {slower(trial):.1f} times as long as at the limit (at most {most_slower:g})"
        )
    if not overload.took(*REFUSED).size:
        found.append("nothing was refused: that was not too much")
    elif refused > refused_ms:
        found.append(f"refusals took {refused:.0f} ms (at most {refused_ms:g})")
    if trial.peak_mib - trial.before_mib > MORE_MIB:
        found.append(f"memory grew by {trial.peak_mib - trial.before_mib:.0f} MiB (at most {MORE_MIB:g})")
    if full_after_s(trial, share) is None:
        found.append(f"the rate did not come back: {trial.rates_again}, before {trial.at_limit:.0f}/s")
    return found


def table(trial: Trial) -> str:
    """All figures."""
    overload, limit = trial.overload, trial.limit.took(OK)
    served, refused = overload.took(OK), overload.took(*REFUSED)
    counts = ", ".join(f"{count} × {status or 'none'}" for status, count in overload.counts().items())
    after = full_after_s(trial)
    return rows_table(
        ["", f"model {trial.options.model}, {trial.options.workers} process(es), {trial.limits}"],
        [
            ["served at the limit", f"{trial.at_limit:.0f}/s, p50 {quantile_ms(limit, 0.5):.1f} ms, p99 {_p99(limit)}"],
            [
                "asked beyond it",
                f"{trial.rate:.0f}/s for {trial.options.seconds} s, {overload.connections} connections",
            ],
            ["answered", counts],
            [
                "served",
                f"{served.size / trial.options.seconds:.0f}/s, p50 {quantile_ms(served, 0.5):.1f} ms, p99 {_p99(served)}",
            ],
            ["p99 of served, over that at the limit", f"{slower(trial):.2f} (at most {SLOWER:g})"],
            [
                "refused",
                (
                    f"p50 {quantile_ms(refused, 0.5):.1f} ms, p99 {_p99(refused)} (at most {REFUSED_MS:g}), "
                    f"slowest {quantile_ms(refused, 1):.0f} ms"
                ),
            ],
            [
                "memory",
                f"{trial.before_mib:.0f} MiB before, {trial.peak_mib:.0f} at most, {trial.after_mib:.0f} after",
            ],
            [
                "afterwards",
                f"{', '.join(f'{rate:.0f}' for rate in trial.rates_again)}/s; "
                + (f"the rate of before in second {after}" if after else "not the rate of before"),
            ],
            [
                "CPU meanwhile",
                f"{trial.client_cores:.2f} cores for the load itself, {trial.other_cores:.2f} for others",
            ],
        ],
    )


def _p99(took: np.ndarray) -> str:
    return f"{quantile_ms(took, 0.99):.1f} ms"
