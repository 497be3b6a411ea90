"""docs/quickstart.md, done as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.functional.servers import Server, until

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in the order of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path) -> str:
    """What Python prints."""
    return subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_each_step_gives_what_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is made, served, asked; then by a file, with another one."""
    make, ask = blocks("python")
    (config,) = blocks("json")
    (promised,) = re.findall(r"It prints `(.*)`\.", PAGE.read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    run(make, tmp_path)
    (words,) = re.findall(
        r"^    tornado-ovms (--model_name .*) --rest_port 8000$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    with Server(*words.split(), log=tmp_path / "log") as server:
        assert server.get("/v1/models/relu").json["model_version_status"][0]["state"] == "AVAILABLE"
        assert run(ask.replace("8000", str(server.port)), tmp_path).strip() == promised
    (tmp_path / "models" / "config.json").write_text(config, "utf-8")
    with Server("--config_path", "models/config.json", log=tmp_path / "log") as server:
        for entry in json.loads(config)["model_config_list"]:
            name = entry["config"]["name"]
            until(lambda name=name: server.post(f"/v1/models/{name}:predict", {"inputs": [[1, -2, 3]]}).status == 200)  # type: ignore[misc]
