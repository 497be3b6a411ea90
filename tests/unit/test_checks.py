"""Which options may stand together, which values are refused, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.arguments import Arguments, parse
from tornado_ovms.core.checks import Machine, find_conflict, find_edit_fault, find_fault, rest_port
from tornado_ovms.core.options import TASKS

MACHINE = Machine(cores=4, exists="/there".__eq__)

A = "Use either config_path or model_path with model_name"
B = "Use config_path or model_path with model_name"
C = "Model parameters in CLI are exclusive with the config file"
D = "grpc_workers count should be from 1 to CPU core count : 4"
E = "rest_port setting is missing, metrics are enabled on rest port"
F = "metrics_enable setting is missing, required when metrics_list is provided"
G = "port and rest_port cannot both be unset"
H = "rest_workers count should be from 2 to 10000"
I = "rest_workers is set but rest_port is not set. rest_port is required to start rest servers"  # noqa: E741
J = "port number out of range from 0 to 65535"
J_REST = "rest_port number out of range from 0 to 65535"
K = "rest_bind_address has invalid format: proper hostname or IP address expected."
K_GRPC = "grpc_bind_address has invalid format: proper hostname or IP address expected."
L = "port and rest_port cannot have the same values"
M = "File path provided as an --cpu_extension parameter does not exist in the filesystem: /not/there"
N = "log_level should be one of: TRACE, DEBUG, INFO, WARNING, ERROR"
O = (  # noqa: E741
    "Setting low_latency_transformation, max_sequence_number and idle_sequence_cleanup require setting stateful flag for "
    "the model."
)
NO_GRPC = "rest_port is not set, and there is no gRPC in this server: port alone serves nothing"
DEMO = "demo serves models of its own: leave out config_path, model_name, model_path and all settings of a model"
NOT_HERE = "model pulling and generation are not part of this server"
NOT_SERVED = f"{NOT_HERE}: give model_name and model_path of a model that is there, or config_path"


def read(options: dict[str, object]) -> Arguments:
    """A command line with these options."""
    return parse([f"--{name}={value}" for name, value in options.items()])


def fault(**options: object) -> str | None:
    """What is told about a server with these options, and a port unless they say otherwise."""
    return find_fault(read({"rest_port": 8000, **options}), MACHINE)


def model_fault(**options: object) -> str | None:
    """What is told about a single model with these options."""
    return fault(model_name="m", model_path="/m", **options)


def config_fault(**options: object) -> str | None:
    """What is told about a configuration file with these options."""
    return fault(config_path="/c.json", **options)


REPAIRS: list[tuple[dict[str, object], str | None]] = [
    ({"config_path": None, "model_name": None}, B),
    ({"config_path": "/c.json"}, C),
    ({"batch_size": None}, D),
    ({"grpc_workers": 4}, E),
    ({"metrics_enable": None, "metrics_list": "ovms_streams"}, F),
    ({"metrics_list": None}, G),
    ({"port": 70000}, H),
    ({"rest_workers": 2}, I),
    ({"rest_port": 70000}, J),
    ({"port": 9000}, J_REST),
    ({"rest_port": 9000}, K),
    ({"rest_bind_address": None}, K_GRPC),
    ({"grpc_bind_address": None}, L),
    ({"rest_port": 8000}, M),
    ({"cpu_extension": "/there"}, N),
    ({"log_level": "DEBUG"}, O),
    ({"stateful": "true"}, "non_finite should be one of: null, literal, string, error"),
    ({"non_finite": "literal"}, "max_json_depth should be from 1 to 1000"),
    ({"max_json_depth": 1000}, "max_body_bytes should be at least 1"),
    ({"max_body_bytes": 1}, "max_image_pixels should be at least 1"),
    ({"max_image_pixels": 1}, None),
]
"""What to change on a command line that is wrong throughout, and what is told next."""


def test_faults_are_told_one_by_one_in_the_reference_s_order() -> None:
    """Who repairs what is told hears of the next; ours come last."""
    options: dict[str, object] = {
        "config_path": "/c.json",
        "model_name": "m",
        "batch_size": 1,
        "grpc_workers": 5,
        "metrics_enable": "true",
        "rest_workers": 1,
        "rest_bind_address": "192.0.2",
        "grpc_bind_address": "192.0.2",
        "cpu_extension": "/not/there",
        "log_level": "WRONG",
        "max_sequence_number": 3,
        "non_finite": "nan",
        "max_json_depth": 1001,
        "max_body_bytes": 0,
        "max_image_pixels": 0,
    }
    assert find_fault(read(options), MACHINE) == A
    for change, told in REPAIRS:
        options = {name: value for name, value in {**options, **change}.items() if value is not None}
        assert find_fault(read(options), MACHINE) == told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"config_path": "/c.json"}, None),
        ({"model_name": "m", "model_path": "/m"}, None),
        ({"demo": "true"}, None),
        ({}, B),
        ({"model_name": "m"}, B),
        ({"model_path": "/m"}, B),
        ({"model_name": "m", "model_path": ""}, B),
        ({"config_path": ""}, B),
        ({"config_path": "/c.json", "model_name": "m"}, A),
        ({"config_path": "/c.json", "model_path": "/m"}, A),
        ({"config_path": "/c.json", "model_name": "m", "model_path": "/m"}, A),
        ({"config_path": "/c.json", "model_name": ""}, None),
        ({"demo": "false"}, B),
        ({"demo": "true", "config_path": "/c.json"}, DEMO),
        ({"demo": "true", "model_name": "m"}, DEMO),
        ({"demo": "true", "model_path": "/m"}, DEMO),
        ({"demo": "true", "nireq": 2}, DEMO),
        ({"demo": "true", "layout": "NHWC"}, DEMO),
    ],
)
def test_there_is_one_source_of_models(options: dict[str, object], told: str | None) -> None:
    """A file, a single model or the demo; an empty text is none of them."""
    assert fault(**options) == told


@pytest.mark.parametrize(
    "option",
    [
        {"batch_size": "1"},
        {"shape": "auto"},
        {"nireq": 1},
        {"model_version_policy": '{"all": {}}'},
        {"target_device": "CPU"},
        {"plugin_config": "{}"},
    ],
)
def test_settings_that_exclude_a_file(option: dict[str, object]) -> None:
    """Beside a model they are fine."""
    assert config_fault(**option) == C
    assert model_fault(**option) is None


@pytest.mark.parametrize(
    "option",
    [{"nireq": 0}, {"layout": "NHWC"}, {"stateful": "true"}, {"batch_size": ""}, {"model_repository_path": "/r"}],
)
def test_settings_that_do_not(option: dict[str, object]) -> None:
    """The reference has forgotten some, and takes an empty text for absence."""
    assert config_fault(**option) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"grpc_workers": 0}, D),
        ({"grpc_workers": 5}, D),
        ({"grpc_workers": 4}, None),
        ({"rest_port": 0, "metrics_enable": "true"}, E),
        ({"rest_port": 0, "port": 9000, "metrics_enable": "true"}, E),
        ({"metrics_enable": "true"}, None),
        ({"metrics_enable": "true", "metrics_list": "x"}, None),
        ({"metrics_list": "x"}, F),
        ({"metrics_enable": "false", "metrics_list": "x"}, F),
        ({"metrics_list": ""}, None),
        ({"rest_port": 0}, G),
        ({"rest_port": 0, "port": 0}, G),
        ({"rest_port": 0, "port": 9000}, NO_GRPC),
        ({"rest_workers": 0}, H),
        ({"rest_workers": 1}, H),
        ({"rest_workers": 10001}, H),
        ({"rest_workers": 2}, None),
        ({"rest_workers": 10000}, None),
        ({"rest_port": 0, "port": 9000, "rest_workers": 2}, I),
        ({"rest_port": 0, "port": 9000, "rest_workers": 1}, H),
        ({"port": 65536}, J),
        ({"rest_port": 65536}, J_REST),
        ({"rest_port": 65535, "port": 65534}, None),
        ({"rest_port": 65536, "port": 65536}, J),
        ({"port": 8000}, L),
        ({"rest_port": 65536, "rest_bind_address": "-"}, J_REST),
        ({"cpu_extension": "/not/there"}, M),
        ({"cpu_extension": "/there"}, None),
        ({"cpu_extension": ""}, None),
        *(({"log_level": level}, None) for level in ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")),
        *(({"log_level": level}, N) for level in ("WRONG", "info", "CRITICAL", "INFO ")),
        ({"low_latency_transformation": "true"}, O),
        ({"low_latency_transformation": "false"}, O),
        ({"max_sequence_number": 500}, O),
        ({"idle_sequence_cleanup": "true"}, O),
        ({"idle_sequence_cleanup": "false", "stateful": "false"}, O),
        ({"idle_sequence_cleanup": "false", "stateful": "true"}, None),
        ({"max_json_depth": 0}, "max_json_depth should be from 1 to 1000"),
        ({"max_json_depth": 1}, None),
    ],
)
def test_values_and_what_they_need(options: dict[str, object], told: str | None) -> None:
    """The largest and the smallest value pass, the next does not; beside a file as beside a model."""
    assert model_fault(**options) == told
    assert config_fault(**options) == told


ADDRESSES = """
    127.0.0.1 127.0.0.1,::1 :: ::ffff:1.2.3.4 2001:DB8::1 localhost my-host.example x 3com.example x.1
    127.0.0.1,localhost,::1
