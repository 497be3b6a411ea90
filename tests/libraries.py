"""Custom node libraries in C, compiled for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

_TESTS = Path(__file__).parent
HEADERS = _TESTS / "conformance" / "custom_nodes"
LEDGER = _TESTS / "functional" / "nodes" / "ledger.c"


class Account(NamedTuple):
    """What the ledger has counted; see ``ledger.c``."""

    allocated: int
    released: int
    doubled: int
    strange: int
    initialized: int
    deinitialized: int
    executed: int
    described: int
    managers: int

    @property
    def is_settled(self) -> bool:
        """Whether every block has come back, once, and every manager was the right one."""
        return self.allocated == self.released and not (self.doubled or self.strange or self.managers)


def compile_library(gcc: str, source: Path, folder: Path) -> Path:
    """The shared library made of one file."""
    library = folder / f"lib{source.stem}.so"
    command = [gcc, "-O1", "-shared", "-fPIC", "-I", str(HEADERS), str(source), "-o", str(library), "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library
