"""What the command line and the configuration file read alike of a model's settings. Any thread.

Source: ``src/modelconfig.cpp`` of the reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tornado_ovms.core.tensors import Auto, Dim, parse_batch_size

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH: Final = "Both shape and batch size have been defined. Batch size parameter will be ignored."
WRONG_BATCH_SIZE: Final = "Wrong batch size parameter provided. Model batch size will be set to default."

STATEFUL_KEYS: Final = ("low_latency_transformation", "idle_sequence_cleanup", "max_sequence_number")
"""Allowed for stateful models only."""


def read_batch_size(text: str, *, has_shape: bool, warn: Callable[[str], None]) -> Dim | Auto | None:
    """The batch size to load a model with, or None for the model's own: a shape says more, a malformed text nothing."""
    try:
        batch_size = parse_batch_size(text)
    except ValueError as error:
        warn(f"{WRONG_BATCH_SIZE} - expected a number, -1, a range or auto, found {text!r}: {error}")
        return None
    if has_shape:
        warn(BOTH)
        return None
    return batch_size


def join(folder: str, path: str) -> str:
    """A path that counts from a folder, unless it is absolute or a URL; the folder itself if the path is empty.

    Dots are left as they are: whether they are allowed is decided where the path is used.
    """
    if path.startswith("/") or "://" in path:
        return path
    return f"{folder.rstrip('/')}/{path}" if path else folder
