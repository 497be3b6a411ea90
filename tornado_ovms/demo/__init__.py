"""The embedded default: two real models that ``tornado-ovms --demo`` serves without a download, a file or a setting.

``digits`` reads a handwritten digit, ``faces`` finds the faces in a photo. Both take a picture as it is and do the rest
in their graphs. ``tools/make_demo_models.py`` makes them. The folder holds them as a model repository, with a picture
for the first request, and with licences and notices.

Any thread may use this module.
"""

from __future__ import annotations

import base64
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tornado_ovms.core.settings import ModelSettings

REPOSITORY: Final = Path(__file__).resolve().parent / "models"

PICTURE: Final = Path(__file__).resolve().parent / "digit.png"
"""A handwritten seven, 28 by 28 pixels, white on black."""

LABEL: Final = 7
"""What ``digits`` answers to ``PICTURE``."""

_NAMES: Final = ("digits", "faces")

# Some CPUs compute in bf16 unless told otherwise; the answers shown here are those of f32.
_PLUGIN_CONFIG: Final = MappingProxyType({"INFERENCE_PRECISION_HINT": "f32"})

_WELCOME: Final = """\
The demo serves two models at {address}: digits, which reads a handwritten digit, and faces, which finds faces.

A picture of a handwritten digit:

  {curl}

The answer says "label": {label}. Now a photo of your own:

  printf '{{"instances": [{{"b64": "%s"}}]}}' "$(base64 < photo.jpg)" | curl -s {address}/v1/models/faces:predict -d @-

Each row of the answer is a face: score, then left, top, right and bottom in parts of the photo's width and height.
Ctrl-C stops the server.
"""


def model_settings() -> tuple[ModelSettings, ...]:
    """The two models, as if they came from a configuration file."""
    return tuple(ModelSettings(name, str(REPOSITORY / name), plugin_config=_PLUGIN_CONFIG) for name in _NAMES)


def curl(address: str) -> str:
    """A shell command that sends ``PICTURE`` to ``digits``, all in one line.

    Args:
        address: where the server listens, with the scheme and without a slash at the end.
    """
    picture = base64.b64encode(PICTURE.read_bytes()).decode()
    return f"""curl -s {address}/v1/models/digits:predict -d '{{"instances": [{{"b64": "{picture}"}}]}}'"""


def welcome(address: str) -> str:
    """What the server prints once both models are loaded: the first request and its answer, then one for a photo."""
    return _WELCOME.format(address=address, curl=curl(address), label=LABEL)
