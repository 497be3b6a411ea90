"""Several processes on one port: they answer as one, and what happens to one of them is no concern of the clients."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import COMMAND, Server, free_port, until, workers, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 3

LEFT_BEHIND = """
import os, time
if "TORNADO_OVMS_WORKER" in os.environ:
    if child := os.fork():
        print("left behind", child, flush=True)
    else:
        time.sleep(600)
        os._exit(0)
"""

# Runs the command line with a supervisor that has less patience.
IMPATIENT = """
import sys
from tornado_ovms import cli, supervisor

supervisor.PING_S, supervisor.MOST_PINGS = 0.25, 20
sys.exit(cli.main())
"""

ROW = [[0.0] * 10]

TENSOR = {"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [1]}
SEQUENCE = {"name": "sequence_id", "shape": [1], "datatype": "UINT64", "data": [7]}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two adders and a stateful model."""
    made = Repository(tmp_path)
    made.put("plus", 1, models.adder((1, 10)))
    made.put("total", 1, models.accumulator())
    made.configure(plus={}, total={"stateful": True, "max_sequence_number": 2})
    return made


@pytest.fixture
def server(repository: Repository) -> Iterator[Server]:
    """Serves them with several workers."""
    args = ("--config_path", str(repository.config), "--workers", str(WORKERS), "--metrics_enable", "--manage")
    with Server(*args, "--file_system_poll_wait_seconds", "0", log=repository.aside()) as running:
        yield running


def value(server: Server) -> float | int:
    """What ``plus`` answers on a connection of its own; the status of a refusal."""
    answer = server.post("/v1/models/plus:predict", {"instances": ROW})
    return float(answer.json["predictions"][0][0]) if answer.status == 200 else answer.status


def counted(server: Server) -> int:
    """How many predictions of ``plus`` have succeeded."""
    text = server.get("/metrics").body.decode()
    pattern = r'ovms_requests_success\{api="TensorFlowServing",interface="REST",method="Predict",name="plus",version="1"\} (\d+)'
    found = re.search(pattern, text)
    assert found is not None
    return int(found[1])


def test_all_of_them_answer(server: Server) -> None:
    """The kernel deals connections out; each process has answered some of two hundred."""
    assert {value(server) for _ in range(200)} == {1.0}
    for process in workers(server):
        assert int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11]) > 0
    assert counted(server) == 200


def test_metrics_are_whole_whoever_is_asked(server: Server) -> None:
    """Each of twenty scrapes sees all requests so far, and processes are counted together."""
    for number in range(1, 21):
        assert value(server) == 1.0
        assert counted(server) == number
    text = server.get("/metrics").body.decode()
    assert f"tornado_ovms_workers {WORKERS}\n" in text
    assert 'tornado_ovms_model_state{name="plus",state="AVAILABLE",version="1"} 1\n' in text
    assert 'ovms_streams{name="total",version="1"} 1\n' in text


def test_a_reload_is_in_all_of_them_when_it_is_answered(server: Server, repository: Repository) -> None:
    """However connections are dealt out afterwards."""
    for version in range(2, 6):
        model = models.adder((1, 10), float(version))
        repository.put("plus", version, model)
        assert server.request("POST", "/v1/config/reload", b"").status == 201
        assert {value(server) for _ in range(30)} == {float(version)}
    assert server.request("POST", "/v1/config/reload", b"").status == 200


def test_a_fault_of_a_reload_is_told_once(server: Server, repository: Repository) -> None:
    """A broken file changes nothing in any of them, and a good one mends it."""
    repository.replace_config(b"{")
    assert server.request("POST", "/v1/config/reload", b"").status == 412
    assert {value(server) for _ in range(20)} == {1.0}
    repository.configure(plus={"batch_size": "2"}, total={"stateful": True})
    assert server.request("POST", "/v1/config/reload", b"").status == 201
    assert {value(server) for _ in range(20)} == {400}


def test_models_are_loaded_and_unloaded_everywhere(server: Server) -> None:
    """Through KServe's repository."""
    assert server.request("POST", "/v2/repository/models/plus/unload", b"").status == 200
    assert {value(server) for _ in range(20)} == {404}
    assert server.request("POST", "/v2/repository/models/plus/load", b"").status == 200
    assert {value(server) for _ in range(20)} == {1.0}
    assert server.request("POST", "/v2/repository/models/none/load", b"").status == 404


def test_what_is_unloaded_stays_so(server: Server) -> None:
    """Also in a worker that is started again."""
    assert server.request("POST", "/v2/repository/models/plus/unload", b"").status == 200
    os.kill(workers(server)[2], signal.SIGKILL)
    until(lambda: len(re.findall("Started REST server at", server.said())) == WORKERS + 1)
    assert {value(server) for _ in range(40)} == {404}


