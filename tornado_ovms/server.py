"""Builds the services, runs them in one process, and ends them in order.

``run`` is what the command line calls: it returns the exit code. The HTTP port answers before the first model is
loaded, as in the reference (``src/server.cpp``).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from tornado_ovms import __version__, allocator, demo, logs, systemd
from tornado_ovms.core.command_line import CPUS_PER_WORKER
from tornado_ovms.core.metric_families import LOOP_LAG, resolve_metrics
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.cpus import available_cpus
from tornado_ovms.engine.openvino import OpenVinoEngine
from tornado_ovms.http.app import Edge
from tornado_ovms.http.listener import BACKLOG, LazyLoop, Listener
from tornado_ovms.http.patience import Patience
from tornado_ovms.http.traffic import Traffic
from tornado_ovms.keys import read_guard
from tornado_ovms.metrics import Metrics
from tornado_ovms.nodes.library import open_library
from tornado_ovms.renewal import PAUSE_S, Renewed
from tornado_ovms.serving.admission import Admission
from tornado_ovms.serving.clock import Clock
from tornado_ovms.serving.controlplane import ControlPlane
from tornado_ovms.serving.dataplane import DataPlane
from tornado_ovms.serving.elsewhere import Elsewhere
from tornado_ovms.serving.lookout import Lookout
from tornado_ovms.serving.manager import Manager, Source
from tornado_ovms.serving.pipelines import Pipelines
from tornado_ovms.serving.planes import Planes
from tornado_ovms.serving.registry import Registry
from tornado_ovms.serving.siblings import Errands, Siblings
from tornado_ovms.serving.warmup import WarmUp
from tornado_ovms.sockets import bind_path, tell_refusal
from tornado_ovms.storage.copies import Copies
from tornado_ovms.storage.local import LocalStorage
from tornado_ovms.storage.remote import RemoteStorage
from tornado_ovms.tls import server_context
from tornado_ovms.watch import Watcher
from tornado_ovms.workers.link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from concurrent.futures import Executor

    from tornado_ovms.core.settings import ServerSettings
    from tornado_ovms.metrics import Histogram
    from tornado_ovms.workers.link import Place

log = logging.getLogger("serving")

HEADER_BYTES: Final = 128 * 1024
"""Request line and headers together; the reference allows 64 KiB a line."""

SIGNALLED: Final = 128
"""With the number of a signal added to it, the exit code of a process that the signal has ended, as shells tell it."""

LISTERS: Final = 16
FETCHERS: Final = 4
"""Threads for repositories elsewhere. They wait for the network: a store that hangs should not keep others from answering."""

LAG_PAUSE_S: Final = 0.1
LATE_S: Final = 1.0

NEW_FOLDER_MODE: Final = 0o755

FLUSH_S: Final = 0.01
"""How often is looked whether clients have taken their answers, before connections are closed."""

SWITCH_S: Final = 0.001
"""How soon a thread that reads a large body gives way to the loop. Python's own 5 ms made the loop twice as late at worst."""


