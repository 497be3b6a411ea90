"""Which files of a version folder are the model, and what its ``mapping_config.json`` says.

Pure; any thread. The rules are the reference's (``src/modelinstance.cpp`` fetchModelFilepaths, ``src/modelconfig.cpp``
parseModelMapping).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAPPING_FILE: Final = "mapping_config.json"

FORMATS: Final = (
    (".xml", ".bin"),  # OpenVINO IR
    (".onnx",),
    (".pdmodel", ".pdiparams"),  # PaddlePaddle
    (".pb",),  # TensorFlow: saved_model.pb stands for its folder
    (".tflite",),
)
"""Endings of the files of each format, the one to load first; the first format whose files are all there counts."""


def find_model_file(names: Iterable[str]) -> str | None:
    """The file to load, of those directly in a version folder; ``""`` for the folder itself; None if there is none.

    >>> find_model_file(["readme.txt", "Model.ONNX"])
    'Model.ONNX'
    >>> find_model_file(["model.xml"]) is None
    True
    """
    ordered = sorted(names)
    for endings in FORMATS:
        found = [next((name for name in ordered if name.lower().endswith(ending)), None) for ending in endings]
        if all(found):
            return "" if found[0] == "saved_model.pb" else found[0]
    return None


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
