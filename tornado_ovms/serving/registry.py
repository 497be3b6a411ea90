"""Names, versions and what serves them: the one place where requests look models up.

``Registry`` knows every model and version since the server started, retired ones too. The manager changes it, the data
plane asks it; both on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.lifecycle import (
    PIPELINE_TRANSITIONS,
    TRANSITIONS,
    Blueprint,
    Current,
    Event,
    Key,
    State,
    VersionStatus,
    default_version,
)
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.observation import Cells, Method
from tornado_ovms.serving.servable import Instance, Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.metrics import Metrics

log = logging.getLogger("modelmanager")

LOADING_WAIT_S: Final = 10.0
"""How long a request waits for a version that is being loaded, as in the reference (``src/modelmanager.cpp``)."""


class Version:
    """One version of a model: its status, what serves it, and why it failed.

    ``failure`` may be set while the version serves: then it is a replacement that failed, and the old instance goes on.
    """

    transitions: Mapping[tuple[VersionStatus, Event], VersionStatus] = TRANSITIONS
    wait_s: float = LOADING_WAIT_S
    unavailable: Mapping[State, Code] = MappingProxyType({
        State.START: Code.VERSION_NOT_LOADED_YET,
        State.LOADING: Code.VERSION_NOT_LOADED_YET,
        State.UNLOADING: Code.VERSION_RETIRED,
        State.END: Code.VERSION_RETIRED,
    })

    def __init__(self, blueprint: Blueprint, metrics: Metrics, *, is_pipeline: bool = False) -> None:
        self.blueprint = blueprint
        self.status = VersionStatus()
        self.instance: Instance | None = None
        self.failure: Failure | None = None
        self.cells = Cells(metrics, *blueprint.key, self, is_pipeline=is_pipeline)
        self.is_stateful = blueprint.settings.stateful
        self._settled = asyncio.Event()

    def advance(self, event: Event) -> None:
        """Take a step in the life of a version; KeyError if it is an illegal one."""
        self.status = self.transitions[self.status, event]
        if self.is_loading:
            self._settled.clear()
        else:
            self._settled.set()

    @property
    def state_name(self) -> str:
        """The state in a word; FAILED for a version that could not be loaded."""
        return "FAILED" if self.status.has_failed else self.status.state.name

    @property
    def is_loading(self) -> bool:
        """Whether it is worth waiting for."""
        return self.status.state is State.LOADING and not self.status.has_failed

    def serving(self) -> Instance:
        """What serves it; who lets the loop go on meanwhile takes a ``Lease``.

        Raises:
            Failure: VERSION_NOT_LOADED_YET or VERSION_RETIRED.
        """
        if self.status.state is State.AVAILABLE and self.instance is not None:
            return self.instance
        raise Failure(self.unavailable[self.status.state])

    async def lease_when_loaded(self, timeout_s: float | None = None) -> Lease:
        """The right to use it; if it is being loaded, that is waited for, as long as is usual unless told otherwise.

        Raises:
            Failure: as ``serving``.
        """
        if self.is_loading:
            await self.settled(self.wait_s if timeout_s is None else timeout_s)
        return Lease(self.serving())

    async def settled(self, timeout_s: float) -> None:
        """Wait until the load that goes on has ended, or the time is up."""
        try:
            await asyncio.wait_for(self._settled.wait(), timeout_s)
        except asyncio.TimeoutError:
            return


class Model:
    """A name and its versions. ``failure`` is set while something keeps the whole model from being looked at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.versions: dict[int, Version] = {}
        self.default: int | None = None
        self.failure: Failure | None = None

    def statuses(self, version: int | None = None) -> list[tuple[int, VersionStatus]]:
        """The statuses of all versions in ascending order, or of one.

        Raises:
            Failure: VERSION_MISSING.
        """
        if version is None:
            return [(number, each.status) for number, each in sorted(self.versions.items())]
        return [(version, self.version(version).status)]

    def count(self, method: Method) -> None:
        """Count a successful call that the reference counts for all versions together."""
        for version in self.versions.values():  # they share the counter
            version.cells.calls[method].success.value += 1
            return

    def find(self, number: int | None) -> Version | None:
        """A version by its number, by default the default version; None if there is none."""
        return self.versions.get(self.default if number is None else number)  # type: ignore[arg-type]

    def version(self, number: int | None) -> Version:
        """The same.

        Raises:
            Failure: VERSION_MISSING.
        """
        found = self.find(number)
        if found is None:
            raise Failure(Code.VERSION_MISSING)
        return found

    def instance(self, version: int | None) -> Instance:
        """What serves a version, by default the default version; who lets the loop go on meanwhile takes a ``Lease``.

        Raises:
            Failure: VERSION_MISSING, VERSION_NOT_LOADED_YET or VERSION_RETIRED.
        """
        return self.version(version).serving()

    @property
    def available(self) -> list[int]:
        """The versions that serve."""
        return [number for number, each in self.versions.items() if each.status.state is State.AVAILABLE]

    def update_default(self) -> None:
        """Choose the default version anew, after a change of status."""
        before = self.default
        self.default = default_version({number: each.status for number, each in self.versions.items()})
        if self.default == before:
            return
        if self.default is None:
            log.info("Model: %s will not have default version since no version is available.", self.name)
        else:
            log.info("Updated default version for model: %s, to: %d", self.name, self.default)


