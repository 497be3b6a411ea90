"""The configuration file as settings; what is wrong with one entry, and what with all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.config import MAX_FAULTS, Config, parse
from tornado_ovms.core.model_keys import BOTH, WRONG_BATCH_SIZE, join, read_batch_size
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
from tornado_ovms.core.status import TABLE, Code, Failure
from tornado_ovms.core.tensors import ANY, AUTO, Dim, Layout, LayoutChange, Shape

PLACE = "/model_config_list/0/config"
NO_NUL = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""A text with a NUL, or with half of a surrogate pair, refuses the whole file."""


def read(*configs: object, **top: object) -> Config:
    """A configuration file in /etc/ovms with these models."""
    document = {"model_config_list": [{"config": config} for config in configs], **top}
    return parse(json.dumps(document).encode(), "/etc/ovms")


def model(**keys: object) -> ModelSettings:
    """The only model of a file, read without a fault or a warning."""
    config = read({"name": "m", "base_path": "/m", **keys})
    assert (config.faults, config.warnings) == ((), ())
    return config.models[0]


def fault(**keys: object) -> Failure:
    """Why an entry is left out; the one behind it is served."""
    config = read({"name": "m", **keys}, {"name": "good"})
    assert [settings.name for settings in config.models] == ["good"]
    (found,) = config.faults
    assert found.name == "m"
    return found.failure


def refusal(text: str | bytes) -> Failure:
    """Why a file is refused as a whole."""
    with pytest.raises(Failure) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), "/etc/ovms")
    assert caught.value.code is Code.JSON_INVALID
    return caught.value


def test_an_entry_with_all_defaults() -> None:
    """What is not written is as the reference has it."""
    assert model() == ModelSettings(
        name="m", base_path="/m", version_policy=LatestVersions(1), batch_size=None, shape=None, layout=None, nireq=0,
        target_device="CPU", plugin_config={}, allow_cache=False, stateful=False, low_latency_transformation=False,
        idle_sequence_cleanup=True, max_sequence_number=500, custom_loader=None,
    )  # fmt: skip


def test_an_entry_with_every_key() -> None:
    """Each key arrives at its place."""
    assert model(
        shape={"a": "(1,2:4)", "b": "(-1)"}, layout={"a": "NHWC:NCHW"}, model_version_policy={"all": {}}, nireq=2,
        target_device="GPU", plugin_config={"A": "x", "B": 1, "C": 1.5, "D": True}, allow_cache=True, stateful=True,
        low_latency_transformation=True, idle_sequence_cleanup=False, max_sequence_number=4294967295,
        custom_loader_options={"loader_name": "l", "x": "y"},
    ) == ModelSettings(
        name="m", base_path="/m", version_policy=AllVersions(),
        shape={"a": Shape([Dim.fixed(1), Dim(2, 4)]), "b": Shape([ANY])},
        layout={"a": LayoutChange(Layout("NHWC"), Layout("NCHW"))}, nireq=2, target_device="GPU",
        plugin_config={"A": "x", "B": 1, "C": 1.5, "D": True}, allow_cache=True, stateful=True,
        low_latency_transformation=True, idle_sequence_cleanup=False, max_sequence_number=4294967295, custom_loader="l",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "read_as"),
    [
        ("batch_size", 8, Dim.fixed(8)),
        ("batch_size", 0, Dim.fixed(0)),
        ("batch_size", "8", Dim.fixed(8)),
        ("batch_size", " 2 : 5 ", Dim(2, 5)),
        ("batch_size", "-1", ANY),
        ("batch_size", "auto", AUTO),
        ("shape", "(1,10)", Shape.of([1, 10])),
        ("shape", "auto", AUTO),
        ("shape", {"b": "auto"}, {"b": AUTO}),
        ("shape", {}, None),
        ("layout", "nhwc:nchw", LayoutChange(Layout("NHWC"), Layout("NCHW"))),
        ("layout", "CN", LayoutChange(Layout("CN"), Layout("CN"))),
        ("layout", {}, None),
        ("layout", "", None),
        ("layout", ' {"b": "CN"}', {"b": LayoutChange(Layout("CN"), Layout("CN"))}),
        ("name", "a/b ü", "a/b ü"),
        ("name", "", ""),
    ],
)
def test_values_are_read(key: str, value: object, read_as: object) -> None:
    """As text for all tensors, or as an object by tensor."""
    assert getattr(model(**{key: value}), key) == read_as


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        ({"latest": {"num_versions": 2}}, LatestVersions(2)),
        ({"specific": {"versions": [3, 1, 3]}}, SpecificVersions(frozenset({1, 3}))),
        ({"specific": {"versions": []}}, SpecificVersions(frozenset())),
        ({"all": {}}, AllVersions()),
    ],
)
def test_version_policies_are_read(value: object, policy: VersionPolicy) -> None:
    """Order and doubles do not matter."""
    assert model(model_version_policy=value).version_policy == policy


