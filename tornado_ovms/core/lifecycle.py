"""The life of a model version: states as a table, and what to do next as pure functions.

``TRANSITIONS`` is the only place where a change of state is written down; an illegal step is a missing key. ``select``
says which versions a policy wants, ``plan`` compares what is wanted with what there is and returns the actions that
lead from one to the other. ``plan`` keeps nothing: asked again with the same input it gives the same answer, and
nothing once the two agree (the idea of ``tensorflow_serving/core/aspired_version_policy.h``).

States, numbers and names are those of the reference (``src/modelversionstatus.hpp``). Any thread may use this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.settings import AllVersions, LatestVersions, ModelSettings, VersionPolicy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


class State(Enum):
    """What a version is doing. The numbers are TensorFlow Serving's."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class ErrorCode(Enum):
    """What is wrong with a version; shown as ``error_code`` and as ``error_message``."""

    OK = "OK"
    UNKNOWN = "UNKNOWN"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"


class Event(Enum):
    """What happens to a version."""

    LOAD = auto()
    LOADED = auto()
    FAILED = auto()
    RETIRE = auto()
    UNLOADED = auto()


class VersionStatus(NamedTuple):
    """State and error as clients see them."""

    state: State = State.START
    error: ErrorCode = ErrorCode.OK

    @property
    def has_failed(self) -> bool:
        """Whether the last attempt to load failed."""
        return self.error is not ErrorCode.OK


_START = VersionStatus(State.START)
_LOADING = VersionStatus(State.LOADING)
_FAILED = VersionStatus(State.LOADING, ErrorCode.UNKNOWN)
_AVAILABLE = VersionStatus(State.AVAILABLE)
_UNLOADING = VersionStatus(State.UNLOADING)
_END = VersionStatus(State.END)

TRANSITIONS: Final[Mapping[tuple[VersionStatus, Event], VersionStatus]] = MappingProxyType({
    (_START, Event.LOAD): _LOADING,
    (_LOADING, Event.LOADED): _AVAILABLE,
    (_LOADING, Event.FAILED): _FAILED,
    (_LOADING, Event.RETIRE): _END,
    (_FAILED, Event.LOAD): _LOADING,
    (_FAILED, Event.RETIRE): _END,
    (_AVAILABLE, Event.LOADED): _AVAILABLE,  # replaced by a new instance of the same version
    (_AVAILABLE, Event.FAILED): _AVAILABLE,  # the replacement failed, the old instance goes on
    (_AVAILABLE, Event.RETIRE): _UNLOADING,
    (_UNLOADING, Event.UNLOADED): _END,
    (_END, Event.LOAD): _LOADING,  # it came back
})


_INVALID = VersionStatus(State.LOADING, ErrorCode.FAILED_PRECONDITION)

PIPELINE_TRANSITIONS: Final[Mapping[tuple[VersionStatus, Event], VersionStatus]] = MappingProxyType({
    (_START, Event.LOAD): _LOADING,
    (_LOADING, Event.LOAD): _LOADING,
    (_LOADING, Event.LOADED): _AVAILABLE,
    (_LOADING, Event.FAILED): _INVALID,
    (_LOADING, Event.RETIRE): _END,
    (_INVALID, Event.LOAD): _INVALID,
    (_INVALID, Event.LOADED): _AVAILABLE,
    (_INVALID, Event.FAILED): _INVALID,
    (_INVALID, Event.RETIRE): _END,
    (_AVAILABLE, Event.LOAD): _AVAILABLE,  # it is checked anew, and serves meanwhile
    (_AVAILABLE, Event.LOADED): _AVAILABLE,
    (_AVAILABLE, Event.FAILED): _INVALID,  # a member has changed, or the definition
    (_AVAILABLE, Event.RETIRE): _END,
    (_END, Event.LOAD): _LOADING,
})
"""The life of a pipeline. LOAD is a definition that is to be checked, LOADED and FAILED are what comes of it."""


