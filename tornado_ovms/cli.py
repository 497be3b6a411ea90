"""The command line: reads it, does what ends at once, or hands settings to the server.

Exit codes are the reference's: 0 for what went well, 64 for a command line that cannot be used, 1 for anything later.
Modules are imported where they are needed, as ``--help`` should not wait for numpy. Main thread.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

from tornado_ovms import signals
from tornado_ovms.core.arguments import HINT, Arguments, UsageError, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornado_ovms.core.checks import Machine
    from tornado_ovms.core.settings import ServerSettings
    from tornado_ovms.core.status import Failure

USAGE: Final = 64
FAILED: Final = 1

REPOSITORY: Final = "OVMS_MODEL_REPOSITORY_PATH"
"""Variable that stands in for ``--model_repository_path``; with ``/config.json`` behind it, for ``--config_path``."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what a command line says; the process's own unless words are given."""
    signals.hear_early()
    for stream in (sys.stdout, sys.stderr):
        # Paths need not be UTF-8, and a message about one should not end in a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        words = sys.argv[1:] if words is None else words
        outcome = prepare(words, os.environ)
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    if isinstance(outcome, int):
        return outcome
    from tornado_ovms.workers.link import Place

    place = Place.read(os.environ)
    if place is None and outcome.workers > 1:
        from tornado_ovms.supervisor import supervise

        return supervise(outcome, words)
    from tornado_ovms.server import run

    return run(outcome, place)


def prepare(words: Sequence[str], environment: Mapping[str, str]) -> ServerSettings | int:
    """Settings to serve with, or the exit code after everything else.

    Raises:
        UsageError: the command line cannot be used.
    """
    arguments = parse(words)
    from tornado_ovms.core.checks import find_conflict

    _refuse(find_conflict(arguments))
    if arguments.flag("version"):
        print(_version_text())
    elif arguments.flag("help") or not words:
        from tornado_ovms.core.usage import help_text

        print(help_text(), end="")
    elif arguments.flag("print_config_schema"):
        from tornado_ovms.core.config_schema import schema_text

        print(schema_text(), end="")
    elif arguments.flag("healthcheck"):
        from tornado_ovms.healthcheck import check

        return check(arguments)
    elif arguments.flag("list_models"):
        return _list_models(arguments, environment)
    elif arguments.flag("add_to_config") or arguments.flag("remove_from_config"):
        return _edit_config(arguments, environment)
    else:
        return _settings(arguments)
    return 0


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise UsageError(fault, HINT)


def _version_text() -> str:
    """Three lines: the product, the inference engine, and what it was built with (here: what it runs on)."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from tornado_ovms import __version__

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "is not installed"

    runtime = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"tornado_ovms {__version__}\n"
        f"OpenVINO backend {of('openvino')}\n"
        f"Runtime: {runtime}, tornado {of('tornado')}, numpy {of('numpy')}"
    )


def _machine() -> Machine:
    from tornado_ovms.core.checks import Machine

    return Machine(os.cpu_count() or 1, os.path.exists)


def _list_models(arguments: Arguments, environment: Mapping[str, str]) -> int:
    repository = arguments.text("model_repository_path") or environment.get(REPOSITORY, "")
    _refuse(None if repository else "Use --list_models with --model_repository_path")
    from tornado_ovms import manage

    return manage.list_models(repository)


def _edit_config(arguments: Arguments, environment: Mapping[str, str]) -> int:
    """Add a model to the configuration file, or remove it; a path from the environment is told."""
    _check_key_file(arguments)
    repository, name = environment.get(REPOSITORY, ""), arguments.text("model_name")
    config_path = arguments.text("config_path")
    if not config_path and repository:
        config_path = f"{repository}/config.json"
        print(f"Using default config path: {config_path}")
    model_path = arguments.text("model_path")
    if parent := arguments.text("model_repository_path") or repository:
        model_path = model_path or f"{parent.rstrip('/')}/{name}"
    from tornado_ovms import manage
    from tornado_ovms.core.checks import find_edit_fault

    _refuse(find_edit_fault(arguments, _machine(), config_path, model_path))
    if arguments.flag("add_to_config"):
        return manage.add_to_config(config_path, name, model_path)
    return manage.remove_from_config(config_path, name)


def _settings(arguments: Arguments) -> ServerSettings | int:
    _check_key_file(arguments)
    from tornado_ovms.core.checks import find_fault

    _refuse(find_fault(arguments, _machine()))
    from tornado_ovms.core.command_line import server_settings
    from tornado_ovms.core.status import Failure
    from tornado_ovms.cpus import available_cpus

    try:
        return server_settings(arguments, os.getcwd(), available_cpus())  # noqa: PTH109 - pathlib is not imported yet
    except Failure as failure:
        return _give_up(arguments, failure)


def _check_key_file(arguments: Arguments) -> None:
    """Whether the file with the key can be read; the key itself is for an API that is not here."""
    path = arguments.text("api_key_file")
    if path:
        try:
            with open(path, "rb"):  # noqa: PTH123 - see above
                pass
        except OSError as error:
            sentence = f"Error reading API key file: Unable to open file {path}: {error.strerror}"
            raise UsageError(sentence, HINT) from error


def _give_up(arguments: Arguments, failure: Failure) -> int:
    """Log a late fault where the server would have logged it."""
    import logging

    from tornado_ovms import logs
    from tornado_ovms.core.command_line import LATE_FAULTS

    try:
        logs.configure(arguments.text("log_level"), arguments.text("log_path") or None)
    except OSError:  # without a file the fault is still told
        logs.configure(arguments.text("log_level"), None)
    log = logging.getLogger("modelmanager")
    if failure.code in LATE_FAULTS:
        log.error("%s", LATE_FAULTS[failure.code])
    log.error("Couldn't start model manager")
    log.error("ovms::ModelManager::Start() Error: %s", failure.text)
    return FAILED
