"""Writes what is in the image as a CycloneDX document (JSON): ``sbom.py PYTHON DEBIAN_PACKAGES``, on stdout.

Runs while the image is built, beside cyclonedx-py, which finds the Python packages. Debian's are added from a list with
name, version and architecture, separated by tabs, as dpkg-query writes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote


def debian_package(line: str) -> dict[str, Any]:
    """A component, named by a package URL of the type ``deb`` (github.com/package-url/purl-spec, PURL-TYPES)."""
    name, version, architecture = line.split("\t")
    url = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def document(python: str, packages: str) -> dict[str, Any]:
    """The whole document.

    Args:
        python: the interpreter of the virtual environment.
        packages: lines about Debian's packages.
    """
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "environment", python, "--output-reproducible"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    (ours,) = (part for part in found["components"] if part["name"] == "tornado-ovms")
    found["metadata"]["component"] = {"type": "container", "name": "tornado-ovms", "version": ours["version"]}
    found["components"] += [debian_package(line) for line in packages.splitlines()]
    return found


if __name__ == "__main__":
    json.dump(document(sys.argv[1], Path(sys.argv[2]).read_text("utf-8")), sys.stdout, indent=1)
