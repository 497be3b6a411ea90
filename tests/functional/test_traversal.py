"""Names that lead out of the repository: of models, versions and labels in URLs, and of files in the configuration."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

import inotify_simple
import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Server
from tests.functional.wire import ask, head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROW: Final = json.dumps({"instances": [[0] * 10]}).encode()
SECRET: Final = b"what nobody may see"
LAST: Final = head("GET", "/v2/health/live", "Connection: close")

UP: Final = (
    *("..", "../..", "%2e%2e", "%2E%2E%2F%2e%2e", "..%2f..", "%2e%2e/%2e%2e", "..%5c..", "..\\..", "%2e%2e%5c%2e%2e"),
    *(
        "..%252f..",
        "%252e%252e%252f",
        "..%c0%af..",
        "%c0%ae%c0%ae/",
        "%e0%80%ae%e0%80%ae",
        "..%00/",
        "..;/..",
        "....//",
    ),
    *(".%2e/..", "..%2f%2e%2e", "%uff0e%uff0e", "..%ef%bc%8f..", "..\xaf..", "./..", "%2e/%2e%2e", "//", "%2f", "%00"),
)
"""Ways to say that one goes up, or begins at the root."""


class Outside(NamedTuple):
    """A server, and what lies beside its repository."""

    server: Server
    folder: Path
    watch: inotify_simple.INotify

    def is_untouched(self) -> bool:
        """Whether nothing of it has been opened."""
        return not self.watch.read(timeout=0)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """Beside the repository of dummy lies a model that works, and a file that is secret."""
    folder = tmp_path_factory.mktemp("traversal")
    repository = Repository(folder)
    repository.put("dummy", 1, models.adder())
    repository.configure("dummy")
    other = folder / "outside"
    models.save(models.adder(), other / "1")
    (other / "secret").write_bytes(SECRET)
    with inotify_simple.INotify() as watch:
        for each in (other, other / "1"):
            watch.add_watch(each, inotify_simple.flags.OPEN | inotify_simple.flags.ACCESS)
        with Server("--config_path", str(repository.config), "--manage", log=repository.aside()) as server:
            yield Outside(server, other, watch)


def test_the_watch_works(outside: Outside) -> None:
    """It tells of a look at the file, and else of none."""
    assert outside.is_untouched()
    (outside.folder / "secret").read_bytes()
    assert not outside.is_untouched()
    assert outside.is_untouched()


def paths(up: str) -> list[tuple[str, str]]:
    """Requests with such a name wherever a name can stand."""
    names = [up, f"{up}/outside", f"{up}%2foutside", f"dummy/{up}/outside", f"dummy%2f{up}%2foutside"]
    return [
        (method, path)
        for name in names
        for method, path in (
            ("GET", f"/v1/models/{name}"),
            ("GET", f"/v1/models/{name}/secret"),
            ("GET", f"/v1/models/{name}/metadata"),
            ("GET", f"/v1/models/dummy/versions/{name}/metadata"),
            ("GET", f"/v1/models/dummy/labels/{name}/metadata"),
            ("POST", f"/v1/models/{name}:predict"),
            ("POST", f"/v1/models/dummy/versions/{name}:predict"),
            ("POST", f"/v1/models/dummy/labels/{name}:predict"),
            ("GET", f"/v2/models/{name}"),
            ("GET", f"/v2/models/{name}/ready"),
            ("GET", f"/v2/models/dummy/versions/{name}"),
            ("POST", f"/v2/models/{name}/infer"),
            ("POST", f"/v2/repository/models/{name}/load"),
            ("POST", f"/v2/repository/models/{name}/unload"),
            ("GET", f"/{name}/secret"),
        )
    ]


@pytest.mark.parametrize("up", UP)
def test_names_in_urls(outside: Outside, up: str) -> None:
    """No such model, and no look at what is outside."""
    requests = paths(up)
    sent = (head(method, path, length=len(ROW)) + ROW for method, path in requests)
    answers = ask(outside.server, *sent, LAST)
    assert len(answers) == len(requests) + 1
    for request, answer in zip(requests, answers, strict=False):
        assert answer.status in (400, 404, 406), request
        assert SECRET not in answer.body
        assert str(outside.folder.parent).encode() not in answer.body, request
    assert outside.is_untouched()
    assert outside.server.request("POST", "/v1/models/dummy:predict", ROW).json == {"predictions": [[1.0] * 10]}


def test_requests_to_warm_up_with(tmp_path: Path) -> None:
    """They lie beside the model, and nowhere else."""
    repository = Repository(tmp_path)
    repository.put("dummy", 1, models.adder())
    names = ("../../outside/secret", "/etc/passwd", "..", "sub/secret")
    entries = {f"m{index}": {"base_path": "dummy", "warmup": name} for index, name in enumerate(names)}
    repository.configure("dummy", **entries)
    with Server("--config_path", str(repository.config), log=repository.aside()) as server:
        ready = [server.get(f"/v2/models/{name}/ready").status for name in ("dummy", *entries)]
        assert ready == [200, *[404] * len(names)]
        assert server.said().count("expected none, zeros, or the name of a file beside the model") == len(names)


def test_folders_that_climb(tmp_path: Path) -> None:
    """A base path has no ``..`` in it, as in OpenVINO Model Server; absolute ones are the operator's choice."""
    repository = Repository(tmp_path)
    models.save(models.adder(), tmp_path / "outside" / "1")
    repository.configure(up={"base_path": "../outside"}, there={"base_path": str(tmp_path / "outside")})
    with Server("--config_path", str(repository.config), log=repository.aside()) as server:
        assert server.get("/v2/models/there/ready").status == 200
        assert server.get("/v2/models/up/ready").status == 404
        assert "escape with .. is forbidden" in server.said()


def test_links_are_followed(tmp_path: Path) -> None:
    """Whoever may write the repository is trusted: volumes of Kubernetes are made of links, also to what is outside."""
    repository = Repository(tmp_path)
    elsewhere = repository.make(models.adder())
    whole, file = repository.place("whole", 1), repository.place("file", 1)
    whole.parent.mkdir()
    whole.symlink_to(elsewhere)
    shutil.copytree(elsewhere, file)
    for each in elsewhere.iterdir():
        (file / each.name).unlink()
        (file / each.name).symlink_to(each)
    repository.configure("whole", "file")
    with Server("--config_path", str(repository.config), log=repository.aside()) as server:
        for name in ("whole", "file"):
            assert server.request("POST", f"/v1/models/{name}:predict", ROW).json == {"predictions": [[1.0] * 10]}
