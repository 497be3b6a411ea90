"""What is counted of HTTP, request ids, and the access log."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.core.settings import MetricsSettings
from tornado_ovms.core.status import Code
from tornado_ovms.http.traffic import REASONS, Answered, Traffic
from tornado_ovms.metrics import Metrics
from tornado_ovms.serving.observation import Timing

ANSWER = Answered("7", "POST", "/v1/models/m:predict", "/v1/models/NAME:predict", 200, 10, 20, 0.0015, None)


def lines_of(metrics: Metrics, name: str) -> list[str]:
    """The samples of a family of ours."""
    metrics.enable(MetricsSettings(enable=True))
    text = b"".join(metrics.expose(openmetrics=False)).decode()
    return [line for line in text.splitlines() if line.startswith(f"tornado_ovms_{name}_total{{")]


@pytest.mark.parametrize("given_id", ["a", "0af7651916cd43dd8448eb211c80319c", "x/y:z,{}\"'\\", "~" * 128])
def test_a_client_s_id_is_taken_over(given_id: str) -> None:
    """So that its own logs and these can be laid side by side."""
    assert Traffic(Metrics()).request_id(given_id) == given_id


@pytest.mark.parametrize(
    "given_id",
    [None, "", " ", "a b", "a\tb", "a\r\nX-Evil: 1", "a\n", "\x1b[2J", "ü", "\x85", "\x7f", "²", "x" * 129],
)
def test_an_id_that_cannot_stand_in_a_log_is_replaced(given_id: str | None) -> None:
    """Line feeds, control characters, endless ones; the answer has an id all the same."""
    made = Traffic(Metrics()).request_id(given_id)
    assert made != given_id
    assert re.fullmatch(r"[0-9a-f]{8}-1", made)


@given(st.text())
def test_any_id_ends_in_a_harmless_one(text: str) -> None:
    """It is one word of printable ASCII."""
    assert re.fullmatch(r"[!-~]{1,128}", Traffic(Metrics()).request_id(text), re.ASCII)


def test_ids_that_are_made_are_unique() -> None:
    """Also those of two processes."""
    one, other = Traffic(Metrics()), Traffic(Metrics())
    made = [traffic.request_id(None) for traffic in (one, other) for _ in range(100)]
    assert len(set(made)) == 200


def test_answers_are_counted() -> None:
    """By route, method and code; bytes by route."""
    metrics = Metrics()
    traffic = Traffic(metrics)
    for answer in (ANSWER, ANSWER, ANSWER._replace(status=404, sent=5)):
        traffic.answered(answer)
    route = 'route="/v1/models/NAME:predict"'
    assert lines_of(metrics, "http_responses") == [
        f'tornado_ovms_http_responses_total{{code="200",method="POST",{route}}} 2',
        f'tornado_ovms_http_responses_total{{code="404",method="POST",{route}}} 1',
    ]
    assert lines_of(metrics, "http_request_bytes") == [f"tornado_ovms_http_request_bytes_total{{{route}}} 30"]
    assert lines_of(metrics, "http_response_bytes") == [f"tornado_ovms_http_response_bytes_total{{{route}}} 45"]


def test_a_client_cannot_make_series() -> None:
    """Nor fill the memory: methods that nobody knows are one."""
    metrics = Metrics()
    traffic = Traffic(metrics)
    for number in range(50):
        traffic.answered(ANSWER._replace(method=f"EVIL{number}", route="other", status=405))
    assert lines_of(metrics, "http_responses") == [
        'tornado_ovms_http_responses_total{code="405",method="other",route="other"} 50'
    ]
    assert len(traffic._responses) == 1


def test_refusals_because_of_a_limit_are_counted() -> None:
    """From the start with 0, so that the first one is a rise; others are nothing of that kind."""
    metrics = Metrics()
    traffic = Traffic(metrics)
    assert len(lines_of(metrics, "refused_requests")) == len(REASONS)
    for code in (Code.BODY_TOO_LARGE, Code.BODY_TOO_LARGE, Code.TOO_MANY_SEQUENCES, Code.SHAPE):
        traffic.refused(code)
    counts = dict(line.split() for line in lines_of(metrics, "refused_requests"))
    assert {name: count for name, count in counts.items() if count != "0"} == {
        'tornado_ovms_refused_requests_total{reason="body_bytes"}': "2",
        'tornado_ovms_refused_requests_total{reason="sequences"}': "1",
    }


@pytest.mark.parametrize(("log_every", "logged"), [(0, []), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6]), (7, [7]), (8, [])])
def test_one_of_so_many_answers_is_logged(log_every: int, logged: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """None by default."""
    traffic = Traffic(Metrics(), log_every)
    with caplog.at_level(logging.INFO, "access"):
        for number in range(1, 8):
            traffic.answered(ANSWER._replace(request_id=str(number)))
    assert [record.fields["request_id"] for record in caplog.records] == list(map(str, logged))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("log_every", "count"), [(0, 0), (1000, 2)])
def test_errors_of_the_server_are_logged_anyhow(log_every: int, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """If anything is."""
    traffic = Traffic(Metrics(), log_every)
    with caplog.at_level(logging.INFO, "access"):
        for status in (200, 404, 499, 500, 503):
            traffic.answered(ANSWER._replace(status=status))
    assert len(caplog.records) == count


def test_a_line_says_what_came_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """With the time of each stage, where there is one."""
    traffic = Traffic(Metrics(), 1)
    with caplog.at_level(logging.INFO, "access"):
        traffic.answered(ANSWER)
        traffic.answered(ANSWER._replace(timing=Timing(0.0001, 0.0002, 0.001, 0.0003)))
    short = (
        "request_id=7 method=POST path=/v1/models/m:predict route=/v1/models/NAME:predict "
        "status=200 received=10 sent=20 ms=1.5"
    )
    long = f"{short} decode_ms=0.1 wait_ms=0.2 infer_ms=1.0 encode_ms=0.3"
    assert [record.getMessage() for record in caplog.records] == [short, long]


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_no_path_can_spoil_the_log(path: str) -> None:
    """What is not printable ASCII is written as URLs write it: no line is broken, no terminal takes it for a command."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logger = logging.getLogger("access")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        Traffic(Metrics(), 1).answered(ANSWER._replace(path=path))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    [record] = records
    assert re.fullmatch(r"[ -~]*", record.getMessage())
    assert len(record.getMessage().split()) == 8