PIPELINE_WAIT_S: Final = 0.5
"""How long a request waits for a pipeline that is being checked for the first time, as in the reference."""

PIPELINE_VERSION: Final = 1


class PipelineVersion(Version):
    """What there is of a pipeline; versions in a request mean nothing."""

    transitions = PIPELINE_TRANSITIONS
    wait_s = PIPELINE_WAIT_S
    unavailable: Mapping[State, Code] = MappingProxyType({
        State.START: Code.PIPELINE_NOT_LOADED_YET,
        State.LOADING: Code.PIPELINE_NOT_LOADED_YET,
        State.UNLOADING: Code.PIPELINE_RETIRED,
        State.END: Code.PIPELINE_RETIRED,
    })


class Pipeline(Model):
    """A pipeline: to clients a model with the version 1, whatever version they ask for."""

    def __init__(self, blueprint: Blueprint, metrics: Metrics) -> None:
        super().__init__(blueprint.key.name)
        self._version = PipelineVersion(blueprint, metrics, is_pipeline=True)
        self.versions[PIPELINE_VERSION] = self._version

    @property
    def current(self) -> Instance | None:
        """What serves it."""
        return self._version.instance

    def find(self, number: int | None) -> Version | None:  # noqa: ARG002 - versions are accepted and ignored
        """See ``Model``."""
        return self._version

    def statuses(self, version: int | None = None) -> list[tuple[int, VersionStatus]]:  # noqa: ARG002 - as above
        """See ``Model``."""
        return [(PIPELINE_VERSION, self._version.status)]

    def begin(self) -> None:
        """A definition is going to be checked."""
        self._advance(Event.LOAD)

    def swap(self, fresh: Instance | None, failure: Failure | None) -> Instance | None:
        """Let it be served by a fresh instance, or not at all, and why; what has served it so far."""
        old, self._version.instance = self._version.instance, fresh
        self._version.failure = failure
        if fresh is not None or failure is not None:
            self._advance(Event.FAILED if fresh is None else Event.LOADED)
        return old

    def retire(self) -> None:
        """It is not configured any more."""
        self._advance(Event.RETIRE)

    def _advance(self, event: Event) -> None:
        before = self._version.status
        self._version.advance(event)
        if self._version.status != before:
            state, error = self._version.status
            log.info("Pipeline: %s state changed to: %s, error code: %s", self.name, state.name, error.value)


class Registry:
    """All models and pipelines by name. A name is looked for among the models first.

    Args:
        metrics: where their versions are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.models: dict[str, Model] = {}
        self.pipelines: dict[str, Pipeline] = {}
        self.metrics = metrics

    @property
    def everything(self) -> Mapping[str, Model]:
        """All models and pipelines."""
        return {**self.pipelines, **self.models}

    def find(self, name: str) -> Model | None:
        """A model or pipeline by its name; None if there is none."""
        return self.models.get(name) or self.pipelines.get(name)

    def model(self, name: str) -> Model:
        """The same.

        Raises:
            Failure: MODEL_MISSING.
        """
        found = self.find(name)
        if found is None:
            raise Failure(Code.MODEL_MISSING)
        return found

    def version(self, name: str, number: int | None) -> Version:
        """A version of a model or pipeline, by default the default version.

        Raises:
            Failure: MODEL_MISSING or VERSION_MISSING.
        """
        return self.model(name).version(number)

    def add_model(self, name: str) -> Model:
        """The model of that name, made known if it was not."""
        return self.models.setdefault(name, Model(name))

    def add_pipeline(self, blueprint: Blueprint) -> Pipeline:
        """The pipeline that a blueprint names, made known if it was not."""
        name = blueprint.key.name
        if name not in self.pipelines:
            self.pipelines[name] = Pipeline(blueprint, self.metrics)
        return self.pipelines[name]

    def add_version(self, blueprint: Blueprint) -> Version:
        """The version that a blueprint is for, made known if it was not."""
        name, number = blueprint.key
        versions = self.add_model(name).versions
        if number not in versions:
            versions[number] = Version(blueprint, self.metrics)
        return versions[number]

    def clean_sequences(self) -> int:
        """Remove the sequences that nobody has used since the last call, where that is wanted; how many they were."""
        instances = [version.instance for model in self.models.values() for version in model.versions.values()]
        return sum(
            instance.sequences.clean()
            for instance in instances
            if instance is not None
            and instance.sequences is not None
            and instance.blueprint.settings.idle_sequence_cleanup
        )

    def current(self) -> dict[Key, Current]:
        """Every version that was ever known, for ``plan``."""
        return {
            Key(name, number): Current(version.status, version.blueprint)
            for name, model in self.models.items()
            for number, version in model.versions.items()
        }

    def advance(self, key: Key, event: Event) -> None:
        """Take a step in the life of a version and announce it."""
        model = self.models[key.name]
        version = model.versions[key.version]
        before = version.status
        version.advance(event)
        if version.status != before:
            log.info(
                "STATUS CHANGE: Version %d of model %s status change. "
                'New status: ( "state": "%s", "error_code": "%s" )',
                key.version, key.name, version.status.state.name, version.status.error.value,
            )  # fmt: skip
        model.update_default()
