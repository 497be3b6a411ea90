"""Pipelines as graphs: every rule and its order, levels, what a pipeline takes and gives, and random graphs that run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.graphs import Graph, Mutant, graphs, interface, make_run, mutants, node, pipeline, plain, sources, tensor
from tornado_ovms.core.graph import REQUEST, RESPONSE, Interface, Plan, check
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tornado_ovms.core.settings import NodeSettings, PipelineSettings

WIDE = (3, 1, 10)
"""What a node gives that splits it into three."""


def splitter(*sizes: Any) -> Interface:
    """b [1,10] -> a, which is to be split."""
    return interface([tensor("b", 1, 10)], [tensor("a", *(sizes or WIDE))])


def joiner(*sizes: Any) -> Interface:
    """b, several shards -> a [1,10]."""
    return interface([tensor("b", *(sizes or WIDE))], [tensor("a", 1, 10)])


def code_of(definition: PipelineSettings, interfaces: Mapping[str, Interface | Failure]) -> Code | None:
    """The rule that a definition breaks, if it breaks one."""
    try:
        check(definition, interfaces)
    except Failure as failure:
        return failure.code
    return None


def chain(*nodes: NodeSettings, outputs: str = "out=n.x", **more: Any) -> PipelineSettings:
    """A pipeline of these nodes."""
    return pipeline(nodes, outputs, **more)


def one(reads: str = "b=request.in", gives: str = "x=a", outputs: str = "out=n.x", **more: Any) -> PipelineSettings:
    """A pipeline of one node, n."""
    return chain(node("n", reads, gives, **more), outputs=outputs)


def two(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **more: Any) -> PipelineSettings:
    """A pipeline of m, which reads the request, and n, which reads m."""
    return chain(node("m", **(first or {})), node("n", "b=m.x", **(second or {})), **more)


MISSING = Failure(Code.PIPELINE_MISSING_MODEL, "node: n")
BROKEN = Failure(Code.NODE_METADATA, "node: n")
STRINGS = interface([tensor("b", 1, kind="STRING")], [tensor("a", 1, 1, 1, kind="STRING")])
SPLIT = {"demultiply_count": 3}
ANY_SPLIT = {"demultiply_count": -1}
GATHER = {"gather_from": "m"}

RULES: dict[str, tuple[PipelineSettings, dict[str, Interface | Failure], Code]] = {
    "4: two demultiplexers, one dynamic": (
        two(SPLIT, ANY_SPLIT), {"m": splitter(), "n": splitter()}, Code.NOT_IMPLEMENTED,
    ),
    "4: the request counts, and 0 is -1": (
        two({"demultiply_count": 0}, count=3), {"m": splitter(), "n": plain()}, Code.NOT_IMPLEMENTED,
    ),
    "5: two nodes with one name": (
        chain(node("n"), node("n")), {"n": plain()}, Code.PIPELINE_NODE_NAME_DUPLICATE,
    ),
    "5: a node called like the request": (
        chain(node("n"), node(REQUEST, "b=n.x")), {"n": plain(), REQUEST: plain()}, Code.PIPELINE_NODE_NAME_DUPLICATE,
    ),
    "5: a node called like the response": (
        chain(node("n"), node(RESPONSE, "b=n.x")), {"n": plain(), RESPONSE: plain()}, Code.PIPELINE_NODE_NAME_DUPLICATE,
    ),
    "6: a model that is missing": (one(), {"n": MISSING}, Code.PIPELINE_MISSING_MODEL),
    "7: a library that does not tell": (one(is_custom=True), {"n": BROKEN}, Code.NODE_METADATA),
    "10: a demultiplexing model that takes strings": (one(**SPLIT), {"n": STRINGS}, Code.PIPELINE_STRING_DEMULTIPLY),
    "10: a demultiplexed request that feeds strings": (
        chain(node("n"), count=3), {"n": STRINGS}, Code.PIPELINE_STRING_DEMULTIPLY,
    ),
    "11: two dimensions": (one(**SPLIT), {"n": splitter(3, 10)}, Code.PIPELINE_TOO_FEW_DIMENSIONS),
    "11: an output that nobody reads": (
        one(**ANY_SPLIT),
        {"n": interface([tensor("b", 1, 10)], [tensor("a", *WIDE), tensor("other", 3, 10)])},
        Code.PIPELINE_TOO_FEW_DIMENSIONS,
    ),
    "11: at an input that gathers": (
        two(SPLIT, GATHER), {"m": splitter(), "n": joiner(3, 10)}, Code.PIPELINE_TOO_FEW_DIMENSIONS,
    ),
    "12: another count": (one(demultiply_count=2), {"n": splitter()}, Code.PIPELINE_DEMULTIPLY_COUNT),
    "12: a count out of the range": (
        one(demultiply_count=6), {"n": splitter((2, 5), 1, 10)}, Code.PIPELINE_DEMULTIPLY_COUNT,
    ),
    "12: an output that nobody reads": (
        one(**SPLIT),
        {"n": interface([tensor("b", 1, 10)], [tensor("a", *WIDE), tensor("other", 2, 1, 10)])},
        Code.PIPELINE_DEMULTIPLY_COUNT,
    ),
    "12: at an input that gathers": (
        two(SPLIT, GATHER), {"m": splitter(), "n": joiner(2, 1, 10)}, Code.PIPELINE_DEMULTIPLY_COUNT,
    ),
    "13: gathering from nowhere": (one(gather_from="x"), {"n": plain()}, Code.PIPELINE_GATHER_FROM_MISSING_NODE),
    "14: gathering from a plain node": (
        two({}, GATHER), {"m": plain(), "n": plain()}, Code.PIPELINE_GATHER_FROM_PLAIN_NODE,
    ),
    "14: gathering from a plain request": (
        one(gather_from=REQUEST), {"n": plain()}, Code.PIPELINE_GATHER_FROM_PLAIN_NODE,
    ),
    "15: an unknown node": (one("b=x.y"), {"n": plain()}, Code.PIPELINE_MISSING_NODE),
    "15: by an output": (one(outputs="out=x.y"), {"n": plain()}, Code.PIPELINE_MISSING_NODE),
    "16: the response as a source": (one("b=response.out"), {"n": plain()}, Code.PIPELINE_RESPONSE_AS_SOURCE),
    "16: by an output": (one(outputs="out=response.out"), {"n": plain()}, Code.PIPELINE_RESPONSE_AS_SOURCE),
    "17: an input that the model does not have": (
        one("b=request.in c=request.in"), {"n": plain()}, Code.PIPELINE_MISSING_INPUT,
    ),
    "18: an input fed twice": (one("b=request.in b=request.in"), {"n": plain()}, Code.PIPELINE_INPUT_TWICE),
    "19: an unknown alias": (
        chain(node("m"), node("n", "b=m.a")), {"m": plain(), "n": plain()}, Code.PIPELINE_MISSING_ITEM,
    ),
    "19: an item that is not declared": (one("b=request.other"), {"n": plain()}, Code.PIPELINE_MISSING_ITEM),
    "19: by an output": (one(outputs="out=n.a"), {"n": plain()}, Code.PIPELINE_MISSING_ITEM),
    "19: by an output, of the request": (one(outputs="out=request.x"), {"n": plain()}, Code.PIPELINE_MISSING_ITEM),
    "20: an output that the model does not have": (
        chain(node("m", gives="x=b"), node("n", "b=m.x")), {"m": plain(), "n": plain()}, Code.PIPELINE_MISSING_OUTPUT,
    ),
    "20: by an output": (one(gives="x=b"), {"n": plain()}, Code.PIPELINE_MISSING_OUTPUT),
    "21: other sizes": (two(), {"m": plain(1, 10), "n": plain(1, 9)}, Code.SHAPE),
    "21: another rank": (two(), {"m": plain(1, 10), "n": plain(1, 10, 1)}, Code.SHAPE),
    "21: of what a demultiplexer gives": (two(SPLIT), {"m": splitter(), "n": plain(3, 1, 10)}, Code.SHAPE),
    "21: at an input that gathers": (
        two(SPLIT, GATHER), {"m": splitter(), "n": joiner(3, 1, 9)}, Code.SHAPE,
    ),
    "22: other precisions": (two(), {"m": plain(), "n": plain(1, 10, kind="I32")}, Code.PRECISION),
    "23: strings between nodes": (
        two(), {"m": plain(1, kind="STRING"), "n": plain(1, kind="STRING")}, Code.NOT_IMPLEMENTED,
    ),
    "24: an input that nothing feeds": (
        one(), {"n": interface([tensor("b", 1, 10), tensor("c", 1, 10)], [tensor("a", 1, 10)])},
        Code.PIPELINE_OPEN_INPUT,
    ),
    "25: a cycle": (
        chain(node("m", "b=n.x"), node("n", "b=m.x")), {"m": plain(), "n": plain()}, Code.PIPELINE_CYCLE,
    ),
    "25: a node that feeds itself": (one("b=n.x"), {"n": plain()}, Code.PIPELINE_CYCLE),
    "26: a node that nobody reads": (
        chain(node("m"), node("n")), {"m": plain(), "n": plain()}, Code.PIPELINE_UNCONNECTED,
    ),
    "26: a cycle that the response does not reach": (
        chain(node("n"), node("k", "b=m.x"), node("m", "b=k.x")), {"n": plain(), "k": plain(), "m": plain()},
        Code.PIPELINE_UNCONNECTED,
    ),
    "26: no outputs": (one(outputs=""), {"n": plain()}, Code.PIPELINE_UNCONNECTED),
    "26: neither nodes nor outputs": (chain(outputs=""), {}, Code.PIPELINE_UNCONNECTED),
    "26: a node without inputs": (
        one(""), {"n": interface([], [tensor("a", 1, 10)])}, Code.PIPELINE_UNCONNECTED,
    ),
    "27: a value from before a demultiplexer beside one from inside": (
        chain(node("m", **SPLIT), node("n", "b=m.x c=request.in")),
        {"m": splitter(), "n": interface([tensor("b", 1, 10), tensor("c", 1, 10)], [tensor("a", 1, 10)])},
        Code.PIPELINE_GATHER_ORDER,
    ),
    "27: an output from before a demultiplexer beside one from inside": (
        chain(node("k"), node("m", "b=k.x", **SPLIT), node("n", "b=m.x"), outputs="out=n.x early=k.x"),
        {"k": plain(), "m": splitter(), "n": plain()}, Code.PIPELINE_GATHER_ORDER,
    ),
    "27: a request item as an output beside a gathered one": (
        chain(node("n", **SPLIT), outputs="out=n.x early=request.in"), {"n": splitter()}, Code.PIPELINE_GATHER_ORDER,
    ),
    "27: gathering the outer shards first": (
        chain(
            node("k", **SPLIT), node("m", "b=k.x", demultiply_count=3),
            node("i", "b=m.x", gather_from="k"), node("n", "b=i.x", gather_from="m"),
        ),
        {"k": splitter(), "m": splitter(), "i": joiner(), "n": joiner()}, Code.PIPELINE_GATHER_ORDER,
    ),
    "27: gathering what is not split on this path": (
        chain(node("m", **SPLIT), node("k"), node("n", "b=k.x", gather_from="m"), outputs="out=n.x other=m.x"),
        {"m": splitter(), "k": plain(1, 10), "n": joiner()}, Code.PIPELINE_GATHER_ORDER,
    ),
    "27: gathered by one reader, and not by another": (
        chain(node("m", **SPLIT), node("k", "b=m.x"), node("n", "b=m.x", gather_from="m"), outputs="out=n.x other=k.x"),
        {"m": splitter(), "k": plain(), "n": joiner()}, Code.PIPELINE_GATHER_ORDER,
    ),
    "27: two demultiplexers side by side, both gathered by the response": (
        chain(node("m", **SPLIT), node("n", **SPLIT), outputs="out=n.x other=m.x"),
        {"m": splitter(), "n": splitter()}, Code.PIPELINE_GATHER_ORDER,
    ),
    "28: another precision": (
        chain(node("m"), node("n"), outputs="out=n.x other=m.x"), {"m": plain(), "n": plain(1, 10, kind="I32")},
        Code.PIPELINE_AMBIGUOUS_INPUT,
    ),
    "28: another rank": (
        chain(node("m"), node("n"), outputs="out=n.x other=m.x"), {"m": plain(), "n": plain(10)},
        Code.PIPELINE_AMBIGUOUS_INPUT,
    ),
    "28: sizes that do not meet": (
        chain(node("m"), node("n"), outputs="out=n.x other=m.x"), {"m": plain((1, 4), 10), "n": plain((5, 8), 10)},
        Code.PIPELINE_AMBIGUOUS_INPUT,
    ),
    "28: two inputs of one node": (
        one("b=request.in c=request.in"),
        {"n": interface([tensor("b", 1, 10), tensor("c", 1, 9)], [tensor("a", 1, 10)])}, Code.PIPELINE_AMBIGUOUS_INPUT,
    ),
    "28: layouts that contradict": (
        chain(node("m"), node("n"), outputs="out=n.x other=m.x"),
        {
            "m": interface([tensor("b", 1, 3, 3, 3, layout="NHWC")], [tensor("a", 1)]),
            "n": interface([tensor("b", 1, 3, 3, 3, layout="NCHW")], [tensor("a", 1)]),
        },
        Code.PIPELINE_AMBIGUOUS_INPUT,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("definition", "interfaces", "code"), RULES.values(), ids=RULES)
def test_rules(definition: PipelineSettings, interfaces: dict[str, Interface | Failure], code: Code) -> None:
    """Each rule refuses what it is for, by its code."""
    assert code_of(definition, interfaces) is code


# What is broken more than once, and the rule that is told: each line breaks the rule of the next one, too.
DOUBLE: dict[str, tuple[PipelineSettings, dict[str, Interface | Failure], Code]] = {
    "4 before 5": (
        chain(node("n", **ANY_SPLIT), node("n", **ANY_SPLIT), count=3), {"n": splitter()}, Code.NOT_IMPLEMENTED,
    ),
    "5 before 6": (chain(node("n"), node("n")), {"n": MISSING}, Code.PIPELINE_NODE_NAME_DUPLICATE),
    "an earlier node's 21 before a later one's 5": (
        chain(node("m"), node("k", "b=m.x"), node("n", "b=m.x"), node("n", "b=m.x")),
        {"m": plain(), "k": plain(1), "n": plain()}, Code.SHAPE,
    ),
    "6 before what is wrong with its inputs": (one("c=x.y"), {"n": MISSING}, Code.PIPELINE_MISSING_MODEL),
    "an earlier node's 24 before a later one's 6": (
        chain(node("m", ""), node("n", "b=m.x")), {"m": plain(), "n": MISSING}, Code.PIPELINE_OPEN_INPUT,
    ),
    "a source's 6 when the first reader's turn comes": (
        chain(node("n", "b=m.x"), node("m", "c=x.y")), {"m": MISSING, "n": plain()}, Code.PIPELINE_MISSING_MODEL,
    ),
    "10 before 11": (
        one(**SPLIT), {"n": interface([tensor("b", 1, kind="STRING")], [tensor("a", 1)])},
        Code.PIPELINE_STRING_DEMULTIPLY,
    ),
    "11 before 12": (one(**SPLIT), {"n": splitter(2, 10)}, Code.PIPELINE_TOO_FEW_DIMENSIONS),
    "12 before 13": (one(demultiply_count=2, gather_from="x"), {"n": splitter()}, Code.PIPELINE_DEMULTIPLY_COUNT),
    "13 before 15": (one("b=x.y", gather_from="x"), {"n": plain()}, Code.PIPELINE_GATHER_FROM_MISSING_NODE),
    "14 before 15": (one("b=x.y", gather_from=REQUEST), {"n": plain()}, Code.PIPELINE_GATHER_FROM_PLAIN_NODE),
    "15 before 17": (one("c=x.y"), {"n": plain()}, Code.PIPELINE_MISSING_NODE),
    "16 before 17": (one("c=response.y"), {"n": plain()}, Code.PIPELINE_RESPONSE_AS_SOURCE),
    "17 before 19": (one("c=request.y"), {"n": plain()}, Code.PIPELINE_MISSING_INPUT),
    "18 before 19": (one("b=request.in b=request.y"), {"n": plain()}, Code.PIPELINE_INPUT_TWICE),
    "19 before 24": (
        one("b=request.y"), {"n": interface([tensor("b", 1), tensor("c", 1)], [tensor("a", 1)])},
        Code.PIPELINE_MISSING_ITEM,
    ),
    "20 before 21": (
        chain(node("m", gives="x=c"), node("n", "b=m.x")), {"m": plain(), "n": plain(1)}, Code.PIPELINE_MISSING_OUTPUT,
    ),
    "21 before 22": (two(), {"m": plain(), "n": plain(1, kind="I32")}, Code.SHAPE),
    "22 before 23": (two(), {"m": plain(1), "n": plain(1, kind="STRING")}, Code.PRECISION),
    "23 before 24": (
        two(),
        {
            "m": plain(1, kind="STRING"),
            "n": interface([tensor("b", 1, kind="STRING"), tensor("c", 1)], [tensor("a", 1)]),
        },
        Code.NOT_IMPLEMENTED,
    ),
    "24 before the response's 15": (
        one("", outputs="out=x.y"), {"n": plain()}, Code.PIPELINE_OPEN_INPUT,
    ),
    "the response's 19 before 25": (one("b=n.x", outputs="out=n.y"), {"n": plain()}, Code.PIPELINE_MISSING_ITEM),
    "25 before 26": (
        chain(node("m"), node("n", "b=n.x")), {"m": plain(), "n": plain()}, Code.PIPELINE_CYCLE,
    ),
    "26 before 27": (
        chain(node("m", **SPLIT), node("k", "b=m.x"), node("n"), outputs="out=n.x other=m.x"),
        {"m": splitter(), "k": plain(), "n": plain()}, Code.PIPELINE_UNCONNECTED,
    ),
    "27 before 28": (
        chain(node("m", **SPLIT), node("n"), outputs="out=n.x other=m.x"), {"m": splitter(), "n": plain(9)},
        Code.PIPELINE_GATHER_ORDER,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("definition", "interfaces", "code"), DOUBLE.values(), ids=DOUBLE)
def test_order(definition: PipelineSettings, interfaces: dict[str, Interface | Failure], code: Code) -> None:
    """Of several faults the first in the reference's order is told."""
    assert code_of(definition, interfaces) is code