def test_sequences_do_not_depend_on_the_connection(server: Server) -> None:
    """Each request goes to whichever worker, and the sequence lives in one; both APIs; the limit holds for all together."""

    def step(amount: float, control: int, sequence: int) -> tuple[int, object]:
        inputs = {"input": [[amount]], "sequence_id": [sequence], "sequence_control_input": [control]}
        answer = server.post("/v1/models/total:predict", {"inputs": inputs})
        return answer.status, answer.json["outputs"]["output"][0][0] if answer.status == 200 else answer.json["error"]

    assert step(1, 1, 7) == (200, 1.0)
    assert step(100, 1, 8) == (200, 100.0)
    for total in range(2, 20):
        assert step(1, 0, 7) == (200, float(total))
    assert step(1, 1, 9)[0] == 503
    assert step(1, 0, 11) == (404, "Sequence with provided ID does not exist")
    for total in range(20, 40):
        answer = server.post("/v2/models/total/infer", {"inputs": [TENSOR, SEQUENCE]})
        assert answer.status == 200, answer.json
        found = {output["name"]: output["data"] for output in answer.json["outputs"]}
        assert found == {"output": [float(total)], "sequence_id": [7]}
    assert server.post("/v2/models/total/infer", {"inputs": [TENSOR]}).status == 400
    assert step(1, 2, 8) == (200, 101.0)


def test_a_worker_that_dies_is_replaced_and_nothing_counted_is_lost(server: Server) -> None:
    """Others go on meanwhile: of the requests on new connections none is lost but those it had, and no counter goes back."""
    assert {value(server) for _ in range(50)} == {1.0}
    before = counted(server)
    assert before == 50
    victim = workers(server)[1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: "Worker 1 has ended (SIGKILL)" in server.said())
    assert {value(server) for _ in range(50)} == {1.0}
    assert counted(server) == 100
    until(lambda: workers(server)[1] != victim)
    until(lambda: len(re.findall("Started REST server at", server.said())) == WORKERS + 1)
    assert {value(server) for _ in range(50)} == {1.0}
    assert counted(server) == 150


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """A process that does nothing within the block, unless it is ended."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_hangs_is_replaced(repository: Repository, tmp_path: Path) -> None:
    """As if it had ended; the others stay."""
    words = ("--config_path", str(repository.config), "--workers", "2")
    with Server(*words, log=repository.aside(), command=wrapped(IMPATIENT, tmp_path)) as server:
        before = workers(server)
        with hanging(before[1]):
            until(lambda: len(re.findall("Started REST server at", server.said())) == 3)
        assert "Worker 1 has not answered for 5 s: it is killed" in server.said()
        assert "Worker 1 has ended (SIGKILL)" in server.said()
        after = workers(server)
        assert (after[0] == before[0], after[1] != before[1]) == (True, True)
        assert {value(server) for _ in range(20)} == {1.0}


def test_a_worker_that_hangs_ends_with_the_others(repository: Repository) -> None:
    """A little later, with exit code 0 all the same."""
    words = ("--config_path", str(repository.config), "--workers", "2", "--drain_timeout", "1")
    with Server(*words, log=repository.aside()) as server:
        ids = workers(server)
        with hanging(ids[1]):
            server.process.terminate()
            assert server.process.wait(20) == 0
        assert not any(Path(f"/proc/{process}").exists() for process in ids)
        assert re.findall(r"Worker . has not ended in 9 s: it is killed", server.said()) == [
            "Worker 1 has not ended in 9 s: it is killed"
        ]


def test_what_a_worker_leaves_behind_is_ended(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that it has forked, and that has its files open, keeps no other one from taking its place."""
    (tmp_path / "sitecustomize.py").write_text(LEFT_BEHIND, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with Server("--config_path", str(repository.config), "--workers", "2", log=repository.aside()) as server:
        left = int(re.findall(r"left behind (\d+)", server.said())[0])
        for victim in workers(server):
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: victim not in workers(server))  # type: ignore[misc]
        until(lambda: len(re.findall("Started REST server at", server.said())) == 4)
        until(lambda: not is_running(left))
        assert {value(server) for _ in range(20)} == {1.0}


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that has may wait for the machine's first process to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_that_dies_again_and_again_is_waited_for(server: Server) -> None:
    """Each time twice as long."""
    for _ in range(3):
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda victim=victim: workers(server)[0] != victim)  # type: ignore[misc]
    assert re.findall(r"it is started again in ([\d.]+) s", server.said()) == ["0.2", "0.4", "0.8"]
    assert {value(server) for _ in range(20)} == {1.0}


def test_they_end_in_order_with_what_they_have_begun(server: Server, repository: Repository) -> None:
    """SIGTERM to the supervisor is enough; requests under way are answered."""
    repository.put("heavy", 1, models.heavy(512, 8))
    repository.configure(plus={}, heavy={})
    assert server.request("POST", "/v1/config/reload", b"").status == 201
    body = json.dumps({"inputs": np.zeros((1, 512, 512)).tolist()}).encode()
    ids = workers(server)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.request, "POST", "/v1/models/heavy:predict", body) for _ in range(4)]
        until(lambda: any(answer.done() for answer in answers))
        server.process.terminate()
        statuses = [answer.result().status for answer in answers if answer.exception() is None]
    assert set(statuses) == {200}
    assert server.process.wait(30) == 0
    assert not any(Path(f"/proc/{process}").exists() for process in ids)


