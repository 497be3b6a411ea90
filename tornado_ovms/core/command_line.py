"""The command line as settings: what ``arguments`` has read and ``checks`` has let pass.

Faults in the texts of a single model are the reference's *late* faults (``src/modelmanager.cpp`` startFromConfig): it
finds them when it starts to load, so they end the process with exit code 1 and a line in the log. Any thread.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar

from tornado_ovms.core.checks import MAX_REST_WORKERS, MAX_WORKERS, MIN_REST_WORKERS, rest_port
from tornado_ovms.core.model_keys import join, read_batch_size
from tornado_ovms.core.options import ALL_ADDRESSES, TABLE, TASK_OPTIONS, Group
from tornado_ovms.core.settings import (
    AllVersions,
    CorsSettings,
    LatestVersions,
    Limits,
    LoadLimits,
    LogFormat,
    MetricsSettings,
    ModelSettings,
    NonFinite,
    PluginValue,
    ReadyWhen,
    ServerSettings,
    SpecificVersions,
    TlsSettings,
    VersionPolicy,
)
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.strict_json import Members, describe, escape, loads
from tornado_ovms.core.tensors import parse_layout, parse_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tornado_ovms.core.arguments import Arguments

T = TypeVar("T")

CPUS_PER_WORKER: Final = 8

LATE_FAULTS: Final[Mapping[Code, str]] = MappingProxyType({
    Code.PLUGIN_CONFIG_FORMAT: "Couldn't parse plugin config",
    Code.VERSION_POLICY_FORMAT: "Couldn't parse model version policy. Model version policy is in wrong format",
    Code.VERSION_POLICY_KEY: "Couldn't parse model version policy. Model version policy contains unsupported key",
    Code.SHAPE_FORMAT: "Couldn't parse shape parameter",
    Code.LAYOUT_FORMAT: "Couldn't parse layout parameter",
})
"""What the log says about a fault in a setting of a single model, before the start is given up."""


def server_settings(arguments: Arguments, folder: str, cpus: int) -> ServerSettings:
    """All settings of a server.

    Args:
        arguments: a command line without faults.
        folder: the working directory, from which relative paths count.
        cpus: how many CPUs the process may use.

    Raises:
        Failure: one of ``LATE_FAULTS``, or STATEFUL_WITH_AUTO.
    """
    warnings = _warnings(arguments)
    config_path = arguments.text("config_path")
    has_model = not config_path and not arguments.flag("demo")
    return ServerSettings(
        config_path=join(folder, config_path) if config_path else None,
        model=_model(arguments, folder, warnings.append) if has_model else None,
        rest_port=rest_port(arguments),
        addresses=_addresses(arguments),
        unix_socket=arguments.text("unix_socket") or None,
        rest_workers=arguments.number("rest_workers") or min(max(MIN_REST_WORKERS, cpus), MAX_REST_WORKERS),
        workers=arguments.number("workers") or default_workers(cpus),
        drain_delay=arguments.number("drain_delay"),
        drain_timeout=arguments.number("drain_timeout"),
        file_system_poll_wait_seconds=arguments.number("file_system_poll_wait_seconds"),
        sequence_cleaner_poll_wait_minutes=arguments.number("sequence_cleaner_poll_wait_minutes"),
        nireq=arguments.number("nireq"),
        warmup=arguments.text("warmup"),
        cache_dir=arguments.text("cache_dir") or None,
        cpu_extension=arguments.text("cpu_extension") or None,
        metrics=MetricsSettings(arguments.flag("metrics_enable"), _families(arguments.text("metrics_list"))),
        cors=CorsSettings(
            arguments.text("allowed_origins"),
            arguments.text("allowed_methods"),
            arguments.text("allowed_headers"),
            arguments.flag("allow_credentials"),
        ),
        log_level=arguments.text("log_level"),
        log_path=arguments.text("log_path") or None,
        non_finite=NonFinite(arguments.text("non_finite")),
        limits=Limits(
            arguments.number("max_body_bytes"), arguments.number("max_json_depth"), arguments.number("max_image_pixels")
        ),
        tls=_tls(arguments),
        inference_keys=arguments.text("inference_keys") or None,
        management_keys=arguments.text("management_keys") or None,
        load=LoadLimits(
            requests=arguments.number("max_open_requests"),
            bytes=arguments.number("max_open_bytes"),
            queue=arguments.number("max_queue"),
            connections=arguments.number("max_connections"),
            request_timeout_s=arguments.number("request_timeout"),
            client_timeout_s=arguments.number("client_timeout"),
        ),
        demo=arguments.flag("demo"),
        manage=arguments.flag("manage"),
        ready_when=ReadyWhen(arguments.text("ready_when")),
        server_timing=arguments.flag("server_timing"),
        access_log=arguments.number("access_log"),
        log_format=LogFormat(arguments.text("log_format")),
        warnings=tuple(warnings),
    )


def default_workers(cpus: int) -> int:
    """How many processes serve unless the operator says: one for each eight CPUs.

    OpenVINO uses all CPUs of a process for one inference, so that a process less answers a lone request sooner, and each has
    the models in memory. One process answers 5,000 small requests a second.

    >>> [default_workers(cpus) for cpus in (1, 4, 15, 16, 1024)]
    [1, 1, 1, 2, 64]
    """
    return min(max(1, cpus // CPUS_PER_WORKER), MAX_WORKERS)


def _warnings(arguments: Arguments) -> list[str]:
    """One for each option that is given and does nothing."""
    reasons = {
        **dict.fromkeys(_names(Group.GRPC), "there is no gRPC in this server"),
        **dict.fromkeys((*_names(Group.GENERATION), *TASK_OPTIONS), "this server has no language models and no graphs"),
        "custom_node_resources_cleaner_interval_seconds": "what custom nodes hold is given back as soon as nobody uses it",
        "model_repository_path": "it is for --list_models and --add_to_config",
    }
    if arguments.has("config_path"):
        reasons |= dict.fromkeys(_names(Group.MODEL), "the configuration file has the settings of its models")
    return [f"--{name} has no effect: {reasons[name]}" for name in arguments.given if name in reasons]


def _names(group: Group) -> list[str]:
    return [option.name.replace("-", "_") for option in TABLE[group]]


def _tls(arguments: Arguments) -> TlsSettings | None:
    certificate = arguments.text("tls_certificate")
    if not certificate:
        return None
    return TlsSettings(
        certificate,
        arguments.text("tls_key") or certificate,
        arguments.text("tls_min_version"),
        arguments.text("tls_client_ca") or None,
    )


def _addresses(arguments: Arguments) -> tuple[str, ...]:
    return tuple((arguments.text("rest_bind_address") or ALL_ADDRESSES).split(","))


def _families(text: str) -> tuple[str, ...] | None:
    """The names in ``metrics_list``; an empty text stands for the default families, a comma at the end for nothing."""
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    return tuple(names if names[-1] else names[:-1])


def _model(arguments: Arguments, folder: str, warn: Callable[[str], None]) -> ModelSettings:
    """The single model. Texts are looked at in the reference's order, as the first fault is the one that is told."""
    plugin_config = _plugin_config(arguments.text("plugin_config"))
    version_policy = _version_policy(arguments.text("model_version_policy"), warn)
    shape = _by_name(Code.SHAPE_FORMAT, "shape", parse_shape, arguments.text("shape"))
    layout = _by_name(Code.LAYOUT_FORMAT, "layout", parse_layout, arguments.text("layout"))
    batch_size = None
    if arguments.has("batch_size"):
        batch_size = read_batch_size(arguments.text("batch_size"), has_shape=shape is not None, warn=warn)
    settings = ModelSettings(
        name=arguments.text("model_name"),
        base_path=join(folder, arguments.text("model_path")),
        version_policy=version_policy,
        batch_size=batch_size,
        shape=shape,
        layout=layout,
        nireq=arguments.number("nireq"),
        target_device=arguments.text("target_device") or "CPU",
        plugin_config=plugin_config,
        stateful=arguments.flag("stateful"),
        low_latency_transformation=arguments.flag("low_latency_transformation"),
        idle_sequence_cleanup=arguments.flag("idle_sequence_cleanup"),
        max_sequence_number=arguments.number("max_sequence_number"),
    )
    if settings.stateful and settings.has_auto:
        raise Failure(Code.STATEFUL_WITH_AUTO, "expected fixed sizes beside --stateful, found auto")
    return settings


