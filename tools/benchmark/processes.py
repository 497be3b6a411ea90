"""What the kernel tells about processes: family, CPU time, memory."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
MIB: Final = 1 << 20
CORES: Final = len(os.sched_getaffinity(0))


class Memory(NamedTuple):
    """Of a family of processes; shared pages count several times in ``rss_mib`` and once in ``pss_mib``."""

    rss_mib: float
    pss_mib: float


def _fields(pid: int) -> list[str]:
    """Those of ``/proc/PID/stat`` behind the name; none if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def family(root: int) -> list[int]:
    """A process that leads a session, and all that come of it and run, even where it has ended and left them behind."""
    children: dict[int, list[int]] = {}
    found = [root]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            pid, parent, session = int(entry.name), int(fields[1]), int(fields[3])
            if session == root != pid:
                found.append(pid)
            else:
                children.setdefault(parent, []).append(pid)
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_s(pids: list[int]) -> float:
    """CPU time that these have used so far."""
    total = 0
    for pid in pids:
        if fields := _fields(pid):
            total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def memory(pids: list[int]) -> Memory:
    """What these hold now."""
    total = {"Rss": 0, "Pss": 0}
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in total:
                    total[name] += int(value.split()[0]) * 1024
    return Memory(total["Rss"] / MIB, total["Pss"] / MIB)


def busy_s() -> float:
    """CPU time of the whole machine so far."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(rest)) * TICK_S


def own_s() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
