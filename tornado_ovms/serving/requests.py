"""Requests of both APIs, read and checked against the model that is to answer them. Any thread may use this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from tornado_ovms.codec import inputs, kfs, tfs
from tornado_ovms.codec.inputs import Encoded
from tornado_ovms.core import sequences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from tornado_ovms.codec.images import PictureBatch
    from tornado_ovms.core.settings import Limits
    from tornado_ovms.serving.servable import Instance


class Request(NamedTuple):
    """A request that fits its model; ``step`` is None unless the model is stateful."""

    values: Mapping[str, np.ndarray | Encoded]
    step: sequences.Step | None = None


def read_predict(body: bytes, instance: Instance, limits: Limits) -> tuple[tfs.Order, Request]:
    """What the body of a TensorFlow Serving prediction asks for, and the order in which it is to be answered.

    Args:
        body: without its content coding.
        instance: the version that is to answer.
        limits: what a request may cost.

    Raises:
        Failure: whatever is wrong with the body, or does not fit the model; what keeps it from answering anything.
    """
    instance.check()
    order, values = tfs.read_predict(body, instance.inputs, limits)
    return order, _accept(values, instance)


def read_infer(body: bytes | memoryview, header: str | None, limits: Limits) -> kfs.InferRequest:
    """What the body of a KServe v2 inference asks for, whatever the model.

    Args:
        body: without its content coding.
        header: ``codec.kfs.HEADER``.
        limits: what a request may cost.

    Raises:
        Failure: what is wrong with the body.
    """
    return kfs.read(body, header, limits)


def fit_infer(request: kfs.InferRequest, instance: Instance) -> Request:
    """The same for a model.

    Raises:
        Failure: what does not fit; what keeps the model from answering anything.
    """
    instance.check()
    besides = {} if instance.sequences is None else sequences.SPECS
    return _accept(kfs.fit(request, instance.executable.inputs, besides), instance)


def _accept(values: Mapping[str, np.ndarray | Encoded], instance: Instance) -> Request:
    """The values that are the model's, checked, and what the others say about a sequence."""
    step = None
    if instance.sequences is not None:
        step = sequences.read_step(values)
        values = {name: value for name, value in values.items() if name not in sequences.SPECS}
    inputs.accept(instance.executable.inputs, values)
    return Request(values, step)


def are_arrays(values: Mapping[str, np.ndarray | Encoded]) -> TypeGuard[Mapping[str, np.ndarray]]:
    """Whether there is nothing to be decoded."""
    return Encoded not in map(type, values.values())


def begin_decoding(
    values: Mapping[str, np.ndarray | Encoded], instance: Instance, limits: Limits
) -> tuple[Mapping[str, np.ndarray], Sequence[PictureBatch]]:
    """Arrays of all values, and the batches in which pictures have still to be placed.

    Raises:
        Failure: one of the codes for pictures.
    """
    return inputs.begin_decoding(instance.executable.inputs, values, limits)


def decode(values: Mapping[str, np.ndarray | Encoded], instance: Instance, limits: Limits) -> Mapping[str, np.ndarray]:
    """Arrays of all values: pictures and texts are decoded, which takes long.

    Raises:
        Failure: one of the codes for pictures.
    """
    return inputs.decode(instance.executable.inputs, values, limits)
