"""The signals that a server hears, and the exit code of one that ends at once. Main thread."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ENDED_BY: Final = 128


def hear_early() -> None:
    """End at once when SIGTERM or SIGINT comes, and leave SIGHUP be, until ``hear`` is called.

    The first process of a container hears no signal for which it has no handler: one that came while it started would be lost.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(exit_code(number))  # an exception would come out of the middle of an import, where libraries catch some


def hear(on_stop: Callable[[int], object], on_hang_up: Callable[[], object]) -> None:
    """Have functions called on the loop that runs, from now on.

    Args:
        on_stop: for SIGTERM and SIGINT, with their number.
        on_hang_up: for SIGHUP.
    """
    import asyncio  # noqa: PLC0415 - hear_early is called before anything that takes time

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop, number)
    loop.add_signal_handler(signal.SIGHUP, on_hang_up)


def exit_code(number: int) -> int:
    """What shells tell of a process that a signal has ended.

    >>> exit_code(signal.SIGTERM)
    143
    """
    return ENDED_BY + number