@pytest.mark.parametrize(
    ("path", "base_path"),
    [
        (None, "/etc/ovms"),
        ("", "/etc/ovms"),
        ("models/m", "/etc/ovms/models/m"),
        ("../m", "/etc/ovms/../m"),
        ("/models/m", "/models/m"),
        ("s3://bucket/m", "s3://bucket/m"),
        ("gs://bucket/m", "gs://bucket/m"),
        ("az://container/m", "az://container/m"),
    ],
)
def test_paths_count_from_the_folder_of_the_file(path: str | None, base_path: str) -> None:
    """Without one it is that folder itself; dots are left to whoever uses it."""
    (settings,) = read({"name": "m"} if path is None else {"name": "m", "base_path": path}).models
    assert settings.base_path == base_path


@pytest.mark.parametrize(
    ("folder", "path", "joined"),
    [
        ("/a", "b", "/a/b"),
        ("/a/", "b", "/a/b"),
        ("/", "b", "/b"),
        ("/a", "", "/a"),
        ("", "b", "/b"),
        ("/a", "/b", "/b"),
    ],
)
def test_paths_are_joined(folder: str, path: str, joined: str) -> None:
    """With one slash."""
    assert join(folder, path) == joined


@pytest.mark.parametrize(
    "text", ["", "[", "{}}", "{'a': 1}", '{"model_config_list": [],}', '{"model_config_list": [NaN]}']
)
def test_what_is_no_json_is_refused_as_a_whole(text: str) -> None:
    """The reason follows the reference's sentence."""
    sentence = "The file is not valid json - Configuration file is not a valid JSON file. Error: "
    assert refusal(text).text.startswith(sentence)
    assert refusal(text).text != sentence


@pytest.mark.parametrize("text", ["[]", "{}", "1", '{"model_config_list": {}}', '{"model_config_list": [], "x": 1}'])
def test_what_is_against_the_schema_is_refused_as_a_whole(text: str) -> None:
    """The faults follow the reference's sentence."""
    assert "Configuration file is not in valid configuration format. JSON schema parse error: " in refusal(text).text


def test_every_fault_of_the_schema_is_told() -> None:
    """With its place; but a file of another kind does not fill the log."""
    entries = [{"config": {"name": 1}}, {"config": {}}]
    text = refusal(json.dumps({"model_config_list": entries})).text
    assert f"{PLACE}/name: expected a text, found 1; /model_config_list/1/config: expected the key name" in text
    text = refusal(json.dumps({"model_config_list": [{}] * 1000})).text
    assert text.count(" expected ") == MAX_FAULTS
    assert text.endswith("; and more")


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"layout": "NXC"}, "/layout"),
        ({"layout": "nc>nc"}, "/layout"),
        ({"layout": "NHWC:NCHW:NC"}, "/layout"),
        ({"layout": {"b": "NXC"}}, "/layout"),
        ({"layout": '{"b": "NXC"}'}, "/layout"),
        ({"layout": '{"b": 1}'}, "/layout"),
        ({"layout": '{"b": "NC"'}, "/layout"),
        ({"low_latency_transformation": True}, "/low_latency_transformation"),
        ({"low_latency_transformation": False}, "/low_latency_transformation"),
        ({"idle_sequence_cleanup": True, "stateful": False}, "/idle_sequence_cleanup"),
        ({"max_sequence_number": 1}, "/max_sequence_number"),
        ({"max_sequence_number": 4294967296, "stateful": True}, "/max_sequence_number"),
    ],
)
def test_entries_that_are_left_out(keys: dict[str, object], place: str) -> None:
    """The fault names the place; the others are served."""
    failure = fault(**keys)
    assert failure.code is Code.MODEL_CONFIG_INVALID
    assert failure.text.startswith(f"Model config is invalid - {PLACE}{place}: ")


