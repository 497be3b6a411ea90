"""The command line as settings, and the faults that are found late."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.arguments import parse
from tornado_ovms.core.command_line import LATE_FAULTS, server_settings
from tornado_ovms.core.model_keys import BOTH, WRONG_BATCH_SIZE
from tornado_ovms.core.options import OPTIONS, TABLE, TASK_OPTIONS, Group
from tornado_ovms.core.settings import (
    AllVersions,
    CorsSettings,
    LatestVersions,
    Limits,
    LoadLimits,
    MetricsSettings,
    ModelSettings,
    NonFinite,
    ServerSettings,
    SpecificVersions,
    TlsSettings,
    VersionPolicy,
    told,
)
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, AUTO, Dim, Layout, LayoutChange, Shape

SINGLE = {"model_name": "m", "model_path": "/m"}


def settings(cpus: int = 3, **options: object) -> ServerSettings:
    """The settings of a command line in the folder /home/me."""
    return server_settings(parse([f"--{name}={value}" for name, value in options.items()]), "/home/me", cpus)


def model(**options: object) -> ModelSettings:
    """The settings of a single model."""
    found = settings(**SINGLE, **options).model
    assert found is not None
    return found


def late_fault(**options: object) -> Failure:
    """Why a single model cannot be served as written."""
    with pytest.raises(Failure) as caught:
        model(**options)
    return caught.value


def test_a_single_model_with_all_defaults() -> None:
    """What is not given is as the reference has it."""
    assert settings(**SINGLE, rest_port=8000) == ServerSettings(
        model=ModelSettings("m", "/m"), rest_port=8000, rest_workers=3
    )
    assert model() == ModelSettings(
        name="m", base_path="/m", version_policy=LatestVersions(1), nireq=0, target_device="CPU",
        plugin_config={}, stateful=False, low_latency_transformation=False, idle_sequence_cleanup=True,
        max_sequence_number=500,
    )  # fmt: skip


def test_a_single_model_with_every_setting() -> None:
    """Each option arrives at its place."""
    assert model(
        shape="(1,3,-1,2:8)", layout="NHWC:NCHW", model_version_policy='{"all": {}}', nireq=4, target_device="AUTO:GPU,CPU",
        plugin_config='{"NUM_STREAMS": "2"}', stateful="true", low_latency_transformation="true",
        idle_sequence_cleanup="false", max_sequence_number=7,
    ) == ModelSettings(
        name="m", base_path="/m", version_policy=AllVersions(),
        shape=Shape([Dim.fixed(1), Dim.fixed(3), ANY, Dim(2, 8)]), layout=LayoutChange(Layout("NHWC"), Layout("NCHW")),
        nireq=4, target_device="AUTO:GPU,CPU", plugin_config={"NUM_STREAMS": "2"}, stateful=True,
        low_latency_transformation=True, idle_sequence_cleanup=False, max_sequence_number=7,
    )  # fmt: skip


def test_a_server_with_every_setting() -> None:
    """Each option arrives at its place."""
    assert settings(
        config_path="/c.json", rest_port=1, rest_bind_address="127.0.0.1,::1", rest_workers=9, unix_socket="/s",
        file_system_poll_wait_seconds=0, sequence_cleaner_poll_wait_minutes=0, cache_dir="/cache",
        cpu_extension="/x.so", metrics_enable="true", metrics_list=" ovms_streams , x", allow_credentials="true",
        allowed_origins="a", allowed_methods="", allowed_headers="c", log_level="TRACE", log_path="/log",
        non_finite="string", max_body_bytes=1, max_json_depth=2, max_image_pixels=3,
        max_open_requests=4, max_open_bytes=5, max_queue=6, max_connections=7, request_timeout=8, client_timeout=9,
        tls_certificate="/cert", tls_min_version="1.3", tls_client_ca="/ca", inference_keys="/i", management_keys="/m",
    ) == ServerSettings(
        config_path="/c.json", rest_port=1, addresses=("127.0.0.1", "::1"), rest_workers=9, unix_socket="/s",
        file_system_poll_wait_seconds=0, sequence_cleaner_poll_wait_minutes=0, cache_dir="/cache",
        cpu_extension="/x.so", metrics=MetricsSettings(enable=True, families=("ovms_streams", "x")),
        cors=CorsSettings("a", "", "c", credentials=True), log_level="TRACE", log_path="/log",
        non_finite=NonFinite.STRING, limits=Limits(1, 2, 3), load=LoadLimits(4, 5, 6, 7, 8, 9),
        tls=TlsSettings("/cert", "/cert", "1.3", "/ca"), inference_keys="/i", management_keys="/m",
    )  # fmt: skip


def test_settings_are_told_without_secrets() -> None:
    """For the log: each one in a line; key files are paths, and of base paths passwords and queries are left out."""
    lines = list(told(settings(model_name="m", model_path="https://me:secret@host/m.zip?sig=secret", rest_port=1)))
    assert "rest_port: 1" in lines
    assert any(line.startswith("model: ") and "'https://***@host/m.zip?***'" in line for line in lines)
    assert "secret" not in "".join(lines)
    assert [line.partition(": ")[0] for line in lines] == [each.name for each in fields(ServerSettings)]


def test_the_defaults_of_both_tables_agree() -> None:
    """Settings that nobody has read from a command line are those of an empty one."""
    assert settings(cpus=2, demo="true") == ServerSettings(rest_port=8000, demo=True)


@pytest.mark.parametrize(
    ("options", "config_path", "has_model", "demo"),
    [
        (SINGLE, None, True, False),
        ({"config_path": "/c.json"}, "/c.json", False, False),
        ({"config_path": "c.json"}, "/home/me/c.json", False, False),
        ({"demo": "true"}, None, False, True),
    ],
)
def test_there_is_one_source(
    options: dict[str, object],
    config_path: str | None,
    has_model: bool,  # noqa: FBT001
    demo: bool,  # noqa: FBT001
) -> None:
    """A file, a single model or the demo."""
    found = settings(**options)  # type: ignore[arg-type]
    assert (found.config_path, found.model is not None, found.demo) == (config_path, has_model, demo)


@pytest.mark.parametrize(
    ("path", "base_path"),
    [
        ("m", "/home/me/m"),
        ("./m/", "/home/me/./m/"),
        ("../m", "/home/me/../m"),
        ("/m", "/m"),
        ("s3://bucket/m", "s3://bucket/m"),
    ],
)
def test_paths_count_from_the_working_directory(path: str, base_path: str) -> None:
    """Unless they are absolute or on another machine; whether they may climb is decided where they are used."""
    found = settings(model_name="m", model_path=path).model
    assert found is not None
    assert found.base_path == base_path


@pytest.mark.parametrize(("cpus", "workers"), [(1, 2), (2, 2), (64, 64), (20000, 10000)])
def test_as_many_workers_as_cpus(cpus: int, workers: int) -> None:
    """Within what may be given."""
    assert settings(cpus, **SINGLE).rest_workers == workers  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "families"),
    [
        ("", None),
        ("a", ("a",)),
        (" a ,\tb", ("a", "b")),
        ("a,", ("a",)),
        ("a,,b", ("a", "", "b")),
        (",", ("",)),
        ("a,a", ("a", "a")),
    ],
)
def test_lists_of_families(text: str, families: tuple[str, ...] | None) -> None:
    """Blanks around names are fine, a comma at the end is too; what is unknown is found later."""
    assert settings(**SINGLE, metrics_enable="true", metrics_list=text).metrics.families == families


POLICY_FORMAT, POLICY_KEY = Code.VERSION_POLICY_FORMAT, Code.VERSION_POLICY_KEY
PLUGIN, SHAPE, LAYOUT = Code.PLUGIN_CONFIG_FORMAT, Code.SHAPE_FORMAT, Code.LAYOUT_FORMAT


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ('{"latest": {"num_versions": 2}}', LatestVersions(2)),
        ('{"specific": {"versions": [3, 1, 3]}}', SpecificVersions(frozenset({1, 3}))),
        ('{"specific": {"versions": []}}', SpecificVersions(frozenset())),
        ('{"all": {}}', AllVersions()),
        ('{"all": {"x": 1}}', AllVersions()),
        ('{"all": null}', AllVersions()),
        (' {"all": 7}\n', AllVersions()),
        ("", LatestVersions(1)),
    ],
)
def test_version_policies_are_read(text: str, policy: VersionPolicy) -> None:
    """``all`` may hold anything, unlike in the file."""
    assert model(model_version_policy=text).version_policy == policy


def test_items_that_are_no_version_are_dropped() -> None:
    """With a warning each; the others are served."""
    text = '{"specific": {"versions": [1, 0, -2, "3", 4.0, true, null, 5]}}'
    found = settings(**SINGLE, model_version_policy=text)
    assert found.model is not None
    assert found.model.version_policy == SpecificVersions(frozenset({1, 5}))
    assert [warning.split(" is left out")[0] for warning in found.warnings] == [
        f"--model_version_policy: {item}" for item in ("0", "-2", '"3"', "4.0", "true", "null")
    ]


@pytest.mark.parametrize(
    ("option", "text", "code"),
    [
        *(("model_version_policy", text, POLICY_FORMAT) for text in ("all", "{", "[]", '"all"', "1", "{}", "null")),
        ("model_version_policy", '{"all": {}, "latest": {"num_versions": 1}}', POLICY_FORMAT),
        ("model_version_policy", '{"all": {}, "all": {}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": 1}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": 0}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": -1}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": "1"}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": 1.0}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": true}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"versions": 1}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": 1, "x": 1}}', POLICY_FORMAT),
        ("model_version_policy", '{"latest": {"num_versions": 1, "num_versions": 1}}', POLICY_FORMAT),
        ("model_version_policy", '{"specific": {"versions": 1}}', POLICY_FORMAT),
        ("model_version_policy", '{"specific": {"versions": [1], "versions": [1]}}', POLICY_FORMAT),
        ("model_version_policy", '{"specific": {}}', POLICY_FORMAT),
        ("model_version_policy", '{"specific": [1]}', POLICY_FORMAT),
        ("model_version_policy", '{"test": {"versions": [1, 3, 4]}}', POLICY_KEY),
        ("model_version_policy", '{"ALL": {}}', POLICY_KEY),
        *(("plugin_config", text, PLUGIN) for text in ("NUM_STREAMS=1", "[]", "1", '"x"', "null", '{"A": 1,}')),
        *(("plugin_config", f'{{"A": {value}}}', PLUGIN) for value in ("[]", "{}", "null", "NaN", "1e999")),
        ("plugin_config", '{"A": 1, "B": {"C": 1}}', PLUGIN),
        ("plugin_config", '{"DEVICE_PROPERTIES": {"CPU": 1}}', PLUGIN),
        ("plugin_config", '{"DEVICE_PROPERTIES": {"CPU": null}}', PLUGIN),
        ("plugin_config", '{"DEVICE_PROPERTIES": []}', PLUGIN),
        *(("shape", text, SHAPE) for text in ("(1,10", "1,10", "()", "(3:3)", "AUTO", "[1,10]", "{", "{}x")),
        *(("shape", text, SHAPE) for text in ('{"b": 1}', '{"b": [1, 10]}', '{"b": "(1,"}', '{"b": null}')),
        ("shape", '{"a": "(1)", "b": "(?)"}', SHAPE),
        *(("layout", text, LAYOUT) for text in ("nc>nc", "NXC", "NHWC:NCHW:NC", "{", '{"b": 1}', '{"b": "NXC"}')),
    ],
)
def test_late_faults(option: str, text: str, code: Code) -> None:
    """Each has the code whose line the log shows, and names its option."""
    failure = late_fault(**{option: text})
    assert failure.code is code
    assert f"--{option}: " in failure.text


def test_the_log_s_lines() -> None:
    """Scripts look for them."""
    assert dict(LATE_FAULTS) == {
        PLUGIN: "Couldn't parse plugin config",
        POLICY_FORMAT: "Couldn't parse model version policy. Model version policy is in wrong format",
        POLICY_KEY: "Couldn't parse model version policy. Model version policy contains unsupported key",
        SHAPE: "Couldn't parse shape parameter",
        LAYOUT: "Couldn't parse layout parameter",
    }


def test_late_faults_come_in_the_reference_s_order() -> None:
    """Who repairs what is told hears of the next."""
    options = {"plugin_config": "x", "model_version_policy": "x", "shape": "x", "layout": "x", "stateful": "true"}
    repaired = {"plugin_config": "{}", "model_version_policy": "", "shape": "auto", "layout": "NC"}
    for option, code in zip(repaired, (PLUGIN, POLICY_FORMAT, SHAPE, LAYOUT), strict=True):
        assert late_fault(**options).code is code
        options[option] = repaired[option]
    assert late_fault(**options).code is Code.STATEFUL_WITH_AUTO


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("plugin_config", '{"A": "x", "B": 1, "C": 1.5, "D": false}', {"A": "x", "B": 1, "C": 1.5, "D": False}),
        ("plugin_config", '{"A": 1, "A": 2}', {"A": 1}),
        ("plugin_config", '{"DEVICE_PROPERTIES": {"CPU": {"A": 1}}}', {"DEVICE_PROPERTIES": {"CPU": {"A": 1}}}),
        ("plugin_config", "", {}),
        ("shape", "auto", AUTO),
        ("shape", '{"a": "(1,2:4)", "b": "auto"}', {"a": Shape([Dim.fixed(1), Dim(2, 4)]), "b": AUTO}),
        ("shape", ' {"a": "(1)"}', {"a": Shape.of([1])}),
        ("shape", "{}", None),
        ("shape", "", None),
        ("layout", "cn", LayoutChange(Layout("CN"), Layout("CN"))),
        ("layout", '{"a": "CN:NC"}', {"a": LayoutChange(Layout("CN"), Layout("NC"))}),
        ("layout", "{}", None),
        ("batch_size", "8", Dim.fixed(8)),
        ("batch_size", "-1", ANY),
        ("batch_size", "2:5", Dim(2, 5)),
        ("batch_size", "auto", AUTO),
        ("target_device", "", "CPU"),
    ],
)
def test_settings_of_a_model_are_read(option: str, text: str, value: object) -> None:
    """As text for all tensors, or as an object by tensor."""
    assert getattr(model(**{option: text}), option) == value


@pytest.mark.parametrize("text", ["?", "1:", "5:1", "word"])
def test_a_malformed_batch_size_is_a_warning(text: str) -> None:
    """The model's own is used."""
    found = settings(**SINGLE, batch_size=text)
    assert found.model is not None
    assert found.model.batch_size is None
    (warning,) = found.warnings
    assert warning.startswith(WRONG_BATCH_SIZE)
    assert repr(text) in warning


