"""Pipelines under load while their members change: no answer is lost, wrong or mixed, and nothing is left behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import statistics
import time
from typing import TYPE_CHECKING, Any

from tests import models
from tests.functional.clients import Changes, Client, Legal
from tests.functional.repository import Repository
from tests.functional.servers import Server, until, watched
from tests.libraries import LEDGER, Account, compile_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

ROUNDS = 16
WINDOW = 4
"""Memory is compared between the median after these rounds, when all has been done a few times, and after the last ones."""
CHANGES = 125
WEIGHTS = 50_000
"""A version has ten times so many, which is 2 MB: one that is not given back is seen."""

MEMORY = 0.10
WORST_DELAY_S = 0.5
FIXED, PINNED, ADDED, SOMETIMES = 7.0, 100.0, 5.0, 3.0

GONE = frozenset({"gone"})

NODE = """
import numpy as np
from tornado_ovms.nodes.base import CustomNode, Tensor

class Add(CustomNode):
    inputs = {"x": Tensor("float32", (1, 10))}
    outputs = {"y": Tensor("float32", (1, 10))}

    def execute(self, inputs):
        return {"y": inputs["x"] + np.float32(self.params["number"])}

class AddLater(Add):
    async def execute(self, inputs):
        return super().execute(inputs)
