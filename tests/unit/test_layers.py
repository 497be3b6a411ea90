"""The layers of docs/architecture.md hold: who imports whom, who uses which library, and no import runs in a circle."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = "tornado_ovms"
ROOT = Path(__file__).parents[2]

WIRING = ("__main__", "chores", "cli", "healthcheck", "manage", "ports", "server", "supervisor")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "allocator": (),
    "core": (),
    "codec": ("core",),
    "cpus": (),
    "deadline": (),
    "demo": ("core",),
    "engine": ("core",),
    "keys": ("core",),
    "logs": ("core",),
    "metrics": ("core",),
    "nodes": ("core",),
    "renewal": (),
    "signals": (),
    "sockets": (),
    "storage": ("core",),
    "systemd": (),
    "tls": ("core",),
    "watch": ("core",),
    "workers": ("core",),
    "serving": ("allocator", "core", "codec", "engine.base", "logs", "metrics", "nodes", "storage", "watch", "workers"),
    "http": ("core", "codec", "serving", "logs", "metrics"),
}
"""By group, a module or folder right below the package. Wiring may import everything, and nothing else wiring."""

MAY_USE: dict[str, set[str]] = {
    "core": {"numpy"},
    "core.config_schema": {"jsonschema"},
    "codec": {"cv2", "numpy", "orjson", "pybase64", "simdjson", "simplejson"},
    "engine": {"numpy", "openvino"},
    "engine.base": {"numpy"},
    "engine.bridge": set(),
    "metrics": {"prometheus_client"},
    "nodes": {"cv2", "numpy"},
    "serving": {"numpy"},
    "storage.objects": {"adlfs", "aiohttp", "fsspec", "gcsfs", "s3fs"},
    "sockets": {"tornado"},
    "watch": {"inotify_simple"},
    "http": {"tornado"},
    **{name: {"openvino", "tornado"} for name in WIRING},
}
"""Libraries, by module or group; others use none."""

NEVER: dict[str, set[str]] = {
    "core": {"asyncio", "concurrent", "os", "socket", "subprocess", "threading", "time"},
    "codec": {"asyncio", "concurrent", "socket", "subprocess"},
}
"""What would make a pure module impure, of the standard library."""


class Import(NamedTuple):
    """One import: of a module of ours (its whole name) or of a library (its first name)."""

    importer: str
    imported: str
    at_run_time: bool


def group(module: str) -> str:
    """The first name below the package; empty for the package itself, which holds the version."""
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def below(module: str) -> str:
    """The name without the package's."""
    return module.removeprefix(PACKAGE + ".")


def matches(name: str, prefix: str) -> bool:
    """Whether a dotted name is another one or lies below it."""
    return name == prefix or name.startswith(prefix + ".")


def imports(sources: Mapping[str, str]) -> Iterator[Import]:
    """All imports, wherever they stand; those below ``if TYPE_CHECKING`` do not happen at run time."""
    for importer, source in sources.items():
        tree = ast.parse(source)
        typing_only = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
            for statement in branch.body
            for node in ast.walk(statement)
        }
        for node in ast.walk(tree):
            for name in imported(node, sources):
                if name != importer:
                    yield Import(importer, name, id(node) not in typing_only)


def imported(node: ast.AST, sources: Mapping[str, str]) -> Iterator[str]:
    """What an import statement imports; nothing for other nodes."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the layer"
        members = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [member if member in sources else str(node.module) for member in members]
    else:
        return
    for name in names:
        yield name if matches(name, PACKAGE) else name.partition(".")[0]


def faults(sources: Mapping[str, str]) -> list[str]:
    """What breaks a rule, as text."""
    found = []
    for importer, name, _ in imports(sources):
        here = group(importer)
        if matches(name, PACKAGE):
            if group(name) in ("", here):
                continue
            allowed = here in WIRING or any(matches(below(name), prefix) for prefix in MAY_IMPORT.get(here, ()))
        elif name in sys.stdlib_module_names:
            allowed = name not in NEVER.get(here, ())
        else:
            allowed = name in MAY_USE.get(below(importer), MAY_USE.get(here, set()))
        if not allowed:
            found.append(f"{importer} must not import {name}")
    return found


def circle(sources: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle when the program runs; none if there is no circle."""
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for importer, name, at_run_time in imports(sources):
        if at_run_time and name in sources:
            graph[importer].add(name)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of every module of the package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
        for path in sorted((ROOT / PACKAGE).rglob("*.py"))
    }


def test_every_module_has_a_place(sources: dict[str, str]) -> None:
    """A new file belongs to a layer before it is merged."""
    assert {group(module) for module in sources} - {""} <= {*MAY_IMPORT, *WIRING}


def test_the_table_itself_points_one_way() -> None:
    """No group may import one that may import it."""
    order = {here: {prefix.partition(".")[0] for prefix in there} for here, there in MAY_IMPORT.items()}
    graphlib.TopologicalSorter(order).prepare()


def test_imports_keep_to_the_layers(sources: dict[str, str]) -> None:
    """No import upwards or sideways, no library out of its place, also where only types are wanted."""
    assert faults(sources) == []


def test_no_import_runs_in_a_circle(sources: dict[str, str]) -> None:
    """Every module can be read, and imported, after those it needs."""
    assert circle(sources) == []


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("core.tensors", "from tornado_ovms.codec import tfs"),
        ("core.tensors", "import os.path"),
        ("core.tensors", "def f():\n    from time import monotonic"),
        ("core.lifecycle", "import jsonschema"),
        ("codec.tfs", "if TYPE_CHECKING:\n    from tornado.httputil import HTTPHeaders"),
        ("codec.tfs", "import asyncio"),
        ("storage", "from tornado_ovms.codec import document"),
        ("engine.bridge", "import numpy"),
        ("engine.pool", "from tornado_ovms import storage"),
        ("serving.manager", "import openvino as ov"),
        ("serving.manager", "from tornado_ovms.engine.openvino import OpenVinoEngine"),
        ("serving.manager", "import tornado.ioloop"),
        ("http.app", "from tornado_ovms.engine import base"),
        ("http.app", "from openvino import Core"),
        ("http.app", "from tornado_ovms.server import run"),
    ],
)
def test_a_broken_rule_is_noticed(importer: str, statement: str) -> None:
    """The rules forbid what the architecture says they forbid."""
    names = ("storage", "server", "codec.document", "codec.tfs", "engine.base", "engine.openvino")
    modules = {f"{PACKAGE}.{name}": "" for name in names}
    assert len(faults({**modules, f"{PACKAGE}.{importer}": statement})) == 1


def test_a_circle_is_noticed() -> None:
    """Two modules that import each other when they run are named; for types alone they may."""
    one, other = f"{PACKAGE}.core.one", f"{PACKAGE}.core.other"
    back = f"from {PACKAGE}.core import one"
    assert set(circle({one: f"import {other}", other: back})) == {one, other}
    assert circle({one: f"import {other}", other: f"if TYPE_CHECKING:\n    {back}"}) == []
