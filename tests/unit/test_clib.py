"""Libraries of the reference's C interface: what they get, what is made of what they give, and that all of it is given back."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.libraries import HEADERS, LEDGER, Account, compile_library
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision
from tornado_ovms.nodes.clib import CLibrary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tornado_ovms.nodes.clib import CNode

TEN = np.arange(10, dtype=np.float32).reshape(1, 10)


@pytest.fixture(scope="module")
def built(needs_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], CLibrary]:
    """Compiles and opens a library."""
    gcc = needs_program("gcc")
    folder = tmp_path_factory.mktemp("libraries")
    known: dict[Path, CLibrary] = {}

    def build(source: Path) -> CLibrary:
        if source not in known:
            known[source] = CLibrary(str(compile_library(gcc, source, folder)))
        return known[source]

    return build


class Ledger:
    """The library that keeps account, and what it has counted since the test began."""

    def __init__(self, library: CLibrary) -> None:
        self.library = library
        self._count = library._library["ledger"]
        self._before = self._read()

    def _read(self) -> list[int]:
        numbers = (ctypes.c_int64 * len(Account._fields))()
        self._count(numbers)
        return list(numbers)

    @property
    def account(self) -> Account:
        """What it has counted."""
        return Account(*(now - before for now, before in zip(self._read(), self._before, strict=True)))

    def create(self, fault: str = "", **params: str) -> CNode:
        """A node."""
        return self.library.create({**params, **({"fault": fault} if fault else {})})


@pytest.fixture
def ledger(built: Callable[[Path], CLibrary]) -> Ledger:
    """That library."""
    return Ledger(built(LEDGER))


def failure_of(call: Callable[[], object]) -> Failure:
    """What a call fails with."""
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


# What is right


def test_a_node_from_its_beginning_to_its_end(ledger: Ledger) -> None:
    """Each function is called as often as it has to be; each block comes back once."""
    node = ledger.create()
    assert (str(node.inputs["b"].shape), node.inputs["b"].precision) == ("(1,10)", Precision.FP32)
    assert (str(node.outputs["a"].shape), node.outputs["a"].precision) == ("(1,10)", Precision.FP32)
    for _ in range(3):
        np.testing.assert_array_equal(node.execute({"b": TEN})["a"], TEN)
    node.close()
    account = ledger.account
    assert account.is_settled
    assert (account.initialized, account.described, account.executed, account.deinitialized) == (1, 2, 3, 1)


def test_outputs_are_copies_of_all_that_there_are(ledger: Ledger) -> None:
    """Also of those that nobody may read; they can be written, and outlive the library's memory."""
    node = ledger.create()
    outputs = node.execute({"b": TEN})
    assert set(outputs) == {"before", "a", "after"}
    assert outputs["before"].dtype == np.uint8
    node.close()
    assert ledger.account.is_settled
    assert all(array.flags.writeable and array.flags.owndata for array in outputs.values())
    np.testing.assert_array_equal(outputs["a"], TEN)


def test_splitting_and_joining(ledger: Ledger) -> None:
    """An open dimension is told as 0, or as -1; three dimensions in, three out."""
    for fault in ("", "minus one"):
        split = ledger.create(fault, kind="split", count="4")
        assert str(split.outputs["a"].shape) == "(-1,1,10)"
        shards = split.execute({"b": TEN})["a"]
        np.testing.assert_array_equal(shards, np.stack([TEN + index for index in range(4)]))
        join = ledger.create(fault, kind="join")
        assert str(join.inputs["b"].shape) == "(-1,1,10)"
        np.testing.assert_array_equal(join.execute({"b": shards})["a"], shards.sum(0))
        split.close()
        join.close()
    assert ledger.account.is_settled


def test_no_shards(ledger: Ledger) -> None:
    """An output of no bytes has data all the same, and is an array."""
    node = ledger.create(kind="split", count="0")
    assert node.execute({"b": TEN})["a"].shape == (0, 1, 10)
    node.close()
    assert ledger.account.is_settled


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(np.arange(20, dtype=np.float32).reshape(2, 10)), np.arange(20, dtype=np.float32)[::2][None]],
)
def test_inputs_are_in_one_piece(ledger: Ledger, array: np.ndarray) -> None:
    """The interface knows no strides."""
    node = ledger.create()
    np.testing.assert_array_equal(node.execute({"b": array})["a"], array.sum(0, keepdims=True))
    node.close()


def test_of_two_outputs_with_one_name_the_first_counts(ledger: Ledger) -> None:
    """And the second one is released like all others; so it is with descriptions."""
    node = ledger.create("twin")
    np.testing.assert_array_equal(node.execute({"b": TEN})["a"], TEN)
    node.close()
    node = ledger.create("twin descriptions")
    assert str(node.outputs["a"].shape) == "(1,10)"
    node.close()
    assert ledger.account.is_settled


def test_descriptions_without_a_name_are_left_out(ledger: Ledger) -> None:
    """As in the reference; they are released."""
    node = ledger.create("nameless description")
    assert (list(node.inputs), list(node.outputs)) == (["b"], ["a"])
    node.close()
    assert ledger.account.is_settled


