"""The signals that a server hears, and the exit code of one that ends at once.

Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ENDED_BY: Final = 128


def hear(on_stop: Callable[[int], object], on_hang_up: Callable[[], object]) -> None:
    """Have functions called on the loop that runs, from now on.

    Args:
        on_stop: for SIGTERM and SIGINT, with their number.
        on_hang_up: for SIGHUP.
    """
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
