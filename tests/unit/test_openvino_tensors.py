"""OpenVINO's tensors of strings: nothing of the process's memory gets into an answer."""

from __future__ import annotations

import numpy as np
import pytest

from tornado_ovms.engine.tensors import to_array, to_tensor


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("text", [b"", b"a", b"ab"])
def test_strings_come_back(shape: tuple[int, ...], text: bytes) -> None:
    """Also if all are empty, whatever lay before where numpy puts so small an array."""
    array = np.full(shape, text, object)
    tensor = to_tensor(array)
    for _ in range(10):
        before = [np.full(1, 0xEE, np.uint8) for _ in range(10)]
        del before
        found = to_array(tensor)
        assert (found.shape, found.dtype, found.tolist()) == (shape, np.dtype(object), array.tolist())


@pytest.mark.parametrize("first", [b"", b"b"])
def test_short_strings_stay_apart(first: bytes) -> None:
    """Of one character at most, some of none."""
    array = np.array([first, b"", b"a", b"\xff"], object)
    assert to_array(to_tensor(array)).tolist() == array.tolist()
