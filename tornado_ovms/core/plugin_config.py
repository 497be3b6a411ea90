"""``plugin_config`` as today's OpenVINO understands it.

Source: the reference's ``src/modelconfig.cpp`` parsePluginConfig, ``src/modelinstance.cpp`` prepareDefaultPluginConfig.
Any thread.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.core.settings import PluginValue

HINT: Final = "PERFORMANCE_HINT"
STREAMS: Final = "NUM_STREAMS"
THREADS: Final = "INFERENCE_NUM_THREADS"

_STREAMS_WORDS: Final = MappingProxyType({
    "CPU_THROUGHPUT_STREAMS": "CPU_THROUGHPUT_AUTO",
    "GPU_THROUGHPUT_STREAMS": "GPU_THROUGHPUT_AUTO",
})
"""Keys of OpenVINO before 2022, each with the word that left the number to OpenVINO."""


def translate(config: Mapping[str, PluginValue]) -> tuple[dict[str, PluginValue], tuple[str, ...]]:
    """Replace keys of old releases, and ask for low latency if nothing else is asked for.

    A key that is given under its present name wins over the old one.

    Returns:
        The keys for OpenVINO, and warnings about those that were replaced.

    >>> translate({"CPU_THREADS_NUM": "4"})[0]
    {'INFERENCE_NUM_THREADS': '4', 'PERFORMANCE_HINT': 'LATENCY'}
    """
    translated: dict[str, PluginValue] = {}
    warnings = []
    for key, value in config.items():
        new, changed = _replacement(key, value)
        if new != key:
            fate = f"{new} counts, which is given too" if new in config else f"it is read as {new} = {changed}"
            warnings.append(f"Plugin config key {key} is deprecated: {fate}")
        if new == key or new not in config:
            translated[new] = changed
    if STREAMS not in translated and HINT not in translated:
        translated[HINT] = "LATENCY"
    return translated, tuple(warnings)


def _replacement(key: str, value: PluginValue) -> tuple[str, PluginValue]:
    """The present key and value for one of the configuration."""
    if key == "CPU_THREADS_NUM":
        return THREADS, value
    if key not in _STREAMS_WORDS:
        return key, value
    return (HINT, "THROUGHPUT") if value == _STREAMS_WORDS[key] else (STREAMS, value)