def test_what_is_no_fault() -> None:
    """An alias of no output that nobody reads, items that nobody reads, an output fed to two inputs, nodes in any order."""
    definition = pipeline(
        [node("n", "b=m.x c=m.x"), node("m", gives="x=a y=nothing")], "out=n.x again=n.x", items="in other"
    )
    two_inputs = interface([tensor("b", 1, 10), tensor("c", -1, (3, 20))], [tensor("a", 1, 10)])
    plan = check(definition, {"m": plain(), "n": two_inputs})
    assert set(plan.inputs) == {"in"}
    assert [spec.name for spec in plan.outputs] == ["out", "again"]
    assert plan.read == {"m": {"x": "a"}, "n": {"x": "a"}}
    assert plan.consumers == {"m": ("n",), REQUEST: ("m",), "n": (RESPONSE,)}


@pytest.mark.parametrize(
    ("given_sizes", "taken", "fits"),
    [
        ((1, 10), (1, 10), True),
        ((1, -1), (1, 10), True),
        ((1, 10), (1, -1), True),
        ((1, -1), (1, -1), True),
        ((1, (5, 15)), (1, 10), True),
        ((1, 10), (1, (5, 15)), True),
        ((1, (5, 10)), (1, (10, 15)), True),  # touching ends
        ((1, (5, 9)), (1, (10, 15)), False),
        ((1, (5, 9)), (1, 10), False),
        ((1, 0), (1, 0), True),
        ((1, 0), (1, 1), False),
        ((), (), True),
        ((1,), (), False),
        ((10, 1), (1, 10), False),
    ],
)
def test_shapes_between_nodes(given_sizes: tuple[Any, ...], taken: tuple[Any, ...], fits: bool) -> None:  # noqa: FBT001
    """Ranks are equal, and a size exists that both dimensions may have."""
    interfaces = {
        "m": interface([tensor("b", 1)], [tensor("a", *given_sizes)]),
        "n": interface([tensor("b", *taken)], [tensor("a", 1)]),
    }
    assert code_of(two(), interfaces) is (None if fits else Code.SHAPE)


