"""What the documents say is what the code does."""

from __future__ import annotations

import doctest
import importlib
import json
import logging
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tornado_ovms
from tornado_ovms import demo
from tornado_ovms.codec.kfs import HEADER
from tornado_ovms.core import config
from tornado_ovms.core.config_schema import schema_text
from tornado_ovms.core.lifecycle import TRANSITIONS, State, VersionStatus
from tornado_ovms.core.metric_families import FAMILIES, GRAPH_FAMILIES, OUR_FAMILIES
from tornado_ovms.core.model_keys import STATEFUL_KEYS
from tornado_ovms.core.options import LOG_LEVELS, OPTIONS, TABLE, TASKS, Option
from tornado_ovms.core.status import TABLE as CODES
from tornado_ovms.core.usage import default_text
from tornado_ovms.http.app import MANAGED_ROUTES, ROUTES
from tornado_ovms.http.heads import REQUEST_ID
from tornado_ovms.http.traffic import REASONS, Answered
from tornado_ovms.logs import JsonFormatter
from tornado_ovms.serving.observation import INTERFACES, METHODS, RESULTS, STAGES

if TYPE_CHECKING:
    from tornado_ovms.core.metric_families import Family

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
COMMAND_LINE = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
CONFIG = (ROOT / "docs/reference/config.md").read_text("utf-8")
DEFINITIONS = json.loads(schema_text())["$defs"]
METRICS = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
REST_API = (ROOT / "docs/reference/rest-api.md").read_text("utf-8")
LOGS = (ROOT / "docs/reference/logs.md").read_text("utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def diagram() -> str:
    """The transition table in Mermaid's notation."""

    def name(status: VersionStatus) -> str:
        return "FAILED" if status.has_failed else status.state.name

    lines = ["stateDiagram-v2", f"    [*] --> {name(VersionStatus())}"]
    lines += [f"    {name(before)} --> {name(after)}: {event.name}" for (before, event), after in TRANSITIONS.items()]
    return "\n".join(lines) + "\n"


def test_the_state_diagram_is_the_transition_table() -> None:
    """A reader of the diagram knows every step; paste what `diagram` returns when the table has changed."""
    assert re.findall(r"```mermaid\n(.*?)```", ARCHITECTURE, re.DOTALL) == [diagram()]


def test_the_list_of_modules_is_complete() -> None:
    """Every module has its line in the table of modules, and no line is left over."""
    package = ROOT / "tornado_ovms"
    table = ARCHITECTURE.split("## Modules")[1].split("\n## ")[0]
    names = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    listed = set(re.findall(r"`([\w/]+\.py)`", " ".join(names)))
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.read_text("utf-8").strip()}
    assert listed == {name for name in there if name == "demo/__init__.py" or not name.endswith("__init__.py")}


def test_every_dependency_is_explained() -> None:
    """A line says why it is there, and none is left over from one that is gone."""
    rows = re.findall(r"^\| \[([\w-]+)\]", (ROOT / "docs/dependencies.md").read_text("utf-8"), re.MULTILINE)
    requires = (ROOT / "setup.py").read_text("utf-8").split("REQUIRES = [")[1].split("]")[0]
    assert sorted(rows) == sorted(re.findall(r'"([\w-]+)>=', requires))


def test_the_first_request_of_the_readme_is_that_of_the_demo() -> None:
    """Who follows the page instead of the program's words sends the same picture."""
    assert demo.curl("http://127.0.0.1:8000") in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """A file that a page links to is there."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", path.read_text("utf-8"))
    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of every table below a head."""
    tables = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for table in tables for row in table.splitlines()]


OPTION_ROWS = {row[0].strip("`"): row[1:] for row in rows(COMMAND_LINE, "option | type | default | meaning")}


