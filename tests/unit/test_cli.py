"""The command: what it prints, what it hands to the server, and its exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import tornado_ovms
from tornado_ovms.cli import main, prepare
from tornado_ovms.core.arguments import HINT, UsageError
from tornado_ovms.core.config_schema import schema_text
from tornado_ovms.core.settings import ServerSettings
from tornado_ovms.core.usage import help_text
from tornado_ovms.workers.link import VARIABLE, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SERVE = ["--rest_port", "8000", "--model_name", "m", "--model_path", "/m"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The command hears signals in its own way; tests do not."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_heard_from_the_beginning(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process of a container would not hear one that came before the server had a handler for it."""
    codes: list[int] = []
    monkeypatch.setattr("tornado_ovms.signals.os._exit", codes.append)
    monkeypatch.setattr("tornado_ovms.cli.prepare", lambda *_: signal.raise_signal(number) or 0)
    assert main(SERVE) == 0
    assert codes == [128 + number]


def test_a_reload_is_not_the_end_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asks for is going to be done anyway."""
    monkeypatch.setattr("tornado_ovms.cli.prepare", lambda *_: signal.raise_signal(signal.SIGHUP) or 0)
    assert main(SERVE) == 0


def refusal(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """The first line of the complaint about a command line."""
    with pytest.raises(UsageError) as caught:
        prepare(words, environment or {})
    return str(caught.value).splitlines()[0]


def settings(*words: str) -> ServerSettings:
    """The settings of a command line that serves."""
    outcome = prepare(words, {})
    assert isinstance(outcome, ServerSettings)
    return outcome


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["--rest_port", "8000", "--help"]])
def test_help(words: list[str], capsys: Capture) -> None:
    """Also without a word; on standard output, with exit code 0."""
    assert main(words) == 0
    assert capsys.readouterr() == (help_text(), "")


def test_version(capsys: Capture) -> None:
    """Three lines: this server, the OpenVINO behind it, what it runs on; it wins over the help."""
    assert main(["--help", "--version"]) == 0
    product, backend, runtime = capsys.readouterr().out.splitlines()
    assert product == f"tornado_ovms {tornado_ovms.__version__}"
    assert backend.startswith("OpenVINO backend 20")
    assert runtime.startswith("Runtime: ")


def test_version_without_openvino(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Whoever asks because something is missing gets an answer."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "OpenVINO backend is not installed"


def test_the_schema_is_printed(capsys: Capture) -> None:
    """As it is in the package."""
    assert main(["--print_config_schema"]) == 0
    assert capsys.readouterr() == (schema_text(), "")


@pytest.mark.parametrize("words", [["--help", "--bad"], ["--version", "--bad"], ["--list_models", "--bad"]])
def test_unknown_options_come_first(words: list[str], capsys: Capture) -> None:
    """Nothing is done, exit code 64; the sentence on standard error, then a line that helps."""
    assert main(words) == 64
    assert capsys.readouterr() == ("", f"error parsing options - unmatched arguments: --bad, \n{HINT}\n")


def test_conflicts_come_before_the_help() -> None:
    """They are seen while parsing."""
    assert refusal("--help", "--pull") == "error parsing options - --task parameter wasn't passed"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--nireq", "x"], "error parsing options: Argument ‘x’ failed to parse"),
        (["--rest_port"], "error parsing options: Option ‘rest_port’ is missing an argument"),
        (["--rest_port", "1"], "Use config_path or model_path with model_name"),
        (["--version=false"], "Use config_path or model_path with model_name"),
        ([*SERVE, "--log_level", "x"], "log_level should be one of: TRACE, DEBUG, INFO, WARNING, ERROR"),
        (
            [*SERVE, "--cpu_extension", "/no/such"],
            "File path provided as an --cpu_extension parameter does not exist in ",
        ),
        (["--list_models"], "Use --list_models with --model_repository_path"),
        (["--add_to_config"], "Set config_path with add_to_config/remove_from_config"),
        (["--remove_from_config"], "Set config_path with add_to_config/remove_from_config"),
        (
            [*SERVE, "--api_key_file", "/no/such"],
            "Error reading API key file: Unable to open file /no/such: No such file",
        ),
        (["--port", "9000", *SERVE[2:]], "rest_port is not set, and there is no gRPC in this server"),
        (["--pull", "--task", "rerank"], "model pulling and generation are not part of this server"),
    ],
)
def test_command_lines_that_cannot_be_used(words: list[str], sentence: str, capsys: Capture) -> None:
    """Exit code 64, the sentence on standard error and a second line about what to do, nothing on standard output."""
    assert main(words) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 2


def test_words_that_are_no_text_are_told(capsys: Capture) -> None:
    """A path need not be UTF-8; a complaint about one does not end in a traceback."""
    assert main(["\udcff"]) == 64
    assert capsys.readouterr().err.startswith("error parsing options - unmatched arguments: \\udcff, \n")


def test_the_cores_of_the_machine_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the host, as in the reference; one if nobody knows."""
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert refusal(*SERVE, "--grpc_workers", "4") == "grpc_workers count should be from 1 to CPU core count : 3"
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert refusal(*SERVE, "--grpc_workers", "2").endswith(" : 1")


