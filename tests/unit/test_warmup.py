"""Warming up: with what, and what becomes of a version that fails it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fakes import FakeExecutable, spec
from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.settings import Limits, ModelSettings
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec
from tornado_ovms.serving.servable import Instance
from tornado_ovms.serving.warmup import WarmUp, zeros

if TYPE_CHECKING:
    from pathlib import Path


def instance(folder: Path, warmup: str | None = None, *, stateful: bool = False) -> Instance:
    """A loaded version, b f32 [1,10] -> a."""
    settings = ModelSettings("m", "/m", warmup=warmup, stateful=stateful)
    return Instance(Blueprint(Key("m", 1), settings, str(folder), ()), FakeExecutable())


def test_a_model_s_own_choice_counts_more(tmp_path: Path) -> None:
    """Than that of the command line; without either nothing is inferred."""
    arrays = WarmUp("zeros", Limits()).read_arrays(instance(tmp_path))
    assert arrays is not None
    np.testing.assert_array_equal(arrays["b"], np.zeros((1, 10)))
    assert WarmUp("zeros", Limits()).read_arrays(instance(tmp_path, "none")) is None
    assert WarmUp("none", Limits()).read_arrays(instance(tmp_path)) is None
    assert WarmUp("none", Limits()).read_arrays(instance(tmp_path, "zeros")) is not None


def test_zeros_have_the_smallest_sizes_that_fit() -> None:
    """But not none, where one is allowed; strings are empty."""
    sizes = Shape([ANY, Dim(0, 5), Dim(3, 7), Dim.fixed(0), Dim.fixed(2)])
    arrays = zeros({
        "x": TensorSpec("x", Precision.I64, sizes, Layout.default(5)),
        "s": spec("s", (2,), Precision.STRING),
        "scalar": spec("scalar", (), Precision.FP64),
    })
    assert (arrays["x"].shape, arrays["x"].dtype) == ((1, 1, 3, 0, 2), np.int64)
    assert arrays["s"].tolist() == [b"", b""]
    assert (arrays["scalar"].shape, arrays["scalar"].dtype) == ((), np.float64)


def test_a_file_beside_the_model(tmp_path: Path) -> None:
    """Holds the body of a predict request."""
    (tmp_path / "warmup.json").write_text(json.dumps({"instances": [{"b": list(range(10))}]}))
    arrays = WarmUp("none", Limits()).read_arrays(instance(tmp_path, "warmup.json"))
    assert arrays is not None
    np.testing.assert_array_equal(arrays["b"], [range(10)])


def test_a_file_for_a_stateful_model(tmp_path: Path) -> None:
    """May speak of a sequence, which is not opened."""
    document = {"inputs": {"b": [[1] * 10], "sequence_id": [5], "sequence_control_input": [1]}}
    (tmp_path / "w").write_text(json.dumps(document))
    made = instance(tmp_path, "w", stateful=True)
    arrays = WarmUp("none", Limits()).read_arrays(made)
    assert arrays is not None
    assert list(arrays) == ["b"]
    assert made.sequences is not None
    assert len(made.sequences) == 0


@pytest.mark.parametrize("text", [None, "{", '{"instances": [[1, 2]]}', '{"inputs": {"c": [1]}}'])
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str | None) -> None:
    """Is a reason not to serve the version; the file is named."""
    if text is not None:
        (tmp_path / "w").write_text(text)
    with pytest.raises(Failure) as caught:
        WarmUp("none", Limits()).read_arrays(instance(tmp_path, "w"))
    assert caught.value.code is Code.WARMUP
    assert str(tmp_path / "w") in caught.value.detail


def test_every_infer_request_is_warmed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As many inferences as there are requests, and a line in the log."""
    made = instance(tmp_path, "zeros")
    assert isinstance(made.executable, FakeExecutable)
    made.executable.requests = 3
    with caplog.at_level(logging.INFO):
        asyncio.run(WarmUp("none", Limits()).run(made, zeros(made.inputs)))
    assert made.executable.inferred == 3
    assert "Warmed up model: m; version: 1" in caplog.text


def test_zeros_that_the_model_does_not_take(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Are only a warning; a request of the operator's that fails is a failure."""
    for choice in ("zeros", "w"):
        made = instance(tmp_path, choice)
        assert isinstance(made.executable, FakeExecutable)
        made.executable.failure = Failure(Code.INFERENCE, "why")
        running = WarmUp("none", Limits()).run(made, {"b": np.zeros((1, 10), np.float32)})
        if choice == "zeros":
            asyncio.run(running)
            assert "does not take zeros" in caplog.text
        else:
            with pytest.raises(Failure, match=r"^Warm-up failed - w: .*why"):
                asyncio.run(running)