def test_the_options_of_the_page_are_those_of_the_program() -> None:
    """None is missing, none is unknown, none stands there twice, and they come in the order of the help."""
    names = [row[0] for row in rows(COMMAND_LINE, "option | type | default | meaning")]
    assert names == [f"`{option.name}`" for options in TABLE.values() for option in options]


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_the_page_knows_type_and_default_of_an_option(option: Option) -> None:
    """A reader need not try it out; the texts that an option takes are named, too."""
    kind, default, meaning = OPTION_ROWS[option.name]
    assert (kind, default) == (option.kind.value, default_text(option))
    assert [choice for choice in option.choices if f"`{choice}`" not in meaning] == []


def test_no_page_shows_an_option_that_is_unknown() -> None:
    """A command line that can be copied can be run."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        commands = re.findall(r"tornado-ovms( --.*)", path.read_text("utf-8"))
        names = {name.replace("-", "_") for text in commands for name in re.findall(r" --([a-z][a-z_-]+)", text)}
        assert sorted(names - OPTIONS.keys()) == [], path.name


def test_the_page_lists_every_task() -> None:
    """Beside each of them the options of a task are known."""
    assert [task for task in TASKS if f"`{task}`" not in OPTION_ROWS["task"][2]] == []


def section(title: str) -> list[list[str]]:
    """The rows about keys below a heading, or below a line of the text that ends in a colon."""
    start = CONFIG.index(f"\n{title}\n")
    return rows(
        re.split(r"\n#|\n\n\w[^\n|]*:\n", CONFIG[start + len(title) + 2 :])[0], "key | type | default | meaning"
    )


KEY_TABLES: dict[str, list[dict[str, Any]]] = {
    "## Top level": [json.loads(schema_text())],
    "## An entry": [DEFINITIONS["model_entry"]],
    "## A model": [DEFINITIONS["model"], DEFINITIONS["model"]["properties"]["custom_loader_options"]],
    "## Batching": [DEFINITIONS["model"]["properties"]["batching"]],
    "## Version policy": [DEFINITIONS["version_policy"], *DEFINITIONS["version_policy"]["properties"].values()],
    "## Metrics": [DEFINITIONS["monitoring"], DEFINITIONS["monitoring"]["properties"]["metrics"]],
    "## Pipelines": [DEFINITIONS["pipeline"]],
    "A node:": [DEFINITIONS["node"]],
    "A source, and an output:": [DEFINITIONS["source"]["additionalProperties"], DEFINITIONS["output"]],
    "## Libraries of custom nodes": [DEFINITIONS["library"]],
    "## MediaPipe graphs": [DEFINITIONS["graph"]],
    "## Custom loaders": [DEFINITIONS["loader_entry"]["properties"]["config"]],
}
"""The tables of keys, and the parts of the schema that they describe."""

IN_WORDS = {
    "base_path": ("", "folder of the file"),
    "batch_size": (None, "the model's"),
    "shape": (None, "the model's"),
    "layout": (None, "the model's"),
    "metrics_list": (None, "the default families"),
    "model_name": (None, "required for `DL model`"),
    "library_name": (None, "required for `custom`"),
    "version": (None, "the default version"),
}
"""Defaults that the schema cannot say: what it has, and what the page says."""

TYPES = {
    "array": "list",
    "boolean": "true or false",
    "integer": "integer",
    "number": "number",
    "object": "object",
    "string": "text",
}


def objects(schema: Any) -> list[dict[str, Any]]:
    """All parts of a schema that name keys; conditions only repeat them."""
    if isinstance(schema, list):
        return [part for each in schema for part in objects(each)]
    if not isinstance(schema, dict):
        return []
    inner = [part for key, each in schema.items() if key not in ("if", "then", "else") for part in objects(each)]
    return [schema, *inner] if isinstance(schema.get("properties"), dict) else inner


def test_every_part_of_the_schema_has_its_table() -> None:
    """Only the wrapper of a loader is described in words."""
    described = [part for parts in KEY_TABLES.values() for part in parts]
    missing = [part["title"] for part in objects(json.loads(schema_text())) if part not in described]
    assert missing == [DEFINITIONS["loader_entry"]["title"]]
    assert CONFIG.count("| key | type | default | meaning |") == len(KEY_TABLES)


def expected_default(key: str, schema: dict[str, Any], *, is_required: bool) -> str:
    """What the page should say."""
    if is_required:
        return "required"
    if key in IN_WORDS and schema.get("default") == IN_WORDS[key][0]:
        return IN_WORDS[key][1]
    default = schema.get("default", "")
    return default if isinstance(default, str) else json.dumps(default)


@pytest.mark.parametrize("title", KEY_TABLES)
def test_the_keys_of_the_page_are_those_of_the_schema(title: str) -> None:
    """None is missing and none is unknown; types and defaults are the schema's."""
    keys: dict[str, tuple[Any, bool]] = {}
    for part in KEY_TABLES[title]:
        keys |= {key: (value, key in part.get("required", ())) for key, value in part.get("properties", {}).items()}
    table = {row[0].strip("`"): row[1:] for row in section(title)}
    assert len(table) == len(section(title))
    assert set(table) == set(keys)
    for key, (value, is_required) in keys.items():
        schema = DEFINITIONS[value["$ref"].rpartition("/")[2]] if "$ref" in value else value
        kind, default, _ = table[key]
        assert default.replace("`", "") == expected_default(key, schema, is_required=is_required).replace("`", ""), key
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        words = [f"`{choice}`" for choice in schema["enum"]] if "enum" in schema else [TYPES[name] for name in types]
        assert [word for word in words if word not in kind] == [], key


