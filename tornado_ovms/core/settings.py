"""Settings of the server and of each model: frozen values, compared to find what a reload has to do.

Built by ``cli`` and ``core.config``, read by everybody; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tornado_ovms.core.repositories import scrub
from tornado_ovms.core.tensors import Auto, Dim, LayoutChange, Shape

GIB: Final = 1 << 30


class NonFinite(Enum):
    """How NaN and the infinities are written in a JSON answer (ours; JSON has no word for them)."""

    NULL = "null"
    LITERAL = "literal"
    STRING = "string"
    ERROR = "error"


class ReadyWhen(Enum):
    """When ``/v2/health/ready`` says yes (ours; the reference knows the first only)."""

    STARTED = "started"
    ANY = "any"
    ALL = "all"


class LogFormat(Enum):
    """How log lines are written: as the reference does, or as JSON objects (ours)."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LatestVersions:
    """Serve the ``count`` highest versions."""

    count: int = 1

    def __str__(self) -> str:
        return f"latest: {self.count}"


@dataclass(frozen=True, slots=True)
class SpecificVersions:
    """Serve those of these versions that exist."""

    versions: frozenset[int]

    def __str__(self) -> str:
        return f"specific: {sorted(self.versions)}"


@dataclass(frozen=True, slots=True)
class AllVersions:
    """Serve every version that exists."""

    def __str__(self) -> str:
        return "all"


WARMUP_NONE: Final = "none"
WARMUP_ZEROS: Final = "zeros"
"""Words of the setting ``warmup`` (ours); anything else is the name of a file beside the model."""

VersionPolicy = LatestVersions | SpecificVersions | AllVersions

PluginValue = str | bool | int | float | Mapping[str, Any]  # a mapping only for DEVICE_PROPERTIES
EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are joined to one inference (ours).

    Attributes:
        max_batch: how many rows one inference has at most.
        delay_ms: how many milliseconds a request waits for others at most, while there is nothing else to do.
    """

    max_batch: int
    delay_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One entry of ``model_config_list``, or the single model of the command line.

    ``shape`` and ``layout`` hold one value for a model with one input (or ``auto`` for all), or one by name of the
    tensor. ``base_path`` is absolute unless it is a URL. A frozen instance is not hashable, as it holds mappings.
    """

    name: str
    base_path: str
    version_policy: VersionPolicy = LatestVersions()
    batch_size: Dim | Auto | None = None
    shape: Shape | Auto | Mapping[str, Shape | Auto] | None = None
    layout: LayoutChange | Mapping[str, LayoutChange] | None = None
    nireq: int = 0
    target_device: str = "CPU"
    plugin_config: Mapping[str, PluginValue] = field(default_factory=lambda: EMPTY)
    allow_cache: bool = False
    stateful: bool = False
    low_latency_transformation: bool = False
    idle_sequence_cleanup: bool = True
    max_sequence_number: int = 500
    custom_loader: str | None = None
    warmup: str | None = None  # as the command line says; so the next two
    max_queue: int | None = None
    request_timeout_s: float | None = None
    batching: Batching | None = None

    @property
    def has_auto(self) -> bool:
        """Whether a dimension is left open by the word ``auto``."""
        shapes = self.shape.values() if isinstance(self.shape, Mapping) else (self.shape,)
        return any(isinstance(each, Auto) for each in (self.batch_size, *shapes))


