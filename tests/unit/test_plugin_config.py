"""plugin_config in OpenVINO's terms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.plugin_config import translate

OLD = ("CPU_THROUGHPUT_STREAMS", "GPU_THROUGHPUT_STREAMS", "CPU_THREADS_NUM")


@pytest.mark.parametrize(
    ("config", "translated"),
    [
        ({}, {"PERFORMANCE_HINT": "LATENCY"}),
        ({"NUM_STREAMS": "2"}, {"NUM_STREAMS": "2"}),
        ({"NUM_STREAMS": 2}, {"NUM_STREAMS": 2}),
        ({"PERFORMANCE_HINT": "THROUGHPUT"}, {"PERFORMANCE_HINT": "THROUGHPUT"}),
        ({"ENABLE_MMAP": False}, {"ENABLE_MMAP": False, "PERFORMANCE_HINT": "LATENCY"}),
        ({"CPU_THROUGHPUT_STREAMS": "CPU_THROUGHPUT_AUTO"}, {"PERFORMANCE_HINT": "THROUGHPUT"}),
        ({"GPU_THROUGHPUT_STREAMS": "GPU_THROUGHPUT_AUTO"}, {"PERFORMANCE_HINT": "THROUGHPUT"}),
        ({"CPU_THROUGHPUT_STREAMS": "4"}, {"NUM_STREAMS": "4"}),
        ({"GPU_THROUGHPUT_STREAMS": 4}, {"NUM_STREAMS": 4}),
        ({"CPU_THROUGHPUT_STREAMS": "GPU_THROUGHPUT_AUTO"}, {"NUM_STREAMS": "GPU_THROUGHPUT_AUTO"}),
        ({"CPU_THREADS_NUM": "4"}, {"INFERENCE_NUM_THREADS": "4", "PERFORMANCE_HINT": "LATENCY"}),
        ({"CPU_THREADS_NUM": "4", "NUM_STREAMS": 1}, {"INFERENCE_NUM_THREADS": "4", "NUM_STREAMS": 1}),
        (
            {"DEVICE_PROPERTIES": {"CPU": {"NUM_STREAMS": 1}}},
            {"DEVICE_PROPERTIES": {"CPU": {"NUM_STREAMS": 1}}, "PERFORMANCE_HINT": "LATENCY"},
        ),
    ],
)
def test_keys_are_translated(config: dict[str, object], translated: dict[str, object]) -> None:
    """Old keys become their successors; without streams and hint low latency is asked for."""
    assert translate(config)[0] == translated  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "translated"),
    [
        ({"CPU_THROUGHPUT_STREAMS": "4", "NUM_STREAMS": "2"}, {"NUM_STREAMS": "2"}),
        ({"NUM_STREAMS": "2", "CPU_THROUGHPUT_STREAMS": "4"}, {"NUM_STREAMS": "2"}),
        (
            {"CPU_THROUGHPUT_STREAMS": "CPU_THROUGHPUT_AUTO", "PERFORMANCE_HINT": "LATENCY"},
            {"PERFORMANCE_HINT": "LATENCY"},
        ),
        (
            {"INFERENCE_NUM_THREADS": 1, "CPU_THREADS_NUM": "4", "NUM_STREAMS": 1},
            {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1},
        ),
    ],
)
def test_the_present_name_wins(config: dict[str, object], translated: dict[str, object]) -> None:
    """In whichever order the two stand; the warning says so."""
    found, (warning,) = translate(config)  # type: ignore[arg-type]
    assert found == translated
    assert "is read as" not in warning


def test_old_keys_are_warned_of() -> None:
    """One warning each, with what it became; none about the others."""
    _, warnings = translate({
        "CPU_THROUGHPUT_STREAMS": "CPU_THROUGHPUT_AUTO",
        "ENABLE_MMAP": True,
        "CPU_THREADS_NUM": "4",
    })
    assert warnings == (
        "Plugin config key CPU_THROUGHPUT_STREAMS is deprecated: it is read as PERFORMANCE_HINT = THROUGHPUT",
        "Plugin config key CPU_THREADS_NUM is deprecated: it is read as INFERENCE_NUM_THREADS = 4",
    )


@given(st.dictionaries(st.sampled_from([*OLD, "NUM_STREAMS", "PERFORMANCE_HINT", "X"]), st.text() | st.integers()))
def test_any_mapping_is_translated(config: dict[str, str | int]) -> None:
    """No old key is left, one of streams and hint is there, and a second translation changes nothing."""
    translated, _ = translate(config)
    assert not translated.keys() & set(OLD)
    assert translated.keys() & {"NUM_STREAMS", "PERFORMANCE_HINT"}
    assert translate(translated) == (translated, ())