def test_layouts_between_nodes_do_not_matter() -> None:
    """They are compared only where one item of the request feeds several nodes."""
    interfaces = {
        "m": interface([tensor("b", 1)], [tensor("a", 1, 2, 2, 3, layout="NHWC")]),
        "n": interface([tensor("b", 1, 2, 2, 3, layout="NCHW")], [tensor("a", 1)]),
    }
    assert code_of(two(), interfaces) is None


# Levels

NESTED = chain(
    node("k", demultiply_count=2),
    node("m", "b=k.x", demultiply_count=3),
    node("i", "b=m.x"),
    node("n", "b=i.x", gather_from="m"),
    node("o", "b=n.x", gather_from="k"),
    outputs="out=o.x",
)
PARTS = {
    "k": splitter(2, 1, 10), "m": splitter(), "i": plain(), "n": joiner(), "o": joiner(2, 1, 10),
}  # fmt: skip


def levels_of(plan: Plan) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Level and gathered demultiplexers of each node."""
    return {each.name: (each.level, each.gathers) for each in (*plan.nodes.values(), plan.response)}


def test_nested_demultiplexers() -> None:
    """Sessions are inside of both; gathering goes innermost first."""
    assert levels_of(check(NESTED, PARTS)) == {
        "k": ((), ()),
        "m": (("k",), ()),
        "i": (("k", "m"), ()),
        "n": (("k",), ("m",)),
        "o": ((), ("k",)),
        RESPONSE: ((), ()),
    }


def test_the_response_gathers_what_is_left() -> None:
    """Both demultiplexers at once, or the outer one when a node has gathered the inner one."""
    both = replace(NESTED, nodes=NESTED.nodes[:3], outputs=sources("out=i.x"))
    plan = check(both, PARTS)
    assert levels_of(plan)[RESPONSE] == ((), ("k", "m"))
    assert str(plan.outputs[0].shape) == "(2,3,1,10)"
    outer = replace(NESTED, nodes=NESTED.nodes[:4], outputs=sources("out=n.x"))
    plan = check(outer, PARTS)
    assert levels_of(plan)[RESPONSE] == ((), ("k",))
    assert str(plan.outputs[0].shape) == "(2,1,10)"


def test_a_node_that_gathers_and_splits_again() -> None:
    """Its outputs are inside of itself, its sessions of neither."""
    definition = chain(
        node("k", demultiply_count=2), node("m", "b=k.x", demultiply_count=3, gather_from="k"), node("n", "b=m.x")
    )
    both = interface([tensor("b", 2, 1, 10)], [tensor("a", *WIDE)])
    plan = check(definition, {"k": splitter(2, 1, 10), "m": both, "n": plain()})
    assert levels_of(plan) == {
        "k": ((), ()), "m": ((), ("k",)), "n": (("m",), ()), RESPONSE: ((), ("m",)),
    }  # fmt: skip


def test_two_nodes_gather_from_one() -> None:
    """Beside each other, and from nodes at different depths of the graph."""
    definition = chain(
        node("m", demultiply_count=3),
        node("i", "b=m.x"),
        node("n", "b=i.x", gather_from="m"),
        node("o", "b=m.x", gather_from="m"),
        outputs="out=n.x other=o.x",
    )
    plan = check(definition, {"m": splitter(), "i": plain(), "n": joiner(), "o": joiner()})
    assert levels_of(plan)[RESPONSE] == ((), ())


def test_gathering_from_the_request() -> None:
    """A node joins what the request was split into; it may even read the request itself."""
    definition = chain(node("n", gather_from=REQUEST), count=3)
    plan = check(definition, {"n": joiner()})
    assert levels_of(plan) == {"n": ((), (REQUEST,)), RESPONSE: ((), ())}
    assert str(plan.inputs["in"].shape) == "(3,1,10)"
    assert code_of(replace(definition, demultiply_count=2), {"n": joiner()}) is Code.PIPELINE_DEMULTIPLY_COUNT


def test_graphs_that_are_deep_or_wide() -> None:
    """A thousand nodes in a row and a hundred layers that all read each other are checked without recursion, and soon."""
    row = [node("n0"), *(node(f"n{index}", f"b=n{index - 1}.x") for index in range(1, 1000))]
    assert code_of(chain(*row, outputs="out=n999.x"), {each.name: plain() for each in row}) is None
    pair = interface([tensor("b", 1, 10), tensor("c", 1, 10)], [tensor("a", 1, 10)])
    layers = [node(f"{side}0", "b=request.in c=request.in") for side in "lr"]
    for index in range(1, 100):
        layers += [node(f"{side}{index}", f"b=l{index - 1}.x c=r{index - 1}.x") for side in "lr"]
    assert code_of(chain(*layers, outputs="a=l99.x b=r99.x"), {each.name: pair for each in layers}) is None


# What a pipeline takes and gives


def shapes(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Shapes of inputs and outputs."""
    return (
        {name: str(spec.shape) for name, spec in plan.inputs.items()},
        {spec.name: str(spec.shape) for spec in plan.outputs},
    )


