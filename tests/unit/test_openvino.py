"""The engine on real files."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from tests import models
from tornado_ovms.core.lifecycle import Blueprint, Key
from tornado_ovms.core.settings import ModelSettings
from tornado_ovms.engine.openvino import LOCK, OpenVinoEngine, _alone
from tornado_ovms.storage.local import LocalStorage


def play(folder: Path, **keys: bool) -> tuple[float, bool]:
    """Load a model that adds 1, overwrite its weights by 5 where they lie, and infer; was the file mapped?"""
    models.save(models.table(1.0, 100_000), folder / "1")
    found = LocalStorage().versions(str(folder)).versions[1]
    settings = ModelSettings("t", str(folder), plugin_config={"INFERENCE_PRECISION_HINT": "f32", **keys})

    def overwrite() -> bool:
        is_mapped = str(folder) in Path("/proc/self/maps").read_text()
        with (folder / "1" / "model.bin").open("r+b") as weights:
            weights.write(np.full(100_000, 5, np.float32).tobytes())
        return is_mapped

    async def main() -> tuple[float, bool]:
        engine = OpenVinoEngine(asyncio.get_running_loop(), None)
        executable = engine.load(Blueprint(Key("t", 1), settings, found.path, found.fingerprint))
        is_mapped = overwrite()
        inference = await executable.infer({"x": np.zeros((1, 100_000), np.float32)})
        executable.close()
        return float(np.ravel(inference.outputs[0])[0]), is_mapped

    return asyncio.run(main())


def test_the_files_of_a_loaded_model_may_be_overwritten(tmp_path: Path) -> None:
    """They are not mapped, so that what serves does not change, or die of SIGBUS, while somebody copies over them."""
    assert play(tmp_path) == (1.0, False)


def test_files_are_mapped_if_the_operator_wants_it(tmp_path: Path) -> None:
    """ENABLE_MMAP keeps its meaning; this is what one gets for it."""
    assert play(tmp_path, ENABLE_MMAP=True) == (5.0, True)


def test_weights_of_another_name(tmp_path: Path) -> None:
    """Files are known by the end of their names, in capitals too; OpenVINO would look for model.bin."""
    models.save(models.table(1.0, 10), tmp_path / "1")
    (tmp_path / "1/model.xml").rename(tmp_path / "1/MODEL.XML")
    (tmp_path / "1/model.bin").rename(tmp_path / "1/weights.Bin")
    found = LocalStorage().versions(str(tmp_path)).versions[1]

    async def main() -> None:
        engine = OpenVinoEngine(asyncio.get_running_loop(), None)
        engine.load(Blueprint(Key("t", 1), ModelSettings("t", ""), found.path, found.fingerprint)).close()

    asyncio.run(main())


def test_one_process_at_a_time_compiles_into_a_cache(tmp_path: Path) -> None:
    """Another one would find a file half written."""
    with _alone(str(tmp_path)):
        descriptor = os.open(tmp_path / LOCK, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    with _alone(None), _alone(str(tmp_path / "none")):
        pass
