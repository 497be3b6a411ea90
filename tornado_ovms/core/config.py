"""The configuration file as values.

A file that is not JSON or against the schema is refused as a whole; a fault of one entry leaves the others as they are.
The rules are the reference's: ``src/schema.cpp``, ``src/modelmanager.cpp``, ``src/modelconfig.cpp`` parseNode. Any
thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms.core.config_schema import find_faults
from tornado_ovms.core.model_keys import STATEFUL_KEYS, join, read_batch_size
from tornado_ovms.core.options import WARMUP, is_warmup
from tornado_ovms.core.settings import (
    AllVersions,
    Batching,
    LatestVersions,
    MetricsSettings,
    ModelSettings,
    NodeSettings,
    PipelineSettings,
    Source,
    SpecificVersions,
    VersionPolicy,
)
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.strict_json import Members, describe, escape, loads
from tornado_ovms.core.tensors import Auto, LayoutChange, Shape, parse_layout, parse_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_SEQUENCE_NUMBER: Final = 2**32 - 1

MAX_FAULTS: Final = 20
"""A message names so many faults of a document; a file of another kind may have thousands."""

_WORD: Final = re.compile(r"(?![\w.]*\.py:)[\w.]+:")
"""``builtin:add_one``, ``package.module:Class``; not ``nodes.py:Class``, which is a file."""

_NOT_SERVED: Final = {
    "mediapipe_config_list": "MediaPipe graphs are not served by this server",
    "custom_loader_config_list": "custom loaders are C++ libraries and cannot be used by this server",
}


class Fault(NamedTuple):
    """Why an entry of ``model_config_list`` is left out; ``place`` is its index there."""

    name: str
    failure: Failure
    place: int


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file says.

    ``models`` and ``pipelines`` have names of their own, ``places`` says where in the list of models each name comes first;
    ``libraries`` are paths by name, None if the file does not speak of any;
    ``faults`` are about entries that are left out, ``warnings`` about what is not
    served as written; ``metrics`` is None without a ``monitoring`` section.
    """

    models: tuple[ModelSettings, ...]
    places: Mapping[str, int]
    pipelines: tuple[PipelineSettings, ...]
    libraries: Mapping[str, str] | None
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    metrics: MetricsSettings | None


def parse(text: bytes, folder: str) -> Config:
    """Read a configuration file.

    Args:
        text: what it holds.
        folder: where it lies; relative paths in it count from there.

    Raises:
        Failure: JSON_INVALID, with the reason; for a file against the schema each place, what is expected and found.
    """
    document = _read(text)
    warnings = [*_doubled(document, ""), *_not_served(document)]
    models: dict[str, ModelSettings] = {}
    places: dict[str, int] = {}
    faults = []
    for index, entry in enumerate(document["model_config_list"]):
        pointer, config = f"/model_config_list/{index}/config", entry["config"]
        name = config["name"]
        places.setdefault(name, index)
        try:
            settings = _model(config, pointer, folder, warnings)
            if name in models:
                raise Failure(  # noqa: TRY301 - one place collects what befalls an entry
                    Code.MODEL_NAME_OCCUPIED,
                    f"Duplicated model names: {name} defined in config file. Only first definition will be loaded. "
                    f"{pointer}/name: expected a name of its own, found {describe(name)} again",
                )
            models[name] = settings
        except Failure as failure:
            faults.append(Fault(name, failure, index))
    return Config(
        tuple(models.values()),
        places,
        _pipelines(document, warnings),
        _libraries(document, folder),
        tuple(faults),
        tuple(warnings),
        _metrics(document),
    )


def _read(text: bytes) -> Members:
    """The document, as the schema wants it."""
    try:
        document: Members = loads(text)  # or something else, which the schema refuses
    except ValueError as error:
        raise Failure(Code.JSON_INVALID, f"Configuration file is not a valid JSON file. Error: {error}") from error
    faults = [str(fault) for fault in islice(find_faults(document), MAX_FAULTS + 1)]
    if faults:
        if len(faults) > MAX_FAULTS:
            faults[MAX_FAULTS] = "and more"
        raise Failure(
            Code.JSON_INVALID,
            f"Configuration file is not in valid configuration format. JSON schema parse error: {'; '.join(faults)}",
        )
    return document