@pytest.mark.parametrize(
    ("one_reader", "other", "both"),
    [
        ((1, 10), (1, 10), "(1,10)"),
        ((-1, 10), (1, -1), "(1,10)"),
        (((2, 5), 10), ((4, 9), 10), "([4~5],10)"),
        (((2, 5), 10), ((5, 9), 10), "(5,10)"),
        (((2, 5), 10), (-1, 10), "([2~5],10)"),
    ],
)
def test_an_item_that_feeds_several(one_reader: Sequence[Any], other: Sequence[Any], both: str) -> None:
    """A request has to have what all of them take, whoever comes first."""
    definition = chain(node("m"), node("n"), outputs="out=n.x other=m.x")
    for first, second in ((one_reader, other), (other, one_reader)):
        plan = check(definition, {"m": plain(*first), "n": plain(*second)})
        assert str(plan.inputs["in"].shape) == both


@pytest.mark.parametrize(
    ("one_reader", "other", "both"),
    [("N...", "...", "N..."), ("N...", "NHWC", "NHWC"), ("...", "NHWC", "NHWC"), ("NHWC", "N?HWC", None),
     ("N??C", "NHWC", "NHWC"), ("NHWC", "NHWC", "NHWC"), ("NHWC", "NCHW", None)],
)  # fmt: skip
def test_layouts_of_an_item_that_feeds_several(one_reader: str, other: str, both: str | None) -> None:
    """The one that says more counts, whoever comes first; a model's batch is not forgotten beside a custom node."""
    definition = chain(node("m"), node("n"), outputs="out=n.x other=m.x")
    for first, second in ((one_reader, other), (other, one_reader)):
        interfaces = {
            name: interface([tensor("b", 1, 8, 8, 3, layout=layout)], [tensor("a", 1)])
            for name, layout in (("m", first), ("n", second))
        }
        if both is None:
            assert code_of(definition, interfaces) is Code.PIPELINE_AMBIGUOUS_INPUT
        else:
            assert check(definition, interfaces).inputs["in"].layout.text == both