"""
OTHER_TEXTS = """
    192.0.2 0.0.0.0.0 256.0.0.1 127.0.0.01 fe80::1%eth0 : ::: 1 face -a a- a_b a..b .a a. 127.0.0.1, , [::1] ü http://a
"""


@pytest.mark.parametrize("text", [*ADDRESSES.split(), "x" * 255])
def test_addresses_that_can_be_listened_on(text: str) -> None:
    """IPv4, IPv6, host names, and lists of them."""
    assert model_fault(rest_bind_address=text, grpc_bind_address=text) is None


@pytest.mark.parametrize("text", [*OTHER_TEXTS.split(), "a b", "127.0.0.1, ::1", "a\n", "127.0.0.1\n", "x" * 256])
def test_addresses_that_cannot(text: str) -> None:
    """What has the characters of an address only has to be one; every part of a list counts."""
    assert model_fault(rest_bind_address=text) == K
    assert model_fault(grpc_bind_address=f"::1,{text}") == K_GRPC


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Nothing is raised."""
    assert model_fault(rest_bind_address=text) in (None, K)


@pytest.mark.parametrize(
    ("options", "port"),
    [
        ({}, 0),
        ({"rest_port": 9}, 9),
        ({"demo": "true"}, 8000),
        ({"demo": "true", "rest_port": 9}, 9),
        ({"demo": "true", "rest_port": 0}, 0),
    ],
)
def test_the_demo_has_a_port_of_its_own(options: dict[str, object], port: int) -> None:
    """Unless one is given."""
    assert rest_port(read(options)) == port


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"task": "text_generation"}, NOT_SERVED),
        ({"task": "text_generation", "model_name": "m"}, NOT_SERVED),
        ({"task": "text_generation", "model_name": "m", "model_path": "/m"}, None),
        ({"task": "text_generation", "config_path": "/c.json"}, None),
        ({"task": "text_generation", "model_path": "/m", "pull": "true"}, NOT_SERVED),
        ({"task": "text_generation", "source_model": "s", "config_path": "/c.json"}, None),
    ],
)
def test_generation_is_not_part_of_this_server(options: dict[str, object], told: str | None) -> None:
    """Beside something to serve its options are harmless; pulling is never done."""
    assert fault(**options) == told


