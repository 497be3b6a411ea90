"""The ratios as a bar chart in SVG: how far each is beyond its threshold, on one logarithmic scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from tools.benchmark.tables import figure, mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.benchmark.thresholds import Ratio, Threshold

WIDTH: Final = 900
LEFT, RIGHT, TOP = 250, 190, 58
ROW, BAR, BOTTOM = 26, 16, 34
DECADES: Final = (0.5, 4.0)  # the scale's ends, in multiples of the threshold
TICKS: Final = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)
COLOURS: Final = {"met, and the goal too": "#2b7a4b", "met": "#6aa84f", "not met": "#c0504d"}
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#333}.t{font-size:15px;font-weight:600}.s{fill:#666;font-size:11px}"
    ".r{text-anchor:end}.m{text-anchor:middle}"
)


def advantage(threshold: Threshold, value: float, of: float) -> float:
    """How many times better than a mark a value is: above 1 is on the right side of it."""
    lowest = 0.01  # what is nothing or less, such as memory saved, is off the scale anyway
    value = max(value, lowest)
    return of / value if threshold.is_ceiling else value / of


def _x(times: float) -> float:
    low, high = map(math.log, DECADES)
    at = (math.log(min(max(times, DECADES[0]), DECADES[1])) - low) / (high - low)
    return LEFT + at * (WIDTH - LEFT - RIGHT)


def draw(measured: Sequence[tuple[Threshold, Ratio | None]], date: str) -> str:
    """The picture; thresholds that were not measured are left out."""
    there = [(threshold, ratio) for threshold, ratio in measured if ratio is not None]
    end = TOP + ROW * len(there)
    height = end + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        "<title>Ratios measured, as multiples of their thresholds</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text class="t" x="16" y="24">Measured, as a multiple of the threshold</text>',
        f'<text class="s" x="16" y="42">red: not met; green: met; dark green: the goal (diamond), too; {escape(date)}</text>',
    ]
    for tick in TICKS:
        weight = 'stroke="#333" stroke-width="1.5"' if tick == 1 else 'stroke="#ddd"'
        parts.append(f'<line x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="{TOP - 6}" y2="{end}" {weight}/>')
        parts.append(f'<text class="s m" x="{_x(tick):.1f}" y="{end + 16}">{tick:g}×</text>')
    for row, (threshold, ratio) in enumerate(there):
        y = TOP + ROW * row
        value = ratio.middle
        ends = sorted((_x(1), _x(advantage(threshold, value, threshold.mark))))
        wide, colour = max(ends[1] - ends[0], 1), COLOURS[threshold.verdict(value)]
        goal = _x(advantage(threshold, threshold.goal, threshold.mark))
        middle = y + BAR / 2
        label = f"{figure(threshold, value)}  (threshold {mark(threshold, threshold.mark)})"
        parts += [
            f'<text class="r" x="{LEFT - 10}" y="{y + 12}">{escape(threshold.short)}</text>',
            f'<rect x="{ends[0]:.1f}" y="{y}" width="{wide:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{goal:.1f} {middle - 6:g}l6 6l-6 6l-6 -6z" fill="#fff" stroke="#333"/>',
            f'<text x="{WIDTH - RIGHT + 12}" y="{y + 12}">{escape(label)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