@pytest.mark.parametrize(
    ("count", "layout", "shape", "expected"),
    [(3, "N...", "(3,1,8,8,3)", "N?..."), (-1, "NHWC", "(-1,1,8,8,3)", "N?HWC"), (0, "...", "(-1,1,8,8,3)", "N?..."),
     (5, "NCHW", "(5,1,8,8,3)", "N?CHW")],
)  # fmt: skip
def test_inputs_of_a_request_that_is_split(count: int, layout: str, shape: str, expected: str) -> None:
    """One dimension more in front, which is the batch now."""
    interfaces = {"n": interface([tensor("b", 1, 8, 8, 3, layout=layout)], [tensor("a", 1)])}
    plan = check(chain(node("n"), count=count), interfaces)
    assert str(plan.inputs["in"].shape) == shape
    assert plan.inputs["in"].layout.text == expected
    assert plan.inputs["in"].batch_axis == 0
    assert shapes(plan)[1] == {"out": "(3,1)".replace("3", "-1" if count <= 0 else str(count))}


def test_outputs() -> None:
    """The node's own; of a demultiplexer without what it splits, and with one dimension for each that is gathered."""
    assert shapes(check(one(), {"n": plain((2, 5), -1)}))[1] == {"out": "([2~5],-1)"}
    assert shapes(check(one(**SPLIT), {"n": splitter(-1, 1, 10)}))[1] == {"out": "(3,1,10)"}
    assert shapes(check(one(**ANY_SPLIT), {"n": splitter(5, 1, 10)}))[1] == {"out": "(-1,1,10)"}
    plan = check(one(), {"n": interface([tensor("b", 1)], [tensor("a", 1, kind="I64")])})
    assert plan.outputs[0].precision is Precision.I64


