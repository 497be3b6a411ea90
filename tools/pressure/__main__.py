"""Starts the overload run."""

from __future__ import annotations

import sys

from tools.pressure import options, report, trial

if __name__ == "__main__":
    found = trial.run(options.parse())
    print(report.table(found))
    broken = report.broken(found)
    print("".join(f"Broken: {line}\n" for line in broken) or "All promises are kept.", end="" if broken else "\n")
    sys.exit(bool(broken))
