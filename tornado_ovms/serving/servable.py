"""A loaded model version, and the right to use it.

A request holds a ``Lease`` on the ``Instance`` that answers it. Retiring an instance means: give out no new leases,
wait until there are none (``idle``), then close it off the event loop. Everything here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tornado_ovms.core.sequences import SPECS
from tornado_ovms.serving.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy as np

    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.core.tensors import TensorSpec
    from tornado_ovms.engine.base import Executable, Inference
    from tornado_ovms.serving.observation import Method


class Instance:
    """One loaded version: what it was made from, what runs it, and how many requests use it.

    Attributes:
        inputs: what a request may carry, by name: the model's inputs and, for a stateful one, those about its sequence.
        sequences: those of a stateful model; None for all others.
        at_once: how many requests its infer requests work on at most; 0 for a pipeline, which has none of its own.
    """

    def __init__(self, blueprint: Blueprint, executable: Executable) -> None:
        self.blueprint = blueprint
        self.executable = executable
        self.inputs: Mapping[str, TensorSpec] = executable.inputs
        self.sequences: Sequences | None = None
        if blueprint.settings.stateful:
            self.inputs = {**executable.inputs, **SPECS}
            self.sequences = Sequences(executable, blueprint.settings.max_sequence_number)
        self.leases = 0
        batching = blueprint.settings.batching
        self.at_once = executable.stats().requests * (batching.max_batch if batching is not None else 1)
        self._idle: asyncio.Future[None] | None = None

    @property
    def version(self) -> int:
        """The version's number."""
        return self.blueprint.key.version

    def check(self) -> None:
        """Raise a failure if no request can be answered, whatever is in it: there are such pipelines."""

    async def infer(self, arrays: Mapping[str, np.ndarray], method: Method) -> Inference:  # noqa: ARG002 - pipelines ask
        """Run once, for a call of that method of an API.

        Raises:
            Failure: see ``Executable.infer``.
        """
        return await self.executable.infer(arrays)

    async def idle(self) -> None:
        """Wait until nobody holds a lease."""
        if self.leases:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def release(self) -> None:
        """One lease less."""
        self.leases -= 1
        if not self.leases and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None


class Lease:
    """The use of an instance, from now until the end of a ``with`` block; the instance stays loaded at least as long.

    It begins when it is made, so that it can be handed to whoever goes on with the request.
    """

    __slots__ = ("instance",)

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        instance.leases += 1

    def __enter__(self) -> Instance:
        return self.instance

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.instance.release()
