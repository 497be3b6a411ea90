"""Several worker processes on one port: starts them, starts them again when they end or hang, and ends them together.

The supervisor serves nothing itself and has no models. It keeps the port, so that no other server takes it when a worker is away,
and carries what workers say to one another (``workers.hub``). Each worker is the same command line once more, told its place by a
variable of the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from tornado.netutil import bind_sockets

from tornado_ovms import chores, logs, signals, systemd
from tornado_ovms.core.snapshot import add_ended
from tornado_ovms.deadline import GRACE_S
from tornado_ovms.sockets import bind_path, tell_refusal
from tornado_ovms.workers.hub import Hub
from tornado_ovms.workers.link import VARIABLE, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado_ovms.core.settings import ServerSettings

log = logging.getLogger("serving")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
GOOD_S: Final = 60.0
"""A worker that has lived as long is started again at once, as if it had never failed."""

PING_S: Final = 10.0
MOST_PINGS: Final = 12
"""A worker that has been asked so often in vain hangs. A body of 1 GB with NaN in it holds the interpreter for 75 s while it is
read. Questions are counted and not seconds: on a machine that was suspended, nobody has been asked meanwhile."""

KILL_S: Final = GRACE_S + 3.0
"""How long after their drain workers are waited for, which end by themselves a little earlier."""

_LAUNCH: Final = "import sys; sys.path[:] = {path!r}; from tornado_ovms.cli import main; sys.exit(main())"


def supervise(settings: ServerSettings, words: Sequence[str]) -> int:
    """Serve with several processes until SIGTERM or SIGINT.

    Args:
        settings: what the command line says.
        words: the command line, which each worker is given again.

    Returns:
        The exit code: 0 after a signal; that of the worker if one cannot start for the first time.
    """
    try:
        logs.configure(settings.log_level, settings.log_path, settings.log_format)
    except OSError as error:
        print(f"log_path {settings.log_path} cannot be written: {error.strerror}")
        return 1
    shared = systemd.take_sockets(os.environ, os.getpid())
    with contextlib.ExitStack() as stack:
        for each in shared:
            stack.enter_context(each)
        place = ""
        try:
            if all(each.family == socket.AF_UNIX for each in shared):
                for address in settings.addresses:
                    place = f"{address}:{settings.rest_port}"
                    for each in _claim(settings.rest_port, address):
                        stack.enter_context(each)
            if settings.unix_socket is not None:
                place = settings.unix_socket
                shared.append(stack.enter_context(bind_path(place)))
        except OSError as error:
            tell_refusal(place, error)
            return 1
        return asyncio.run(_Supervisor(settings, words, shared).run())


def _claim(port: int, address: str) -> list[socket.socket]:
    """Sockets that hold the port without listening, once it has been seen that nobody else does."""
    for each in bind_sockets(port, address):
        each.close()
    held: list[socket.socket] = []
    for family, kind, protocol, _, place in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM):
        holder = socket.socket(family, kind, protocol)
        held.append(holder)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(place)
    return held


def pause_s(failures: int) -> float:
    """How long to wait before a worker is started again that has ended so many times in a row.

    >>> [pause_s(count) for count in (1, 2, 3, 20)]
    [0.2, 0.4, 0.8, 30.0]
    """
    return float(min(FIRST_PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S))


class _Supervisor:
    """The workers and the line to each. Belongs to the event loop."""

    def __init__(self, settings: ServerSettings, words: Sequence[str], shared: Sequence[socket.socket]) -> None:
        self._count = settings.workers
        self._ending_s = settings.drain_delay + settings.drain_timeout + KILL_S
        self._words = words
        self._shared = shared
        self._hub = Hub(self._count, add_ended, partial(systemd.notify, os.environ, "READY=1"))
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopped = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Keep the workers running until a signal comes, or until it shows that they cannot start."""
        signals.hear(self._stop, partial(self._signal, signal.SIGHUP))
        log.info("Starting %d workers", self._count)
        async with chores.beside(self._watch(), systemd.tell_alive(os.environ, os.getpid())):
            await asyncio.gather(*(self._keep(index) for index in range(self._count)))
        return self._code

    def _stop(self, number: int) -> None:
        """End the workers; the second time at once."""
        if self._stopped.is_set():
            log.warning("A second signal: the workers are ended at once")
            self._code = signals.exit_code(number)
            self._signal(signal.SIGKILL)
        else:
            self._end()

    def _end(self) -> None:
        """End the workers: in order, and those that do not end so by force."""
        self._stopped.set()
        for each in self._shared:
            each.close()  # once the workers have closed theirs, nobody is to wait in vain
        systemd.notify(os.environ, "STOPPING=1")
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._ending_s, self._kill)

    def _kill(self) -> None:
        for index in self._processes:
            log.error("Worker %d has not ended in %.0f s: it is killed", index, self._ending_s)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            _send(process, number)

    async def _watch(self) -> None:
        """Kill workers whose loops stand still; they are started again like others that have ended."""
        while True:
            await asyncio.sleep(PING_S)
            for index, pings in self._hub.ping().items():
                if pings == MOST_PINGS:
                    log.error("Worker %d has not answered for %.0f s: it is killed", index, pings * PING_S)
                    _send(self._processes[index], signal.SIGKILL)

    async def _keep(self, index: int) -> None:
        """Start a worker, and start it again whenever it ends."""
        failures = 0
        while not self._stopped.is_set():
            begun = time.monotonic()
            try:
                code = await self._run(index)
            except OSError as error:
                log.error("Worker %d cannot be started: %s", index, error)
                code = os.EX_OSERR
            if self._stopped.is_set():
                if code != signals.exit_code(signal.SIGTERM):  # with which one ends that was still starting
                    self._code = self._code or max(code, 0)
                return
            if not self._hub.have_all_started and code > 0:
                self._code = code  # it has said why; the others cannot do better
                self._end()
                return
            failures = 1 if time.monotonic() - begun > GOOD_S else failures + 1
            pause = pause_s(failures)
            log.error("Worker %d has ended (%s); it is started again in %.1f s", index, _reason(code), pause)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)

    async def _run(self, index: int) -> int:
        """One worker from its start to its end; its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        late = self._hub.have_all_started
        shared = tuple(each.fileno() for each in self._shared)
        place = Place(index, self._count, theirs.fileno(), is_late=late, sockets=shared)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _LAUNCH.format(path=sys.path),
                *self._words,
                env={**os.environ, VARIABLE: place.write()},
                pass_fds=(theirs.fileno(), *shared),
                start_new_session=True,  # Ctrl-C is for the supervisor, which tells the workers
            )
        self._processes[index] = process
        log.info("Worker %d is process %d", index, process.pid)
        if self._stopped.is_set():
            process.terminate()
        reader, writer = await asyncio.open_connection(sock=ours)
        line = asyncio.ensure_future(self._hub.serve(index, reader, writer))
        code = await process.wait()
        # What it has started and left behind holds its end of the line, which would never end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await line
        del self._processes[index]
        return code


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal to a process, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _reason(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
