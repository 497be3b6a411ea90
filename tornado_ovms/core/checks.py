"""Which options may stand together, and which values are refused: the first fault ends the start with exit code 64.

Sentences and their order are the reference's: ``src/cli_parser.cpp`` for what is seen while parsing, ``src/config.cpp``
``Config::validate`` for the rest. The file system and the machine are parameters. Any thread.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.options import LOG_LEVELS, OPTIONS, TABLE, TASKS, WARMUP, Group, is_warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tornado_ovms.core.arguments import Arguments

MAX_PORT: Final = 65535
MIN_REST_WORKERS: Final = 2
MAX_REST_WORKERS: Final = 10000
MAX_WORKERS: Final = 64
MAX_JSON_DEPTH: Final = 1000
"""Readers of JSON recurse; deeper nesting could exhaust the stack."""

MAX_HOST: Final = 255
DEMO_PORT: Final = 8000

_ADDRESS = re.compile(r"[0-9a-fA-F.:]*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

_NOT_HERE: Final = "model pulling and generation are not part of this server"

_ADD_USAGE: Final = """\
Usage:
  tornado-ovms --add_to_config --model_name NAME --model_repository_path FOLDER --config_path FILE
  tornado-ovms --add_to_config --model_name NAME --model_path FOLDER --config_path FILE"""

_REMOVE_USAGE: Final = "  tornado-ovms --remove_from_config --model_name NAME --config_path FILE"

_NOT_BESIDE_CONFIG: Final = (
    "batch_size", "shape", "nireq", "model_version_policy", "target_device", "plugin_config",
)  # fmt: skip
_STATEFUL: Final = ("low_latency_transformation", "max_sequence_number", "idle_sequence_cleanup")


class Machine(NamedTuple):
    """What the checks ask the machine: its number of cores, and whether a path is there."""

    cores: int
    exists: Callable[[str], bool]


def rest_port(arguments: Arguments) -> int:
    """The port of the REST API; 0 if there is none."""
    if arguments.flag("demo") and not arguments.has("rest_port"):
        return DEMO_PORT
    return arguments.number("rest_port")


def find_conflict(arguments: Arguments) -> str | None:
    """The first pair of options that exclude each other, whatever the process is to do."""
    return next(_conflicts(arguments), None)


def find_fault(arguments: Arguments, machine: Machine) -> str | None:
    """The first thing that keeps a server from starting with these options."""
    source = _source_faults(arguments, machine)
    return next(chain(source, _port_faults(arguments), _other_faults(arguments, machine), _our_faults(arguments)), None)


def find_edit_fault(arguments: Arguments, machine: Machine, config_path: str, model_path: str) -> str | None:
    """The first thing that keeps the configuration file from being edited.

    The two paths are given apart, as the environment may stand in for them.
    """
    edit = _edit_faults(arguments, config_path, model_path)
    return next(chain(edit, _port_faults(arguments), _other_faults(arguments, machine)), None)


def _conflicts(arguments: Arguments) -> Iterator[str]:
    said = "error parsing options - "
    pulls = arguments.flag("pull") or arguments.has("source_model") or arguments.has("task")
    for mode in ("list_models", "remove_from_config", "add_to_config"):
        if pulls and arguments.flag(mode):
            yield f"{said}--{mode} cannot be used with --pull or --task"
    for mode in ("add_to_config", "remove_from_config"):
        if arguments.flag("list_models") and arguments.flag(mode):
            yield f"{said}--list_models cannot be used with --{mode}"
    if arguments.flag("remove_from_config") and arguments.has("model_path"):
        yield f"{said}--model_path cannot be used with --remove_from_config"
    if pulls and not arguments.has("task"):
        yield f"{said}--task parameter wasn't passed\n{_NOT_HERE}"
    if pulls and arguments.text("task") not in TASKS:
        yield f"{said}--task parameter unsupported value: {arguments.text('task')}\n{_NOT_HERE}"


def _source_faults(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """What is checked for a server only: models, metrics, and that there is a port at all."""
    config, name, path = (arguments.has(option) for option in ("config_path", "model_name", "model_path"))
    demo = arguments.flag("demo")
    if demo and (config or name or path or _model_settings(arguments)):
        yield "demo serves models of its own: leave out config_path, model_name, model_path and all settings of a model"
    if arguments.flag("pull") or (arguments.has("task") and not (demo or config or path)):
        yield f"{_NOT_HERE}: give model_name and model_path of a model that is there, or config_path"
    if config and (name or path):
        yield "Use either config_path or model_path with model_name"
    if not demo and not config and not (name and path):
        yield "Use config_path or model_path with model_name"
    if config and any(arguments.has(option) for option in _NOT_BESIDE_CONFIG if arguments.given.get(option) != 0):
        yield "Model parameters in CLI are exclusive with the config file"
    if not 1 <= arguments.number("grpc_workers") <= machine.cores:
        yield f"grpc_workers count should be from 1 to CPU core count : {machine.cores}"
    if arguments.flag("metrics_enable") and rest_port(arguments) == 0:
        yield "rest_port setting is missing, metrics are enabled on rest port"
    if arguments.has("metrics_list") and not arguments.flag("metrics_enable"):
        yield "metrics_enable setting is missing, required when metrics_list is provided"
    if arguments.number("port") == 0 and rest_port(arguments) == 0:
        yield "port and rest_port cannot both be unset"


def _edit_faults(arguments: Arguments, config_path: str, model_path: str) -> Iterator[str]:
    """What is checked for ``--add_to_config`` and ``--remove_from_config`` only."""
    if not config_path:
        yield "Set config_path with add_to_config/remove_from_config"
    if not arguments.has("model_name"):
        yield f"Set model_name with add_to_config/remove_from_config\n{_ADD_USAGE}\n{_REMOVE_USAGE}"
    if arguments.flag("add_to_config") and not model_path:
        yield f"Set model_name either with model_path or model_repository_path with add_to_config\n{_ADD_USAGE}"
    if others := _model_settings(arguments):
        listed = "".join(f"{name}, " for name in others)
        yield (
            "Adding or removing models from the configuration file, allows passing only model_name and model_path "
            f"parameters. Invalid parameters passed: {listed}"
        )


def _port_faults(arguments: Arguments) -> Iterator[str]:
    """Ports, addresses and the threads behind them."""
    port, rest = arguments.number("port"), rest_port(arguments)
    workers = arguments.number("rest_workers") if arguments.has("rest_workers") else MIN_REST_WORKERS
    if not MIN_REST_WORKERS <= workers <= MAX_REST_WORKERS:
        yield f"rest_workers count should be from {MIN_REST_WORKERS} to {MAX_REST_WORKERS}"
    if arguments.has("workers") and not 1 <= arguments.number("workers") <= MAX_WORKERS:
        yield f"workers should be from 1 to {MAX_WORKERS}"
    if arguments.number("workers") > 1 and rest == 0:
        yield "workers is set but rest_port is not set. rest_port is required to start rest servers"
    if arguments.has("rest_workers") and rest == 0:
        yield "rest_workers is set but rest_port is not set. rest_port is required to start rest servers"
    for name, number in (("port", port), ("rest_port", rest)):
        if number > MAX_PORT:
            yield f"{name} number out of range from 0 to {MAX_PORT}"
    for name in ("rest_bind_address", "grpc_bind_address"):
        if arguments.has(name) and not all(map(_is_host, arguments.text(name).split(","))):
            yield f"{name} has invalid format: proper hostname or IP address expected."
    if port == rest != 0:
        yield "port and rest_port cannot have the same values"


def _other_faults(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """What is checked last: files, log, settings of sequences."""
    extension = arguments.text("cpu_extension")
    if extension and not machine.exists(extension):
        yield f"File path provided as an --cpu_extension parameter does not exist in the filesystem: {extension}"
    if arguments.text("log_level") not in LOG_LEVELS:
        yield f"log_level should be one of: {', '.join(LOG_LEVELS)}"
    if not arguments.flag("stateful") and any(arguments.has(name) for name in _STATEFUL):
        yield (
            "Setting low_latency_transformation, max_sequence_number and idle_sequence_cleanup require setting "
            "stateful flag for the model."
        )


def _our_faults(arguments: Arguments) -> Iterator[str]:
    """What the reference does not know; last, so that its own sentences come first."""
    if rest_port(arguments) == 0:
        yield "rest_port is not set, and there is no gRPC in this server: port alone serves nothing"
    for name in ("non_finite", "ready_when", "log_format", "tls_min_version"):
        choices = OPTIONS[name].choices
        if arguments.text(name) not in choices:
            yield f"{name} should be one of: {', '.join(choices)}"
    for name in ("tls_key", "tls_client_ca"):
        if arguments.text(name) and not arguments.text("tls_certificate"):
            yield f"{name} is set but tls_certificate is not"
    if not is_warmup(arguments.text("warmup")):
        yield f"warmup should be {WARMUP}"
    if not 1 <= arguments.number("max_json_depth") <= MAX_JSON_DEPTH:
        yield f"max_json_depth should be from 1 to {MAX_JSON_DEPTH}"
    for name in ("max_body_bytes", "max_image_pixels"):
        if arguments.number(name) == 0:
            yield f"{name} should be at least 1"


def _model_settings(arguments: Arguments) -> list[str]:
    """The settings of a single model that are given."""
    return [option.name for option in TABLE[Group.MODEL] if arguments.has(option.name)]


def _is_host(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address or the name of a host.

    What has the characters of an address only has to be one: ``192.0.2`` is no name.
    """
    if len(text) > MAX_HOST:
        return False
    if not _ADDRESS.fullmatch(text):
        return _HOST.fullmatch(text) is not None
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
