"""``docs/pipelines.md``: its examples run, and its tables are what the nodes read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_builtin_parameters import LEAST, load
from tornado_ovms.core import config
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.nodes.builtin import BUILTIN
from tornado_ovms.nodes.python import PythonLibrary

PAGE = (Path(__file__).parents[2] / "docs/pipelines.md").read_text("utf-8")

PARAMETER_TABLE = re.compile(r"^\| parameter \| default \| meaning \|\n\|[-|]+\|\n((?:\|.*\n)+)", re.MULTILINE)


def example(language: str) -> str:
    """The one block of code in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_configuration_of_the_page_is_one() -> None:
    """Whoever copies it can start."""
    found = config.parse(example("json").encode(), "/etc")
    assert (len(found.models), found.faults, found.warnings) == (2, (), ())


def test_the_node_of_the_page_works(tmp_path: Path) -> None:
    """As the server runs it: with the name, the parameter and the inputs of the configuration beside it."""
    document = json.loads(example("json"))
    (library,) = document["custom_node_library_config_list"]
    node = next(node for node in document["pipeline_config_list"][0]["nodes"] if node["type"] == "custom")
    (tmp_path / "my_nodes.py").write_text(example("python"))

    opened = PythonLibrary(f"{tmp_path}/{library['base_path']}")
    made = opened.create(node["params"])
    assert sorted(name for entry in node["inputs"] for name in entry) == sorted(made.inputs)
    assert [output["data_item"] for output in node["outputs"]] == list(made.outputs)
    first, second = np.float32([[4, 8]]), np.float32([[8, 4]])
    outputs = made.execute({"first": first, "second": second})
    assert isinstance(outputs, Mapping)
    assert outputs["sum"].tolist() == [[7, 5]]
    assert outputs["sum"].dtype == np.float32

    with pytest.raises(Failure, match="input second") as caught:
        made.execute({"first": first, "second": second[:, :1]})
    assert caught.value.code is Code.NODE_EXECUTE
    with pytest.raises(Failure, match="parameter weight - Expected: 0 to 1; Actual: 2") as caught:
        opened.create({"weight": "2"})
    assert caught.value.code is Code.NODE_INITIALIZE


class Read(Mapping[str, str]):
    """Parameters that remember which of them were asked for."""

    def __init__(self, params: Mapping[str, str]) -> None:
        self._params = params
        self.names: list[str] = []

    def __getitem__(self, name: str) -> str:
        if name not in self.names:
            self.names.append(name)
        return self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


def sections() -> dict[str, str]:
    """What is said about each built-in node, by its name."""
    text = PAGE.split("\n## Built-in nodes\n")[1].split("\n## ")[0]
    return dict(part.split("\n", 1) for part in text.split("\n### ")[1:])


def test_every_node_has_its_section() -> None:
    """And no section is left over."""
    assert sorted(sections()) == sorted(BUILTIN)


@pytest.mark.parametrize("name", BUILTIN)
def test_the_parameters_of_the_page_are_those_that_are_read(name: str) -> None:
    """None is missing and none is unknown; required are those without which there is no node."""
    (table,) = PARAMETER_TABLE.findall(sections()[name])
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    params = Read(LEAST[name])
    load(name)(params)
    assert sorted(row[0].strip("`") for row in rows) == sorted(params.names)
    assert sorted(row[0].strip("`") for row in rows if row[1] == "required") == sorted(LEAST[name])


@pytest.mark.parametrize("name", BUILTIN)
def test_the_defaults_of_the_page_are_the_real_ones(name: str) -> None:
    """A node with all of them written out is the node without them."""
    (table,) = PARAMETER_TABLE.findall(sections()[name])
    cells = [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in table.splitlines()]
    words = ("required", "none", "the picture's", "the original's")
    defaults = {cell[0]: cell[1] for cell in cells if cell[1] not in words}
    plain, written = (vars(load(name)({**more, **LEAST[name]})) for more in ({}, defaults))
    assert str({**plain, "params": None}) == str({**written, "params": None})


@pytest.mark.parametrize("name", BUILTIN)
def test_the_tensors_of_the_page_are_the_real_ones(name: str) -> None:
    """Each of them is named."""
    node = load(name)(LEAST[name])
    shared = sections()["horizontal_ocr"] if name == "east_ocr" else ""
    text = sections()[name] + shared
    assert [tensor for tensor in (*node.inputs, *node.outputs) if f"`{tensor}`" not in text] == []
