"""Custom nodes in Python: how they are found, made, run and closed, and what is made of their mistakes."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision
from tornado_ovms.nodes import base
from tornado_ovms.nodes.base import CustomNode, Tensor
from tornado_ovms.nodes.python import PythonLibrary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from tornado_ovms.nodes.python import PythonNode

TEN = np.arange(10, dtype=np.float32).reshape(1, 10)

LOOKS: dict[str, Any] = {"inputs": {"x": Tensor("float32", (1, -1))}, "outputs": {"y": Tensor("float32", (1, -1))}}


class Scale(CustomNode):
    """y = x times the parameter ``factor``."""

    closed = 0

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        self.factor = float(params.get("factor", "1"))
        self.inputs = LOOKS["inputs"]
        self.outputs = LOOKS["outputs"]

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        return {"y": inputs["x"] * np.float32(self.factor)}

    def close(self) -> None:
        """See ``CustomNode``."""
        self.closed += 1


class Later(Scale):
    """The same, on the loop."""

    async def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        await asyncio.sleep(0)
        return super().execute(inputs)


def node_of(kind: type[CustomNode], **params: str) -> PythonNode:
    """A node of a class of this file."""
    globals()[kind.__name__] = kind
    return PythonLibrary(f"{__name__}:{kind.__name__}").create(params)


def giving(value: object) -> PythonNode:
    """A node whose execute gives this."""
    kind = type("Giving", (CustomNode,), {**LOOKS, "execute": lambda *_: value})
    return node_of(kind)


def failure_of(call: Callable[[], object]) -> Failure:
    """What a call fails with."""
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


def run(node: PythonNode, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Execute a node, on a loop if it wants one."""

    async def main() -> Mapping[str, np.ndarray]:
        awaitable: Any = node.execute(arrays)
        found: Mapping[str, np.ndarray] = await awaitable
        return found

    return asyncio.run(main()) if node.is_async else node.execute(arrays)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [Scale, Later])
def test_a_node(kind: type[Scale]) -> None:
    """Parameters, description, execution and the end, in a thread or on the loop."""
    node = node_of(kind, factor="3")
    assert node.is_async is (kind is Later)
    assert (str(node.inputs["x"].shape), node.inputs["x"].precision) == ("(1,-1)", Precision.FP32)
    assert list(node.outputs) == ["y"]
    assert node.inputs["x"].layout.text == "...", "custom nodes have no layout"
    np.testing.assert_array_equal(run(node, {"x": TEN})["y"], TEN * 3)
    node.close()
    assert isinstance(node._node, Scale)
    assert node._node.closed == 1


def test_each_node_is_an_instance() -> None:
    """Two nodes of one library have their own parameters."""
    library = PythonLibrary(f"{__name__}:Scale")
    two, three = (library.create({"factor": factor}) for factor in "23")
    np.testing.assert_array_equal(run(two, {"x": TEN})["y"], TEN * 2)
    np.testing.assert_array_equal(run(three, {"x": TEN})["y"], TEN * 3)


def test_a_file(tmp_path: Path) -> None:
    """A class in a file is found by its path; two files of one name are two modules."""
    for factor in (2, 5):
        folder = tmp_path / str(factor)
        folder.mkdir()
        (folder / "mine.py").write_text(
            "from __future__ import annotations\n"
            "from dataclasses import dataclass\n"
            "from tornado_ovms.nodes.base import CustomNode, Tensor\n"
            "@dataclass\n"  # looks its module up
            "class Helper:\n    factor: float\n"
            "class Mine(CustomNode):\n"
            "    inputs = {'x': Tensor('float32', (1, -1))}\n"
            "    outputs = {'y': Tensor('float32', (1, -1))}\n"
            "    def execute(self, inputs):\n"
            f"        return {{'y': inputs['x'] * Helper({factor}).factor}}\n"
        )
    nodes = {factor: PythonLibrary(f"{tmp_path}/{factor}/mine.py:Mine").create({}) for factor in (2, 5)}
    for factor, node in nodes.items():
        np.testing.assert_array_equal(run(node, {"x": TEN})["y"], TEN * factor)


def test_the_example_in_the_documentation_of_the_class(tmp_path: Path) -> None:
    """It works as it is written there."""
    lines = inspect.cleandoc(base.__doc__ or "").splitlines()
    example = [line[4:] for line in lines if line.startswith("    ") or not line]
    head = "from __future__ import annotations\nfrom tornado_ovms.nodes.base import CustomNode, Tensor\n"
    (tmp_path / "scale.py").write_text(head + "\n".join(example))
    node = PythonLibrary(f"{tmp_path}/scale.py:Scale").create({"factor": "2"})
    np.testing.assert_array_equal(run(node, {"x": TEN})["y"], TEN * 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("def", "SyntaxError"),
        ("Mine = 5", "Expected: a class below CustomNode; Actual: 5"),
        ("class Mine: pass", "Expected: a class below CustomNode"),
        ("class Other: pass", "has no attribute 'Mine'"),
    ],
)
def test_classes_that_cannot_be_had(tmp_path: Path, text: str, told: str) -> None:
    """Whatever a module does while it is imported is the library's failure, and tells what it was."""
    (tmp_path / "mine.py").write_text(text)
    failure = failure_of(lambda: PythonLibrary(f"{tmp_path}/mine.py:Mine"))
    assert failure.code is Code.PIPELINE_LIBRARY
    assert told in failure.detail


