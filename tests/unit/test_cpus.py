"""How many CPUs the process may use, by a made-up ``/proc`` and ``/sys``."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.cpus import available_cpus, parse_groups, parse_quota

if TYPE_CHECKING:
    from pathlib import Path

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The affinity of the process: eight of the host's CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8, 16)))


def cpus(root: Path, files: dict[str, str]) -> int:
    """The number of CPUs with these files below the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return available_cpus(root)


def v1(folder: str, quota: str, period: str = "100000") -> dict[str, str]:
    """A group of version 1 with a quota."""
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


def test_without_groups_the_affinity_counts(tmp_path: Path) -> None:
    """Nothing has to be there."""
    assert cpus(tmp_path, {}) == 8


@pytest.mark.parametrize(
    ("quota", "number"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("100001 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("800000 100000", 8),
        ("6400000 100000", 8),
        ("max 100000", 8),
        ("300000", 8),
        ("", 8),
        ("nonsense here", 8),
        ("100000 0", 8),
        ("0 100000", 8),
        ("25000 10000", 3),
    ],
)
def test_a_quota_of_version_2(quota: str, number: int, tmp_path: Path) -> None:
    """Part of a CPU counts as one; more than the affinity allows is of no use; what cannot be read limits nothing."""
    assert cpus(tmp_path, {"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": f"{quota}\n"}) == number


@pytest.mark.parametrize(
    ("files", "number"),
    [
        ({f"{V2}/a/b/cpu.max": "200000 100000"}, 2),
        ({f"{V2}/a/cpu.max": "200000 100000", f"{V2}/a/b/cpu.max": "400000 100000"}, 2),
        ({f"{V2}/a/cpu.max": "400000 100000", f"{V2}/a/b/cpu.max": "max 100000"}, 4),
        ({f"{V2}/cpu.max": "300000 100000"}, 3),
        ({f"{V2}/other/cpu.max": "100000 100000", f"{V2}/a/b/c/cpu.max": "100000 100000"}, 8),
    ],
)
def test_nested_groups_of_version_2(files: dict[str, str], number: int, tmp_path: Path) -> None:
    """The smallest quota of the process's group and those above it counts; others do not."""
    assert cpus(tmp_path, {"proc/self/cgroup": "0::/a/b\n", **files}) == number


@pytest.mark.parametrize("mount", ["sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"])
@pytest.mark.parametrize(
    ("group", "number"), [("", 3), ("/a", 2), ("/a/b", 8)], ids=["of the mount", "above", "beside"]
)
def test_groups_of_version_1(mount: str, group: str, number: int, tmp_path: Path) -> None:
    """Under either name of the mount, each group and all above it."""
    files = {
        "": v1(mount, "300000"),
        "/a": {**v1(mount, "-1"), **v1(f"{mount}/a", "200000"), **v1(f"{mount}/a/b", "-1")},
        "/a/b": {**v1(f"{mount}/a/b", "-1"), **v1(f"{mount}/c", "100000")},
    }
    assert cpus(tmp_path, {"proc/self/cgroup": "4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n", **files[group]}) == number


def test_both_versions_at_once(tmp_path: Path) -> None:
    """On a hybrid host the smaller quota counts."""
    groups = "3:cpuset:/x\n2:cpuacct,cpu:/one\n0::/two\n"
    files = {f"{V2}/two/cpu.max": "500000 100000", **v1(f"{V1}/one", "250000", "50000")}
    assert cpus(tmp_path, {"proc/self/cgroup": groups, **files}) == 5
    assert cpus(tmp_path, v1(f"{V1}/one", "200000")) == 2


def test_a_path_of_the_host_that_the_container_does_not_see(tmp_path: Path) -> None:
    """The mount stands for the container's group."""
    files = {"proc/self/cgroup": "0::/kubepods/pod1/x\n", f"{V2}/cpu.max": "100000 100000"}
    assert cpus(tmp_path, files) == 1


def test_a_group_above_the_namespace(tmp_path: Path) -> None:
    """Nothing outside of the mount is read."""
    files = {"proc/self/cgroup": "0::/../../x\n", "sys/x/cpu.max": "100000 100000", f"{V2}/cpu.max": "400000 100000"}
    assert cpus(tmp_path, files) == 4


def test_a_group_of_another_controller_limits_nothing(tmp_path: Path) -> None:
    """Without a line for cpu the mount of version 1 is not looked at."""
    assert cpus(tmp_path, {"proc/self/cgroup": "3:cpuset:/\n", **v1(V1, "100000")}) == 8


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A group may be called anything."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
    assert cpus(tmp_path, {f"{V2}/cpu.max": "300000 100000"}) == 3


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("", {}),
        ("0::/\n", {"": "/"}),
        ("4:cpu,cpuacct:/a\n0::/b", {"cpu": "/a", "cpuacct": "/a", "": "/b"}),
        ("1:name=systemd:/a:b\n", {"name=systemd": "/a:b"}),
        ("nonsense\n\n0:\n", {}),
    ],
)
def test_groups_are_read(text: str, groups: dict[str, str]) -> None:
    """A path may hold colons; lines of another kind are skipped."""
    assert parse_groups(text) == groups


@given(st.text())
def test_any_text_is_groups(text: str) -> None:
    """Nothing is raised."""
    assert isinstance(parse_groups(text), dict)


@given(st.text(max_size=5) | st.integers(-9, 10**9).map(str), st.text(max_size=5) | st.integers(0, 10**9).map(str))
def test_any_quota_is_a_number_of_cpus(quota: str, period: str) -> None:
    """It is above 0, and infinite where nothing can be read."""
    assert 0 < parse_quota(quota, period) <= math.inf