@pytest.mark.parametrize("keys", [{"batch_size": "auto"}, {"shape": "auto"}, {"shape": {"a": "(1)", "b": "auto"}}])
def test_sequences_need_fixed_sizes(keys: dict[str, object]) -> None:
    """A stateful model with an open dimension is left out; another one is not."""
    assert fault(**keys, stateful=True).code is Code.STATEFUL_WITH_AUTO
    assert model(**keys).has_auto


def test_of_two_models_with_one_name_the_first_counts() -> None:
    """The second is a fault, in the reference's words."""
    config = read({"name": "m", "base_path": "/1"}, {"name": "m", "base_path": "/2"}, {"name": "n"})
    assert [(each.name, each.base_path) for each in config.models] == [("m", "/1"), ("n", "/etc/ovms")]
    ((name, failure),) = [(each.name, each.failure) for each in config.faults]
    assert (name, failure.code) == ("m", Code.MODEL_NAME_OCCUPIED)
    assert "Duplicated model names: m defined in config file. Only first definition will be loaded." in failure.text
    assert "/model_config_list/1/config/name" in failure.text


def test_a_name_whose_first_entry_is_left_out_is_free() -> None:
    """The second definition is served."""
    config = read({"name": "m", "layout": "NXC"}, {"name": "m", "base_path": "/2"})
    assert [each.base_path for each in config.models] == ["/2"]
    assert [each.failure.code for each in config.faults] == [Code.MODEL_CONFIG_INVALID]


def test_faults_keep_the_order_of_the_file() -> None:
    """A reload answers with the first."""
    config = read({"name": "a", "layout": "?x"}, {"name": "b"}, {"name": "b"}, {"name": "c", "max_sequence_number": 1})
    assert [each.name for each in config.faults] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("value", "place", "shape"),
    [
        ("(1,10", "/shape", None),
        ("()", "/shape", None),
        ({"a": "(?)"}, "/shape/a", None),
        ({"a/b": "(?)", "c": "(1)"}, "/shape/a~1b", {"c": Shape.of([1])}),
    ],
)
def test_a_malformed_shape_is_dropped(value: object, place: str, shape: object) -> None:
    """With a warning; the model is served, and the other shapes count."""
    config = read({"name": "m", "shape": value})
    assert (config.models[0].shape, config.faults) == (shape, ())
    (warning,) = config.warnings
    assert warning.startswith("There was an error parsing shape ")
    assert f" - {PLACE}{place}: " in warning


@pytest.mark.parametrize("text", ["?", "1:", ":9", "(3:5)", "-2", "5:1", "0:5", "word", "2147483648", ""])
def test_a_malformed_batch_size_is_ignored(text: str) -> None:
    """With a warning; the model's own is used."""
    config = read({"name": "m", "batch_size": text})
    assert (config.models[0].batch_size, config.faults) == (None, ())
    (warning,) = config.warnings
    assert warning.startswith(WRONG_BATCH_SIZE)
    assert f"({PLACE}/batch_size)" in warning


def test_a_batch_size_beside_a_shape_is_ignored() -> None:
    """With a warning; unless the shape is malformed itself."""
    config = read({"name": "m", "batch_size": 16, "shape": "(2,5)"})
    assert (config.models[0].batch_size, config.models[0].shape) == (None, Shape.of([2, 5]))
    assert config.warnings == (f"{BOTH} ({PLACE}/batch_size)",)
    assert read({"name": "m", "batch_size": 16, "shape": "(2,"}).models[0].batch_size == Dim.fixed(16)


def test_the_reference_s_sentences() -> None:
    """Scripts look for them."""
    assert BOTH == "Both shape and batch size have been defined. Batch size parameter will be ignored."
    assert WRONG_BATCH_SIZE == "Wrong batch size parameter provided. Model batch size will be set to default."
    assert TABLE[Code.JSON_INVALID].http == 412