@pytest.mark.parametrize("place", ["no.such.package:Class", "{}/missing.py:Class", ":Class", "json:", "json:loads"])
def test_places_where_nothing_is(tmp_path: Path, place: str) -> None:
    """A failure each."""
    failure = failure_of(lambda: PythonLibrary(place.format(tmp_path)))
    assert failure.code is Code.PIPELINE_LIBRARY


def test_parameters_that_cannot_be_used() -> None:
    """What ``__init__`` raises is why the pipeline is not served."""
    failure = failure_of(lambda: node_of(Scale, factor="much"))
    assert failure.code is Code.NODE_INITIALIZE
    assert "could not convert string to float: 'much'" in failure.detail


@pytest.mark.parametrize(
    "looks",
    [
        {},
        {"inputs": LOOKS["inputs"]},
        {"inputs": None, "outputs": None},
        {"inputs": {"x": Tensor("complex64", (1,))}, "outputs": {}},
        {"inputs": {"x": Tensor("nothing", (1,))}, "outputs": {}},
        {"inputs": {"x": ("float32",)}, "outputs": {}},
        {"inputs": {"x": Tensor("float32", ("a",))}, "outputs": {}},  # type: ignore[arg-type]
        {"inputs": {"x": Tensor("float32", 3)}, "outputs": {}},  # type: ignore[arg-type]
    ],
)
def test_descriptions_that_cannot_be_used(looks: dict[str, Any]) -> None:
    """Inputs and outputs have to be there, with sizes and dtypes that tensors have."""
    kind = type("Looking", (CustomNode,), looks)
    assert failure_of(lambda: node_of(kind)).code is Code.NODE_METADATA


class Angry(Scale):
    """Fails in all that it can."""

    def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        raise RuntimeError(f"no to {list(inputs)}")

    def close(self) -> None:
        """See ``CustomNode``."""
        raise RuntimeError("no end")


class AngryLater(Angry):
    """The same, on the loop."""

    async def execute(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``CustomNode``."""
        return super().execute(inputs)


@pytest.mark.parametrize("kind", [Angry, AngryLater])
def test_what_execute_raises(kind: type[CustomNode]) -> None:
    """It fails the request, with this reason."""
    failure = failure_of(lambda: run(node_of(kind), {"x": TEN}))
    assert failure.code is Code.NODE_EXECUTE
    assert failure.detail == f"{kind.__name__}: RuntimeError(\"no to ['x']\")"


def test_what_close_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and keeps nothing else from being closed."""
    node_of(Angry).close()
    assert "Angry could not be closed" in caplog.text
    assert "no end" in caplog.text


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, Code.NODE_OUTPUTS),
        (TEN, Code.NODE_OUTPUTS),
        ([("y", TEN)], Code.NODE_OUTPUTS),
        ({"y": TEN.astype(np.float64)}, Code.NODE_OUTPUT_PRECISION),
        ({"y": 3}, Code.NODE_OUTPUT_PRECISION),
        ({"y": "text"}, Code.NODE_OUTPUT_PRECISION),
        ({"y": None}, Code.NODE_OUTPUT_PRECISION),
        ({"y": [[1.0, 2.0], [3.0]]}, Code.NODE_OUTPUT_SIZE),
    ],
)
def test_outputs_that_are_none(value: object, code: Code) -> None:
    """Anything but a mapping of names to arrays of the dtypes that were told."""
    node = giving(value)
    assert failure_of(lambda: run(node, {"x": TEN})).code is code


def test_outputs_that_nobody_was_told_of() -> None:
    """They are handed on; nobody reads them. What is missing is found by whoever reads it."""
    assert set(run(giving({"other": TEN}), {"x": TEN})) == {"other"}


def test_an_asynchronous_node_by_another_way() -> None:
    """A plain function that gives an awaitable is not asynchronous: that is told, instead of being waited for in a thread."""

    class Odd(Scale):
        def execute(self, inputs: Mapping[str, np.ndarray]) -> Awaitable[Mapping[str, np.ndarray]]:
            future: asyncio.Future[Mapping[str, np.ndarray]] = asyncio.new_event_loop().create_future()
            future.get_loop().close()
            future.set_result(inputs)
            return future

    failure = failure_of(lambda: node_of(Odd).execute({"x": TEN}))
    assert failure.code is Code.NODE_OUTPUTS
    assert "Future" in failure.detail