PULL = "error parsing options - --{} cannot be used with --pull or --task"
LIST = "error parsing options - --list_models cannot be used with --{}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, None),
        ({"list_models": 1}, None),
        ({"task": "embeddings"}, None),
        ({"pull": 1}, f"error parsing options - --task parameter wasn't passed\n{NOT_HERE}"),
        ({"source_model": "s"}, f"error parsing options - --task parameter wasn't passed\n{NOT_HERE}"),
        ({"pull": 1, "task": "x"}, f"error parsing options - --task parameter unsupported value: x\n{NOT_HERE}"),
        ({"task": "x"}, f"error parsing options - --task parameter unsupported value: x\n{NOT_HERE}"),
        ({"list_models": 1, "task": "rerank"}, PULL.format("list_models")),
        ({"list_models": 1, "pull": 1}, PULL.format("list_models")),
        ({"list_models": 1, "pull": 1, "task": "rerank"}, PULL.format("list_models")),
        ({"add_to_config": 1, "task": "rerank"}, PULL.format("add_to_config")),
        ({"remove_from_config": 1, "pull": 1, "task": "rerank"}, PULL.format("remove_from_config")),
        ({"list_models": 1, "add_to_config": 1}, LIST.format("add_to_config")),
        ({"list_models": 1, "remove_from_config": 1}, LIST.format("remove_from_config")),
        ({"list_models": 0, "remove_from_config": 1}, None),
        (
            {"remove_from_config": 1, "model_path": "/m"},
            "error parsing options - --model_path cannot be used with --remove_from_config",
        ),
        ({"add_to_config": 1, "model_path": "/m"}, None),
        ({"remove_from_config": 1, "model_path": ""}, None),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, object], told: str | None) -> None:
    """They are seen while parsing, whatever the process is to do."""
    assert find_conflict(read(options)) == told