def test_settings_are_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative paths count from the working directory."""
    monkeypatch.chdir(tmp_path)
    found = settings("--rest_port", "1", "--model_name", "m", "--model_path", "models/m")
    assert found.model is not None
    assert (found.rest_port, found.model.base_path) == (1, f"{tmp_path}/models/m")
    assert settings("--rest_port", "1", "--config_path", "c.json").config_path == f"{tmp_path}/c.json"
    assert settings("--demo").demo


def test_the_server_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code is that of the process; without words given the process's own are read."""
    seen: list[ServerSettings] = []

    def run(given: ServerSettings, place: Place | None) -> int:
        assert place is None
        seen.append(given)
        return 7

    monkeypatch.setitem(sys.modules, "tornado_ovms.server", SimpleNamespace(run=run))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["tornado-ovms", *SERVE])
    assert main() == main(SERVE) == 7
    assert seen == [settings(*SERVE)] * 2


def test_several_workers_are_supervised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them gets the same words, and runs as a server that knows its place."""
    words = [*SERVE, "--workers", "3"]
    given: list[object] = []

    def supervise(chosen: ServerSettings, again: list[str]) -> int:
        given.append((chosen.workers, again))
        return 5

    def run(_: ServerSettings, place: Place | None) -> int:
        given.append(place)
        return 6

    monkeypatch.setitem(sys.modules, "tornado_ovms.supervisor", SimpleNamespace(supervise=supervise))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tornado_ovms.server", SimpleNamespace(run=run))  # type: ignore[arg-type]
    assert main(words) == 5
    place = Place(1, 3, 9, is_late=True)
    monkeypatch.setenv(VARIABLE, place.write())
    assert main(words) == 6
    assert given == [(3, words), place]


def test_a_key_file_that_can_be_read(tmp_path: Path) -> None:
    """It has no effect, and a warning says so."""
    (tmp_path / "key").write_text("secret\n")
    (warning,) = settings(*SERVE, "--api_key_file", str(tmp_path / "key")).warnings
    assert warning.startswith("--api_key_file has no effect")


def test_the_key_file_is_looked_at_before_everything_else(tmp_path: Path) -> None:
    """Before the checks of a server and those of an edit; a folder cannot be read either."""
    for words in (["--config_path", "/c", "--model_name", "m"], ["--add_to_config"], ["--remove_from_config"]):
        assert refusal(*words, "--api_key_file", str(tmp_path)).startswith(
            "Error reading API key file: Unable to open file"
        )


@pytest.mark.parametrize(
    ("words", "line", "error"),
    [
        (["--plugin_config", "NUM_STREAMS=1"], "Couldn't parse plugin config", "Plugin config is in wrong format"),
        (
            ["--model_version_policy", "all"],
            "Couldn't parse model version policy. Model version policy is in wrong format",
            "Model version policy is in wrong format",
        ),
        (
            ["--model_version_policy", '{"test": {}}'],
            "Couldn't parse model version policy. Model version policy contains unsupported key",
            "Model version policy contains unsupported key",
        ),
        (["--shape", "(1,10"], "Couldn't parse shape parameter", "The provided shape is in wrong format"),
        (["--layout", "nc>nc"], "Couldn't parse layout parameter", "The provided layout is in wrong format"),
        (
            ["--stateful", "--shape", "auto"],
            None,
            "Dynamic shape and dynamic batch size are not supported for stateful models",
        ),
    ],
)
@pytest.mark.usefixtures("own_logging")
def test_late_faults_are_logged(
    words: list[str], line: str | None, error: str, tmp_path: Path, capsys: Capture
) -> None:
    """Exit code 1, and the reference's lines on standard output and in the log file."""
    path = tmp_path / "log"
    assert prepare([*SERVE, *words, "--log_path", str(path)], {}) == 1
    out, err = capsys.readouterr()
    texts = [text.partition("] ")[2] for text in out.splitlines()]
    assert texts[:-1] == [*([line] if line else []), "Couldn't start model manager"]
    assert texts[-1].startswith(f"ovms::ModelManager::Start() Error: {error} - ")
    assert all("[modelmanager][error][cli.py:" in text for text in out.splitlines())
    assert (path.read_text("utf-8"), err) == (out, "")


@pytest.mark.usefixtures("own_logging")
def test_a_late_fault_is_told_without_a_log_file_too(tmp_path: Path, capsys: Capture) -> None:
    """A file that cannot be opened does not hide it."""
    assert main([*SERVE, "--shape", "x", "--log_path", str(tmp_path / "none" / "log")]) == 1
    assert "Couldn't parse shape parameter" in capsys.readouterr().out


@pytest.mark.usefixtures("own_logging")
def test_early_faults_come_before_late_ones() -> None:
    """A command line that cannot be used is exit code 64, whatever else is wrong with it."""
    assert refusal(*SERVE, "--shape", "x", "--rest_workers", "1") == "rest_workers count should be from 2 to 10000"