def test_many_threads(ledger: Ledger) -> None:
    """Executions of one node and of several run at the same time; each gets its own answer."""
    nodes = [ledger.create(kind="split", count=str(count)) for count in (1, 2, 3)]

    def ask(number: int) -> bool:
        found = nodes[number % 3].execute({"b": TEN + number})["a"]
        return np.array_equal(found, np.stack([TEN + number + index for index in range(number % 3 + 1)]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(2000)))
    for node in nodes:
        node.close()
    account = ledger.account
    assert account.is_settled
    assert account.executed == 2000


def test_what_deinitialize_and_release_return_does_not_matter(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A release that says no is logged."""
    node = ledger.create("release")
    np.testing.assert_array_equal(node.execute({"b": TEN})["a"], TEN)
    node.close()
    assert ledger.account.is_settled
    assert "release of a custom node returned 8" in caplog.text


def test_parameters_reach_the_library(ledger: Ledger, tmp_path: Path) -> None:
    """All of them, as text; letters beyond ASCII and text after a zero do no harm."""
    report = tmp_path / "beyond é.txt"
    node = ledger.create("copy\0more", report=str(report), **{"": "", "é": "ü"})
    node.execute({"b": TEN})
    node.close()
    assert len(report.read_text().split()) == len(Account._fields)


# What is wrong

EXECUTION_FAULTS = {
    "execute": (Code.NODE_EXECUTE, "execute returned 5"),
    "null list": (Code.NODE_OUTPUTS, "no list"),
    "no outputs": (Code.NODE_OUTPUT_COUNT, "Actual: 0"),
    "negative count": (Code.NODE_OUTPUT_COUNT, "Actual: -3"),
    "no name": (Code.NODE_OUTPUT_NAME, ""),
    "no name, and no data before it": (Code.NODE_OUTPUT_NAME, ""),  # goes before other faults
    "null data": (Code.NODE_OUTPUT_SIZE, "output: a; Expected: 40 bytes; Actual: no data"),
    "less data": (Code.NODE_OUTPUT_SIZE, "output: a; Expected: 40 bytes; Actual: 36"),
    "more data": (Code.NODE_OUTPUT_SIZE, "output: a; Expected: 40 bytes; Actual: 44"),
    "huge rank": (Code.NODE_OUTPUT_SIZE, "output: a has 1000000 dimensions"),
    "null dims": (Code.NODE_OUTPUT_SIZE, "output: a has 2 dimensions"),
    "unspecified precision": (Code.NODE_OUTPUT_PRECISION, "output: a; Actual: 0"),
    "unknown precision": (Code.NODE_OUTPUT_PRECISION, "output: a; Actual: 99"),
    "negative precision": (Code.NODE_OUTPUT_PRECISION, "output: a; Actual: -1"),
    "empty and huge": (Code.NODE_OUTPUT_SIZE, "output: a"),
    "more than there is": (Code.NODE_OUTPUT_SIZE, "output: a"),
    "more than can be counted": (Code.NODE_OUTPUT_SIZE, "output: a"),
}


@pytest.mark.parametrize("fault", EXECUTION_FAULTS)
def test_an_execution_that_gives_rubbish(ledger: Ledger, fault: str) -> None:
    """It is a failure that says what is wrong, every time; all that was handed out is given back, the good outputs too."""
    node = ledger.create(fault)
    code, text = EXECUTION_FAULTS[fault]
    for _ in range(3):
        failure = failure_of(lambda: node.execute({"b": TEN}))
        assert failure.code is code
        assert text in failure.detail
        assert failure.http == 500
    assert ledger.account.is_settled
    node.close()
    assert ledger.account.deinitialized == 1


def test_an_output_by_another_name(ledger: Ledger) -> None:
    """Whoever reads it finds that it is missing."""
    node = ledger.create("another name")
    assert set(node.execute({"b": TEN})) == {"before", "other", "after"}
    node.close()
    assert ledger.account.is_settled


CREATION_FAULTS = {
    "inputs": (Code.NODE_METADATA, "getInputsInfo returned 6"),
    "outputs": (Code.NODE_METADATA, "getOutputsInfo returned 7"),
    "null description": (Code.NODE_OUTPUTS, "getInputsInfo gave no list"),
    "no descriptions": (Code.NODE_OUTPUT_COUNT, "getInputsInfo: Expected: at least 1; Actual: 0"),
    "negative descriptions": (Code.NODE_OUTPUT_COUNT, "getInputsInfo: Expected: at least 1; Actual: -1"),
    "huge rank told": (Code.NODE_METADATA, "getInputsInfo: b has 1000000 dimensions"),
    "null dims told": (Code.NODE_METADATA, "getInputsInfo: b has 2 dimensions"),
}


@pytest.mark.parametrize("fault", CREATION_FAULTS)
def test_a_description_that_is_rubbish(ledger: Ledger, fault: str) -> None:
    """The node is not made; what initialize made is given back, once, and all descriptions are."""
    code, text = CREATION_FAULTS[fault]
    failure = failure_of(lambda: ledger.create(fault))
    assert (failure.code, failure.detail) == (code, text)
    account = ledger.account
    assert account.is_settled
    assert (account.initialized, account.deinitialized) == (1, 1)


def test_an_initialize_that_fails(ledger: Ledger) -> None:
    """Nothing else is called."""
    failure = failure_of(lambda: ledger.create("initialize"))
    assert (failure.code, failure.detail) == (Code.NODE_INITIALIZE, "initialize returned 3")
    account = ledger.account
    assert account.is_settled
    assert (account.initialized, account.described, account.deinitialized) == (1, 0, 0)


def test_an_unknown_precision_that_is_told(ledger: Ledger) -> None:
    """It is no precision that anything else has, so that rules of the pipeline refuse it."""
    node = ledger.create("unknown precision told")
    assert node.outputs["a"].precision is Precision.UNDEFINED
    node.close()


@pytest.mark.parametrize("name", ["another", "b"])
def test_inputs_that_a_library_does_not_want(ledger: Ledger, name: str) -> None:
    """Precisions that the interface has no number for are passed as unspecified; the library says no."""
    node = ledger.create()
    assert failure_of(lambda: node.execute({name: TEN.astype(np.uint64)})).code is Code.NODE_EXECUTE
    node.close()
    assert ledger.account.is_settled


# Libraries


def test_libraries_that_cannot_be_opened(built: Callable[[Path], CLibrary], tmp_path: Path) -> None:
    """A file that is not there, is no library, or lacks a function; the failure tells which."""
    text = tmp_path / "text.so"
    text.write_text("no library")
    for path in (str(tmp_path / "missing.so"), str(text), str(tmp_path), "/zero\0/lib.so"):
        failure = failure_of(lambda path=path: CLibrary(path))
        assert failure.code is Code.PIPELINE_LIBRARY
        assert path in failure.detail
    failure = failure_of(lambda: built(HEADERS / "missing_symbol.c"))
    assert failure.code is Code.PIPELINE_LIBRARY
    assert "has no function" in failure.detail


@pytest.mark.parametrize(
    ("value", "precision"),
    [
        (np.arange(3, dtype=dtype), precision)
        for dtype, precision in (
            (np.float32, "FP32"), (np.float16, "FP16"), (np.uint8, "U8"), (np.int8, "I8"), (np.int16, "I16"),
            (np.uint16, "U16"), (np.int32, "I32"), (np.float64, "FP64"), (np.int64, "I64"),
        )
    ],
)  # fmt: skip
def test_every_precision_of_the_interface(
    built: Callable[[Path], CLibrary], tmp_path: Path, value: np.ndarray, precision: str
) -> None:
    """A library that gives back what it gets gives the same dtype and bytes; also a scalar, which has no dimensions."""
    source = tmp_path / f"echo_{precision}.c"
    source.write_text(ECHO)
    node = built(source).create({})
    for array in (value, value[1:2].reshape(()), value.reshape(1, 3, 1), value[:0]):
        found = node.execute({"x": array})["y"]
        np.testing.assert_array_equal(found, array, strict=True)
    node.close()


ECHO = """
#include "node_abi.h"
int initialize(void **manager, const struct CustomNodeParam *params, int count) {
    return *manager != NULL || params != NULL || count != 0; /* none are given */
}
int deinitialize(void *manager) { return manager != NULL; }
int execute(const struct CustomNodeTensor *inputs, int inputsCount, struct CustomNodeTensor **outputs, int *outputsCount,
            const struct CustomNodeParam *params, int paramsCount, void *manager) {
    if (inputsCount != 1 || params != NULL || paramsCount != 0 || manager != NULL)
        return 1;
    const struct CustomNodeTensor *in = inputs;
    struct CustomNodeTensor *out = *outputs = malloc(sizeof *out);
    node_output(out, "y", in->precision, 8, in->dimsCount, in->dims);
    out->dataBytes = in->dataBytes;
    memcpy(out->data, in->data, in->dataBytes);
    *outputsCount = 1;
    return 0;
}
static int tell(struct CustomNodeTensorInfo **info, int *count, const char *name) {
    const uint64_t dims[] = {0};
    *info = malloc(sizeof **info);
    node_describe(*info, name, NODE_FP32, 1, dims);
    *count = 1;
    return 0;
}
int getInputsInfo(struct CustomNodeTensorInfo **info, int *count, const struct CustomNodeParam *p, int n, void *m) {
    return p != NULL || n != 0 || m != NULL || tell(info, count, "x");
}
int getOutputsInfo(struct CustomNodeTensorInfo **info, int *count, const struct CustomNodeParam *p, int n, void *m) {
    return p != NULL || n != 0 || m != NULL || tell(info, count, "y");
}
int release(void *ptr, void *manager) {
    free(ptr);
    return manager != NULL;
}
"""
