"""The servers: how each is started, what it can be asked, in which of the environments it lives."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.benchmark import models
from tools.benchmark.options import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE: Final = Path(__file__).resolve().parent
ALL: Final = ("dummy", "light", "resnet", "image")

# What this server asks of glibc for itself, so that the limits do not lose on memory that goes to the kernel and comes back.
KEEP_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}


@dataclass(frozen=True)
class Server:
    """A server; ``{port}``, ``{port2}`` and ``{port3}`` in its command and environment become free ports."""

    name: str
    title: str
    command: tuple[str, ...]
    works: tuple[str, ...]
    group: str
    protocol: str = "v1"
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    is_constant: bool = False  # answers the same to everything, so that there is nothing to check


def options_of_ours() -> str:
    """The help of this server, which tells what it can do."""
    command = [sys.executable, "-m", "tornado_ovms", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _ours(configuration: Path, *more: str) -> tuple[str, ...]:
    start = (sys.executable, "-m", "tornado_ovms", "--config_path", str(configuration))
    return (*start, "--rest_port", "{port}", "--rest_bind_address", "127.0.0.1", *more)


def command_of_one(folder: Path, *more: str) -> tuple[str, ...]:
    """This server with a single model."""
    return _ours(folder / "models" / "one.json", *more)


def own(folder: Path) -> list[Server]:
    """This server, as it can be started."""
    repository = folder / "models"
    served = [
        Server("ours", "tornado_ovms", _ours(repository / "all.json"), (*ALL, "binary", "long", "batching"), "ours")
    ]
    if "--workers" in options_of_ours():
        two = _ours(repository / "all.json", "--workers", "2")
        served.append(Server("ours-2", "tornado_ovms, 2 workers", two, (*ALL, "binary", "long"), "ours"))
    batched = _ours(repository / "batching.json")
    return [*served, Server("ours-batched", "tornado_ovms, micro-batching", batched, ("batching",), "ours")]


def limits(folder: Path) -> list[Server]:
    """What this server is built on, with nothing around it."""
    bare = (sys.executable, str(HERE / "limits" / "bare_tornado.py"))
    model = (str(models.path(folder / "models", "light")), json.dumps(models.settings("light")))
    rows = (
        ("handler", "bare Tornado handler, constant answer", ("dummy",), ()),
        ("delegate", "bare Tornado delegate, constant answer", ("dummy",), ()),
        ("parse", "bare Tornado + simdjson + one copy", ("light",), ()),
        ("parse-infer", "bare Tornado + simdjson + one copy + inference", ("light",), model),
    )
    tornado = [
        Server(
            name,
            title,
            (*bare, name, "{port}", *more),
            works,
            "tornado",
            environment=KEEP_MEMORY if "light" in works else {},
            is_constant=True,
        )
        for name, title, works, more in rows
    ]
    names = [f"{name}={models.HINTS[name]}" for name in ("dummy", "light", "resnet")]
    command = (str(folder / "limit-cpp"), "{port}", str(folder / "models"), models.PRECISION, *names)
    return [*tornado, Server("cpp", "C++: libevent + RapidJSON + OpenVINO", command, ALL[:3], "cpp")]


def peers(folder: Path, environments: Path) -> list[Server]:
    """What one would use in this server's place.

    Each with the number of processes that is best for it at 8 connections on two cores. KServe cannot hand a compiled model
    to workers of its own, and MLServer loses more by its queues than it wins; with one inference at a time these two are
    best off if it uses all cores.
    """
    here = HERE / "peers"
    shared = {"BENCH_MODELS": str(folder / "models")}
    alone = {**shared, "BENCH_HINT": "LATENCY"}
    workers = "2"

    def program(name: str, word: str = "python") -> str:
        return str(environments / name / "bin" / word)

    uvicorn = ("-m", "uvicorn", "fastapi_server:app", "--host", "127.0.0.1", "--port", "{port}")
    mlserver = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{port2}",
        "MLSERVER_METRICS_PORT": "{port3}",
        "MLSERVER_PARALLEL_WORKERS": "1",
        "MLSERVER_DEBUG": "false",
        "PYTHONPATH": str(here),
    }
    kserve = ("kserve_server.py", "--http_port", "{port}", "--enable_grpc", "false", "--configure_logging", "false")
    mosec = ("mosec_server.py", "--address", "127.0.0.1", "--port", "{port}", "--log-level", "warning")
    triton = ("pytriton_server.py", "{port}", "{port2}", "{port3}")
    # Triton's stub looks for the libpython of the interpreter that its environment was made with.
    library = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
    commands: dict[str, tuple[str, tuple[str, ...], str, Mapping[str, str]]] = {
        "fastapi": (
            "FastAPI + orjson, 2 processes",
            (program("fastapi"), *uvicorn, "--workers", workers, "--no-access-log", "--log-level", "warning"),
            "v1",
            shared,
        ),
        "mosec": ("mosec, 2 processes", (program("mosec"), *mosec), "v1", {**shared, "BENCH_WORKERS": workers}),
        "kserve": ("KServe", (program("kserve"), *kserve), "v1", alone),
        "mlserver": (
            "MLServer",
            (program("mlserver", "mlserver"), "start", str(folder / "mlserver")),
            "v2",
            {**alone, **mlserver},
        ),
        "pytriton": (
            "pytriton, 2 processes",
            (program("pytriton"), *triton),
            "v2",
            {**shared, **library, "BENCH_WORKERS": workers},
        ),
    }
    return [
        Server(name, title, command, (*ALL, "binary") if name == "pytriton" else ALL, name, protocol, environment, here)
        for name, (title, command, protocol, environment) in commands.items()
    ]


def prepare_mlserver(folder: Path) -> None:
    """MLServer reads which models there are from files."""
    for name in ALL:
        (folder / "mlserver" / name).mkdir(parents=True, exist_ok=True)
        described = json.dumps({"name": name, "implementation": "mlserver_runtime.Runtime"})
        (folder / "mlserver" / name / "model-settings.json").write_text(described)


def chosen(groups: tuple[str, ...], folder: Path, environments: Path) -> list[Server]:
    """The servers of these groups."""
    everyone = [*own(folder), *limits(folder), *peers(folder, environments)]
    return [server for server in everyone if server.group in groups]
