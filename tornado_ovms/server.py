"""Builds the services, runs them in one process, and ends them in order.

``run`` is what the command line calls: it returns the exit code. The HTTP port answers before the first model is
loaded, as in the reference (``src/server.cpp``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from tornado_ovms import __version__, allocator, demo, logs
from tornado_ovms.core.metric_families import resolve_metrics
from tornado_ovms.core.status import Failure
from tornado_ovms.cpus import available_cpus
from tornado_ovms.engine.openvino import OpenVinoEngine
from tornado_ovms.http.app import Edge
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.dataplane import DataPlane
from tornado_ovms.serving.manager import Manager, Source
from tornado_ovms.serving.registry import Registry
from tornado_ovms.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tornado_ovms.core.settings import ServerSettings

log = logging.getLogger("serving")

HEADER_BYTES: Final = 128 * 1024
"""Request line and headers together; the reference allows 64 KiB a line."""

IDLE_S: Final = 365 * 24 * 3600.0
"""The reference never closes a connection for being idle; Tornado wants a number."""

DRAIN_S: Final = 10.0
"""How long requests may take to end after SIGTERM."""

NEW_FOLDER_MODE: Final = 0o755


def run(settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 0 then, and 1 for what keeps the server from starting."""
    try:
        logs.configure(settings.log_level, settings.log_path)
    except OSError as error:
        print(f"log_path {settings.log_path} cannot be written: {error.strerror}")
        return 1
    for warning in settings.warnings:
        log.warning("%s", warning)
    allocator.keep_large_blocks()
    return asyncio.run(_Server(settings).serve())


class _Server:
    """One process and all its services. Belongs to the event loop."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    async def serve(self) -> int:
        settings = self._settings
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        with (
            _pool("decode", settings.rest_workers) as decoders,
            _pool("load", 1) as loaders,
            _pool("scan", 1) as scanner,
        ):
            engine = self._engine()
            if engine is None:
                return 1
            registry, metrics = Registry(), Metrics()
            manager = Manager(self._source(), registry, engine, LocalStorage(), loaders, scanner)
            plane = DataPlane(registry, manager, metrics, decoders, settings.limits, settings.non_finite)
            edge = Edge(plane, settings.cors, settings.limits.body_bytes, decoders)
            server = HTTPServer(
                edge,
                max_header_size=HEADER_BYTES,
                max_body_size=settings.limits.body_bytes * 2,  # the edge refuses first, with an answer
                idle_connection_timeout=IDLE_S,
            )
            if not self._listen(server):
                return 1
            code = await self._until(stopped, manager, metrics)
            server.stop()
            await _drain(edge)
            await server.close_all_connections()
            await manager.retire_all()
            return code

    def _engine(self) -> OpenVinoEngine | None:
        """The engine, with the cache folder and the CPU extension; None if the latter cannot be loaded."""
        settings = self._settings
        cpus = available_cpus()
        threads = cpus if cpus < (os.cpu_count() or 1) else None
        cache_dir = _cache_dir(settings.cache_dir)
        engine = OpenVinoEngine(asyncio.get_running_loop(), cache_dir, threads, settings.nireq)
        log.info("tornado_ovms %s", __version__)
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

    def _listen(self, server: HTTPServer) -> bool:
        """Open the port on every address."""
        settings = self._settings
        for address in settings.addresses:
            try:
                sockets = bind_sockets(settings.rest_port, address)
            except OSError as error:
                log.error("Failed to start REST server - at %s:%d", address, settings.rest_port)
                log.error("%s; is another server listening there?", error.strerror)
                return False
            server.add_sockets(sockets)
            log.info(
                "REST server listening on port %d with %d unary threads and 0 streaming threads",
                settings.rest_port, settings.rest_workers,
            )  # fmt: skip
            log.info("Started REST server at %s:%d", address, settings.rest_port)
        return True

    async def _until(self, stopped: asyncio.Event, manager: Manager, metrics: Metrics) -> int:
        """Load the models and serve them until told to stop."""
        start = asyncio.ensure_future(self._start(manager, metrics))
        stop = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        if start.done() and not start.result():
            return 1
        poll = None
        if self._settings.file_system_poll_wait_seconds and start.done():
            log.info("Started model manager thread")
            poll = asyncio.ensure_future(manager.poll(self._settings.file_system_poll_wait_seconds))
        await stop
        if poll is not None:
            poll.cancel()
            log.info("Stopped model manager thread")
        await asyncio.wait((start,))
        return 0

    async def _start(self, manager: Manager, metrics: Metrics) -> bool:
        """Make the first pass; whether the server may go on."""
        settings = self._settings
        try:
            await manager.start()
            metrics.enable(resolve_metrics(settings.metrics, manager.metrics, settings.rest_port))
        except Failure as failure:
            log.error("Couldn't start model manager")
            log.error("ovms::ModelManager::Start() Error: %s", failure.text)
            return False
        if settings.demo:
            print(demo.welcome(f"http://127.0.0.1:{settings.rest_port}"), flush=True)
        return True


@contextlib.contextmanager
def _pool(name: str, size: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block; what they have not begun by then is dropped."""
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def _drain(edge: Edge) -> None:
    """Wait until requests in flight have been answered, within a limit."""
    tasks = [exchange.task for exchange in edge.open if exchange.task is not None]
    if tasks:
        log.info("Waiting for %d requests to end", len(tasks))
        await asyncio.wait(tasks, timeout=DRAIN_S)


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