def test_a_shape_says_more_than_a_batch_size() -> None:
    """Both together are a warning."""
    found = settings(**SINGLE, batch_size=8, shape="(1,10)")
    assert found.model is not None
    assert (found.model.batch_size, found.model.shape) == (None, Shape.of([1, 10]))
    assert found.warnings == (BOTH,)


@pytest.mark.parametrize("option", [{"batch_size": "auto"}, {"shape": "auto"}, {"shape": '{"a": "(1)", "b": "auto"}'}])
def test_sequences_need_fixed_sizes(option: dict[str, object]) -> None:
    """Only a stateful model does."""
    assert late_fault(**option, stateful="true").code is Code.STATEFUL_WITH_AUTO
    assert model(**option).has_auto


GRPC = "there is no gRPC in this server"
GENERATION = "this server has no language models and no graphs"
IN_FILE = "the configuration file has the settings of its models"


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        ({}, ()),
        ({"port": 9000, "grpc_workers": 1}, (f"--port has no effect: {GRPC}", f"--grpc_workers has no effect: {GRPC}")),
        ({"api_key_file": "/k"}, (f"--api_key_file has no effect: {GENERATION}",)),
        ({"weight-format": "int4"}, (f"--weight_format has no effect: {GENERATION}",)),
        (
            {"task": "embeddings", "pooling": "CLS"},
            (f"--task has no effect: {GENERATION}", f"--pooling has no effect: {GENERATION}"),
        ),
        (
            {"custom_node_resources_cleaner_interval_seconds": 1},
            (
                (
                    "--custom_node_resources_cleaner_interval_seconds has no effect: "
                    "what custom nodes hold is given back as soon as nobody uses it"
                ),
            ),
        ),
        (
            {"model_repository_path": "/r"},
            ("--model_repository_path has no effect: it is for --list_models and --add_to_config",),
        ),
    ],
)
def test_options_in_vain_are_warned_of(options: dict[str, object], warnings: tuple[str, ...]) -> None:
    """One warning each, in the order in which they were given, beside a file as beside a model."""
    assert settings(**SINGLE, **options).warnings == warnings  # type: ignore[arg-type]
    assert settings(config_path="/c.json", **options).warnings == warnings  # type: ignore[arg-type]