def test_a_dynamic_custom_demultiplexer_tells_its_first_dimension() -> None:
    """That of its alphabetically first output, as the reference has it."""
    outputs = [tensor("b", -1, 1, 10), tensor("a", (2, 7), 1, 10), tensor("c", 5, 1, 10)]
    definition = one(gives="x=c", is_custom=True, **ANY_SPLIT)
    assert shapes(check(definition, {"n": interface([tensor("b", 1)], outputs)}))[1] == {"out": "([2~7],1,10)"}


def test_an_output_of_the_request() -> None:
    """It has no precision and no dimensions; the pipeline loads all the same."""
    plan = check(one(outputs="out=n.x same=request.in"), {"n": plain()})
    assert plan.outputs[1].precision is Precision.UNDEFINED
    assert shapes(plan)[1]["same"] == "()"
    assert code_of(chain(outputs="same=request.in"), {}) is None


# Random graphs

CODES = {code for _, _, code in RULES.values()}


async def answer(graph: Graph, plan: Plan) -> list[np.ndarray]:
    """What a run makes of a graph's request."""
    return await make_run(plan, graph.parts()).answer(graph.request)


@settings(max_examples=150)
@given(graphs())
def test_random_graphs_run_like_a_plain_evaluation(graph: Graph) -> None:
    """Sessions, shards, gathering and order change nothing about what a graph means."""
    plan = check(graph.settings, graph.interfaces)
    found = asyncio.run(answer(graph, plan))
    wanted = graph.evaluate()
    assert [spec.name for spec in plan.outputs] == list(wanted)
    for spec, array in zip(plan.outputs, found, strict=True):
        np.testing.assert_array_equal(array, wanted[spec.name], strict=True)