def test_the_schema_s_defaults_are_the_real_ones() -> None:
    """An entry that writes them all out is the entry that leaves them out."""
    defaults = {
        key: DEFINITIONS[value["$ref"].rpartition("/")[2]]["default"] if "$ref" in value else value["default"]
        for key, value in DEFINITIONS["model"]["properties"].items()
        if "default" in value or "$ref" in value
    }
    sequences = {"stateful": True, "low_latency_transformation": False, "idle_sequence_cleanup": True}
    assert sequences.keys() | {"max_sequence_number", "nireq", "target_device"} < defaults.keys()
    for given in (
        {key: value for key, value in defaults.items() if key not in STATEFUL_KEYS},
        {**defaults, **sequences},
    ):
        plain = {"name": "m", **({"stateful": True} if given.get("stateful") else {})}
        read = [
            config.parse(json.dumps({"model_config_list": [{"config": entry}]}).encode(), "/etc")
            for entry in (plain, {**plain, **given})
        ]
        assert read[0] == read[1]
        assert read[0].models


def test_the_example_of_the_page_is_a_configuration() -> None:
    """Whoever copies it can start."""
    (example,) = re.findall(r"\n\n((?:    .*\n)+)", CONFIG.split("\n## Rules")[0])
    found = config.parse(example.encode(), "/models")
    assert (len(found.models), found.faults, found.warnings) == (2, (), ())


def test_the_families_of_the_page_are_those_of_the_program() -> None:
    """With type and labels, and whether they are served unless others are asked for."""

    def labels(family: Family) -> str:
        return ", ".join(f"`{label}`" for label in family.labels)

    assert [row[:4] for row in rows(METRICS, "family | type | labels | by default | meaning")] == [
        [f"`{family.name}`", family.kind.value, labels(family), "yes" if family.by_default else "no"]
        for family in FAMILIES
    ]
    assert [row[:3] for row in rows(METRICS, "family | type | labels | meaning")] == [
        [f"`{family.name}{family.suffix}`", family.kind.value, labels(family)] for family in OUR_FAMILIES
    ]
    assert [name for name in GRAPH_FAMILIES if f"`{name}`" not in METRICS] == []