def test_workers_that_have_hardly_begun_are_no_failure(repository: Repository) -> None:
    """The signal reaches them while they import their modules."""
    words = ("--config_path", str(repository.config), "--workers", "2", "--rest_port", str(free_port()))
    log = repository.aside()
    with log.open("wb") as output, subprocess.Popen([*COMMAND, *words], stdout=output, stderr=output) as process:

        def started() -> list[int]:
            return [int(pid) for pid in re.findall(r"Worker \d is process (\d+)", log.read_text())]

        until(lambda: len(started()) == 2 and all(map(hears_signals, started())))
        process.terminate()
        assert process.wait(30) == 0
    assert "tornado_ovms 0" not in log.read_text()


def hears_signals(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    with suppress(FileNotFoundError):
        (caught,) = re.findall(r"^SigCgt:\t([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return bool(int(caught, 16) >> signal.SIGTERM - 1 & 1)
    return False


def test_a_signal_to_all_of_them_is_one(repository: Repository) -> None:
    """As systemd sends it: workers hear of it twice, and end in order all the same."""
    args = ("--config_path", str(repository.config), "--workers", "2", "--drain_delay", "1")
    with Server(*args, log=repository.aside()) as server:
        for process in (server.process.pid, *workers(server)):
            os.kill(process, signal.SIGTERM)
        until(lambda: server.get("/v2/health/ready").status == 503)
        assert value(server) == 1.0
        assert server.process.wait(30) == 0
    assert server.said().count("Stopped model manager thread") == 2


def test_without_a_supervisor_they_end(server: Server) -> None:
    """Nobody would start them again, and nobody would stop them."""
    ids = workers(server)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in ids))


def test_sighup_reloads_all(server: Server, repository: Repository) -> None:
    """As with one process."""
    repository.put("plus", 2, models.adder((1, 10), 2.0))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(re.findall("Reloaded: something has changed", server.said())) == WORKERS)
    assert {value(server) for _ in range(20)} == {2.0}


def test_changes_are_noticed_by_all(repository: Repository) -> None:
    """Without being asked to: who notices tells the others."""
    args = ("--config_path", str(repository.config), "--workers", "2")
    with Server(*args, log=repository.aside()) as server:
        repository.put("plus", 2, models.adder((1, 10), 2.0))
        until(lambda: {value(server) for _ in range(10)} == {2.0})


@pytest.mark.parametrize("fault", ["no config", "port in use"])
def test_what_keeps_one_from_starting_ends_all(repository: Repository, fault: str) -> None:
    """With the exit code of a single process, and its words."""
    with Server("--config_path", str(repository.config), log=repository.aside()) as other:
        port = other.port if fault == "port in use" else free_port()
        config = repository.config if fault == "port in use" else repository.aside()
        command = [*COMMAND, "--config_path", str(config), "--rest_port", str(port), "--rest_bind_address", "127.0.0.1"]
        ended = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    expected = "is another server listening there?" if fault == "port in use" else "Couldn't start model manager"
    assert expected in ended.stdout


def test_two_servers_do_not_share_a_port(server: Server, repository: Repository) -> None:
    """Although the workers of one do."""
    command = [*COMMAND, "--config_path", str(repository.config), "--rest_port", str(server.port), "--workers", "2"]
    ended = subprocess.run(
        [*command, "--rest_bind_address", "127.0.0.1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "is another server listening there?" in ended.stdout


def test_connections_are_kept(server: Server) -> None:
    """A client that keeps its connection stays with its worker, and is answered a hundred times."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(100):
        connection.request("POST", "/v1/models/plus:predict", json.dumps({"instances": ROW}))
        answer = connection.getresponse()
        assert json.loads(answer.read())["predictions"][0][0] == 1.0
    connection.close()


def test_the_second_signal_ends_at_once(server: Server, repository: Repository) -> None:
    """Whatever is under way."""
    repository.put("heavy", 1, models.heavy(512, 400))
    repository.configure(plus={}, heavy={})
    assert server.request("POST", "/v1/config/reload", b"").status == 201
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/models/heavy:predict", json.dumps({"inputs": np.zeros((1, 512, 512)).tolist()}))
    time.sleep(0.5)
    server.process.terminate()
    until(lambda: "Stopped model manager thread" in server.said() or server.process.poll() is not None)
    server.process.terminate()
    assert server.process.wait(10) in (0, 128 + signal.SIGTERM)
    connection.close()


def test_the_log_says_how_many_there_are(server: Server) -> None:
    """And how to change that."""
    assert f"processes: {WORKERS} (--workers sets their number" in server.said()
