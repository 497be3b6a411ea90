"""The files for Kubernetes, as tests read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "etc/kubernetes"
PAGE = (ROOT / "docs/kubernetes.md").read_text("utf-8")


def read(path: str) -> Any:
    """The one document of a file below etc/kubernetes."""
    return yaml.safe_load((KUBERNETES / path).read_text("utf-8"))


def pod() -> Any:
    """The template of the Deployment's pods."""
    return read("base/deployment.yaml")["spec"]["template"]


def server() -> Any:
    """The container of those."""
    (found,) = pod()["spec"]["containers"]
    return found


def kserve_container() -> Any:
    """The container of the ClusterServingRuntime."""
    (found,) = read("kserve/serving-runtime.yaml")["spec"]["containers"]
    return found


def kustomize(kubectl: str, folder: Path) -> dict[str, Any]:
    """What a kustomization comes to, by kind."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    found = {document["kind"]: document for document in documents}
    assert len(found) == len(documents)
    return found


def combine(kubectl: str, folder: Path, base: str, *components: str) -> dict[str, Any]:
    """What a kustomization of one's own, in an empty folder, makes of a base and components."""
    shutil.copytree(KUBERNETES, folder / "kubernetes")
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"kubernetes/{base}"],
        "components": [f"kubernetes/{component}" for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own), "utf-8")
    return kustomize(kubectl, folder)


def prometheus_rule() -> Any:
    """What the page's command makes of the alerts."""
    (script,) = re.findall(r"```sh\n(\{\n.+?\n\}) \| kubectl apply -f -\n```", PAGE, re.DOTALL)
    return yaml.safe_load(subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, check=True).stdout)  # noqa: S607