@pytest.mark.parametrize(
    ("text", "has_shape", "size", "warns"),
    [
        ("8", False, Dim.fixed(8), None),
        ("8", True, None, BOTH),
        ("?", False, None, WRONG_BATCH_SIZE),
        ("?", True, None, WRONG_BATCH_SIZE),
    ],
)
def test_a_batch_size_with_and_without_a_shape(
    text: str,
    has_shape: bool,  # noqa: FBT001
    size: Dim | None,
    warns: str | None,
) -> None:
    """One warning at most: a malformed text is told of as such."""
    warnings: list[str] = []
    assert read_batch_size(text, has_shape=has_shape, warn=warnings.append) == size
    assert [warning.startswith(warns or "") for warning in warnings] == [True] * (warns is not None)


def test_doubled_keys_are_warned_of() -> None:
    """The first of each counts, at every level."""
    text = """{"model_config_list": [{"config": {"name": "m", "nireq": 1, "nireq": 2, "nireq": "x",
        "plugin_config": {"a/b": 1, "a/b": 2}}}], "model_config_list": 7}"""
    config = parse(text.encode(), "/")
    assert (config.models[0].nireq, config.models[0].plugin_config) == (1, {"a/b": 1})
    assert config.warnings == (
        "/model_config_list is there 2 times: the first one counts",
        f"{PLACE}/nireq is there 3 times: the first one counts",
        f"{PLACE}/plugin_config/a~1b is there 2 times: the first one counts",
    )


@pytest.mark.parametrize(
    ("top", "warning"),
    [
        (
            {"mediapipe_config_list": [{"name": "g"}]},
            "/mediapipe_config_list/0: g is left out: MediaPipe graphs are not served by this server",
        ),
        (
            {"custom_loader_config_list": [{"config": {"loader_name": "c", "library_path": "x.so"}}]},
            "/custom_loader_config_list/0: c is left out: custom loaders are C++ libraries and cannot be used by this server",
        ),
    ],
)
def test_what_is_not_served_is_told(top: dict[str, object], warning: str) -> None:
    """The models beside it are served."""
    config = read({"name": "m"}, **top)
    assert config.warnings == (warning,)
    assert len(config.models) == 1


def test_keys_of_graphs_have_no_effect() -> None:
    """On a plain model they are a warning."""
    config = read({"name": "m", "graph_path": "g", "subconfig": "s"})
    assert config.warnings == tuple(
        f"{PLACE}/{key} has no effect: it is for MediaPipe graphs" for key in ("graph_path", "subconfig")
    )


@pytest.mark.parametrize(
    ("top", "metrics"),
    [
        ({}, None),
        ({"monitoring": {"metrics": {"enable": True}}}, MetricsSettings(enable=True)),
        ({"monitoring": {"metrics": {"enable": False}}}, MetricsSettings(enable=False)),
        ({"monitoring": {"metrics": {"enable": True, "metrics_list": []}}}, MetricsSettings(True, ())),
        (
            {"monitoring": {"metrics": {"enable": True, "metrics_list": [" b", "a"]}}},
            MetricsSettings(True, (" b", "a")),
        ),
    ],
)
def test_the_section_about_metrics(top: dict[str, object], metrics: MetricsSettings | None) -> None:
    """No list is another thing than an empty one; names are looked at later, and not trimmed."""
    assert read(**top).metrics == metrics


def test_a_file_may_list_nothing() -> None:
    """That is a server without models."""
    assert read() == Config((), {}, (), None, (), (), None)


@given(
    st.fixed_dictionaries(
        {"name": st.text(NO_NUL, max_size=2)},
        optional={
            "base_path": st.text(NO_NUL, max_size=5),
            "batch_size": st.integers(0, 9) | st.text("0123456789:-auto ", max_size=5),
            "shape": st.text("(),:-0123auto ", max_size=9)
            | st.dictionaries(st.text(NO_NUL, max_size=2), st.text(NO_NUL, max_size=5)),
            "layout": st.text("NCHW.?: x", max_size=9),
            "stateful": st.booleans(),
            "max_sequence_number": st.integers(0, 2**33),
        },
    )
)
def test_any_entry_that_fits_the_schema_is_served_or_left_out(config: dict[str, Any]) -> None:
    """Nothing is raised, and the entry behind it is served."""
    found = read(config, {"name": "good"})
    assert {settings.name for settings in found.models} | {each.name for each in found.faults} == {
        config["name"],
        "good",
    }
    assert found.models[-1].name == "good"


