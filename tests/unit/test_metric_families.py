"""The families of metrics, and whose word about them counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.metric_families import DEFAULT_FAMILIES, FAMILIES, GRAPH_FAMILIES, FamilyKind, resolve_metrics
from tornado_ovms.core.settings import MetricsSettings
from tornado_ovms.core.status import Code, Failure

OFF = MetricsSettings()
ON = MetricsSettings(enable=True)


def refusal(command_line: MetricsSettings, config: MetricsSettings | None = None, rest_port: int = 8000) -> Failure:
    """Why the settings are refused."""
    with pytest.raises(Failure) as caught:
        resolve_metrics(command_line, config, rest_port)
    return caught.value


def test_the_families_are_the_reference_s() -> None:
    """Names and types, which dashboards rely on."""
    assert {family.name: family.kind for family in FAMILIES} == {
        "ovms_requests_success": FamilyKind.COUNTER,
        "ovms_requests_fail": FamilyKind.COUNTER,
        "ovms_request_time_us": FamilyKind.HISTOGRAM,
        "ovms_inference_time_us": FamilyKind.HISTOGRAM,
        "ovms_wait_for_infer_req_time_us": FamilyKind.HISTOGRAM,
        "ovms_streams": FamilyKind.GAUGE,
        "ovms_current_requests": FamilyKind.GAUGE,
        "ovms_infer_req_queue_size": FamilyKind.GAUGE,
        "ovms_infer_req_active": FamilyKind.GAUGE,
    }


def test_two_families_have_to_be_asked_for() -> None:
    """All others are served unless a list leaves them out."""
    others = {family.name for family in FAMILIES} - set(DEFAULT_FAMILIES)
    assert others == {"ovms_infer_req_queue_size", "ovms_infer_req_active"}


@pytest.mark.parametrize(
    ("command_line", "config", "served"),
    [
        (OFF, None, MetricsSettings(enable=False, families=DEFAULT_FAMILIES)),
        (ON, None, MetricsSettings(enable=True, families=DEFAULT_FAMILIES)),
        (OFF, ON, MetricsSettings(enable=True, families=DEFAULT_FAMILIES)),
        (OFF, OFF, MetricsSettings(enable=False, families=DEFAULT_FAMILIES)),
        (MetricsSettings(True, ("ovms_streams",)), None, MetricsSettings(True, ("ovms_streams",))),
        (OFF, MetricsSettings(True, ("ovms_infer_req_active",)), MetricsSettings(True, ("ovms_infer_req_active",))),
        (OFF, MetricsSettings(True, ()), MetricsSettings(True, ())),
        (OFF, MetricsSettings(True, GRAPH_FAMILIES), MetricsSettings(True, GRAPH_FAMILIES)),
    ],
)
def test_one_of_the_two_speaks(
    command_line: MetricsSettings, config: MetricsSettings | None, served: MetricsSettings
) -> None:
    """Without a list the default families are named; an empty list stands for none; those of graphs may be listed."""
    assert resolve_metrics(command_line, config, 8000) == served


@pytest.mark.parametrize("config", [ON, OFF])
def test_both_may_not_speak(config: MetricsSettings) -> None:
    """Even if the file says what the command line says, or that metrics are off."""
    assert refusal(ON, config).code is Code.METRICS_TWICE


def test_twice_is_told_in_the_reference_s_words() -> None:
    """Scripts look for the sentence."""
    text = "Metrics configuration duplicated in configuration file and CLI parameters"
    assert refusal(ON, ON).text.startswith(text)


@pytest.mark.parametrize(
    ("families", "name"),
    [
        (("ovms_streams", "no_such_family"), "no_such_family"),
        (("ovms_streams", "ovms_streams"), "ovms_streams"),
        (("ovms_current_graphs", "ovms_current_graphs"), "ovms_current_graphs"),
        (("",), ""),
        ((" ovms_streams",), " ovms_streams"),
        (("OVMS_STREAMS",), "OVMS_STREAMS"),
    ],
)
@pytest.mark.parametrize("enable", [True, False])
def test_names_are_checked(families: tuple[str, ...], name: str, enable: bool) -> None:  # noqa: FBT001
    """Unknown, listed twice, empty, with blanks; also in a file that leaves metrics off."""
    failures = [refusal(OFF, MetricsSettings(enable, families))]
    if enable:
        failures.append(refusal(MetricsSettings(enable, families)))
    for failure in failures:
        assert failure.code is Code.METRICS_FAMILY
        assert failure.text.startswith(f"Invalid name in metrics_list - Metrics family name not supported: {name}")


def test_metrics_need_a_rest_port() -> None:
    """Only if they are on."""
    failure = refusal(OFF, ON, rest_port=0)
    assert (failure.code, failure.text) == (
        Code.METRICS_WITHOUT_REST_PORT,
        "Missing rest_port parameter in server CLI",
    )
    assert not resolve_metrics(OFF, OFF, 0).enable


@given(st.lists(st.sampled_from([*DEFAULT_FAMILIES, *GRAPH_FAMILIES, "x"]) | st.text(max_size=3), max_size=4))
def test_any_list_is_served_or_refused(names: list[str]) -> None:
    """Refused exactly if a name is unknown or there twice."""
    known = {*(family.name for family in FAMILIES), *GRAPH_FAMILIES}
    settings = MetricsSettings(True, tuple(names))
    if set(names) <= known and len(set(names)) == len(names):
        assert resolve_metrics(settings, None, 1) == settings
    else:
        assert refusal(settings).code is Code.METRICS_FAMILY