def _by_name(code: Code, option: str, parse: Callable[[str], T], text: str) -> T | Mapping[str, T] | None:
    """A setting that is a text for all tensors or a JSON object of texts by tensor; None if it is not given."""
    if not text:
        return None
    try:
        if not text.lstrip().startswith("{"):
            return parse(text)
        document = loads(text)
        for name, value in document.items():
            if not isinstance(value, str):
                raise ValueError(f"/{escape(name)} should be a text, found {describe(value)}")  # noqa: TRY004, TRY301
        return {name: parse(value) for name, value in document.items()} or None
    except ValueError as error:
        raise Failure(code, f"--{option}: {error}") from error


def _plugin_config(text: str) -> Mapping[str, PluginValue]:
    document = _object(text, Code.PLUGIN_CONFIG_FORMAT, "plugin_config")
    for key, value in document.items():
        if key == "DEVICE_PROPERTIES" and isinstance(value, Members):
            wrong = [inner for inner in value.values() if not isinstance(inner, Members)]
            expected = "objects"
        else:
            wrong = [] if isinstance(value, (str, bool, int, float)) else [value]
            expected = "a text, a number, true or false"
        if wrong:
            place = f"--plugin_config: /{escape(key)}"
            raise Failure(Code.PLUGIN_CONFIG_FORMAT, f"{place}: expected {expected}, found {describe(wrong[0])}")
    return document