"""


def reads(**inputs: str) -> list[dict[str, dict[str, str]]]:
    """``inputs`` of a node, or ``outputs`` of a pipeline: each ``node item``."""
    return [
        {name: dict(zip(("node_name", "data_item"), source.split(), strict=True))} for name, source in inputs.items()
    ]


def model(name: str, target: str, source: str, **more: Any) -> dict[str, Any]:
    """A node b -> a, read by others as x."""
    outputs = [{"data_item": "a", "alias": "x"}]
    return {
        "name": name, "type": "DL model", "model_name": target, "inputs": reads(b=source), "outputs": outputs, **more,
    }  # fmt: skip


def custom(name: str, library: str, names: str, source: str, **more: Any) -> dict[str, Any]:
    """A node of a library; ``names`` of its input and its output."""
    taken, given = names.split()
    outputs = [{"data_item": given, "alias": "x"}]
    return {
        "name": name, "type": "custom", "library_name": library, "inputs": reads(**{taken: source}),
        "outputs": outputs, **more,
    }  # fmt: skip


def pipeline(name: str, nodes: list[dict[str, Any]], **outputs: str) -> dict[str, Any]:
    """A pipeline of one item, ``in``."""
    return {"name": name, "inputs": ["in"], "nodes": nodes, "outputs": reads(**outputs)}


class Asking(Client):
    """Asks a pipeline with zeros, and brings the answer to one number."""

    def __init__(self, server: Server, path: str, legal: Legal, read: Callable[[Any], object]) -> None:
        super().__init__(server, path, legal)
        self._read = read
        document = (
            {"inputs": [{"name": "in", "shape": [1, 10], "datatype": "FP32", "data": [0.0] * 10}]}
            if "/v2/" in path
            else {"inputs": {"in": [[0.0] * 10]}}
        )
        self._body = json.dumps(document)

    def ask(self) -> object:
        """See ``Client``."""
        answer = self.post(self._body)
        if isinstance(answer, tuple):
            return "gone" if answer[0] == 404 else answer
        try:
            return self._read(answer)
        except (AssertionError, LookupError) as error:
            return f"mixed: {answer}: {error!r}"


def one(values: list[list[float]]) -> float:
    """The number that all of an output are."""
    (found,) = {value for row in values for value in row}
    return found


def read_row(answer: Any) -> float:
    """The moving addend: left is it and the fixed one, right is twice it; both of one version."""
    left, right = one(answer["outputs"]["left"]), one(answer["outputs"]["right"])
    assert right == 2 * (left - FIXED)
    return left - FIXED


def read_shards(values: list[list[float]]) -> float:
    """Three shards, 0, 1 and 2, to each of which the moving addend was added once."""
    return (one(values) - 3) / 3


class Soak(Changes):
    """The server, its repository, and the changes."""

    def __init__(self, server: Server, repository: Repository, legal: Legal, libraries: list[dict[str, str]]) -> None:
        super().__init__(server)
        self.repository = repository
        self.legal = legal
        self.sometimes = Legal(SOMETIMES)
        self._libraries = libraries
        self._tags = itertools.count(1000)
        self._version, self._tag = 1, 1.0
        self._round = 0

    def configuration(self) -> bytes:
        """All models and pipelines; in each round custom nodes have other parameters, and another pipeline is there."""
        return configuration(self.repository, self._libraries, self._round)

    def says(self, name: str, read: Callable[[Any], object]) -> object:
        """What a pipeline says now, or the status of a refusal."""
        answer = self.server.post(f"/v1/models/{name}:predict", {"inputs": {"in": [[0.0] * 10]}})
        return read(answer.json) if answer.status == 200 else answer.status

    def state(self, name: str) -> tuple[str, str] | None:
        """State and error code of a pipeline."""
        for each in self.server.get(f"/v1/models/{name}").json.get("model_version_status", ()):
            return each["state"], each["status"]["error_code"]
        return None

    def serve(self, kind: str, tag: float, do: Callable[[], object]) -> None:
        """A change after which the moving model adds something else."""
        self.legal.widen(tag)
        self.change(kind, do, lambda: self.says("row", read_row) == tag)
        self.legal.narrow(tag)

    def put(self, kind: str, version: int) -> None:
        """Another version of the moving model, or another one in its place."""
        self._tag = float(next(self._tags))
        made = self.repository.make(models.weighty_adder(self._tag, WEIGHTS))
        self.serve(kind, self._tag, lambda: self.repository.move_in(made, "moving", version))

    def break_version(self, kind: str, version: int, cut: str) -> None:
        """Put a version that cannot be loaded; what serves goes on."""
        made = self.repository.make(models.weighty_adder(0.0, WEIGHTS))
        (made / cut).write_bytes((made / cut).read_bytes()[:-100])
        self.change(
            kind,
            lambda: self.repository.move_in(made, "moving", version),
            lambda: b"Internal server error" in self.server.get("/v1/config?verbose=1").body,
        )

    def play_round(self) -> None:
        """Ten changes, after which as much is served as before."""
        repository, version, before = self.repository, self._version, self._tag
        self._version += 1
        self.put("added", version + 1)
        self.serve("removed", before, lambda: shutil.rmtree(repository.place("moving", version + 1)))
        self.put("added again", version + 1)
        shutil.rmtree(repository.place("moving", version))
        self.put("replaced", version + 1)
        self.break_version("broken in place", version + 1, "model.xml")
        self.put("mended", version + 1)
        place, aside = repository.place("sometimes", 1), repository.aside()
        self.sometimes.now |= GONE
        self.change(
            "the last version removed",
            lambda: place.rename(aside),
            lambda: self.state("sometimes_pipe") == ("LOADING", "FAILED_PRECONDITION"),
        )
        self.change(
            "back again",
            lambda: aside.rename(place),
            lambda: self.state("sometimes_pipe") == ("AVAILABLE", "OK"),
        )
        self.sometimes.narrow(SOMETIMES)
        self._round += 1
        wanted = "AVAILABLE" if self._round % 2 else "END"
        self.change(
            "configuration rewritten",
            lambda: repository.replace_config(self.configuration()),
            lambda: self.state("extra_pipe") == (wanted, "OK"),
        )


def configuration(repository: Repository, libraries: list[dict[str, str]], number: int) -> bytes:
    """The configuration of a round."""
    precise = {"plugin_config": {"INFERENCE_PRECISION_HINT": "f32"}}
    document = json.loads(repository.write(moving=precise, fixed=precise, sometimes=precise))
    report = {"report": str(repository.folder.parent / "report.txt"), "round": str(number)}
    nodes = [
        custom("split", "ledger", "b a", "request in", params={"kind": "split", **report}, demultiply_count=-1),
        model("middle", "moving", "split x"),
        custom("join", "ledger", "b a", "middle x", params={"kind": "join", **report}, gather_from_node="split"),
    ]
    add = {"number": str(ADDED), "round": str(number)}
    document["custom_node_library_config_list"] = libraries
    document["pipeline_config_list"] = [
        pipeline(
            "row",
            [model("first", "moving", "request in"), model("left", "fixed", "first x"),
             model("right", "moving", "first x")],
            left="left x",
            right="right x",
        ),
        pipeline("shards", nodes, out="join x"),
        pipeline(
            "python",
            [custom("before", "add", "x y", "request in", params=add), model("middle", "moving", "before x"),
             custom("after", "later", "x y", "middle x", params=add)],
            out="after x",
        ),
        pipeline("sometimes_pipe", [model("only", "sometimes", "request in")], out="only x"),
    ]  # fmt: skip
    if number % 2:
        document["pipeline_config_list"].append(pipeline("extra_pipe", [model("n", "fixed", "request in")], out="n x"))
    return json.dumps(document).encode()


@contextlib.contextmanager
def pressing(soak: Soak) -> Iterator[list[Client]]:
    """Twenty clients."""
    asked = [
        ("/v1/models/row:predict", soak.legal, read_row, 6),
        ("/v1/models/shards:predict", soak.legal, lambda answer: read_shards(answer["outputs"]), 4),
        ("/v1/models/python:predict", soak.legal, lambda answer: one(answer["outputs"]) - 2 * ADDED, 4),
        (
            "/v2/models/shards/infer",
            soak.legal,
            lambda answer: read_shards([next(each["data"] for each in answer["outputs"])]),
            3,
        ),
        ("/v1/models/sometimes_pipe:predict", soak.sometimes, lambda answer: one(answer["outputs"]), 3),
    ]
    clients: list[Client] = [
        Asking(soak.server, path, legal, read) for path, legal, read, count in asked for _ in range(count)
    ]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.is_over = True
        for client in clients:
            client.join()


def test_members_change_under_load(
    needs_program: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty clients on four pipelines; every block of the C library comes back exactly once, every manager too."""
    library = compile_library(needs_program("gcc"), LEDGER, tmp_path)
    (tmp_path / "nodes_of_a_soak.py").write_text(NODE)
    libraries = [
        {"name": "ledger", "base_path": str(library)},
        {"name": "add", "base_path": f"{tmp_path}/nodes_of_a_soak.py:Add"},
        {"name": "later", "base_path": f"{tmp_path}/nodes_of_a_soak.py:AddLater"},
    ]
    repository = Repository(tmp_path)
    repository.put("moving", 1, models.weighty_adder(1.0, WEIGHTS))
    repository.put("fixed", 1, models.adder(addend=FIXED))
    repository.put("sometimes", 1, models.adder(addend=SOMETIMES))
    repository.config.write_bytes(configuration(repository, libraries, 0))
    begin = time.monotonic()
    args = ["--config_path", str(repository.config), "--file_system_poll_wait_seconds", "3600"]
    with watched(repository.aside().parent, args) as (server, worst):
        soak = Soak(server, repository, Legal(1.0), libraries)
        with pressing(soak) as clients:
            memory, threads = [], []
            for _ in range(ROUNDS):
                soak.play_round()
                assert [fault for client in clients for fault in client.faults] == []
                memory.append(server.resident_bytes() / 1e6)
                threads.append(server.threads())
        until(lambda: server.threads() <= max(threads[WINDOW : 2 * WINDOW]), 10)
        before, after = statistics.median(memory[WINDOW : 2 * WINDOW]), statistics.median(memory[-WINDOW:])
        assert "Unforeseen" not in server.said()
        assert "Traceback" not in server.said()
    faults = [fault for client in clients for fault in client.faults]
    assert faults == []
    lines = (tmp_path / "report.txt").read_text().splitlines()
    account = Account(*map(int, lines[-1].split()))
    made, answered = sum(soak.made.values()), sum(client.answered for client in clients)
    with capsys.disabled():
        print(  # noqa: T201 - the figures are wanted, not only whether they are good
            f"\n  pipelines: {made} changes, {answered} answers in {time.monotonic() - begin:.0f} s; "
            f"memory {before:.0f} MB, then {after:.0f} MB; the loop was late by {worst[0] * 1000:.0f} ms at worst; "
            f"{account}"
        )
    assert made >= CHANGES
    assert all(client.answered > 50 for client in clients)
    assert account.is_settled
    assert account.initialized == account.deinitialized == len(lines) == 2 * (ROUNDS + 1)
    assert account.executed >= 2 * sum(client.answered for client in clients if "shards" in client._path)
    assert abs(after - before) <= MEMORY * before
    assert worst[0] < WORST_DELAY_S