def _levels_work_out(definition: PipelineSettings) -> bool:
    """Rule 27 told from the other end: from the request towards the response."""
    nodes = {each.name: each for each in definition.nodes}
    splits = {name for name, each in nodes.items() if each.demultiply_count is not None}
    splits |= set() if definition.demultiply_count is None else {REQUEST}
    inside: dict[str, tuple[str, ...] | None] = {REQUEST: (REQUEST,) if REQUEST in splits else ()}

    def find(name: str) -> tuple[str, ...] | None:
        """The demultiplexers around what a node gives; None if that has no answer."""
        if name not in inside:
            each = nodes[name]
            levels = {find(source.node) for _, source in each.inputs}
            level = levels.pop() if len(levels) == 1 else None
            if level is not None and each.gather_from is not None:
                level = level[:-1] if level[-1:] == (each.gather_from,) else None
            if level is not None and name in splits:
                level = (*level, name)
            inside[name] = level
        return inside[name]

    levels = {find(source.node) for _, source in definition.outputs}
    level = levels.pop() if len(levels) == 1 else None
    return level is not None and set(level) == splits - {each.gather_from for each in definition.nodes}


@settings(max_examples=500)
@given(mutants())
def test_random_faults_are_refused_by_a_rule(mutant: Mutant) -> None:
    """Whatever is wrong is a failure with the code of a rule; what passes can be run, to an answer or to a failure."""
    try:
        plan = check(mutant.settings, mutant.interfaces)
    except Failure as failure:
        code, detail = failure.code, failure.detail
        assert code in CODES
        assert detail
        assert code is not Code.PIPELINE_GATHER_ORDER or not _levels_work_out(mutant.settings)
        return
    assert _levels_work_out(mutant.settings)
    request = {
        name: np.zeros([dim.low or 2 for dim in spec.shape], spec.precision.dtype) for name, spec in plan.inputs.items()
    }
    with suppress(Failure, ValueError):  # the functions do not expect all sizes
        assert len(asyncio.run(make_run(plan, mutant.parts()).answer(request))) == len(plan.outputs)
