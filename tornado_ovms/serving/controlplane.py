"""What is there, and how it is: status, metadata, health, metrics, and what changes it on request.

Every method belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from tornado_ovms import __version__
from tornado_ovms.codec import kfs, tfs
from tornado_ovms.core.exposition import OPENMETRICS
from tornado_ovms.core.exposition import TEXT as METRICS_TEXT
from tornado_ovms.core.lifecycle import State
from tornado_ovms.core.settings import ReadyWhen
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.observation import GET_METADATA, GET_STATUS, MODEL_METADATA, MODEL_READY
from tornado_ovms.serving.reply import Reply, refusal
from tornado_ovms.serving.siblings import ALONE, Siblings
from tornado_ovms.workers.frames import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from tornado_ovms.core.settings import Limits
    from tornado_ovms.metrics import Metrics
    from tornado_ovms.serving.manager import Manager
    from tornado_ovms.serving.registry import Model, Registry

T = TypeVar("T")

NAME: Final = "tornado_ovms"

PENDING: Final = "X-Reload-Pending"
"""Tells how many workers have not reloaded in time."""

READY: Final = "READY"
_STATES: Final[Mapping[State, str]] = {
    State.START: "LOADING",
    State.LOADING: "LOADING",
    State.AVAILABLE: READY,
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}


def _index(name: str, model: Model) -> list[kfs.RepositoryEntry]:
    """A model in the index of the repository, version by version."""
    entries = []
    for number, version in sorted(model.versions.items()):
        state = "UNAVAILABLE" if version.status.has_failed else _STATES[version.status.state]
        reason = version.failure.text if version.failure else "unloaded" if state == "UNAVAILABLE" else ""
        entries.append(kfs.RepositoryEntry(name, number, state, reason))
    if not entries:
        reason = model.failure.text if model.failure else "no versions"
        entries.append(kfs.RepositoryEntry(name, None, "UNAVAILABLE", reason))
    return entries


class ControlPlane:
    """Answers questions about what is served, and changes it.

    Args:
        registry: what is served.
        manager: what keeps it up to date.
        metrics: what is counted.
        pool: threads for what takes long.
        limits: what a request may cost.
        ready_when: what readiness means.
        siblings: the other workers.
    """

    def __init__(
        self,
        registry: Registry,
        manager: Manager,
        metrics: Metrics,
        pool: Executor,
        limits: Limits,
        ready_when: ReadyWhen = ReadyWhen.STARTED,
        siblings: Siblings = ALONE,
    ) -> None:
        self._registry = registry
        self._manager = manager
        self._metrics = metrics
        self._pool = pool
        self._limits = limits
        self._ready_when = ready_when
        self._siblings = siblings

    def status(self, name: str, version: int | None) -> Reply:
        """The status of a model's versions, or of one.

        Raises:
            Failure: MODEL_MISSING or VERSION_MISSING.
        """
        model = self._registry.model(name)
        reply = Reply(200, [tfs.write_status(model.statuses(version))])
        model.count(GET_STATUS)
        return reply

    def metadata(self, name: str, version: int | None) -> Reply:
        """What a version takes and gives.

        Raises:
            Failure: MODEL_MISSING, VERSION_MISSING, VERSION_NOT_LOADED_YET or VERSION_RETIRED.
        """
        found = self._registry.model(name).version(version)
        with found.cells.count(GET_METADATA):
            instance = found.serving()
            specs = instance.executable.inputs.values(), instance.executable.outputs
            return Reply(200, [tfs.write_metadata(name, instance.version, *specs)])

    def config_status(self, *, verbose: bool = False) -> Reply:
        """The status of everything that was ever known; with reasons of failures if ``verbose`` (ours)."""
        models = self._registry.everything
        statuses = {name: model.statuses() for name, model in models.items()}
        if not verbose:
            return Reply(200, [tfs.write_config_status(statuses)])
        reasons = {
            name: {number: version.failure.text for number, version in model.versions.items() if version.failure}
            for name, model in models.items()
        }
        faults = {name: model.failure.text for name, model in models.items() if model.failure}
        fault = self._manager.failure
        return Reply(200, [tfs.write_config_report(statuses, reasons, faults, fault.text if fault else None)])

    async def reload(self) -> Reply:
        """Look for changes now: 201 if there were any, 200 if not; the status of everything.

        Raises:
            Failure: never; a fault is answered with its own HTTP status and the sentence of the stage that it belongs
                to.
        """
        outcome, missing = await self._siblings.reload(self._manager.reload())
        headers = ((PENDING, str(missing)),) if missing else ()
        if outcome.failure is None:
            return self.config_status()._replace(status=201 if outcome.changed else 200, headers=headers)
        sentence = Failure(outcome.stage, "" if outcome.stage is Code.CONFIG_FILE_MISSING else outcome.failure.text)
        return refusal(sentence)._replace(status=outcome.failure.http, headers=headers)

    async def metrics(self, *, openmetrics: bool) -> Reply:
        """The metrics of everything that was ever served, gauges of retired versions being 0.

        Args:
            openmetrics: in that format instead of Prometheus's own text.

        Returns:
            A refusal while metrics are off; as in the reference it has the type of metrics nevertheless.
        """
        if not self._metrics.is_enabled:
            return refusal(Failure(Code.INVALID_URL))._replace(content_type=METRICS_TEXT)
        others = await self._siblings.metrics(await self.snapshot()) if self._siblings.are_there else ()
        text = await self._in_pool(partial(self._metrics.expose, others, openmetrics=openmetrics))
        return Reply(200, text, OPENMETRICS if openmetrics else METRICS_TEXT)

    async def snapshot(self) -> bytes:
        """What this worker has counted, for another one."""
        return await self._in_pool(self._metrics.snapshot)

    def live(self) -> Reply:
        """Whether the process answers."""
        return Reply(200, [])

    def ready(self) -> Reply:
        """Whether the server is ready, in the sense that was chosen; never while it is about to end.

        Raises:
            Failure: SERVER_NOT_READY.
        """
        manager, models = self._manager, self._registry.models
        is_ready = manager.is_ready and self._siblings.have_started and not manager.is_draining
        if is_ready and self._ready_when is not ReadyWhen.STARTED:
            serving = [name in models and bool(models[name].available) for name in manager.names]
            is_ready = any(serving) if self._ready_when is ReadyWhen.ANY else all(serving)
        if not is_ready:
            raise Failure(Code.SERVER_NOT_READY)
        return Reply(200, [])

    def server_metadata(self, extensions: Sequence[str] = ()) -> Reply:
        """What the server is; ``extensions`` of the protocol come to those that are always there."""
        return Reply(200, [kfs.write_server(NAME, __version__, (*kfs.EXTENSIONS, *extensions))], is_packable=False)

    def model_metadata(self, name: str, version: int | None) -> Reply:
        """What a version takes and gives, and which versions of its model serve. No version of a model is called 0.

        Raises:
            Failure: MODEL_MISSING, VERSION_MISSING, VERSION_NOT_LOADED_YET or VERSION_RETIRED.
        """
        model = self._registry.model(name)
        found = model.version(version)
        with found.cells.count(MODEL_METADATA):
            executable = found.serving().executable
            specs = executable.inputs.values(), executable.outputs
            return Reply(200, [kfs.write_model(name, model.available, *specs, executable.info)], is_packable=False)

    def model_ready(self, name: str, version: int | None) -> Reply:
        """Whether a version serves. Unlike elsewhere 0 is no word for a model's default version.

        Raises:
            Failure: MODEL_MISSING, VERSION_MISSING, or VERSION_NOT_LOADED_YET, also for one that is retired.
        """
        model = self._registry.model(name)
        found = model.version(version)
        model.count(MODEL_READY)  # whatever comes of it, as in the reference
        try:
            found.serving()
        except Failure:
            raise Failure(Code.VERSION_NOT_LOADED_YET) from None
        return Reply(200, [])

    def repository_index(self, body: bytes) -> Reply:
        """Every model of the configuration, with its versions and how they are.

        Raises:
            Failure: what is wrong with the body.
        """
        only_ready = kfs.read_is_only_ready(body, self._limits)
        entries = [entry for name in self._manager.names for entry in _index(name, self._registry.add_model(name))]
        chosen = (entry for entry in entries if not only_ready or entry.state == READY)
        return Reply(200, [kfs.write_index(chosen)], is_packable=False)

    async def load_model(self, name: str, body: bytes) -> Reply:
        """Serve a model of the configuration again, or try again what has failed of it.

        Raises:
            Failure: MODEL_MISSING if the configuration does not name it; what keeps all of its versions from being served.
        """
        kfs.check_load(body, self._limits)
        await self._siblings.manage(Topic.LOAD, name, self._manager.load(name))
        return Reply(200, [b"{}"])

    async def unload_model(self, name: str) -> Reply:
        """Stop serving a model, until somebody asks for it again or the server is started anew.

        Raises:
            Failure: MODEL_MISSING if the configuration does not name it.
        """
        await self._siblings.manage(Topic.UNLOAD, name, self._manager.unload(name))
        return Reply(200, [b"{}"])

    async def _in_pool(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
