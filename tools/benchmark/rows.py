"""What was measured, as values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One run of one server."""

    round: int
    server: str
    work: str
    load: str
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    client_cores: float = 0.0  # that the load generator kept busy
    other_cores: float = 0.0  # that processes of others kept busy
    failed: int = 0


@dataclass(frozen=True)
class Figure:
    """One number of one round that is no run, such as a size or a time."""

    round: int
    name: str
    value: float


@dataclass(frozen=True)
class Results:
    """All that a benchmark has found."""

    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]
    machine: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def values(self, server: str, work: str, load: str, quantity: str) -> dict[int, float]:
        """A quantity by rounds; none where the server has not run."""
        return {
            row.round: getattr(row, quantity)
            for row in self.rows
            if (row.server, row.work, row.load) == (server, work, load)
        }

    def middle(self, server: str, work: str, load: str, quantity: str) -> float | None:
        """Its median."""
        values = self.values(server, work, load, quantity)
        return median(values.values()) if values else None

    def figure(self, name: str) -> dict[int, float]:
        """A figure by rounds."""
        return {figure.round: figure.value for figure in self.figures if figure.name == name}


def write(results: Results, path: Path) -> None:
    """Keep them as JSON."""
    path.write_text(json.dumps(asdict(results), indent=1))


def read(path: Path) -> Results:
    """Take them up again."""
    kept: dict[str, Any] = json.loads(path.read_text())
    return Results(
        rows=tuple(Row(**row) for row in kept["rows"]),
        figures=tuple(Figure(**figure) for figure in kept["figures"]),
        machine=kept["machine"],
        titles=kept["titles"],
        left_out=tuple(kept["left_out"]),
    )
