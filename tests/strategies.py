"""What Hypothesis draws for the codecs: arrays of every precision, JSON documents, and bytes that look like them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tornado_ovms.core.tensors import Precision

if TYPE_CHECKING:
    import numpy as np
    from hypothesis.strategies import SearchStrategy

FLOATS: Final = (Precision.FP16, Precision.FP32, Precision.FP64)
INTEGERS: Final = tuple(
    precision for precision in Precision if precision.dtype is not None and precision.dtype.kind in "iu"
)
NUMERIC: Final = (*FLOATS, *INTEGERS)

DEPTH: Final = 50
"""Deeper than anything that is drawn here."""

ROOM: Final = 2048
"""So many blanks make any list long for ``codec.numeric``."""


def many(examples: int, *, again: bool = True) -> settings:
    """Settings for examples that a server is asked with.

    Args:
        examples: how many.
        again: whether they are the same in each run. If not, what fails is new, and worth the time to make it smaller.
    """
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=again,
        database=None,
        phases=(Phase.explicit, Phase.generate) if again else (Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def arrays(precision: Precision) -> SearchStrategy[np.ndarray]:
    """Arrays of one to four dimensions without empty ones, which JSON can tell only in part; NaN and infinities too."""
    dtype = precision.dtype
    assert dtype is not None
    return npst.arrays(dtype, npst.array_shapes(max_dims=4, max_side=4), elements=npst.from_dtype(dtype))


integers: Final = st.one_of(
    st.integers(-300, 300), st.integers(-(2**64) - 1, 2**64 + 1), st.sampled_from([2**53 + 1, 2**63, 2**64, 10**30])
)
numbers: Final = st.one_of(integers, st.floats())

base64_values: Final = st.fixed_dictionaries({"b64": st.sampled_from(["", "QQ==", "QQ", "QUJD", "?"])})
scalars: Final = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=5), base64_values)


def nested(leaves: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Lists in lists, seldom rectangular ones."""
    return st.recursive(st.lists(leaves, max_size=4), lambda inner: st.lists(inner | leaves, max_size=4), max_leaves=12)


def rectangular(leaves: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Lists in lists that have the shape of an array."""

    def build(shape: list[int]) -> SearchStrategy[Any]:
        inner = leaves
        for size in shape:
            inner = st.lists(inner, min_size=size, max_size=size)
        return inner

    return st.lists(st.integers(1, 3), min_size=1, max_size=3).flatmap(build)


lists: Final = nested(scalars) | nested(numbers) | rectangular(numbers)

names: Final = st.sampled_from(["a", "b", "é", "b64", "inputs", "instances", '"', "[", ":", ""]) | st.text(max_size=3)
values: Final = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def write(value: Any, indent: int | None = None) -> bytes:
    """JSON of a value; NaN and the infinities by their words."""
    return json.dumps(value, indent=indent, ensure_ascii=indent is None).encode()


def widen(text: bytes) -> bytes:
    """The same document with many blanks after its first ``[``, so that lists in it are read as long ones are."""
    return text.replace(b"[", b"[" + b" " * ROOM, 1)


documents: Final = st.builds(write, values, st.sampled_from([None, 1]))
"""JSON, with and without line ends, escapes and characters beyond ASCII."""

_TOKENS: Final = (
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b" ", b"\n", b"\0", b"\xff", b"\xc3\xa9", b"/"),
    *(b"0", b"1", b"-", b".", b"e", b"1e400", b"0.5", b"18446744073709551616", b"NaN", b"Infinity", b"-Infinity"),
    *(b"null", b"true", b"fals", b'"a"', b'"b64"', b'"\\u00e9"', b'"\\ud800"', b'"instances":', b'{"inputs":'),
)

_mutilated: Final = st.builds(
    lambda text, at, gone, new: text[: at % (len(text) + 1)] + new + text[at % (len(text) + 1) + gone :],
    documents,
    st.integers(0, 200),
    st.integers(0, 3),
    st.sampled_from([b"", *_TOKENS]),
)

raw: Final = st.one_of(st.binary(), st.lists(st.sampled_from(_TOKENS), max_size=12).map(b"".join), _mutilated)
"""Any bytes, bytes made of what JSON is made of, and documents with a fault in them."""

pieces: Final = st.lists(st.binary(max_size=200), max_size=5)