def run(settings: ServerSettings, place: Place | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 0 then, and 1 for what keeps the server from starting.

    Args:
        settings: what the command line says.
        place: which worker this process is; None if it serves alone.
    """
    try:
        logs.configure(settings.log_level, settings.log_path, settings.log_format)
    except OSError as error:
        print(f"log_path {settings.log_path} cannot be written: {error.strerror}")
        return 1
    for warning in settings.warnings:
        log.warning("%s", warning)
    allocator.keep_large_blocks()
    sys.setswitchinterval(SWITCH_S)
    with logs.in_background():
        return asyncio.run(_Server(settings, place).serve())


class _Ports(NamedTuple):
    """Where requests come from: the network, where TLS may be spoken, and Unix sockets, where it is not needed."""

    network: Listener
    local: Listener


class _Renewal(NamedTuple):
    """Files that may change, and what takes up what they hold, on the loop."""

    files: Renewed[Any]
    use: Callable[[Any], None]


class _Server:
    """One process and all its services. Belongs to the event loop."""

    def __init__(self, settings: ServerSettings, place: Place | None) -> None:
        self._settings = settings
        self._place = place

    async def serve(self) -> int:
        settings, place = self._settings, self._place
        link = None if place is None else Link(place)
        siblings = Siblings(link)
        LazyLoop()
        stopped, hung_up = asyncio.Event(), asyncio.Event()
        self._hear_signals(stopped, hung_up)
        with (
            _pool("decode", settings.rest_workers) as decoders,
            _pool("load", 1) as loaders,
            _pool("scan", 1) as scanner,
            _pool("list", LISTERS) as listers,
            _pool("fetch", FETCHERS) as fetchers,
            _pool("node", settings.rest_workers) as node_threads,
        ):
            engine = self._engine()
            if engine is None:
                return 1
            metrics = Metrics()
            registry = Registry(metrics)
            source = self._source()
            # 0 means never to look without being asked, so that nobody has to watch either.
            watcher = Watcher() if settings.file_system_poll_wait_seconds else None
            local = LocalStorage()
            remote = RemoteStorage(local, Copies())
            elsewhere = Elsewhere(remote, listers, fetchers, comes_back=watcher is not None)
            lookout = Lookout(source.config_path, local, watcher, scanner, elsewhere)
            warmup = WarmUp(settings.warmup, settings.limits)
            pipelines = Pipelines(registry, open_library, loaders, node_threads)
            manager = Manager(source, registry, engine, lookout, pipelines, loaders, warmup, Clock())
            planes = Planes(
                DataPlane(registry, decoders, settings.limits, settings.non_finite, siblings),
                ControlPlane(registry, manager, metrics, decoders, settings.limits, settings.ready_when, siblings),
            )
            if link is not None:
                errands = Errands(manager, planes)
                await link.open(errands.answer, errands.hear)
            traffic = Traffic(metrics, settings.access_log)
            edge = Edge(
                planes,
                settings.cors,
                settings.limits.body_bytes,
                decoders,
                traffic,
                Admission(settings.load, registry),
                is_managed=settings.manage,
                tells_timing=settings.server_timing,
            )
            ports = self._ports(edge, partial(traffic.refused, Code.TOO_MANY_CONNECTIONS))
            renewals = self._renewals(edge, ports.network)
            is_late = place is not None and place.is_late
            if not (await _read_first(renewals, scanner) and (is_late or self._listen(ports))):
                return 1
            patience = Patience(edge, settings.load.client_timeout_s, time.monotonic).run()
            async with _beside(patience, *map(_renew, renewals)):
                code = 1
                if await self._start(stopped, manager, metrics, remote) and (
                    not is_late or await self._follow(ports, siblings, manager)
                ):
                    siblings.started()
                    self._notify("READY=1")
                    # What is there now stays: looking through it for garbage would hold every thread for 30 ms, again and again.
                    gc.freeze()
                    async with self._chores(hung_up, manager, watcher, registry, loaders, metrics, siblings):
                        await _either(stopped, link.is_cut if link is not None else stopped)
                    code = 0
                self._notify("STOPPING=1")
                manager.is_draining = edge.is_draining = True
                if not code:
                    await asyncio.sleep(settings.drain_delay)
                await self._close(ports, edge)
            remote.close()
            await manager.retire_all()
            await lookout.scan(remote.remove)
            if link is not None:
                link.close()
            return code

    def _hear_signals(self, stopped: asyncio.Event, hung_up: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, partial(_stop, stopped, number, may_hurry=self._place is None))
        loop.add_signal_handler(signal.SIGHUP, hung_up.set)

    def _notify(self, news: str) -> None:
        """Tell systemd; of several workers their supervisor does."""
        if self._place is None:
            systemd.notify(os.environ, news)

    def _ports(self, edge: Edge, on_refusal: Callable[[], None]) -> _Ports:
        """What listens, on nothing yet."""
        settings = self._settings
        return _Ports(
            *(
                Listener(
                    edge,
                    streams=edge.streams,
                    max_connections=settings.load.connections,
                    on_refusal=on_refusal,
                    max_header_size=HEADER_BYTES,
                    max_body_size=settings.limits.body_bytes * 2,  # the edge refuses first, with an answer
                )
                for _ in _Ports._fields
            )
        )

    async def _close(self, ports: _Ports, edge: Edge) -> None:
        """Close all ports, let requests end, and close connections."""
        for port in ports:
            port.stop()
        await _drain(edge, self._settings.drain_timeout)
        for port in ports:
            await port.close_all_connections()

    async def _follow(self, ports: _Ports, siblings: Siblings, manager: Manager) -> bool:
        """Open the port beside workers that serve already: with the models that they serve."""
        for name in await siblings.unloaded():
            with contextlib.suppress(Failure):  # the configuration does not name it any more
                await manager.unload(name)
        return self._listen(ports)

    def _renewals(self, edge: Edge, server: Listener) -> list[_Renewal]:
        """The certificate and the API keys, as far as there are any."""
        settings, renewals = self._settings, []
        if settings.tls is not None:
            paths = [path for path in (settings.tls.certificate, settings.tls.key, settings.tls.client_ca) if path]
            files = Renewed("the certificate", paths, partial(server_context, settings.tls))
            renewals.append(_Renewal(files, partial(setattr, server, "ssl_options")))
        if paths := [path for path in (settings.inference_keys, settings.management_keys) if path]:
            guard = Renewed(
                "the API keys", paths, partial(read_guard, settings.inference_keys, settings.management_keys)
            )
            renewals.append(_Renewal(guard, partial(setattr, edge, "guard")))
        return renewals

    def _engine(self) -> OpenVinoEngine | None:
        """The engine, with the cache folder and the CPU extension; None if the latter cannot be loaded."""
        settings = self._settings
        cpus = available_cpus()
        workers = 1 if self._place is None else self._place.count
        defaults: dict[str, Any] = {}
        if workers > 1:
            # Bound threads would meet on the same cores: each process counts these from the first one on.
            defaults = {"INFERENCE_NUM_THREADS": max(1, cpus // workers), "ENABLE_CPU_PINNING": False}
        elif cpus < (os.cpu_count() or 1):
            defaults = {"INFERENCE_NUM_THREADS": cpus}
        cache_dir = _cache_dir(settings.cache_dir)
        engine = OpenVinoEngine(asyncio.get_running_loop(), cache_dir, defaults, settings.nireq)
        log.info("tornado_ovms %s", __version__)
        log.info(
            "CPUs: %d; processes: %d (--workers sets their number, by default one for each %d CPUs)",
            cpus, workers, CPUS_PER_WORKER,
        )  # fmt: skip
        log.info("Available devices for Open VINO: %s", ", ".join(engine.devices))
        if settings.cpu_extension:
            try:
                engine.add_extension(settings.cpu_extension)
            except Failure as failure:
                log.critical("Custom CPU extension loading has failed! Reason: %s", failure.detail)
                return None
        return engine

    def _source(self) -> Source:
        settings = self._settings
        if settings.demo:
            return Source(None, demo.model_settings())
        return Source(settings.config_path, (settings.model,) if settings.model else ())

    def _listen(self, ports: _Ports) -> bool:
        """Open the port on every address, unless systemd has done so; the Unix socket, unless the supervisor has."""
        settings, place = self._settings, self._place
        if place is None:
            given = systemd.take_sockets(os.environ, os.getpid())
        else:
            given = [socket.socket(fileno=number) for number in place.sockets]
        for each in given:
            each.setblocking(False)
            port = ports.local if each.family == socket.AF_UNIX else ports.network
            port.add_sockets([each], takes_turns=place is not None)
            log.info("REST server listening on %s, which was opened for it", each.getsockname())
        if settings.unix_socket is not None and place is None:
            try:
                ports.local.add_sockets([bind_path(settings.unix_socket)])
            except OSError as error:
                tell_refusal(settings.unix_socket, error)
                return False
            log.info("Started REST server at %s", settings.unix_socket)
        if any(each.family != socket.AF_UNIX for each in given):
            return True
        for address in settings.addresses:
            try:
                sockets = bind_sockets(settings.rest_port, address, backlog=BACKLOG, reuse_port=place is not None)
            except OSError as error:
                tell_refusal(f"{address}:{settings.rest_port}", error)
                return False
            ports.network.add_sockets(sockets)
            log.info(
                "REST server listening on port %d with %d unary threads and 0 streaming threads",
                settings.rest_port, settings.rest_workers,
            )  # fmt: skip
            log.info("Started REST server at %s:%d", address, settings.rest_port)
        return True

    async def _start(self, stopped: asyncio.Event, manager: Manager, metrics: Metrics, remote: RemoteStorage) -> bool:
        """Load the models; whether the server may go on. A stop meanwhile is no reason to fail, and ends downloads."""
        start = asyncio.ensure_future(self._load(manager, metrics))
        stop = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if stopped.is_set():
            remote.close()
        return await start or stopped.is_set()

    @contextlib.asynccontextmanager
    async def _chores(
        self,
        hung_up: asyncio.Event,
        manager: Manager,
        watcher: Watcher | None,
        registry: Registry,
        loaders: Executor,
        metrics: Metrics,
        siblings: Siblings,
    ) -> AsyncIterator[None]:
        """What is done beside the requests: changes are taken up, and what nobody needs any more is removed."""
        chores = [_reload(hung_up, manager), _watch_loop(metrics.histogram(LOOP_LAG))]
        if watcher is not None:
            log.info("Started model manager thread")
            watcher.start(asyncio.get_running_loop(), partial(_wake, manager, siblings))
            chores.append(manager.run(self._settings.file_system_poll_wait_seconds))
        if minutes := self._settings.sequence_cleaner_poll_wait_minutes:
            log.info("Started cleaner thread")
            chores.append(_clean(registry, loaders, minutes * 60))
        try:
            async with _beside(*chores):
                yield
        finally:
            if watcher is not None:
                watcher.close()
                log.info("Stopped model manager thread")

    async def _load(self, manager: Manager, metrics: Metrics) -> bool:
        """Make the first pass; whether the server may go on."""
        settings = self._settings
        try:
            await manager.start(
                lambda found: metrics.enable(resolve_metrics(settings.metrics, found, settings.rest_port))
            )
        except Failure as failure:
            log.error("Couldn't start model manager")
            log.error("ovms::ModelManager::Start() Error: %s", failure.text)
            return False
        if settings.demo and (self._place is None or not self._place.index):
            print(demo.welcome(f"http://127.0.0.1:{settings.rest_port}"), flush=True)
        return True


@contextlib.asynccontextmanager
async def _beside(*chores: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What goes on until the block ends."""
    tasks = [asyncio.ensure_future(chore) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def _pool(name: str, size: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block; what they have not begun by then is dropped."""
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait for one of two events: a signal, or the end of the supervisor."""
    waits = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()


def _wake(manager: Manager, siblings: Siblings) -> None:
    """Something has changed on disk; other workers may see it later than this one."""
    manager.wake()
    siblings.wake()


async def _watch_loop(lag: Histogram) -> None:
    """Measure how late the loop is, and tell of it when somebody will have noticed. For ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_PAUSE_S
        await asyncio.sleep(LAG_PAUSE_S)
        late = loop.time() - due
        lag.observe(late)
        if late > LATE_S:
            log.warning("The event loop was %.1f s late: something holds it, or the machine is too busy", late)


async def _reload(hung_up: asyncio.Event, manager: Manager) -> None:
    """What SIGHUP asks for, also while the first models were loaded; the log tells what came of it. For ever."""
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


async def _read_first(renewals: Iterable[_Renewal], scanner: Executor) -> bool:
    """Read what may change later for the first time; whether the server may go on."""
    for renewal in renewals:
        try:
            renewal.use(await asyncio.get_running_loop().run_in_executor(scanner, renewal.files.first))
        except (OSError, ValueError) as error:
            log.critical("Cannot start without %s: %s", renewal.files.what, error)
            return False
    return True


async def _renew(renewal: _Renewal) -> None:
    """Take up what changes. For ever."""
    while True:
        await asyncio.sleep(PAUSE_S)
        value = await asyncio.get_running_loop().run_in_executor(None, renewal.files.look)
        if value is not None:
            renewal.use(value)


async def _clean(registry: Registry, loaders: Executor, pause_s: float) -> None:
    """Remove sequences that nobody has used since the last time, and give free memory back; for ever."""
    while True:
        await asyncio.sleep(pause_s)
        if count := registry.clean_sequences():
            log.info("Removed %d idle sequences", count)
        await asyncio.get_running_loop().run_in_executor(loaders, allocator.give_back)


def _stop(stopped: asyncio.Event, number: int, *, may_hurry: bool) -> None:
    """Begin to end; the second time at once, whatever is under way.

    A worker leaves that to its supervisor: whoever signals all processes of a service (systemd does) signals workers twice.
    """
    if stopped.is_set() and may_hurry:
        print("A second signal: ending at once", flush=True)  # the log's own thread would not come to it
        os._exit(SIGNALLED + number)
    stopped.set()


async def _drain(edge: Edge, timeout_s: float) -> None:
    """Wait until requests that have begun to come have been answered, and their clients have the answers, within a limit."""
    if edge.open:
        log.info("Waiting for %d requests to end, %.0f s at most", len(edge.open), timeout_s)
    try:
        await asyncio.wait_for(_settled(edge), timeout_s)
    except asyncio.TimeoutError:
        count = max(len(edge.open), sum(map(IOStream.writing, edge.streams)))
        log.warning("%d requests have not ended in %.0f s: they are given up", count, timeout_s)


async def _settled(edge: Edge) -> None:
    await edge.idle()
    while any(map(IOStream.writing, edge.streams)):  # noqa: ASYNC110 - Tornado has no event for it
        await asyncio.sleep(FLUSH_S)


def _cache_dir(wanted: str | None) -> str | None:
    """The folder for compiled models, made if need be; None if there is none or it cannot be written."""
    path = Path(wanted or "/opt/cache")
    if wanted is None and not path.is_dir():
        return None
    try:
        if not path.exists():
            path.mkdir(NEW_FOLDER_MODE, parents=True)
            log.info("Cache directory %s did not exist, created", path)
    except OSError as error:
        log.warning("Cache directory %s cannot be created: %s; models are compiled anew at each start", path, error)
        return None
    if not os.access(path, os.W_OK):
        log.warning("Cache directory %s is not writable; models are compiled anew at each start", path)
        return None
    log.info("Model cache is enabled: %s", path)
    return str(path)
