"""What goes on beside the requests for as long as a server runs.

Each chore is a coroutine that does not end; ``beside`` starts some, and ends them. Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms import allocator
from tornado_ovms.renewal import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from concurrent.futures import Executor

    from tornado_ovms.metrics import Histogram
    from tornado_ovms.renewal import Renewed
    from tornado_ovms.serving.manager import Manager
    from tornado_ovms.serving.registry import Registry

log = logging.getLogger("serving")

LAG_PAUSE_S: Final = 0.1
LATE_S: Final = 1.0


@contextlib.asynccontextmanager
async def beside(*chores: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What goes on until the block ends. One that fails is missed by nobody else, so that the log tells of it."""
    tasks = [asyncio.ensure_future(chore) for chore in chores]
    for task in tasks:
        task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Unforeseen error: something that goes on beside the requests has ended", exc_info=error)


async def watch_loop(lag: Histogram) -> None:
    """Measure how late the loop is, and tell of it when somebody will have noticed."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_PAUSE_S
        await asyncio.sleep(LAG_PAUSE_S)
        late = loop.time() - due
        lag.observe(late)
        if late > LATE_S:
            log.warning("The event loop was %.1f s late: something holds it, or the machine is too busy", late)


async def reload(hung_up: asyncio.Event, manager: Manager) -> None:
    """What SIGHUP asks for, also while the first models were loaded; the log tells what came of it."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            outcome = await manager.reload()
        except Exception:
            log.exception("Unforeseen error while reloading")
            continue
        if outcome.failure is None:
            log.info("Reloaded: %s", "something has changed" if outcome.changed else "nothing has changed")
        else:
            log.error("Reload failed: %s", outcome.failure.text)


class Renewal(NamedTuple):
    """Files that may change, and what takes up what they hold, on the loop."""

    files: Renewed[Any]
    use: Callable[[Any], None]

    async def first(self, pool: Executor) -> bool:
        """Read them for the first time; whether they can be used. The log tells why not."""
        try:
            self.use(await asyncio.get_running_loop().run_in_executor(pool, self.files.first))
        except (OSError, ValueError) as error:
            log.critical("Cannot start without %s: %s", self.files.what, error)
            return False
        return True

    async def run(self) -> None:
        """Take up what changes."""
        while True:
            await asyncio.sleep(PAUSE_S)
            value = await asyncio.get_running_loop().run_in_executor(None, self.files.look)
            if value is not None:
                self.use(value)


async def clean(registry: Registry, loaders: Executor, pause_s: float) -> None:
    """Remove sequences that nobody has used since the last time, and give free memory back."""
    while True:
        await asyncio.sleep(pause_s)
        if count := registry.clean_sequences():
            log.info("Removed %d idle sequences", count)
        await asyncio.get_running_loop().run_in_executor(loaders, allocator.give_back)
