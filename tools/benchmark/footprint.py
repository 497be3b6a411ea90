"""Memory and start of this server: figures that no load brings out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from tools.benchmark import servers, workloads
from tools.benchmark.options import ROOT
from tools.benchmark.processes import memory
from tools.benchmark.running import Running, fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODEL: Final = "resnet"
PREDICTIONS: Final = 20
PAUSE_S: Final = 0.01


def _one(folder: Path, name: str, *more: str) -> servers.Server:
    return servers.Server(name, "", servers.command_of_one(folder, *more), (MODEL,), "ours")


def _request(folder: Path) -> workloads.Request:
    return workloads.request(folder / "models", workloads.WORKLOADS[MODEL], "v1")


def sizes(folder: Path) -> Mapping[str, float]:
    """Memory with one model, of the server after some predictions and of OpenVINO with numpy alone, in MiB."""
    request = _request(folder)
    with Running(_one(folder, "one"), folder / "logs") as running:
        running.wait_until_right([request])
        for _ in range(PREDICTIONS):
            fault(running.port, request)
        ours = memory(running.family())
    command = [sys.executable, "-m", "tools.benchmark.openvino_alone", str(folder / "models"), MODEL, "0"]
    alone = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return {
        "server PSS MiB": ours.pss_mib,
        "server RSS MiB": ours.rss_mib,
        "OpenVINO alone PSS MiB": alone["pss_mib"],
        "OpenVINO alone RSS MiB": alone["rss_mib"],
    }


def _first_prediction_s(folder: Path, *more: str) -> float:
    request = _request(folder)
    begun = time.perf_counter()
    with Running(_one(folder, "start", *more), folder / "logs") as running:
        running.wait_until_right([request], PAUSE_S)
        return time.perf_counter() - begun


def starts(folder: Path) -> Mapping[str, float]:
    """Seconds until the first right prediction, without and with compiled models in the cache, and those of ``--help``."""
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    cold = _first_prediction_s(folder)
    _first_prediction_s(folder, "--cache_dir", str(cache))
    warm = _first_prediction_s(folder, "--cache_dir", str(cache))
    begun = time.perf_counter()
    servers.options_of_ours()
    return {"start s": cold, "start from the cache s": warm, "help s": time.perf_counter() - begun}
