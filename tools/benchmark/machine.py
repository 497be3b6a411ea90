"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tools.benchmark.options import PEERS, ROOT
from tools.benchmark.processes import CORES

if TYPE_CHECKING:
    from collections.abc import Mapping


def _found(path: str, pattern: str) -> str:
    """The first match in a file; ``unknown`` if there is none."""
    try:
        match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip('" ') if match else "unknown"


def _said(*command: str) -> str:
    """The first line that a command says; ``unknown`` if it cannot be run."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return ((done.stdout or done.stderr).strip().splitlines() or ["unknown"])[0]


def describe() -> Mapping[str, str]:
    """The machine, the versions, the date."""
    memory_kib = _found("/proc/meminfo", r"^MemTotal:\s+(\d+)")
    libraries = ("openvino", "tornado", "numpy", "pysimdjson", "orjson")
    pins = " ".join(file.read_text() for file in sorted((Path(__file__).parent / "requirements").glob("*.txt")))
    peers = {"fastapi": "fastapi", "pytriton": "nvidia-pytriton"}
    found = {name: re.search(rf"^{peers.get(name, name)}==(\S+)$", pins, re.MULTILINE) for name in PEERS}
    processor = _found("/proc/cpuinfo", r"^model name\s*:\s*(.+)$")
    return {
        "processor": f"{processor}, {CORES} cores",
        "memory": f"{int(memory_kib) / 2**20:.0f} GiB" if memory_kib.isdigit() else memory_kib,
        "system": f"{_found('/etc/os-release', r'^PRETTY_NAME=(.+)$')}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in libraries),
        "other servers": ", ".join(f"{name} {pin[1]}" for name, pin in found.items() if pin),
        "wrk": re.sub(r"\s*Copyright.*", "", _said("wrk", "--version")),
        "checkout": _said("git", "describe", "--always", "--dirty"),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
