"""The container image: built from this checkout, run as it is meant to be, on a root that is read-only and as a normal user."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import models
from tests.functional.clients import Caller
from tests.functional.podman import BASE, READ_ONLY, Podman
from tests.functional.servers import Server, until
from tests.functional.stores import Azure, Google, Store
from tornado_ovms import __version__, demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/tornado-ovms"
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, needs_program: Callable[[str], str]) -> Iterator[Podman]:
    """A storage that has the image."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a base image and build without a daemon")
    made = Podman(tmp_path_factory.mktemp("podman"), needs_program)
    try:
        made.make_base()
        made.build(ROOT, ROOT / "docker/Dockerfile", IMAGE)
        yield made
    finally:
        made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of models as one is mounted: plus, b f32 [1,10] -> a = b + 1; readable for every user."""
    models.save(models.adder((1, 10)), tmp_path / "models/plus/1")
    for path in (tmp_path / "models").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "models"


def complaints(server: Server) -> list[str]:
    """The lines of its log that are not well."""
    return re.findall(
        r"^.*(?:\[warning\]|\[error\]|Traceback|WARNING|Permission denied).*$", server.said(), re.MULTILINE
    )


def test_it_is_described_like_the_reference_s(podman: Podman) -> None:
    """User, entry point, no command, no port; and who looks at it finds out what it is and what is in it."""
    config = podman.facts(IMAGE)["Config"]
    assert (config["User"], config["Entrypoint"]) == ("5000", ["/ovms/bin/ovms"])
    assert not config.get("Cmd")
    assert not config.get("ExposedPorts")
    assert podman.facts(IMAGE)["Healthcheck"]["Test"] == ["CMD", "/ovms/bin/tornado-ovms", "--healthcheck"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    who = podman.in_image(IMAGE, "id; echo $HOME; command -v ovms; command -v tornado-ovms")
    assert re.sub(r"\(\w+\)", "", who).split() == [
        *("uid=5000", "gid=5000", "groups=5000,39,44"),
        *("/home/ovms", "/ovms/bin/ovms", "/ovms/bin/tornado-ovms"),
    ]


def test_it_holds_nothing_to_build_with(podman: Podman) -> None:
    """No compiler, no pip, no lists of packages, no tests; nothing that its user could change."""
    script = """
        for name in cc gcc g++ ld make pip pip3 git curl; do command -v $name; done
        python3 -m pip --version; python3 -m ensurepip --version
        ls -A /var/lib/apt/lists; find /ovms -name tests -o -name test -o -name '*.pyi'
        find / -xdev -writable ! -type l ! -path '/proc/*' ! -path '/dev/*' ! -path '/tmp*' ! -path '/home/ovms*'
    """
    found = podman.in_image(IMAGE, f"({script}) 2>/dev/null; true").split()
    assert [path for path in found if path not in ("/var/tmp", "/run/lock", "/var/lock")] == []  # noqa: S108 - everyone's


def test_it_is_small(podman: Podman, capsys: pytest.CaptureFixture[str]) -> None:
    """Above the base it is little more than OpenVINO, OpenCV and Python."""
    sizes = {name: podman.facts(name)["Size"] / MEGABYTE for name in (IMAGE, BASE)}
    with capsys.disabled():
        print(f"\nimage: {sizes[IMAGE]:.0f} MB, of which the base is {sizes[BASE]:.0f} MB")  # noqa: T201 - the figure is wanted
    assert sizes[IMAGE] - sizes[BASE] < 550


def test_modules_are_compiled(podman: Podman) -> None:
    """Nothing is compiled at each start, where the root cannot be written."""
    script = "find /ovms -name '*.py' | wc -l; find /ovms -name '*.pyc' | wc -l"
    sources, compiled = (int(word) for word in podman.in_image(IMAGE, script).split())
    assert sources == compiled > 500


def test_the_bill_of_materials_is_complete(podman: Podman) -> None:
    """It lies where the label says, and names what was pinned, this server, and Debian's packages."""
    place = podman.facts(IMAGE)["Config"]["Labels"]["tornado-ovms.sbom"]
    document = json.loads(podman.in_image(IMAGE, f"cat {place}"))
    assert (document["bomFormat"], document["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    urls = {part["purl"] for part in document["components"] if "purl" in part}
    pinned = re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "docker/requirements.txt").read_text("utf-8"), re.MULTILINE)
    python = {url for url in urls if url.startswith("pkg:pypi/")}
    assert python == {f"pkg:pypi/{name}@{version}" for name, version in pinned}
    assert [part["name"] for part in document["components"] if part["name"] == "tornado-ovms"]
    debian = podman.in_image(IMAGE, "dpkg-query --show --showformat '${Package}\\n'").split()
    assert sorted(re.findall(r"pkg:deb/debian/([^@]+)@", " ".join(urls))) == sorted(
        name.replace("+", "%2B") for name in debian
    )