@pytest.mark.parametrize("task", TASKS)
def test_tasks_that_are_known(task: str) -> None:
    """Those of the reference."""
    assert find_conflict(read({"task": task})) is None


NO_NAME = "Set model_name with add_to_config/remove_from_config"
NO_PATH = "Set model_name either with model_path or model_repository_path with add_to_config"
OTHERS = (
    "Adding or removing models from the configuration file, allows passing only model_name and model_path parameters. "
    "Invalid parameters passed: "
)


def edit_fault(mode: str, config_path: str, model_path: str, **options: object) -> list[str]:
    """The lines that are told about an edit; none if it may be done."""
    told = find_edit_fault(read({mode: "true", **options}), MACHINE, config_path, model_path)
    return (told or "").splitlines()


@pytest.mark.parametrize("mode", ["add_to_config", "remove_from_config"])
def test_what_an_edit_needs(mode: str) -> None:
    """The file first, then the name, with a line of usage for each mode; no port."""
    assert edit_fault(mode, "", "") == ["Set config_path with add_to_config/remove_from_config"]
    sentence, *usage = edit_fault(mode, "/c.json", "/m")
    assert sentence == NO_NAME
    assert usage[0] == "Usage:"
    assert sum("--add_to_config" in line for line in usage) == 2
    assert sum("--remove_from_config" in line for line in usage) == 1
    assert edit_fault(mode, "/c.json", "/m", model_name="m") == []


def test_only_adding_needs_a_path() -> None:
    """The usage is that of adding."""
    sentence, *usage = edit_fault("add_to_config", "/c.json", "", model_name="m")
    assert sentence == NO_PATH
    assert [line.split()[:2] for line in usage[1:]] == [["tornado-ovms", "--add_to_config"]] * 2
    assert edit_fault("remove_from_config", "/c.json", "", model_name="m") == []


@pytest.mark.parametrize("mode", ["add_to_config", "remove_from_config"])
def test_an_edit_takes_no_settings_of_a_model(mode: str) -> None:
    """All that are given are listed, each with a comma and a blank."""
    lines = edit_fault(mode, "/c.json", "/m", model_name="m", shape="auto", nireq=0, batch_size="")
    assert lines == [f"{OTHERS}shape, nireq, "]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rest_workers": 1}, H),
        ({"rest_workers": 2}, I),
        ({"port": 65536}, J),
        ({"rest_port": 65536}, J_REST),
        ({"rest_bind_address": "-"}, K),
        ({"grpc_bind_address": "-"}, K_GRPC),
        ({"port": 1, "rest_port": 1}, L),
        ({"cpu_extension": "/not/there"}, M),
        ({"log_level": "WRONG"}, N),
    ],
)
def test_the_later_checks_are_made_for_an_edit_too(options: dict[str, object], told: str) -> None:
    """As in the reference; those that only a server needs are not."""
    assert edit_fault("add_to_config", "/c.json", "/m", model_name="m", **options) == [told]


def test_an_edit_needs_nothing_that_a_server_needs() -> None:
    """Neither cores for gRPC nor a port for metrics."""
    assert edit_fault("add_to_config", "/c.json", "/m", model_name="m", grpc_workers=99, metrics_enable="true") == []