def _doubled(value: Any, pointer: str) -> Iterator[str]:
    """Warnings about members of which there are several."""
    if isinstance(value, Members):
        for name, inner in value.items():
            if value.names.count(name) > 1:
                yield f"{pointer}/{escape(name)} is there {value.names.count(name)} times: the first one counts"
            yield from _doubled(inner, f"{pointer}/{escape(name)}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _doubled(inner, f"{pointer}/{index}")


def _not_served(document: Members) -> Iterator[str]:
    """A warning for each entry of a kind that this server does not have."""
    for key, reason in _NOT_SERVED.items():
        for index, entry in enumerate(document.get(key, ())):
            name = entry["config"]["loader_name"] if "config" in entry else entry["name"]
            yield f"/{key}/{index}: {name} is left out: {reason}"


def _pipelines(document: Members, warnings: list[str]) -> tuple[PipelineSettings, ...]:
    """The pipelines; of two with one name the first counts."""
    pipelines: dict[str, PipelineSettings] = {}
    for index, entry in enumerate(document.get("pipeline_config_list", ())):
        if entry["name"] in pipelines:
            pointer = f"/pipeline_config_list/{index}/name"
            warnings.append(
                f"Duplicated pipeline names: {entry['name']}. Only first definition will be loaded. ({pointer})"
            )
            continue
        pipelines[entry["name"]] = PipelineSettings(
            entry["name"],
            tuple(entry["inputs"]),
            tuple(map(_node, entry["nodes"])),
            _sources(entry["outputs"]),
            entry.get("demultiply_count"),
        )
    return tuple(pipelines.values())


def _node(entry: Members) -> NodeSettings:
    is_custom = entry["type"] == "custom"
    return NodeSettings(
        name=entry["name"],
        target=entry["library_name" if is_custom else "model_name"],
        is_custom=is_custom,
        inputs=_sources(entry["inputs"]),
        outputs={output["alias"]: output["data_item"] for output in entry["outputs"]},
        version=None if is_custom else entry.get("version"),
        params=dict(entry.get("params", {})) if is_custom else {},
        demultiply_count=entry.get("demultiply_count"),
        gather_from=entry.get("gather_from_node"),
    )


def _sources(entries: list[Members]) -> tuple[tuple[str, Source], ...]:
    return tuple(
        (name, Source(source["node_name"], source["data_item"])) for entry in entries for name, source in entry.items()
    )


def _libraries(document: Members, folder: str) -> Mapping[str, str] | None:
    """The libraries of custom nodes: files, or what ``nodes.library`` knows by a word and a colon."""
    if "custom_node_library_config_list" not in document:
        return None
    return {
        entry["name"]: entry["base_path"] if _WORD.match(entry["base_path"]) else join(folder, entry["base_path"])
        for entry in document["custom_node_library_config_list"]
    }


def _metrics(document: Members) -> MetricsSettings | None:
    if "monitoring" not in document:
        return None
    metrics = document["monitoring"]["metrics"]
    families = metrics.get("metrics_list")
    return MetricsSettings(metrics["enable"], None if families is None else tuple(families))


def _model(config: Members, pointer: str, folder: str, warnings: list[str]) -> ModelSettings:
    """The settings in an entry.

    Raises:
        Failure: MODEL_CONFIG_INVALID or STATEFUL_WITH_AUTO: the entry is to be left out.
    """
    shape = _shape(config.get("shape"), f"{pointer}/shape", warnings)
    batch_size = None
    if "batch_size" in config:
        batch_size = read_batch_size(
            str(config["batch_size"]),
            has_shape=shape is not None,
            warn=lambda text: warnings.append(f"{text} ({pointer}/batch_size)"),
        )
    layout = _layout(config.get("layout"), f"{pointer}/layout")
    stateful = _stateful(config, pointer)
    warmup = config.get("warmup")
    if warmup is not None and not is_warmup(warmup):
        raise Failure(Code.MODEL_CONFIG_INVALID, f"{pointer}/warmup: expected {WARMUP}, found {describe(warmup)}")
    graph_keys = [key for key in ("graph_path", "subconfig") if key in config]
    warnings.extend(f"{pointer}/{key} has no effect: it is for MediaPipe graphs" for key in graph_keys)
    loader = config.get("custom_loader_options")
    settings = ModelSettings(
        name=config["name"],
        base_path=join(folder, config.get("base_path", "")),
        version_policy=_version_policy(config.get("model_version_policy")),
        batch_size=batch_size,
        shape=shape,
        layout=layout,
        custom_loader=loader["loader_name"] if loader else None,
        **{key: config[key] for key in ("nireq", "target_device", "plugin_config", "allow_cache") if key in config},
        **stateful,
        warmup=warmup,
        max_queue=config.get("max_queue"),
        request_timeout_s=config.get("request_timeout"),
        batching=_batching(config, f"{pointer}/batching"),
    )
    if settings.stateful and settings.has_auto:
        raise Failure(Code.STATEFUL_WITH_AUTO, f"{pointer}: expected fixed sizes beside stateful, found auto")
    return settings


def _shape(value: Any, pointer: str, warnings: list[str]) -> Shape | Auto | Mapping[str, Shape | Auto] | None:
    """The shapes that can be read; the others stay the model's own."""
    if value is None:
        return None
    shapes = {}
    for name, text in value.items() if isinstance(value, Members) else [("", value)]:
        try:
            shapes[name] = parse_shape(text)
        except ValueError as error:
            place = f"{pointer}/{escape(name)}" if isinstance(value, Members) else pointer
            warnings.append(f"There was an error parsing shape {text} - {place}: {error}")
    return (shapes or None) if isinstance(value, Members) else shapes.get("")


def _layout(value: Any, pointer: str) -> LayoutChange | Mapping[str, LayoutChange] | None:
    """The layouts; one that is malformed makes the entry useless. A text may hold an object, as on the command line."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = loads(value)
            if not all(isinstance(text, str) for text in value.values()):
                raise ValueError(f"expected a text for each tensor, found {describe(value)}")  # noqa: TRY301
        if isinstance(value, Members):
            return {name: parse_layout(text) for name, text in value.items()} or None
        return parse_layout(value)
    except ValueError as error:
        raise Failure(Code.MODEL_CONFIG_INVALID, f"{pointer}: {error}") from error


def _stateful(config: Members, pointer: str) -> dict[str, Any]:
    """The settings about sequences, as far as they are there."""
    for key in STATEFUL_KEYS:
        if key in config and not config.get("stateful", False):
            raise Failure(Code.MODEL_CONFIG_INVALID, f"{pointer}/{key}: expected beside a true stateful only")
    number = config.get("max_sequence_number", 0)
    if number > MAX_SEQUENCE_NUMBER:
        raise Failure(
            Code.MODEL_CONFIG_INVALID,
            f"{pointer}/max_sequence_number: expected at most {MAX_SEQUENCE_NUMBER}, found {number}",
        )
    return {key: config[key] for key in ("stateful", *STATEFUL_KEYS) if key in config}


def _batching(config: Members, pointer: str) -> Batching | None:
    """How requests are joined, if they are; those of a sequence have to come one after the other."""
    if "batching" not in config:
        return None
    if config.get("stateful", False):
        raise Failure(Code.MODEL_CONFIG_INVALID, f"{pointer}: expected no such key beside a true stateful")
    return Batching(**config["batching"])


def _version_policy(value: Any) -> VersionPolicy:
    match value:
        case {"latest": {"num_versions": count}}:
            return LatestVersions(count)
        case {"specific": {"versions": versions}}:
            return SpecificVersions(frozenset(versions))
        case {"all": _}:
            return AllVersions()
        case _:
            return LatestVersions()
