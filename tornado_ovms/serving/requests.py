"""A predict request, read and checked against the model that is to answer it. Any thread may call ``read`` and ``decode``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from tornado_ovms.codec import inputs, tfs
from tornado_ovms.codec.compression import unpack
from tornado_ovms.codec.inputs import Encoded
from tornado_ovms.core import sequences

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tornado_ovms.core.settings import Limits
    from tornado_ovms.serving.servable import Instance


class Request(NamedTuple):
    """A request that fits its model; ``step`` is None unless the model is stateful."""

    order: tfs.Order
    values: Mapping[str, np.ndarray | Encoded]
    step: sequences.Step | None


def read(body: bytes, encoding: str, instance: Instance, limits: Limits) -> Request:
    """What a body asks for.

    Args:
        body: as received.
        encoding: its ``Content-Encoding``.
        instance: the version that is to answer.
        limits: what a request may cost.

    Raises:
        Failure: whatever is wrong with the body, or does not fit the model.
    """
    order, values = tfs.read_predict(unpack(body, encoding, limits), instance.inputs, limits)
    step = None
    if instance.sequences is not None:
        step = sequences.read_step(values)
        values = {name: value for name, value in values.items() if name not in sequences.SPECS}
    inputs.accept(instance.executable.inputs, values)
    return Request(order, values, step)


def are_arrays(values: Mapping[str, np.ndarray | Encoded]) -> TypeGuard[Mapping[str, np.ndarray]]:
    """Whether there is nothing to be decoded."""
    return not any(isinstance(value, Encoded) for value in values.values())


def decode(values: Mapping[str, np.ndarray | Encoded], instance: Instance, limits: Limits) -> Mapping[str, np.ndarray]:
    """Arrays of all values: pictures and texts are decoded, which takes long.

    Raises:
        Failure: one of the codes for pictures.
    """
    return inputs.decode(instance.executable.inputs, values, limits)
