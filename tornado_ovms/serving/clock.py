"""Time as a parameter: ``Clock`` is the real one, tests have one that is set. Belongs to the event loop."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Tells the time, and waits."""

    def __call__(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def happens(self, event: asyncio.Event, within_s: float) -> bool:
        """Wait for an event, or until the time is up; whether it has happened."""
        try:
            await asyncio.wait_for(event.wait(), within_s)
        except asyncio.TimeoutError:
            return False
        return True
