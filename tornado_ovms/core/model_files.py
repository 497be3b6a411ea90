"""Which files of a version folder are the model, and what its ``mapping_config.json`` says.

Pure; any thread. The rules are the reference's (``src/modelinstance.cpp`` fetchModelFilepaths, ``src/modelconfig.cpp``
parseModelMapping).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAPPING_FILE: Final = "mapping_config.json"

IR: Final = (".xml", ".bin")

FORMATS: Final = (
    IR,
    (".onnx",),
    (".pdmodel", ".pdiparams"),  # PaddlePaddle
    (".pb",),  # TensorFlow: saved_model.pb stands for its folder
    (".tflite",),
)
"""Endings of the files of each format, the one to load first; the first format whose files are all there counts."""


class ModelFiles(NamedTuple):
    """The file to load, ``""`` for the folder itself, and the weights where OpenVINO would look for them under one name only."""

    model: str
    weights: str | None = None


def find_model_files(names: Iterable[str]) -> ModelFiles | None:
    """What to load, of the files directly in a version folder; None if there is none.

    >>> find_model_files(["readme.txt", "Model.ONNX"])
    ModelFiles(model='Model.ONNX', weights=None)
    >>> find_model_files(["model.xml"]) is None
    True
    """
    ordered = sorted(names)
    for endings in FORMATS:
        found = [[name for name in ordered if name.lower().endswith(ending)] for ending in endings]
        if all(found):
            model = found[0][0]
            if endings == IR:
                return ModelFiles(model, _weights(model[: -len(IR[0])], found[1]))
            return ModelFiles("" if model == "saved_model.pb" else model)
    return None


def _weights(stem: str, names: Iterable[str]) -> str:
    """Of several files the one whose name goes with the model's; else the first."""
    return min(names, key=lambda name: (name != f"{stem}.bin", name.lower() != f"{stem}.bin".lower()))


@dataclass(frozen=True, slots=True)
class NameMapping:
    """New names of tensors by the model's own; what is not named keeps its name."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


def parse_mapping(text: bytes) -> NameMapping:
    """Read ``mapping_config.json``.

    Raises:
        ValueError: not JSON, not an object, a key other than ``inputs`` and ``outputs``, a name that is no text.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("expected an object with inputs and outputs")  # noqa: TRY004 - one error type for callers
    if unknown := document.keys() - {"inputs", "outputs"}:
        raise ValueError(f"unknown key {min(unknown)!r}: only inputs and outputs are known")
    for side, names in document.items():
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"/{side} should be an object of texts")
    return NameMapping(**document)