@given(st.binary(max_size=40))
def test_any_bytes_are_a_configuration_or_refused(text: bytes) -> None:
    """Nothing but Failure comes out."""
    try:
        assert isinstance(parse(text, "/"), Config)
    except Failure:
        return


def test_pipelines_are_read() -> None:
    """Everything that a definition says; of two with one name the first counts, with a warning."""
    node = {
        "name": "n",
        "type": "custom",
        "library_name": "l",
        "params": {"a": "1"},
        "inputs": [{"x": {"node_name": "request", "data_item": "in"}}],
        "outputs": [{"data_item": "y", "alias": "out"}, {"data_item": "z", "alias": "out"}],
        "demultiply_count": 0,
        "gather_from_node": "request",
    }
    model = {
        "name": "m",
        "type": "DL model",
        "model_name": "dummy",
        "version": 2,
        "params": {"without": "effect"},
        "inputs": [],
        "outputs": [],
    }
    entry = {
        "name": "p",
        "inputs": ["in"],
        "nodes": [node, model],
        "outputs": [{"answer": {"node_name": "n", "data_item": "out"}}],
        "demultiply_count": -1,
    }
    document = {"model_config_list": [], "pipeline_config_list": [entry, {**entry, "inputs": ["other"]}]}
    config = parse(json.dumps(document).encode(), "/etc")
    assert config.pipelines == (
        PipelineSettings(
            "p",
            ("in",),
            (
                NodeSettings(
                    "n", "l", True, (("x", Source("request", "in")),), {"out": "z"}, None, {"a": "1"}, 0, "request"
                ),
                NodeSettings("m", "dummy", False, (), {}, 2, {}),
            ),
            (("answer", Source("n", "out")),),
            -1,
        ),
    )
    assert "/pipeline_config_list/1/name" in config.warnings[0]
    assert config.libraries is None


@pytest.mark.parametrize(
    ("base_path", "found"),
    [
        ("lib.so", "/etc/lib.so"),
        ("/x/lib.so", "/x/lib.so"),
        ("nodes.py:Scale", "/etc/nodes.py:Scale"),
        ("sub/nodes.py:Scale", "/etc/sub/nodes.py:Scale"),
        ("builtin:add_one", "builtin:add_one"),
        ("package.module:Class", "package.module:Class"),
    ],
)
def test_where_libraries_are(base_path: str, found: str) -> None:
    """Files count from the folder of the configuration; what is named by a word does not."""
    libraries = [{"name": "l", "base_path": base_path}]
    document = {"model_config_list": [], "custom_node_library_config_list": libraries}
    assert parse(json.dumps(document).encode(), "/etc").libraries == {"l": found}


def test_requests_are_joined_only_if_the_entry_says_so() -> None:
    """A change of it is a change of the model's settings."""
    assert model().batching is None
    assert model(batching={"max_batch": 8}).batching == Batching(8, 0)
    assert model(batching={"max_batch": 1024, "delay_ms": 0.5}).batching == Batching(1024, 0.5)
    assert model(batching={"max_batch": 8}) != model(batching={"max_batch": 8, "delay_ms": 1})
    assert model(batching={"max_batch": 8}, stateful=False).batching == Batching(8)


def test_limits_of_a_model_are_read() -> None:
    """Without them the command line decides."""
    assert (model().max_queue, model().request_timeout_s) == (None, None)
    found = model(max_queue=0, request_timeout=0.5)
    assert (found.max_queue, found.request_timeout_s) == (0, 0.5)


def test_the_steps_of_a_sequence_are_not_joined() -> None:
    """The entry is left out, and the place named."""
    found = fault(batching={"max_batch": 8}, stateful=True)
    assert found.text == f"Model config is invalid - {PLACE}/batching: expected no such key beside a true stateful"
