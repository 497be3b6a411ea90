"""Real models out of registry packages: over REST they answer what OpenVINO answers when it is called directly.

Five formats, scalars, doubles, 64-bit integers, dynamic shapes, names with a slash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
import pytest

from tests.functional.real_models import MODELS, needs_downloads, predict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.servers import Server

pytestmark = needs_downloads

CORE = ov.Core()
RANDOM = np.random.default_rng(7)


def read(repository: Path, name: str) -> ov.Model:
    """The model as OpenVINO reads it without us."""
    target = MODELS[name].targets[0]
    path = repository / "models" / name / "1"
    return CORE.read_model(str(path if target == "saved_model.pb" else path / target))


@pytest.mark.parametrize("name", MODELS)
def test_the_answers_are_openvino_s(real_server: Server, real_models: Path, name: str) -> None:
    """Every output, to 1e-5, and the shapes."""
    model = read(real_models, name)
    arrays = {}
    for port in model.inputs:
        known = port.any_name
        sizes = MODELS[name].sizes.get(known) or [dim.get_length() for dim in port.partial_shape]
        dtype = port.element_type.to_dtype()
        drawn = RANDOM.integers(0, 2, sizes) if dtype.kind == "i" else RANDOM.random(sizes)
        arrays[known] = np.asarray(drawn).astype(dtype)
    names = [port.any_name for port in model.outputs]  # compiled, a tensor may get more names
    wanted = CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(arrays)
    found = predict(real_server, name, {known: array.tolist() for known, array in arrays.items()})
    if len(names) == 1:
        found = {names[0]: found}
    for index, known in enumerate(names):
        np.testing.assert_allclose(np.array(found[known]), wanted[index], rtol=1e-5, atol=1e-5)
