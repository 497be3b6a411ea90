"""The real Prometheus scrapes a real server under load: it counts what the clients have counted; every query has an answer."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import models
from tests.functional.servers import ANSWER_S, Server, free_port, until
from tornado_ovms.core.metric_families import FAMILIES, OUR_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ETC = Path(__file__).parents[2] / "etc"
RULES = ETC / "prometheus/tornado-ovms.rules.yml"
DASHBOARD = json.loads((ETC / "grafana/dashboards/tornado-ovms.json").read_text("utf-8"))

FORMATS = ("text", "openmetrics")
"""One job each."""

ROWS = json.dumps({"instances": [[0.0] * 10]}).encode()
WRONG_ROWS = json.dumps({"instances": [[0.0] * 9]}).encode()
TENSOR = json.dumps({"inputs": [{"name": "b", "shape": [1, 10], "datatype": "FP32", "data": [0.0] * 10}]}).encode()
START = json.dumps({"inputs": {"input": [[1.0]], "sequence_id": [7], "sequence_control_input": [1]}}).encode()

MAX_BODY_BYTES = 10_000

NO_NUMBER = {"Inference-Header-Content-Length": "x"}

REQUESTS: tuple[tuple[str, str, bytes | None, dict[str, str], int, int], ...] = (
    ("POST", "/v1/models/dummy:predict", ROWS, {}, 200, 200),
    ("POST", "/v1/models/dummy/versions/1:predict", ROWS, {}, 200, 150),
    ("POST", "/v1/models/dummy:predict", WRONG_ROWS, {}, 400, 100),
    ("POST", "/v1/models/dummy:predict", bytes(MAX_BODY_BYTES + 1), {}, 413, 15),
    ("POST", "/v2/models/dummy/infer", TENSOR, {}, 200, 125),
    ("POST", "/v2/models/dummy/infer", b"{", {}, 412, 25),
    ("POST", "/v2/models/dummy/infer", TENSOR, NO_NUMBER, 500, 10),
    ("GET", "/v1/models/dummy", None, {}, 200, 35),
    ("GET", "/v1/models/dummy/metadata", None, {}, 200, 30),
    ("GET", "/v2/models/dummy", None, {}, 200, 25),
    ("GET", "/v2/models/dummy/ready", None, {}, 200, 20),
    ("POST", "/v1/models/unknown:predict", ROWS, {}, 404, 45),
    ("GET", "/nowhere", None, {}, 400, 40),
)
"""What the clients send, what they expect, and how often they send it."""

CALLS = {
    "success": {
        ("Predict", "2"): 200,
        ("Predict", "1"): 150,
        ("ModelInfer", "2"): 125,
        ("GetModelStatus", ""): 35,
        ("GetModelMetadata", "2"): 30,
        ("ModelMetadata", "2"): 25,
        ("ModelReady", ""): 20,
    },
    "fail": {("Predict", "2"): 100, ("ModelInfer", "2"): 25},
}
"""What that makes for the model dummy, whose default version is 2."""

ANSWERS = {
    ("/v1/models/NAME:predict", "200"): 350 + 1,  # one is of the stateful model
    ("/v1/models/NAME:predict", "400"): 100,
    ("/v1/models/NAME:predict", "404"): 45,
    ("/v1/models/NAME:predict", "413"): 15,
    ("/v2/models/NAME/infer", "200"): 125,
    ("/v2/models/NAME/infer", "412"): 25,
    ("/v2/models/NAME/infer", "500"): 10,
    ("/v1/models/NAME", "200"): 35,
    ("/v1/models/NAME/metadata", "200"): 30,
    ("/v2/models/NAME", "200"): 25,
    ("/v2/models/NAME/ready", "200"): 20,
    ("other", "400"): 40,
}


class Prometheus:
    """A Prometheus that scrapes and answers queries."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API."""
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def query(self, text: str) -> dict[frozenset[tuple[str, str]], float]:
        """The series of a query, by their labels, with their newest values."""
        data = self.ask("query", query=text)
        assert data["resultType"] == "vector", text
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in data["result"]}

    def by(self, text: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The same, by the values of some labels."""
        found = self.query(text)
        return {tuple(dict(series).get(label, "") for label in labels): value for series, value in found.items()}


@contextmanager
def relay(target: int, *, accepts: bool) -> Iterator[tuple[int, set[str]]]:
    """Passes scrapes on to a server, without telling which formats Prometheus takes unless it ``accepts`` them all.

    So both formats are scraped by any version of Prometheus: the older ones cannot be told which one to ask for.

    Yields:
        Its port, and the content types that came back.
    """
    kinds: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names = ("Accept", "Accept-Encoding") if accepts else ("Accept-Encoding",)
            headers = {name: self.headers[name] for name in names if name in self.headers}
            request = urllib.request.Request(f"http://127.0.0.1:{target}{self.path}", headers=headers)
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
                body = answer.read()
                kinds.add(answer.headers["Content-Type"])
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Encoding"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port, kinds
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def prometheus(program: str, folder: Path, jobs: dict[str, int]) -> Iterator[Prometheus]:
    """A Prometheus with a target a job; its data are in the folder."""
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
        ],
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))  # which is YAML, too
    port = free_port()
    command = [
        program,
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
        try:
            found = Prometheus(port)

            def is_up() -> bool:
                assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
                try:
                    return len(found.query("up == 1")) == len(jobs)
                except OSError:
                    return False

            until(is_up, 60)
            yield found
        finally:
            process.terminate()
            process.wait(30)


def send_all(server: Server) -> Counter[int]:
    """Send all requests from several clients at once, in a mixed order; the statuses of the answers."""
    every = [request for request in REQUESTS for _ in range(request[5])]
    random.Random(0).shuffle(every)  # noqa: S311 - always the same order

    def send(request: tuple[str, str, bytes | None, dict[str, str], int, int]) -> int:
        method, path, body, headers, status, _ = request
        answer = server.request(method, path, body, headers)
        assert answer.status == status, (path, answer.body)
        return answer.status

    with ThreadPoolExecutor(4) as clients:
        return Counter(clients.map(send, every))


@pytest.fixture(scope="module")
def scraped(
    tmp_path_factory: pytest.TempPathFactory, needs_program: Callable[[str], str]
) -> Iterator[tuple[Prometheus, dict[str, set[str]]]]:
    """A Prometheus that has seen all requests; for each job the content types that it was sent."""
    program = needs_program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    for number in (1, 2):
        models.save(models.adder(addend=number), folder / "dummy" / str(number))
    models.save(models.accumulator(), folder / "stateful/1")
    (folder / "broken/1").mkdir(parents=True)
    (folder / "broken/1/model.onnx").write_bytes(b"this is no model")
    entries: list[dict[str, object]] = [
        {"name": "dummy", "base_path": "dummy", "model_version_policy": {"all": {}}},
        {"name": "stateful", "base_path": "stateful", "stateful": True},
        {"name": "broken", "base_path": "broken"},
    ]
    config = folder / "config.json"
    config.write_text(json.dumps({"model_config_list": [{"config": entry} for entry in entries]}))
    args = (
        "--config_path", str(config),
        "--metrics_enable",
        "--metrics_list", ",".join(family.name for family in FAMILIES),
        "--max_body_bytes", str(MAX_BODY_BYTES),
    )  # fmt: skip
    with (
        Server(*args, log=folder / "server.log") as server,
        relay(server.port, accepts=False) as (text, text_kinds),
        relay(server.port, accepts=True) as (openmetrics, openmetrics_kinds),
        prometheus(program, folder, dict(zip(FORMATS, (text, openmetrics), strict=True))) as found,
    ):
        assert server.request("POST", "/v1/models/stateful:predict", START).status == 200
        assert send_all(server) == Counter({
            status: sum(each[5] for each in REQUESTS if each[4] == status) for status in {each[4] for each in REQUESTS}
        })
        since = time.time() + 1  # a scrape that begins later has seen it all
        until(lambda: min(found.by("timestamp(up)", "job").values()) > since)
        yield found, {"text": text_kinds, "openmetrics": openmetrics_kinds}


def test_both_formats_were_scraped(scraped: tuple[Prometheus, dict[str, set[str]]]) -> None:
    """Prometheus asks for OpenMetrics by itself."""
    assert scraped[1] == {
        "text": {"text/plain; charset=utf-8"},
        "openmetrics": {"application/openmetrics-text; version=1.0.0; charset=utf-8"},
    }


@pytest.mark.parametrize("job", FORMATS)
def test_prometheus_counts_what_the_clients_have_counted(
    scraped: tuple[Prometheus, dict[str, set[str]]], job: str
) -> None:
    """Under the reference's names, without ``_total``; nothing is counted twice, and nothing for names that are unknown."""
    found, _ = scraped
    for outcome, expected in CALLS.items():
        query = f'ovms_requests_{outcome}{{job="{job}", interface="REST", name="dummy"}}'
        counts = found.by(query, "method", "version")
        assert len(counts) == 10  # of six methods four have a version
        assert {key: count for key, count in counts.items() if count} == expected
        assert set(found.by(f'ovms_requests_{outcome}{{job="{job}", interface="gRPC"}}', "method").values()) == {0}
    names = found.by(f'group by (name) ({{__name__=~"(tornado_)?ovms_.*", name!="", job="{job}"}})', "name")
    assert set(names) == {("dummy",), ("stateful",), ("broken",)}
    route = f'sum by (route, code) (tornado_ovms_http_responses_total{{job="{job}", route!="/metrics", route!~"/v2/health.*"}})'
    assert found.by(route, "route", "code") == ANSWERS
    refused = found.by(f'tornado_ovms_refused_requests_total{{job="{job}"}}', "reason")
    assert {reason: count for (reason,), count in refused.items() if count} == {"body_bytes": 15}


@pytest.mark.parametrize("job", FORMATS)
def test_histograms_are_those_of_the_reference_s_dashboards(
    scraped: tuple[Prometheus, dict[str, set[str]]], job: str, needs_program: Callable[[str], str]
) -> None:
    """As many observations as successes; buckets by the bounds that dashboards name, as this Prometheus writes them."""
    found, _ = scraped
    labels = f'job="{job}", interface="REST", name="dummy"'
    assert found.by(f"ovms_request_time_us_count{{{labels}}}", "version") == {("1",): 150, ("2",): 325}
    for family in ("inference_time", "wait_for_infer_req_time"):
        counts = found.by(f'ovms_{family}_us_count{{job="{job}", name="dummy"}}', "version")
        assert counts == {("1",): 150, ("2",): 325}
    version = subprocess.run([needs_program("prometheus"), "--version"], check=True, capture_output=True, text=True)
    major = re.search(r"version (\d+)\.", version.stdout + version.stderr)
    assert major is not None
    point = ".0" if int(major[1]) > 2 else ""
    for bound in ("67466", "218591"):
        assert set(found.by(f'ovms_request_time_us_bucket{{{labels}, le="{bound}{point}"}}', "version")) == {
            ("1",),
            ("2",),
        }
    buckets = found.by(f'ovms_request_time_us_bucket{{{labels}, version="2"}}', "le")
    values = [buckets[le] for le in sorted(buckets, key=lambda le: float(le[0]))]
    assert (len(values), values) == (34, sorted(values))
    assert values[-1] == 325
    [quantile] = found.query(
        f"histogram_quantile(0.5, sum by (le) (rate(ovms_request_time_us_bucket{{{labels}}}[5m])))"
    ).values()
    assert 0 < quantile < ANSWER_S * 1e6


def test_the_gauges_at_rest(scraped: tuple[Prometheus, dict[str, set[str]]]) -> None:
    """Nothing is in process, everything is loaded but what cannot be, one sequence is open."""
    found, _ = scraped
    assert set(found.query("ovms_current_requests").values()) == {0}
    assert set(found.query("ovms_infer_req_active").values()) == {0}
    assert min(found.query('ovms_infer_req_queue_size{name!="broken"}').values()) >= 1
    assert min(found.query('ovms_streams{name!="broken"}').values()) >= 1
    states = found.by('tornado_ovms_model_state{job="text"} == 1', "name", "version", "state")
    assert set(states) == {
        ("dummy", "1", "AVAILABLE"),
        ("dummy", "2", "AVAILABLE"),
        ("stateful", "1", "AVAILABLE"),
        ("broken", "1", "FAILED"),
    }
    assert found.by('tornado_ovms_open_sequences{job="text"}', "name")["stateful",] == 1


def test_prometheus_has_seen_every_family(scraped: tuple[Prometheus, dict[str, set[str]]]) -> None:
    """None is forgotten by the server, or refused by Prometheus; both formats have the same names."""
    found, _ = scraped
    names = {job: set(found.ask("label/__name__/values", **{"match[]": f'{{job="{job}"}}'})) for job in FORMATS}
    assert names["text"] == names["openmetrics"]
    for family in (*FAMILIES, *OUR_FAMILIES):
        assert family.name + ("_bucket" if family.bounds else family.suffix) in names["text"]
    assert {"process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds", "python_info"} <= names[
        "text"
    ]


def test_nothing_was_refused_of_a_scrape(scraped: tuple[Prometheus, dict[str, set[str]]]) -> None:
    """Neither a sample nor a whole scrape."""
    found, _ = scraped
    targets = found.ask("targets", state="active")["activeTargets"]
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")] * 2
    assert min(found.query("scrape_samples_scraped").values()) > 500


def panels() -> list[tuple[str, str]]:
    """Every query of the dashboard, with the title of its panel."""
    return [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def test_every_query_of_the_dashboard_has_an_answer(scraped: tuple[Prometheus, dict[str, set[str]]]) -> None:
    """Numbers, for any choice of its variables: all, and one of each."""
    found, _ = scraped
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "model", "version", "interface"}
    values = {}
    for name in ("model", "version", "interface"):
        listed = re.fullmatch(r"label_values\((.*), (\w+)\)", variables[name]["query"]["query"])
        assert listed is not None
        values[name] = set(found.ask(f"label/{listed[2]}/values", **{"match[]": listed[1].replace("$model", ".*")}))
    assert values == {"model": {"dummy", "stateful", "broken"}, "version": {"1", "2"}, "interface": {"REST", "gRPC"}}
    for chosen in (dict.fromkeys(values, ".*"), {"model": "dummy", "version": "2", "interface": "REST"}):
        empty = []
        for title, query in panels():
            text = query.replace("$__rate_interval", "1m")
            for name, value in chosen.items():
                text = text.replace(f"${name}", value)
            assert "$" not in text
            answer = found.query(text)
            if not answer or any(map(math.isnan, answer.values())):
                empty.append((title, text, answer))
        assert empty == []


def test_the_dashboard_shows_every_family() -> None:
    """Whatever is measured can be seen."""
    shown = " ".join(query for _, query in panels())
    assert [family.name for family in (*FAMILIES, *OUR_FAMILIES) if family.name not in shown] == []


def test_the_alerts_are_evaluated(scraped: tuple[Prometheus, dict[str, set[str]]]) -> None:
    """Each without an error; those about the model that does not load, and the refused bodies, have seen them."""
    found, _ = scraped

    def rules() -> list[dict[str, Any]]:
        return [rule for group in found.ask("rules")["groups"] for rule in group["rules"]]

    def active() -> set[str]:
        return {rule["name"] for rule in rules() if rule["state"] != "inactive"}

    until(lambda: active() >= {"TornadoOvmsModelNotServed", "TornadoOvmsVersionFailed", "TornadoOvmsRefused"})
    assert len(rules()) == len(re.findall(r"^ +- alert:", RULES.read_text("utf-8"), re.MULTILINE))
    assert {rule["name"]: rule.get("lastError", "") for rule in rules() if rule["health"] != "ok"} == {}


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "tornado-ovms.rules.yml"],
        ["test", "rules", "tornado-ovms.rules.test.yml"],
    ],
    ids=" ".join,
)
def test_the_files_for_prometheus(command: list[str], needs_program: Callable[[str], str]) -> None:
    """Prometheus's own tool finds nothing wrong, and each alert goes off when it should and not before."""
    done = subprocess.run(
        [needs_program("promtool"), *command], cwd=ETC / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    """Once when it goes off, once when it does not."""
    tried = (RULES.parent / "tornado-ovms.rules.test.yml").read_text("utf-8")
    for name in re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")):
        assert len(re.findall(rf"alertname: {name}\b", tried)) >= 2, name
        assert re.search(rf"alertname: {name}\n +exp_alerts:", tried), name


MODELS, VERSIONS, SCRAPES = 100, 3, 50


def test_scraping_many_models_costs_the_loop_little(tmp_path: Path) -> None:
    """Less than 5 ms of the main thread's time a scrape with 100 models of 3 versions: the text is made in another thread.

    Processor time is counted, so that nothing depends on what else the machine is doing. Prometheus takes gzip.
    """
    for number in range(1, VERSIONS + 1):
        models.save(models.adder(), tmp_path / "m" / str(number))
    entry = {"base_path": "m", "model_version_policy": {"all": {}}, "nireq": 1, "plugin_config": {"NUM_STREAMS": "1"}}
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"model_config_list": [{"config": {**entry, "name": f"model-{index}"}} for index in range(MODELS)]})
    )
    args = ("--config_path", str(config), "--metrics_enable", "--file_system_poll_wait_seconds", "0")
    with Server(*args, log=tmp_path / "server.log") as server:
        plain = server.get("/metrics").body.decode()
        assert len(re.findall(r"^ovms_streams\{", plain, re.MULTILINE)) == MODELS * VERSIONS
        before = main_thread_s(server)
        for _ in range(SCRAPES):
            assert server.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"}).status == 200
        assert (main_thread_s(server) - before) / SCRAPES < 0.005


def main_thread_s(server: Server) -> float:
    """The processor time that the thread of the event loop has taken."""
    number = server.process.pid
    fields = Path(f"/proc/{number}/task/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
