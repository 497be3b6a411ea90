"""The schema of the configuration file, and how a refusal reads."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.config_schema import find_faults, schema_text
from tornado_ovms.core.strict_json import loads

CONFIG = "/model_config_list/0/config"


def faults(text: str) -> list[str]:
    """What is wrong with a document, each as text."""
    return [str(fault) for fault in find_faults(loads(text))]


def entry(text: str) -> list[str]:
    """What is wrong with a model that has these members too."""
    return faults(f'{{"model_config_list": [{{"config": {{"name": "m"{text and ", "}{text}}}}}]}}')


def top(text: str) -> list[str]:
    """What is wrong with a document without models that has these members too."""
    return faults(f'{{"model_config_list": [], {text}}}')


def pipeline(**changes: object) -> dict[str, Any]:
    """A pipeline with one node, and changes to that node; None leaves a key out."""
    source = [{"b": {"node_name": "request", "data_item": "b"}}]
    node = {"name": "n", "type": "DL model", "model_name": "m", "inputs": source, "outputs": [], **changes}
    node = {key: value for key, value in node.items() if value is not None}
    return {"name": "p", "inputs": ["b"], "nodes": [node], "outputs": source}


def test_it_is_a_json_schema() -> None:
    """Of the draft that it names, so that editors can use it as it stands."""
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"base_path": ""',
        '"batch_size": 0, "nireq": 0, "max_sequence_number": 0',
        '"batch_size": "anything"',
        '"shape": "anything", "layout": "anything"',
        '"shape": {"a": "x"}, "layout": {"a": "x"}',
        '"model_version_policy": {"all": {}}',
        '"model_version_policy": {"latest": {"num_versions": 1}}',
        '"model_version_policy": {"specific": {"versions": []}}',
        '"plugin_config": {"a": "x", "b": 1, "c": 1.5, "d": false}',
        '"allow_cache": true, "stateful": true, "low_latency_transformation": true, "idle_sequence_cleanup": true',
        '"max_queue": 0, "request_timeout": 0.5',
        '"batching": {"max_batch": 2}',
        '"batching": {"max_batch": 1024, "delay_ms": 1000}',
        '"batching": {"max_batch": 8, "delay_ms": 0.5}',
        '"custom_loader_options": {"loader_name": "x", "y": "z"}',
        '"graph_path": "x", "subconfig": "y", "target_device": "z"',
        '"name": 7, "nireq": 1, "nireq": "x"',
    ],
)
def test_entries_that_fit(text: str) -> None:
    """All keys of the reference, also doubled ones: the first counts, even if the others are wrong."""
    assert entry(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('"nmae": "x"', '/nmae: expected the key name, found "nmae"'),
        ('"version": 1', "/version: expected one of the keys name, base_path, batch_size, "),
        ('"mean": 1', "/mean: expected "),
        ('"scale": 1', "/scale: expected "),
        ('"color_format": "RGB:BGR"', "/color_format: expected "),
        ('"precision": "FP32:U8"', "/precision: expected "),
        ('"base_path": 1', "/base_path: expected a text, found 1"),
        ('"base_path": null', "/base_path: expected a text, found null"),
        ('"batch_size": -1', "/batch_size: expected at least 0, found -1"),
        ('"batch_size": 2.0', "/batch_size: expected an integer or a text, found 2.0"),
        ('"batch_size": 1e1', "/batch_size: expected an integer or a text, found 10.0"),
        ('"batch_size": true', "/batch_size: expected an integer or a text, found true"),
        ('"shape": [1, 10]', "/shape: expected a text or an object, found a list of 2"),
        ('"shape": {"b": [1]}', "/shape/b: expected a text, found a list of 1"),
        ('"shape": {"a/b": 1}', "/shape/a~1b: expected a text, found 1"),
        ('"layout": ["NC"]', "/layout: expected a text or an object, found a list of 1"),
        ('"layout": {"b": null}', "/layout/b: expected a text, found null"),
        ('"nireq": "2"', '/nireq: expected an integer, found "2"'),
        ('"nireq": -1', "/nireq: expected at least 0, found -1"),
        ('"nireq": 2.0', "/nireq: expected an integer, found 2.0"),
        ('"nireq": true', "/nireq: expected an integer, found true"),
        ('"target_device": ["CPU"]', "/target_device: expected a text, found a list of 1"),
        ('"plugin_config": []', "/plugin_config: expected an object, found a list of 0"),
        (
            '"plugin_config": {"DEVICE_PROPERTIES": {"CPU": {}}}',
            "/plugin_config/DEVICE_PROPERTIES: expected a text or a number or true or false, found an object with the keys CPU",
        ),
        ('"plugin_config": {"a": null}', "/plugin_config/a: expected a text or a number or true or false, found null"),
        ('"allow_cache": 1', "/allow_cache: expected true or false, found 1"),
        ('"stateful": "true"', '/stateful: expected true or false, found "true"'),
        ('"max_sequence_number": -1', "/max_sequence_number: expected at least 0, found -1"),
        ('"max_queue": -1', "/max_queue: expected at least 0, found -1"),
        ('"max_queue": 0.5', "/max_queue: expected an integer, found 0.5"),
        ('"request_timeout": "1"', '/request_timeout: expected a number, found "1"'),
        ('"batching": 8', "/batching: expected an object, found 8"),
        ('"batching": {}', "/batching: expected the key max_batch, found an empty object"),
        ('"batching": {"max_batch": 1}', "/batching/max_batch: expected at least 2, found 1"),
        ('"batching": {"max_batch": 1025}', "/batching/max_batch: expected at most 1024, found 1025"),
        ('"batching": {"max_batch": 2.0}', "/batching/max_batch: expected an integer, found 2.0"),
        ('"batching": {"max_batch": 8, "delay_ms": -1}', "/batching/delay_ms: expected at least 0, found -1"),
        ('"batching": {"max_batch": 8, "delay_ms": "1"}', '/batching/delay_ms: expected a number, found "1"'),
        ('"batching": {"max_batch": 8, "delay": 1}', '/batching/delay: expected the key delay_ms, found "delay"'),
        ('"custom_loader_options": {}', "/custom_loader_options: expected the key loader_name, found an empty object"),
        ('"custom_loader_options": {"loader_name": "x", "y": 1}', "/custom_loader_options/y: expected a text, found 1"),
    ],
)
def test_entries_that_do_not(text: str, fault: str) -> None:
    """The one fault names its place, what was expected and what was found."""
    (found,) = entry(text)
    assert found.startswith(CONFIG + fault)
    assert ", found " in found


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ("{}", ": expected exactly one of the keys latest, specific, all, found an empty object"),
        ('"all"', ': expected an object, found "all"'),
        ('{"al": {}}', '/al: expected the key all, found "al"'),
        (
            '{"all": {}, "latest": {"num_versions": 1}}',
            ": expected exactly one of the keys latest, specific, all, found an ",
        ),
        (
            '{"all": {}, "all": {}}',
            ": expected exactly one of the keys latest, specific, all, found an object with the keys ",
        ),
        ('{"all": {"x": 1}}', "/all: expected an empty object, found an object with the keys x"),
        ('{"all": 1}', "/all: expected an object, found 1"),
        ('{"latest": {}}', "/latest: expected the key num_versions, found an empty object"),
        ('{"latest": {"num_versions": 0}}', "/latest/num_versions: expected at least 1, found 0"),
        ('{"latest": {"num_versions": 1.0}}', "/latest/num_versions: expected an integer, found 1.0"),
        (
            '{"latest": {"num_versions": 1, "num_versions": 1}}',
            "/latest: expected exactly one of the keys num_versions",
        ),
        ('{"specific": {"versions": 1}}', "/specific/versions: expected a list, found 1"),
        ('{"specific": {"versions": [1, 0]}}', "/specific/versions/1: expected at least 1, found 0"),
        ('{"specific": {"versions": [1, "2"]}}', '/specific/versions/1: expected an integer, found "2"'),
        ('{"specific": {"versions": [1], "versions": [1]}}', "/specific: expected exactly one of the keys versions"),
    ],
)
def test_version_policies(policy: str, fault: str) -> None:
    """Exactly one, with nothing beside it; a doubled key counts twice."""
    (found,) = entry(f'"model_version_policy": {policy}')
    assert found.startswith(f"{CONFIG}/model_version_policy{fault}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "the document: expected an object, found a list of 0"),
        ('"x"', 'the document: expected an object, found "x"'),
        ("{}", "the document: expected the key model_config_list, found an empty object"),
        ('{"model_config_list": {}}', "/model_config_list: expected a list, found an empty object"),
        ('{"model_config_list": [1]}', "/model_config_list/0: expected an object, found 1"),
        ('{"model_config_list": [{}]}', "/model_config_list/0: expected the key config, found an empty object"),
        ('{"model_config_list": [{"config": {}}]}', f"{CONFIG}: expected the key name, found an empty object"),
        ('{"model_config_list": [{"config": {"name": 1}}]}', f"{CONFIG}/name: expected a text, found 1"),
        (
            '{"model_config_list": [{"config": {"name": "m"}, "config": {"name": "m"}}]}',
            "/model_config_list/0: expected exactly one of the keys config, found an object with the keys config, config",
        ),
        (
            '{"model_config_list": [{"config": {"name": "m"}, "x": 1}]}',
            '/model_config_list/0/x: expected one of the keys config, found "x"',
        ),
        ('{"model_config_list": [], "x": 1}', "/x: expected one of the keys model_config_list, pipeline_config_list, "),
        ('{"model_config_list": [], "monitorin": 1}', '/monitorin: expected the key monitoring, found "monitorin"'),
    ],
)
def test_the_frame_of_the_document(text: str, fault: str) -> None:
    """One fault is told once."""
    (found,) = faults(text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "/monitoring: expected the key metrics, found an empty object"),
        ("1", "/monitoring: expected an object, found 1"),
        ('{"metrics": {}}', "/monitoring/metrics: expected the key enable, found an empty object"),
        ('{"metrics": {"enable": 1}}', "/monitoring/metrics/enable: expected true or false, found 1"),
        ('{"metrics": {"enabled": true, "enable": true}}', "/monitoring/metrics/enabled: expected the key enable, "),
        ('{"metrics": {"enable": true, "endpoint_path": "/m"}}', "/monitoring/metrics/endpoint_path: expected "),
        ('{"metrics": {"enable": true, "metrics_list": "x"}}', "/monitoring/metrics/metrics_list: expected a list, "),
        ('{"metrics": {"enable": true, "metrics_list": [1]}}', "/monitoring/metrics/metrics_list/0: expected a text, "),
        (
            '{"metrics": {"enable": true}, "metrics": {"enable": true}}',
            "/monitoring: expected exactly one of the keys metrics",
        ),
        ('{"metrics": {"enable": true}, "x": 1}', '/monitoring/x: expected one of the keys metrics, found "x"'),
    ],
)
def test_the_section_about_metrics(text: str, fault: str) -> None:
    """Nothing else stands in it."""
    (found,) = top(f'"monitoring": {text}')
    assert found.startswith(fault)
    assert top('"monitoring": {"metrics": {"enable": true, "metrics_list": []}}') == []


@pytest.mark.parametrize(
    "text",
    [
        '"pipeline_config_list": []',
        '"custom_node_library_config_list": [{"name": "l", "base_path": "x"}]',
        '"mediapipe_config_list": [{"name": "g"}, {"name": "h", "base_path": "", "graph_path": "", "subconfig": ""}]',
        '"custom_loader_config_list": [{"config": {"loader_name": "l", "library_path": "x", "loader_config_file": "y"}}]',
        f'"pipeline_config_list": [{json.dumps(pipeline())}]',
        f'"pipeline_config_list": [{json.dumps(pipeline(version=1, demultiply_count=-1, gather_from_node="x"))}]',
        f'"pipeline_config_list": [{json.dumps(pipeline(type="custom", model_name=None, library_name="l", params={}))}]',
    ],
)
def test_other_lists_that_fit(text: str) -> None:
    """What is not served is valid all the same."""
    assert top(text) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"type": "x"}, '/type: expected one of "DL model", "custom", found "x"'),
        ({"type": None}, ": expected the key type, found "),
        ({"model_name": None}, ": expected the key model_name, found "),
        ({"library_name": "l"}, '/library_name: expected no such key here, found "l"'),
        ({"type": "custom", "library_name": "l"}, '/model_name: expected no such key here, found "m"'),
        ({"type": "custom", "model_name": None}, ": expected the key library_name, found "),
        ({"version": 0}, "/version: expected at least 1, found 0"),
        ({"demultiply_count": 10001}, "/demultiply_count: expected at most 10000, found 10001"),
        ({"demultiply_count": -2}, "/demultiply_count: expected at least -1, found -2"),
        ({"params": {"a": 1}}, "/params/a: expected a text, found 1"),
        ({"inputs": [{}]}, "/inputs/0: expected exactly one key, found an empty object"),
        ({"inputs": [{"a": 1}]}, "/inputs/0/a: expected an object, found 1"),
        ({"outputs": [{"alias": "x"}]}, "/outputs/0: expected the key data_item, found an object with the keys alias"),
    ],
)
def test_nodes_of_pipelines(changes: dict[str, object], fault: str) -> None:
    """A node has what its type needs, and nothing of the other type."""
    (found,) = top(f'"pipeline_config_list": [{json.dumps(pipeline(**changes))}]')
    assert found.startswith(f"/pipeline_config_list/0/nodes/0{fault}")


def test_a_source_has_one_key() -> None:
    """A second one is a fault, also under the same name."""
    source = '{"node_name": "request", "data_item": "b"}'
    for inputs in (f'{{"a": {source}, "b": {source}}}', f'{{"a": {source}, "a": {source}}}'):
        text = json.dumps(pipeline(inputs=["HERE"])).replace('"HERE"', inputs)
        (found,) = top(f'"pipeline_config_list": [{text}]')
        assert found.startswith(
            "/pipeline_config_list/0/nodes/0/inputs/0: expected exactly one key, found an object with"
        )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '"custom_node_library_config_list": [{"name": "l"}]',
            "/custom_node_library_config_list/0: expected the key base_path",
        ),
        ('"mediapipe_config_list": [{}]', "/mediapipe_config_list/0: expected the key name"),
        (
            '"custom_loader_config_list": [{"config": {"loader_name": "l"}}]',
            "/custom_loader_config_list/0/config: expected the",
        ),
        ('"custom_loader_config_list": [{}]', "/custom_loader_config_list/0: expected the key config"),
    ],
)
def test_other_lists_that_do_not_fit(text: str, fault: str) -> None:
    """They are checked although they are not served."""
    (found,) = top(text)
    assert found.startswith(fault)


def test_all_faults_are_found() -> None:
    """One after the other, in the order of the document."""
    text = '{"model_config_list": [{"config": {"name": 1, "nireq": "x"}}, {"config": {}}, 7]}'
    assert [fault.split(":")[0] for fault in faults(text)] == [
        f"{CONFIG}/name",
        f"{CONFIG}/nireq",
        "/model_config_list/1/config",
        "/model_config_list/2",
    ]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3
    ),  # with a NUL it is no document at all
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["config", "name", "shape", "model_version_policy", "all", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(JSON)
def test_any_document_is_judged(document: object) -> None:
    """Nothing is raised, and a document without faults is one that the plain schema accepts too."""
    text = json.dumps({"model_config_list": [{"config": document}]})
    if not faults(text):
        jsonschema.Draft202012Validator(json.loads(schema_text())).validate(json.loads(text))