def _version_policy(text: str, warn: Callable[[str], None]) -> VersionPolicy:
    """The policy; less strict than in the configuration file, as in the reference: ``all`` may hold anything."""
    document = _object(text, Code.VERSION_POLICY_FORMAT, "model_version_policy")
    if not text:
        return LatestVersions()
    if len(document.names) != 1:
        raise _policy_fault(Code.VERSION_POLICY_FORMAT, "one of the keys all, latest, specific", document)
    ((key, value),) = document.items()
    if key == "all":
        return AllVersions()
    if key not in {"latest", "specific"}:
        raise _policy_fault(Code.VERSION_POLICY_KEY, "one of the keys all, latest, specific", document)
    inner, expected = {"latest": ("num_versions", "an integer above 0"), "specific": ("versions", "a list")}[key]
    content = value.get(inner) if isinstance(value, Members) and len(value.names) == 1 else None
    if key == "latest" and _is_version(content):
        return LatestVersions(content)
    if key == "specific" and isinstance(content, list):
        for item in content:
            if not _is_version(item):
                warn(f"--model_version_policy: {describe(item)} is left out: a version is a number above 0")
        return SpecificVersions(frozenset(filter(_is_version, content)))
    raise _policy_fault(Code.VERSION_POLICY_FORMAT, f"{{{inner!r}: {expected}}} at /{key}", value)


def _policy_fault(code: Code, expected: str, found: object) -> Failure:
    return Failure(code, f"--model_version_policy: expected {expected}, found {describe(found)}")


def _is_version(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _object(text: str, code: Code, option: str) -> Members:
    """The JSON object of an option; an empty one if it is not given."""
    if not text:
        return Members([])
    try:
        document: Any = loads(text)
    except ValueError as error:
        raise Failure(code, f"--{option}: {error}") from error
    if not isinstance(document, Members):
        raise Failure(code, f"--{option}: expected a JSON object, found {describe(document)}")
    return document
