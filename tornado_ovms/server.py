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
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms import __version__, allocator, chores, demo, logs, signals, systemd
from tornado_ovms.chores import Renewal
from tornado_ovms.core.command_line import CPUS_PER_WORKER
from tornado_ovms.core.metric_families import LOOP_LAG, resolve_metrics
from tornado_ovms.core.settings import told
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.cpus import available_cpus
from tornado_ovms.deadline import GRACE_S, Deadline
from tornado_ovms.engine.openvino import OpenVinoEngine
from tornado_ovms.http.app import Edge
from tornado_ovms.http.listener import LazyLoop
from tornado_ovms.http.patience import Patience
from tornado_ovms.http.traffic import Traffic
from tornado_ovms.keys import read_guard
from tornado_ovms.metrics import Metrics
from tornado_ovms.nodes.library import open_library
from tornado_ovms.ports import Ports
from tornado_ovms.renewal import Renewed
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
from tornado_ovms.storage.copies import Copies
from tornado_ovms.storage.local import LocalStorage
from tornado_ovms.storage.remote import RemoteStorage
from tornado_ovms.tls import server_context
from tornado_ovms.watch import Watcher
from tornado_ovms.workers.link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from concurrent.futures import Executor

    from tornado_ovms.core.settings import ServerSettings
    from tornado_ovms.workers.link import Place

log = logging.getLogger("serving")

LISTERS: Final = 16
FETCHERS: Final = 4
"""Threads for repositories elsewhere. They wait for the network: a store that hangs should not keep others from answering."""

NEW_FOLDER_MODE: Final = 0o755

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
    for line in told(settings):
        log.debug("%s", line)
    for warning in settings.warnings:
        log.warning("%s", warning)
    allocator.keep_large_blocks()
    sys.setswitchinterval(SWITCH_S)
    with logs.in_background():
        return asyncio.run(_Server(settings, place).serve())


class _Pools(NamedTuple):
    """Threads, by what they are for."""

    decode: Executor
    load: Executor
    scan: Executor
    list: Executor
    fetch: Executor
    node: Executor


class _Services(NamedTuple):
    """What a server of one process consists of, below its ports."""

    metrics: Metrics
    registry: Registry
    watcher: Watcher | None
    remote: RemoteStorage
    lookout: Lookout
    manager: Manager
    siblings: Siblings
    planes: Planes