def test_the_page_knows_the_values_of_labels() -> None:
    """Of those that have only a few."""
    texts = [
        *INTERFACES, *RESULTS, *STAGES, *REASONS.values(), *(state.name for state in State), "FAILED", "other",
        *(method.api for method in METHODS), *(method.method for method in METHODS), "changed", "unchanged", "failed",
    ]  # fmt: skip
    assert [text for text in texts if f"`{text}`" not in METRICS] == []


def test_the_page_lists_every_alert() -> None:
    """In the order of the rules, with the severity."""
    rules = (ROOT / "etc/prometheus/tornado-ovms.rules.yml").read_text("utf-8")
    alerts = re.findall(r"- alert: (\w+)$.*?severity: (\w+)$", rules, re.MULTILINE | re.DOTALL)
    assert [(name.strip("`"), severity) for name, severity, _ in rows(METRICS, "alert | severity | when")] == alerts


def test_the_page_lists_every_endpoint() -> None:
    """Those of ``--manage`` too, and which those are."""
    listed = rows(REST_API, "request | what it does | answer")
    assert {row[0].strip("`") for row in listed} == {f"{route.method} {route.template}" for route in MANAGED_ROUTES}
    managed = {row[0].strip("`") for row in listed if "`--manage`" in row[1]}
    plain = {f"{route.method} {route.template}" for route in ROUTES}
    assert managed == {f"{route.method} {route.template}" for route in MANAGED_ROUTES} - plain


def test_the_page_lists_every_error() -> None:
    """With its HTTP status and its sentence; none is left over."""
    listed = [tuple(row[:2]) for row in rows(REST_API, "code | sentence | when")]
    expected = {(str(answer.http), f"`{answer.text}`") for answer in CODES.values()}
    assert (sorted(expected - set(listed)), sorted(set(listed) - expected)) == ([], [])
    assert len(listed) == len(set(listed))


def test_the_page_lists_every_limit() -> None:
    """By its option or its key, with the answer, and by the reason that metrics give."""
    listed = rows(REST_API, "what | how much | answer | `reason` in [metrics](metrics.md)")
    named = {row[1].strip("`") for row in listed if row[1].startswith("`")}
    assert named == {
        name for name in OPTIONS if name.startswith("max_") or name in {"request_timeout", "client_timeout"}
    }
    answers = {reason: str(CODES[code].http) for code, reason in REASONS.items()}
    assert {row[3].strip("`"): row[2][:3] for row in listed if row[3]} == answers


def test_the_page_knows_the_headers() -> None:
    """Those that this server reads or writes and others may not expect."""
    named = {name for row in rows(REST_API, "header | meaning") for name in re.findall(r"`([\w-]+)`", row[0])}
    assert {REQUEST_ID, "Server-Timing", HEADER, "Content-Encoding", "Accept-Encoding"} <= named


def test_the_page_about_logs_is_complete() -> None:
    """Levels, loggers, fields of the access log, and members of JSON lines."""
    fields = ({*Answered._fields} - {"seconds", "timing"}) | {"ms"} | {f"{stage}_ms" for stage in STAGES}
    record = logging.LogRecord("a", logging.INFO, "a.py", 1, "text", (), None)
    members = json.loads(JsonFormatter().format(record)).keys()
    sources = " ".join(path.read_text("utf-8") for path in (ROOT / "tornado_ovms").rglob("*.py"))
    loggers = re.findall(r"getLogger\(\"(\w+)\"\)", sources)
    assert [name for name in (*LOG_LEVELS, *fields, *members, *loggers) if f"`{name}`" not in LOGS] == []


def modules() -> list[str]:
    """The package's modules; ``__main__`` runs when it is imported."""
    names = [module.name for module in pkgutil.walk_packages(tornado_ovms.__path__, "tornado_ovms.")]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_hold(name: str) -> None:
    """A reader may trust them."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_some_docstring_has_an_example() -> None:
    """The test above looks where they are."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(importlib.import_module("tornado_ovms.cpus"))
    assert sum(len(test.examples) for test in found) > 0