class Source(NamedTuple):
    """Where a value comes from: a node, or the request, and the item's name there."""

    node: str
    item: str


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A node of a pipeline: a model, or a custom node of a library.

    Attributes:
        name: within the pipeline.
        target: the model's name, or the library's.
        is_custom: which of the two.
        inputs: of the model or library, in the order of the file, and where each comes from.
        outputs: names of the model or library by the names that other nodes use.
        version: of the model; None for the default version.
        params: of a custom node.
        demultiply_count: into how many shards the outputs are split; -1: as many as there are; None: they are not.
        gather_from: the node whose shards are gathered here.
    """

    name: str
    target: str
    is_custom: bool
    inputs: tuple[tuple[str, Source], ...]
    outputs: Mapping[str, str]
    version: int | None = None
    params: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    demultiply_count: int | None = None
    gather_from: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """One entry of ``pipeline_config_list``.

    Attributes:
        name: in URLs.
        inputs: the items of a request.
        nodes: in the order of the file.
        outputs: names in the answer, and where each comes from.
        demultiply_count: of the request; see ``NodeSettings``.
    """

    name: str
    inputs: tuple[str, ...]
    nodes: tuple[NodeSettings, ...]
    outputs: tuple[tuple[str, Source], ...]
    demultiply_count: int | None = None


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Which metrics are served on ``/metrics``; ``families`` None stands for the default ones."""

    enable: bool = False
    families: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CorsSettings:
    """The texts of the ``Access-Control-Allow-*`` headers; an empty one is not sent."""

    origins: str = "*"
    methods: str = "*"
    headers: str = "*"
    credentials: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost; beyond it a 4xx or the reference's code, before the memory is taken.

    ``body_bytes`` counts the body as received and as unpacked, ``json_depth`` its nested objects and lists (the body's
    own braces are the first), ``image_pixels`` width times height of one picture.
    """

    body_bytes: int = GIB
    json_depth: int = 100
    image_pixels: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How much is taken on at once, by each process; 0 stands for any number. A model may have a line and a time of its own.

    Attributes:
        requests: predictions and inferences that are received or answered.
        bytes: of their bodies, as announced or received.
        queue: those of one version, beyond what its infer requests work on.
        connections: open ones, idle or not.
        request_timeout_s: from the head of a prediction or inference to its answer.
        client_timeout_s: see ``http.patience``.
    """

    requests: int = 0
    bytes: int = 4 * GIB
    queue: int = 0
    connections: int = 0
    request_timeout_s: int = 0
    client_timeout_s: int = 60


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files for TLS, in PEM.

    Attributes:
        certificate: with those between it and its authority.
        key: that belongs to it; may be the same file.
        min_version: 1.2 or 1.3.
        client_ca: the authorities of which clients have to have a certificate; None if they need none.
    """

    certificate: str
    key: str
    min_version: str = "1.2"
    client_ca: str | None = None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything that the command line says. Either ``config_path`` or ``model`` is set.

    ``metrics`` is what the command line says; a ``monitoring`` section of the configuration file may stand in for it.
    ``addresses`` are host names, IPv4 or IPv6 addresses to listen on; ``rest_port`` 0 means that the kernel chooses.
    ``inference_keys`` and ``management_keys`` are files (``core.access``). ``drain_delay`` and ``drain_timeout`` are
    seconds. ``warnings`` are about options that were given in vain: for the log, once there is one.
    """

    config_path: str | None = None
    model: ModelSettings | None = None
    rest_port: int = 0
    addresses: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 - the reference's default: containers need it
    unix_socket: str | None = None
    rest_workers: int = 2
    workers: int = 1
    drain_delay: int = 0
    drain_timeout: int = 10
    file_system_poll_wait_seconds: int = 1
    sequence_cleaner_poll_wait_minutes: int = 5
    nireq: int = 0
    warmup: str = WARMUP_NONE
    cache_dir: str | None = None
    cpu_extension: str | None = None
    metrics: MetricsSettings = MetricsSettings()
    cors: CorsSettings = CorsSettings()
    log_level: str = "INFO"
    log_path: str | None = None
    non_finite: NonFinite = NonFinite.NULL
    limits: Limits = Limits()
    load: LoadLimits = LoadLimits()
    tls: TlsSettings | None = None
    inference_keys: str | None = None
    management_keys: str | None = None
    demo: bool = False
    manage: bool = False
    ready_when: ReadyWhen = ReadyWhen.STARTED
    server_timing: bool = False
    access_log: int = 0
    log_format: LogFormat = LogFormat.TEXT
    warnings: tuple[str, ...] = ()


def told(settings: ServerSettings) -> Iterator[str]:
    """Each setting with its value, for the log; what may be secret in a base path is left out."""
    for each in fields(settings):
        yield scrub(f"{each.name}: {getattr(settings, each.name)}")