def test_settings_of_a_model_beside_a_file_are_in_vain() -> None:
    """Those that the reference lets pass."""
    assert settings(config_path="/c.json", layout="NC", nireq=0).warnings == (
        f"--layout has no effect: {IN_FILE}",
        f"--nireq has no effect: {IN_FILE}",
    )


def test_every_option_without_effect_says_so() -> None:
    """No option of another server's parts is swallowed."""
    names = [option.name for group in (Group.GRPC, Group.GENERATION) for option in TABLE[group]] + [*TASK_OPTIONS]
    options: dict[str, object] = {"task": "embeddings"}
    for name in names:
        key = name.replace("-", "_")
        kind = OPTIONS[key].kind.value if key in OPTIONS else "text"
        options.setdefault(name, {"flag": "true", "text": "x"}.get(kind, 1))
    assert len(settings(**SINGLE, **options).warnings) == len(names)  # type: ignore[arg-type]


@given(
    st.sampled_from(["plugin_config", "model_version_policy", "shape", "layout", "batch_size"]), st.text(max_size=20)
)
def test_any_text_is_a_setting_or_a_late_fault(option: str, text: str) -> None:
    """Nothing but Failure comes out."""
    try:
        model(**{option: text})
    except Failure as failure:
        code = failure.code
    else:
        return
    assert code in LATE_FAULTS
