"""Models in memory, laid out as a repository for a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests import models

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import openvino as ov

PRECISE = {"plugin_config": {"INFERENCE_PRECISION_HINT": "f32"}}
"""What is computed does not depend on the processor."""


def lay_out(folder: Path, built: Mapping[str, ov.Model], **entries: Mapping[str, Any]) -> list[str]:
    """Write models, each as version 1, and a configuration; the arguments of a server for it.

    Args:
        folder: where all of it goes.
        built: the models by name.
        entries: what the configuration says about some of them besides.
    """
    listed = []
    for name, model in built.items():
        models.save(model, folder / name / "1")
        listed.append({"config": {"name": name, "base_path": name, **PRECISE, **entries.get(name, {})}})
    config = folder / "config.json"
    config.write_text(json.dumps({"model_config_list": listed}))
    return ["--config_path", str(config)]
