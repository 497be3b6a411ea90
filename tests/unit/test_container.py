"""What the container image is made from: its Dockerfile, what it installs, and the file that runs it beside others."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.deployments import COMPOSE, ROOT, by_compose, services
from tornado_ovms.core.arguments import parse
from tornado_ovms.core.checks import find_conflict

if TYPE_CHECKING:
    from collections.abc import Callable

DOCKER = ROOT / "docker"
SETUP = (ROOT / "setup.py").read_text("utf-8")
PIN = (ROOT / "tools/pin").read_text("utf-8")
EXTRAS = re.findall(r"^extras=\((.*)\)$", PIN, re.MULTILINE)[0].split()
UNWANTED = re.findall(r"^unwanted=(\S+)$", PIN, re.MULTILINE)


def assigned(name: str) -> Any:
    """What setup.py assigns to a name, as a literal."""
    assignments = [node for node in ast.parse(SETUP).body if isinstance(node, ast.Assign)]
    return next(ast.literal_eval(node.value) for node in assignments if ast.unparse(node.targets[0]) == name)


def pinned(name: str) -> dict[str, tuple[Version, int, set[str]]]:
    """What a file of tools/pin pins: version, number of hashes, and who wants it."""
    text = (DOCKER / name).read_text("utf-8")
    found = {}
    for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"([\w.-]+)==(\S+)", block)
        assert head is not None, block
        wanted_by = re.findall(r"^    #(?: via|  ) +([\w.-].*)$", block, re.MULTILINE)
        found[head[1]] = (Version(head[2]), len(re.findall("--hash=sha256:[0-9a-f]{64}", block)), set(wanted_by))
    return found


def wanted(name: str) -> list[Requirement]:
    """What somebody wrote down, for a file of tools/pin."""
    if name == "requirements.txt":
        extras = [line for extra in EXTRAS for line in assigned("STORES")[extra]]
        return [Requirement(line) for line in (*assigned("REQUIRES"), *extras)]
    lines = (DOCKER / "build-requirements.in").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


ORIGINS = {
    "requirements.txt": "tornado-ovms (setup.py)",
    "build-requirements.txt": "-r docker/build-requirements.in",
}


@pytest.mark.parametrize("name", ORIGINS)
def test_what_is_installed_is_what_is_wanted(name: str) -> None:
    """All of it and what that needs, in versions that are allowed, each file by its hash; `tools/pin` writes it anew."""
    pins = pinned(name)
    asked = {requirement.name: requirement.specifier for requirement in wanted(name)}
    assert {pin for pin, (_, _, whose) in pins.items() if ORIGINS[name] in whose} == asked.keys()
    assert [pin for pin, allowed in asked.items() if pins[pin][0] not in allowed] == []
    assert [pin for pin, (_, hashes, whose) in pins.items() if not hashes or not whose] == []
    assert {each for _, _, whose in pins.values() for each in whose} - {ORIGINS[name]} <= {*pins, *UNWANTED}


@pytest.mark.parametrize("name", ORIGINS)
def test_no_index_is_written_down(name: str) -> None:
    """Everybody has their own."""
    assert re.findall(r"//|index|find-links", (DOCKER / name).read_text("utf-8")) == []


def test_hadolint_finds_nothing(needs_program: Callable[[str], str]) -> None:
    """The Dockerfile keeps to the rules of its trade."""
    command = [needs_program("hadolint"), "--no-color", str(DOCKER / "Dockerfile")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


def read(path: str) -> Any:
    """A file below etc."""
    return yaml.safe_load((ROOT / "etc" / path).read_text("utf-8"))


def test_compose_understands_its_file(needs_program: Callable[[str], str]) -> None:
    """Every key, checked by the schema that the program brings along; no container is started."""
    command = [needs_program("docker-compose"), "--file", str(COMPOSE), "config", "--quiet"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_services_find_each_other() -> None:
    """By their names and ports in one network, which each of them may leave and enter again."""
    assert [name for name, service in services().items() if "network_mode" in service] == []
    ports = {name: int(service["ports"][0].rpartition(":")[2]) for name, service in services().items()}
    arguments = parse(by_compose())
    assert arguments.number("rest_port") == ports["server"]
    (job,) = read("prometheus/prometheus.yml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{ports['server']}"]}]
    (source,) = read("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == f"http://prometheus:{ports['prometheus']}"


@pytest.mark.parametrize("name", services())
def test_a_service_is_hardened_and_its_files_are_there(name: str) -> None:
    """What is mounted from this checkout exists, and cannot be written."""
    service = services()[name]
    assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])  # noqa: S108
    assert service["security_opt"] == ["no-new-privileges:true"]
    mounts = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":") for volume in service["volumes"]]
    bound = [mount for mount in mounts if mount[0].startswith(".")]
    assert [source for source, _, mode in bound if mode != "ro" or not (DOCKER / source).exists()] == []
    assert bound != []


def test_the_command_line_of_compose_is_one() -> None:
    """Its options are known, and docker waits longer than the server for requests to end."""
    arguments = parse(by_compose())
    assert find_conflict(arguments) is None
    ending_s = arguments.number("drain_delay") + arguments.number("drain_timeout")
    assert ending_s < int(services()["server"]["stop_grace_period"].removesuffix("s"))