def test_models_are_listed(tmp_path: Path, capsys: Capture) -> None:
    """Below the option's folder, or that of the environment."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").touch()
    listing = f"Listing models in repository...\nModel repository path: {tmp_path}\nm\n"
    assert prepare(["--list_models", "--model_repository_path", str(tmp_path)], {}) == 0
    assert capsys.readouterr().out == listing
    assert prepare(["--list_models"], {"OVMS_MODEL_REPOSITORY_PATH": str(tmp_path)}) == 0
    assert capsys.readouterr().out == listing
    other = ["--list_models", "--model_repository_path", str(tmp_path)]
    assert prepare(other, {"OVMS_MODEL_REPOSITORY_PATH": "/no/such"}) == 0
    assert capsys.readouterr().out == listing


@pytest.mark.parametrize(
    ("words", "base_path"),
    [
        (["--model_path", "rel/m"], "rel/m"),
        (["--model_repository_path", "/r"], "/r/m"),
        (["--model_repository_path", "/r/"], "/r/m"),
        (["--model_repository_path", "/r", "--model_path", "/p"], "/p"),
    ],
)
def test_a_model_is_added_and_removed(words: list[str], base_path: str, tmp_path: Path, capsys: Capture) -> None:
    """Its path is the option's, or that of the name below the repository."""
    path = tmp_path / "config.json"
    named = ["--config_path", str(path), "--model_name", "m"]
    assert prepare(["--add_to_config", *named, *words], {}) == 0
    assert json.loads(path.read_text("utf-8")) == {
        "model_config_list": [{"config": {"name": "m", "base_path": base_path}}]
    }
    assert prepare(["--add_to_config", *named, *words], {}) == 1
    assert prepare(["--remove_from_config", *named], {}) == 0
    assert json.loads(path.read_text("utf-8")) == {"model_config_list": []}
    assert prepare(["--remove_from_config", *named], {}) == 1
    assert [line.removeprefix(str(path)) for line in capsys.readouterr().out.splitlines()] == [
        f"Config updated: {path}",
        " error on config update : Given model name is already occupied",
        f"Config updated: {path}",
        " error on config update : Model with requested name is not found",
    ]


def test_the_environment_stands_in_for_both_paths(tmp_path: Path, capsys: Capture) -> None:
    """In these modes only; the configuration file that is used is told."""
    environment = {"OVMS_MODEL_REPOSITORY_PATH": str(tmp_path)}
    path = tmp_path / "config.json"
    assert prepare(["--add_to_config", "--model_name", "m"], environment) == 0
    assert capsys.readouterr().out == f"Using default config path: {path}\nConfig updated: {path}\n"
    ((entry,),) = json.loads(path.read_text("utf-8")).values()
    assert entry == {"config": {"name": "m", "base_path": f"{tmp_path}/m"}}
    assert prepare(["--remove_from_config", "--model_name", "m"], environment) == 0
    assert refusal("--rest_port", "1", environment=environment) == "Use config_path or model_path with model_name"
    assert refusal(*SERVE[:2], *SERVE[4:], environment=environment) == "Use config_path or model_path with model_name"


def test_options_win_over_the_environment(tmp_path: Path, capsys: Capture) -> None:
    """Nothing is said about a default then."""
    path = tmp_path / "c.json"
    words = ["--add_to_config", "--config_path", str(path), "--model_name", "m", "--model_path", "/p"]
    assert prepare(words, {"OVMS_MODEL_REPOSITORY_PATH": "/no/such"}) == 0
    assert capsys.readouterr().out == f"Config updated: {path}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--add_to_config", "--config_path", "/c"], "Set model_name with add_to_config/remove_from_config"),
        (
            ["--add_to_config", "--config_path", "/c", "--model_name", "m"],
            "Set model_name either with model_path or model_repository_path with add_to_config",
        ),
        (
            ["--remove_from_config", "--config_path", "/c", "--model_name", "m", "--nireq", "1"],
            (
                "Adding or removing models from the configuration file, allows passing only model_name and model_path "
                "parameters. Invalid parameters passed: nireq, "
            ),
        ),
        (
            ["--remove_from_config", "--config_path", "/c", "--model_name", "m", "--model_path", "/m"],
            "error parsing options - --model_path cannot be used with --remove_from_config",
        ),
    ],
)
def test_edits_that_are_refused(words: list[str], sentence: str) -> None:
    """No file is touched."""
    assert refusal(*words) == sentence


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--bad"], ["--print_config_schema"]])
def test_no_large_library_is_waited_for(words: list[str]) -> None:
    """A person waits for these answers."""
    program = (
        "import sys\n"
        "from tornado_ovms.cli import main\n"
        "main(sys.argv[1:])\n"
        "large = {'numpy', 'openvino', 'tornado', 'jsonschema', 'cv2', 'orjson', 'asyncio'} & sys.modules.keys()\n"
        "print('large:', *large)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "large:"