class Key(NamedTuple):
    """Names one version of a model."""

    name: str
    version: int


Fingerprint = tuple[tuple[str, int, int], ...]
"""The files of a version: path below the folder, size in bytes, time of change in ns; equal as long as none has changed."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that is needed to load one version. An equal one needs no reload.

    ``settings`` has the version policy blanked out, since a version does not depend on it.
    """

    key: Key
    settings: ModelSettings
    path: str
    fingerprint: Fingerprint


class Load(NamedTuple):
    """Load a version that is not served, or (``replaces``) one that is, with other settings or files."""

    blueprint: Blueprint
    replaces: bool


class Retire(NamedTuple):
    """Stop serving a version."""

    key: Key


Action = Load | Retire


class Current(NamedTuple):
    """What there is of a version: its status and what it was, or was last tried to be, loaded from."""

    status: VersionStatus
    blueprint: Blueprint


def select(policy: VersionPolicy, versions: Collection[int]) -> frozenset[int]:
    """The versions that the policy wants, of those that there are."""
    if isinstance(policy, AllVersions):
        return frozenset(versions)
    if isinstance(policy, LatestVersions):
        return frozenset(sorted(versions)[-policy.count :])
    return policy.versions & frozenset(versions)


class Aspired(NamedTuple):
    """Versions of a model: those that should be served, and those that were chosen too but cannot be."""

    wanted: frozenset[int]
    struck: frozenset[int]


def aspire(policy: VersionPolicy, versions: Collection[int], unusable: Collection[int]) -> Aspired:
    """Apply a policy, and apply it again without the versions that it chose in vain.

    With ``latest: 1``, versions 1, 2, 3 and an unusable 3 the answer is 2, and 3 is struck. ``specific`` and ``all``
    have no substitutes by nature.
    """
    usable, struck = frozenset(versions), frozenset[int]()
    while bad := select(policy, usable) & frozenset(unusable):
        usable -= bad
        struck |= bad
    return Aspired(select(policy, usable), struck)


def default_version(statuses: Mapping[int, VersionStatus]) -> int | None:
    """The version that serves requests which name none: the highest that is available."""
    return max((version for version, status in statuses.items() if status.state is State.AVAILABLE), default=None)


def plan(aspired: Iterable[Blueprint], kept: Collection[Key], current: Mapping[Key, Current]) -> list[Action]:
    """What to do next so that the aspired versions are served and no others.

    Loads come first, the highest version first. Versions are retired only when nothing is left to load, so that a
    successor serves before its predecessor goes; also not while a wanted one of the same model has to end before it can be
    loaded anew. Those in ``kept`` (they were wanted, and failed) stay as they are.

    Args:
        aspired: what should be served; loading is not tried again for what is in ``kept``.
        kept: versions that have failed in this round: neither loaded nor retired.
        current: every version that was ever known.

    Returns:
        Actions that may be done in this order; none if there is nothing to do.
    """
    wanted = {blueprint.key: blueprint for blueprint in aspired}
    loads: list[Action] = [
        Load(blueprint, replaces=key in current and current[key].status.state is State.AVAILABLE)
        for key, blueprint in sorted(wanted.items(), key=lambda item: item[0].version, reverse=True)
        if key not in kept and _needs_load(current.get(key), blueprint)
    ]
    if loads:
        return loads
    awaited = {key.name for key in wanted if key in current and current[key].status.state is State.UNLOADING}
    return [
        Retire(key)
        for key, there in sorted(current.items())
        if key not in wanted and key not in kept and there.status.state in (State.LOADING, State.AVAILABLE)
        if key.name not in awaited
    ]


def _needs_load(there: Current | None, blueprint: Blueprint) -> bool:
    """Whether a wanted version is not there, has failed, or was made from something else.

    One that is still being unloaded is left alone: it is planned for again when it has ended.
    """
    if there is None:
        return True
    if there.status.state is State.UNLOADING:
        return False
    return there.status.state is not State.AVAILABLE or there.blueprint != blueprint