def test_the_demo(podman: Podman, tmp_path: Path) -> None:
    """Nothing but /tmp can be written, and the user is the image's."""
    command = podman.running(IMAGE, *READ_ONLY, name="demo")
    with Server("--demo", log=tmp_path / "log", command=command) as server:
        picture = base64.b64encode(demo.PICTURE.read_bytes()).decode()
        answer = server.post("/v1/models/digits:predict", {"instances": [{"b64": picture}]})
        assert (answer.status, answer.json["predictions"][0]["label"]) == (200, 7)
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert complaints(server) == []


@pytest.mark.parametrize("user", ["5000:5000", "1234:1234"])
def test_a_mounted_model(podman: Podman, folder: Path, tmp_path: Path, user: str) -> None:
    """As any user, with a cache that is mounted, too; its health check needs not be told the port."""
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, int(user.split(":", maxsplit=1)[0]), 0)
    mounts = (f"--volume={folder}:/models:ro", f"--volume={cache}:/opt/cache", f"--user={user}")
    command = podman.running(IMAGE, *READ_ONLY, *mounts, name="mounted")
    options = ("--model_name", "plus", "--model_path", "/models/plus")
    with Server(*options, log=tmp_path / "log", command=command) as server:
        answer = server.post("/v1/models/plus:predict", {"instances": [[float(value) for value in range(10)]]})
        assert answer.json == {"predictions": [[float(value + 1) for value in range(10)]]}
        assert podman.code("healthcheck", "run", "mounted") == 0
        assert list(cache.iterdir()) != []
        assert complaints(server) == []


@pytest.mark.parametrize("store", [Store, Google, Azure])
def test_a_model_in_a_store(
    podman: Podman, tmp_path: Path, needs_program: Callable[[str], str], store: type[Store]
) -> None:
    """The clients are there, and copies go to /tmp."""
    programs = (needs_program("azurite"),) if store is Azure else ()
    with store(tmp_path / "store.log", *programs) as running:
        running.put("plus/1", models.adder((1, 10)), tmp_path / "aside")
        told = [f"--env={name}={value}" for name, value in running.environment.items()]
        command = podman.running(IMAGE, *READ_ONLY, *told, name="store")
        options = ("--model_name", "plus", "--model_path", f"{running.url}/plus")
        with Server(*options, log=tmp_path / "log", command=command) as server:
            answer = server.post("/v1/models/plus:predict", {"instances": [[0.5] * 10]})
            assert answer.json == {"predictions": [[1.5] * 10]}
            assert complaints(server) == []


def test_one_that_has_nothing_to_serve_is_not_healthy(podman: Podman, tmp_path: Path) -> None:
    """What runs the container finds out, although the process lives."""
    (tmp_path / "models/none").mkdir(parents=True)
    command = podman.running(IMAGE, *READ_ONLY, f"--volume={tmp_path}/models:/models:ro", name="empty")
    options = ("--model_name", "none", "--model_path", "/models/none", "--ready_when", "all")
    with Server(*options, log=tmp_path / "log", command=command, ready=False):
        assert podman.code("healthcheck", "run", "empty") == 1


def test_when_it_is_stopped_under_load_no_request_fails(podman: Podman, folder: Path, tmp_path: Path) -> None:
    """SIGTERM reaches process 1, which is the server; it answers what has begun, and its exit code is 0."""
    command = podman.running(IMAGE, *READ_ONLY, f"--volume={folder}:/models:ro", name="loaded")
    options = ("--model_name", "plus", "--model_path", "/models/plus", "--drain_delay", "2")
    with Server(*options, log=tmp_path / "log", command=command) as server:
        callers = [Caller(server.port) for _ in range(8)]
        for caller in callers:
            caller.start()
        until(lambda: all(len(caller.statuses) > 100 for caller in callers))
        podman.said("kill", "--signal=TERM", "loaded")
        for caller in callers:
            caller.join(20)
            assert not caller.is_alive()
            assert set(caller.statuses) == {200}
        assert server.process.wait(20) == 0
        assert complaints(server) == []