class _Server:
    """One process and all its services. Belongs to the event loop."""

    def __init__(self, settings: ServerSettings, place: Place | None) -> None:
        self._settings = settings
        self._place = place
        self._link = None if place is None else Link(place)
        self._stopped = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._deadline = Deadline()

    async def serve(self) -> int:
        """From the start to the end; the exit code."""
        LazyLoop()
        signals.hear(self._stop, self._hung_up.set)
        with _pools(self._settings.rest_workers) as pools:
            engine = self._engine()
            if engine is None:
                return 1
            services = self._build(engine, pools)
            if self._link is not None:
                errands = Errands(services.manager, services.planes)
                await self._link.open(errands.answer, errands.hear)
            code = await self._answer(services, pools)
            services.remote.close()
            await services.manager.retire_all()
            await services.lookout.scan(services.remote.remove)
            if self._link is not None:
                self._link.close()
            return code

    async def _answer(self, services: _Services, pools: _Pools) -> int:
        """Open the ports, load the models, and answer until the end; the exit code."""
        settings = self._settings
        traffic = Traffic(services.metrics, settings.access_log)
        edge = Edge(
            services.planes,
            settings.cors,
            settings.limits.body_bytes,
            pools.decode,
            traffic,
            Admission(settings.load, services.registry),
            is_managed=settings.manage,
            tells_timing=settings.server_timing,
        )
        ports = Ports(settings, self._place, edge, partial(traffic.refused, Code.TOO_MANY_CONNECTIONS))
        renewals = self._renewals(edge, ports)
        for renewal in renewals:
            if not await renewal.first(pools.scan):
                return 1
        # Beside workers that serve already the port is opened when the models are there.
        is_late = self._place is not None and self._place.is_late
        if not (is_late or ports.listen()):
            return 1
        patience = Patience(edge, settings.load.client_timeout_s, time.monotonic)
        alive = [] if self._place else [systemd.tell_alive(os.environ, os.getpid())]
        async with chores.beside(patience.run(), *alive, *(renewal.run() for renewal in renewals)):
            code = 1
            if await self._start(services) and (not is_late or await self._follow(services, ports)):
                services.siblings.started()
                self._notify("READY=1")
                # What is there now stays: looking through it for garbage would hold every thread for 30 ms, again and again.
                gc.freeze()
                async with self._chores(services, pools):
                    await self._end()
                code = 0
            self._notify("STOPPING=1")
            services.manager.is_draining = edge.is_draining = True
            if not code:
                await asyncio.sleep(settings.drain_delay)
            await ports.close()
            self._deadline.set(GRACE_S, code)
        return code

    def _build(self, engine: OpenVinoEngine, pools: _Pools) -> _Services:
        settings = self._settings
        metrics = Metrics()
        registry = Registry(metrics)
        source = self._source()
        # 0 means never to look without being asked, so that nobody has to watch either.
        watcher = Watcher() if settings.file_system_poll_wait_seconds else None
        local = LocalStorage()
        remote = RemoteStorage(local, Copies())
        elsewhere = Elsewhere(remote, pools.list, pools.fetch, comes_back=watcher is not None)
        lookout = Lookout(source.config_path, local, watcher, pools.scan, elsewhere)
        warmup = WarmUp(settings.warmup, settings.limits)
        pipelines = Pipelines(registry, open_library, pools.load, pools.node)
        manager = Manager(source, registry, engine, lookout, pipelines, pools.load, warmup, Clock())
        siblings = Siblings(self._link)
        planes = Planes(
            DataPlane(registry, pools.decode, settings.limits, settings.non_finite, siblings),
            ControlPlane(registry, manager, metrics, pools.decode, settings.limits, settings.ready_when, siblings),
        )
        return _Services(metrics, registry, watcher, remote, lookout, manager, siblings, planes)

    def _stop(self, number: int) -> None:
        """Begin to end; the second time at once, whatever is under way.

        A worker leaves that to its supervisor: whoever signals all processes of a service (systemd does) signals workers twice.
        """
        if not self._stopped.is_set():
            self._stopped.set()
            self._deadline.set(self._settings.drain_delay + self._settings.drain_timeout + GRACE_S, 0)
        elif self._place is None:
            print("A second signal: ending at once", flush=True)  # the log's own thread would not come to it
            os._exit(signals.exit_code(number))

    async def _end(self) -> None:
        """Wait until it has to end: for a signal, or for the end of the supervisor."""
        events = [self._stopped] if self._link is None else [self._stopped, self._link.is_cut]
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()

    def _notify(self, news: str) -> None:
        """Tell systemd; of several workers their supervisor does."""
        if self._place is None:
            systemd.notify(os.environ, news)

    async def _follow(self, services: _Services, ports: Ports) -> bool:
        """Open the port beside workers that serve already: with the models that they serve."""
        for name in await services.siblings.unloaded():
            with contextlib.suppress(Failure):  # the configuration does not name it any more
                await services.manager.unload(name)
        return ports.listen()

    def _renewals(self, edge: Edge, ports: Ports) -> list[Renewal]:
        """The certificate and the API keys, as far as there are any."""
        settings, renewals = self._settings, []
        if settings.tls is not None:
            paths = [path for path in (settings.tls.certificate, settings.tls.key, settings.tls.client_ca) if path]
            files = Renewed("the certificate", paths, partial(server_context, settings.tls))
            renewals.append(Renewal(files, partial(setattr, ports.network, "ssl_options")))
        if paths := [path for path in (settings.inference_keys, settings.management_keys) if path]:
            guard = Renewed(
                "the API keys", paths, partial(read_guard, settings.inference_keys, settings.management_keys)
            )
            renewals.append(Renewal(guard, partial(setattr, edge, "guard")))
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

    async def _start(self, services: _Services) -> bool:
        """Load the models; whether the server may go on. A stop meanwhile is no failure, and what has not begun does not."""
        start = asyncio.ensure_future(self._load(services))
        stop = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self._stopped.is_set():
            services.remote.close()
            start.cancel()
            await asyncio.wait((start,))
            return True
        return await start

    @contextlib.asynccontextmanager
    async def _chores(self, services: _Services, pools: _Pools) -> AsyncIterator[None]:
        """What is done beside the requests: changes are taken up, and what nobody needs any more is removed."""
        manager, watcher = services.manager, services.watcher
        running = [
            chores.reload(self._hung_up, manager), chores.watch_loop(services.metrics.histogram(LOOP_LAG)),
        ]  # fmt: skip
        if watcher is not None:
            log.info("Started model manager thread")
            watcher.start(asyncio.get_running_loop(), partial(_wake, manager, services.siblings))
            running.append(manager.run(self._settings.file_system_poll_wait_seconds))
        if minutes := self._settings.sequence_cleaner_poll_wait_minutes:
            log.info("Started cleaner thread")
            running.append(chores.clean(services.registry, pools.load, minutes * 60))
        try:
            async with chores.beside(*running):
                yield
        finally:
            if watcher is not None:
                watcher.close()
                log.info("Stopped model manager thread")

    async def _load(self, services: _Services) -> bool:
        """Make the first pass; whether the server may go on."""
        settings = self._settings
        try:
            await services.manager.start(
                lambda found: services.metrics.enable(resolve_metrics(settings.metrics, found, settings.rest_port))
            )
        except Failure as failure:
            log.error("Couldn't start model manager")
            log.error("ovms::ModelManager::Start() Error: %s", failure.text)
            return False
        if settings.demo and (self._place is None or not self._place.index):
            print(demo.welcome(f"http://127.0.0.1:{settings.rest_port}"), flush=True)
        return True


@contextlib.contextmanager
def _pools(rest_workers: int) -> Iterator[_Pools]:
    """Threads that end with the block; what they have not begun by then is dropped."""
    sizes = {"decode": rest_workers, "load": 1, "scan": 1, "list": LISTERS, "fetch": FETCHERS, "node": rest_workers}
    pools = {name: ThreadPoolExecutor(size, thread_name_prefix=name) for name, size in sizes.items()}
    try:
        yield _Pools(**pools)
    finally:
        for pool in pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


def _wake(manager: Manager, siblings: Siblings) -> None:
    """Something has changed on disk; other workers may see it later than this one."""
    manager.wake()
    siblings.wake()


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
