"""What compose and systemd are told of the server, as tests read it; for Kubernetes there is a module of its own."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker/compose.yaml"
UNIT = ROOT / "etc/systemd/tornado-ovms.service"


def services() -> dict[str, dict[str, Any]]:
    """Those of compose.yaml, before variables are put in."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return found


def by_compose() -> list[str]:
    """The server's command line, where no variable is set."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", services()["server"]["command"]).split()


def by_systemd() -> list[str]:
    """The words that start the server, where no variable is set."""
    reader = configparser.ConfigParser(interpolation=None, strict=False)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read_string(UNIT.read_text("utf-8").replace("\\\n", " "))
    return [word for word in shlex.split(reader["Service"]["ExecStart"]) if not word.startswith("$")]
