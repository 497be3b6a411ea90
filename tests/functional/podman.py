"""Container images as podman builds and runs them here, with a storage of its own and without a daemon.

Only root can use it: chroot isolation is what builds where there are no user namespaces, and debootstrap makes devices. What
pip and apt are told on this machine is passed on to the build, as the build has no other way to know.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BASE = "localhost/base"

SUITE = "bookworm"
"""The release of Debian that the Dockerfile names."""

READ_ONLY = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp",  # nothing but /tmp can be written
    "--cap-drop=all", "--security-opt=no-new-privileges",
)  # fmt: skip

# The host's network, since a namespace of one's own needs more privileges than a build machine has; limits below those of
# this process, as only some may raise them.
HERE = ("--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")


class Podman:
    """One storage of images and containers.

    Args:
        folder: where it is; on a file system on which overlayfs can be.
        needs_program: finds the programs.
    """

    def __init__(self, folder: Path, needs_program: Callable[[str], str]) -> None:
        needs_program("runc")
        self._debootstrap, self._apt_config, self._tar, self._umount = (
            needs_program(name) for name in ("debootstrap", "apt-config", "tar", "umount")
        )
        self.folder = folder
        # runc: Debian's crun refuses to work beside control groups of both versions.
        self.command = (
            needs_program("podman"), "--root", str(folder / "storage"), "--runroot", str(folder / "run"),
            "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
        )  # fmt: skip

    def said(self, *words: str) -> str:
        """What a command prints; its failure is one of the test."""
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    def code(self, *words: str) -> int:
        """The exit code of a command."""
        return subprocess.run([*self.command, *words], capture_output=True, check=False).returncode

    def facts(self, image: str) -> dict[str, Any]:
        """What the image says of itself."""
        found: dict[str, Any] = json.loads(self.said("image", "inspect", image))[0]
        return found

    def make_base(self) -> None:
        """Debian's smallest system as an image, from its packages, since this machine may reach no registry of images."""
        root = self.folder / "base"
        with (self.folder / "debootstrap.log").open("wb") as log:
            subprocess.run([self._debootstrap, "--variant=minbase", SUITE, root], stdout=log, stderr=log, check=True)
        settings = subprocess.run([self._apt_config, "dump"], capture_output=True, text=True, check=True).stdout
        passed_on = re.findall(r'^Acquire::(?:Check-|https?::|Retries).* ".+";$', settings, re.MULTILINE)
        (root / "etc/apt/apt.conf.d/99host").write_text("\n".join(passed_on))
        with subprocess.Popen([self._tar, "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*self.command, "import", "-", BASE], stdin=tar.stdout, capture_output=True, check=True)
        shutil.rmtree(root)

    def build(self, context: Path, dockerfile: Path, image: str) -> None:
        """Build an image upon that of ``make_base``."""
        pip = self.folder / "pip.conf"
        options, authorities = pip_settings()
        pip.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in options.items()), ""]))
        words = [
            # Docker's format is the one that has health checks.
            "build", "--format=docker", "--isolation=chroot", f"--build-arg=BASE={BASE}", "--tag", image,
            "--secret", f"id=pip.conf,src={pip}",
            *(("--secret", f"id=ca.crt,src={authorities}") if authorities else ()),
            "--file", str(dockerfile), str(context),
        ]  # fmt: skip
        self.said(*words)

    def running(self, image: str, *options: str, name: str) -> Sequence[str]:
        """The command that runs a container, to which the server's options are added; it ends with the container's code."""
        return (*self.command, "run", "--rm", f"--name={name}", "--log-driver=none", *HERE, *options, image)

    def in_image(self, image: str, script: str) -> str:
        """What a shell prints in a container."""
        return self.said("run", "--rm", *HERE, *READ_ONLY, "--entrypoint=/bin/sh", image, "-c", script)

    def close(self) -> None:
        """Remove all containers and images, so that the folder can be removed."""
        self.code("rm", "--all", "--force")
        self.code("rmi", "--all", "--force")
        for driver in ("overlay", "vfs"):
            if os.path.ismount(self.folder / "storage" / driver):
                subprocess.run([self._umount, self.folder / "storage" / driver], check=True)


def pip_settings() -> tuple[dict[str, str], str]:
    """What a file for pip in the build says, and where on this machine the certificates are that it names, if it names any.

    Folders of this machine are left out: in the build there are none.
    """
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^(global|:env:)\.([\w-]+)=(.*)$", done.stdout, re.MULTILINE)
    settings: dict[str, str] = {}
    for _, key, value in sorted(found, key=lambda setting: setting[0] == ":env:"):  # the environment overrules files
        settings[key.removeprefix("default-")] = ast.literal_eval(value)
    options = {key: settings[key] for key in ("index-url", "proxy", "trusted-host", "timeout") if key in settings}
    indexes = [word for word in settings.get("extra-index-url", "").split() if not word.startswith("file:")]
    if indexes:
        options["extra-index-url"] = " ".join(indexes)
    if "cert" in settings:
        options["cert"] = "/run/secrets/ca.crt"
    return options, settings.get("cert", "")
