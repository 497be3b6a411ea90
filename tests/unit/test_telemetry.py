"""OpenVINO's library for reports to its makers is not loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WORD = "the library is loaded"


def load(code: str, folder: Path) -> str:
    """What a process prints that runs the code where the library is one that says when it is loaded."""
    library = folder / "openvino_telemetry"
    library.mkdir()
    (library / "__init__.py").write_text(f"print({WORD!r})\nraise ImportError\n")
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    command = [sys.executable, "-c", f"{code}; import sys; print('openvino' in sys.modules)"]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.mark.parametrize("module", ["server", "engine.openvino"])
def test_it_is_not_loaded(module: str, tmp_path: Path) -> None:
    """Though OpenVINO is."""
    assert load(f"import tornado_ovms.{module}", tmp_path) == "True\n"


def test_openvino_would_load_it(tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    assert WORD in load("import openvino", tmp_path)
