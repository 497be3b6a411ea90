"""Servers that tests share: one of a few small models for a whole run, one of real models that are downloaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import models
from tests.functional import real_models as downloads
from tests.functional.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODELS = {
    "dummy": models.adder,
    "wide": lambda: models.adder((1, 3, 224, 224)),
    "any": lambda: models.adder((-1, -1)),
    "heavy": models.heavy,
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves dummy f32 [1,10], wide f32 [1,3,224,224], any f32 [?,?] (all b -> a = b + 1) and heavy (x -> y)."""
    folder = tmp_path_factory.mktemp("repository")
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    entries = []
    for name, build in MODELS.items():
        models.save(build(), folder / name / "1")
        entries.append({"config": {"name": name, "base_path": name, "plugin_config": precise}})
    config = folder / "config.json"
    config.write_text(json.dumps({"model_config_list": entries}))
    with Server("--config_path", str(config), log=folder / "server.log") as running:
        yield running


@pytest.fixture(scope="session")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``models``, ``data`` and ``config.json``: see ``real_models.py``."""
    folder = tmp_path_factory.mktemp("real")
    downloads.fetch(folder)
    return folder


@pytest.fixture(scope="package")
def real_server(real_models: Path) -> Iterator[Server]:
    """A server of all of them, in f32."""
    with Server("--config_path", str(real_models / "config.json"), log=real_models / "server.log") as running:
        yield running
