"""How many CPUs this process may use: those that the container's quota pays for, not those of the host.

Looked at are the CPU affinity and the control groups of the process, version 1 (``cpu.cfs_quota_us``) and version 2
(``cpu.max``), each group and all groups above it. Called once, at the start.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_V2: Final = "sys/fs/cgroup"
_V1: Final = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")


def available_cpus(root: Path = Path("/")) -> int:
    """The number of CPUs, 1 at least; part of a CPU counts as one.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    quota = min(_quotas(root), default=math.inf)
    allowed = len(os.sched_getaffinity(0))
    return allowed if quota >= allowed else max(1, math.ceil(quota))


def parse_groups(text: str) -> dict[str, str]:
    r"""The control groups in ``/proc/self/cgroup``: paths by controller; that of version 2 is under ``""``.

    >>> parse_groups("4:cpu,cpuacct:/docker/1\n0::/init.scope\n")
    {'cpu': '/docker/1', 'cpuacct': '/docker/1', '': '/init.scope'}
    """
    fields = [line.split(":", 2) for line in text.splitlines() if line.count(":") > 1]
    return {controller: path for _, controllers, path in fields for controller in controllers.split(",")}


def parse_quota(quota: str, period: str) -> float:
    """CPUs that a quota of time in each period is worth; infinite if there is none or it cannot be read.

    >>> parse_quota("150000", "100000"), parse_quota("max", "100000"), parse_quota("-1", "100000")
    (1.5, inf, inf)
    """
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return cpus if cpus > 0 else math.inf


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of the process's groups and of those above, as far as they can be seen."""
    groups = parse_groups(_read(root / "proc/self/cgroup"))
    for folder in _folders(root / _V2, groups.get("")):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        yield parse_quota(quota, period)
    for mount in _V1:
        for folder in _folders(root / mount, groups.get("cpu")):
            yield parse_quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _folders(mount: Path, group: str | None) -> Iterator[Path]:
    """Where a group and those above it are seen.

    In a container the path may be the host's, of which only the mount can be seen: it stands for the container's group.
    """
    if group is not None:
        path = PurePosixPath(group.lstrip("/"))
        for part in (path, *path.parents):
            if ".." not in part.parts:
                yield mount / part


def _read(path: Path) -> str:
    """A file's text; empty if there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
