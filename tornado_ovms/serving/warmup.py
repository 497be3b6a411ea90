"""Inferences before a version takes requests, so that the first clients do not wait for what a model does only once.

``WarmUp.read_arrays`` makes the inputs and blocks, so it is called in a loader thread; ``run`` belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tornado_ovms.core.settings import WARMUP_NONE, WARMUP_ZEROS
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import Precision
from tornado_ovms.serving import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.core.settings import Limits
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.serving.servable import Instance

    Arrays = Mapping[str, np.ndarray]

log = logging.getLogger("modelmanager")

OPEN_SIZE: Final = 1
"""The size that zeros have in a dimension which may have any."""


class WarmUp:
    """How versions are warmed up.

    Args:
        default: for models whose settings do not say.
        limits: for the requests in files.
    """

    def __init__(self, default: str, limits: Limits) -> None:
        self._default = default
        self._limits = limits

    def choice(self, instance: Instance) -> str:
        """``none``, ``zeros``, or the name of a file beside the model with the body of a predict request."""
        return instance.blueprint.settings.warmup or self._default

    def read_arrays(self, instance: Instance) -> Arrays | None:
        """The inputs to warm up with; None if that is not wanted.

        Raises:
            Failure: WARMUP, if the file is not there or the model does not take what it says.
        """
        choice = self.choice(instance)
        if choice == WARMUP_NONE:
            return None
        if choice == WARMUP_ZEROS:
            return zeros(instance.executable.inputs)
        path = Path(instance.blueprint.path, choice)
        try:
            _, request = requests.read_predict(path.read_bytes(), instance, self._limits)
            return requests.decode(request.values, instance, self._limits)
        except OSError as error:
            raise Failure(Code.WARMUP, f"{path}: {error.strerror}") from error
        except Failure as failure:
            raise Failure(Code.WARMUP, f"{path}: {failure.text}") from failure

    async def run(self, instance: Instance, arrays: Arrays) -> None:
        """Infer once with every infer request that the version has: each has memory of its own.

        Zeros are the operator's word, not the model's: a version that cannot take them is served all the same.

        Raises:
            Failure: WARMUP, if the request of a file fails.
        """
        name, number = instance.blueprint.key
        count = instance.executable.stats().requests
        try:
            await asyncio.gather(*(instance.executable.infer(arrays) for _ in range(count)))
        except Failure as failure:
            choice = self.choice(instance)
            if choice != WARMUP_ZEROS:
                raise Failure(Code.WARMUP, f"{choice}: {failure.text}") from failure
            log.warning("Model: %s; version: %d does not take zeros to warm up with: %s", name, number, failure.text)
        else:
            log.info("Warmed up model: %s; version: %d", name, number)


def zeros(specs: Mapping[str, TensorSpec]) -> Arrays:
    """Zeros, or empty strings, of the smallest sizes that the inputs take (but not of none)."""
    arrays = {}
    for name, spec in specs.items():
        sizes = [dim.low or (OPEN_SIZE if dim.accepts(OPEN_SIZE) else 0) for dim in spec.shape]
        fill = b"" if spec.precision is Precision.STRING else 0
        arrays[name] = np.full(sizes, fill, spec.precision.dtype or np.float32)
    return arrays
