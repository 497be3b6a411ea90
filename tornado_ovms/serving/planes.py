"""All that endpoints ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tornado_ovms.serving.controlplane import ControlPlane
    from tornado_ovms.serving.dataplane import DataPlane


class Planes(NamedTuple):
    """What answers predictions and inferences, and what answers all else."""

    data: DataPlane
    control: ControlPlane
