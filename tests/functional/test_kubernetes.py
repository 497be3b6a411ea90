"""A real server with the arguments of the files for Kubernetes; the kubelet's part is played here."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from tests import models
from tests.functional.certificates import STRICT, Authority
from tests.functional.real_models import needs_downloads
from tests.functional.servers import ANSWER_S, Server, until
from tests.functional.tls_servers import TlsServer
from tests.kubernetes import KUBERNETES, combine, kserve_container, pod, prometheus_rule, read, server
from tools.make_demo_models import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ROW = {"instances": [[0.0] * 10]}

KSERVE = Source(
    "kserve==0.21.0",
    {
        f"kserve/models/{module}.py": sha256
        for module, sha256 in {
            "v1alpha1_cluster_serving_runtime": "cdcbf47354c4cd0c76d3b2fd1b3bcf2061112169bd60c81c6a58dbc380b474c5",
            "v1alpha1_serving_runtime_spec": "30647644882386890aabf6e73a464c57c60b2c7ed0957a6070122bbaba0256be",
            "v1alpha1_supported_model_format": "dea2afd3520358aecdd9fac65eeecb288e89bf140149787f39193def711c3866",
            "v1beta1_inference_service": "161620737c6097b9d37f2bdfde41df35e11d5f73a6ffd38a3328f9e38ddaeca5",
            "v1beta1_inference_service_spec": "f21d73fcb54bd51c91d20e99dea3b9a228f322fb835ba4804b73ca20e73eade8",
            "v1beta1_predictor_spec": "efbdc63532875d3271895a73f61ab98d0d0f128efacef5cd02682cbc6c9eb6d7",
            "v1beta1_model_spec": "634acb4e0bc1558bf9ecd7d51d25dc79068b7feb2461ae093112951ce6b428b3",
            "v1beta1_model_format": "baa09b48334f15544cbd325c4965be56a248864180a7a5c6adee3f3a28417dae",
        }.items()
    },
)
"""The types of KServe's own library, which are made from its custom resource definitions."""

PROMETHEUS_OPERATOR = ("cloudcoil==0.6.0", "cloudcoil-models-prometheus-operator==0.80.1.0")
"""The operator's types, made from its custom resource definitions."""

# Tells what they do not take, or leave over, of each document of a list; nothing if all is well.
JUDGE = """
import json, sys
from cloudcoil.models.prometheus_operator import v1

for document in json.load(sys.stdin):
    model = getattr(v1, document["kind"]).model_validate(document)
    if model.model_dump(by_alias=True, exclude_unset=True, mode="json") != document:
        print(document["kind"])
"""


def probe(running: Server, container: Any, kind: str) -> bool:
    """What the kubelet concludes of one probe."""
    return 200 <= running.get(container[f"{kind}Probe"]["httpGet"]["path"]).status < 400


def test_the_life_of_a_pod(tmp_path: Path) -> None:
    """Probes pass; at SIGTERM readiness is gone while requests are answered for the delay; the exit is clean, in time."""
    for name in ("config", "cache"):
        (tmp_path / name).mkdir()
    models.save(models.adder(), tmp_path / "models/resnet/1")
    text = (KUBERNETES / "base/config.json").read_text("utf-8").replace('"/models', f'"{tmp_path}/models')
    # As the kubelet mounts a ConfigMap. That a swap of it is taken up is tried in test_reload.py.
    (tmp_path / "config/..2026").mkdir()
    (tmp_path / "config/..2026/config.json").write_text(text)
    (tmp_path / "config/..data").symlink_to("..2026")
    (tmp_path / "config/config.json").symlink_to("..data/config.json")
    words = [re.sub("=/(config|cache)", rf"={tmp_path}/\1", word) for word in server()["args"]]
    with Server(*words, log=tmp_path / "server.log") as running:
        assert [probe(running, server(), kind) for kind in ("startup", "liveness", "readiness")] == [True] * 3
        (endpoint,) = read("monitoring/service-monitor.yaml")["spec"]["endpoints"]
        assert b"ovms_current_requests" in running.get(endpoint["path"]).body
        start = time.monotonic()
        running.process.terminate()
        until(lambda: not probe(running, server(), "readiness"))
        while time.monotonic() - start < 8:  # of the 10 seconds of --drain_delay
            answer = running.post("/v1/models/resnet:predict", ROW)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            assert probe(running, server(), "liveness")
        assert running.process.wait(pod()["spec"]["terminationGracePeriodSeconds"]) == 0


# The program of the image, for one process that stands for process 1 of its container.
PROGRAM = """#!{python}
import sys
from pathlib import Path
from tornado_ovms.core.arguments import parse
from tornado_ovms.healthcheck import check

sys.exit(check(parse(sys.argv[1:]), Path("/proc/{process}/cmdline")))
"""


class SecurePod:
    """A server with the components for TLS and keys, the Secrets that they mount, and who asks it.

    Args:
        folder: an empty one, in which the volumes are.
        built: what kustomize has built.
        openssl: the program.
    """

    def __init__(self, folder: Path, built: Any, openssl: str) -> None:
        self._folder = folder
        (self._container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
        (self._endpoint,) = built["ServiceMonitor"]["spec"]["endpoints"]
        for name in ("tls", "keys", "prometheus", "bin"):
            (folder / name).mkdir()
        authority = Authority(openssl, folder, "ours")
        for place, made in {
            "tls/tls": authority.issue("server", (*STRICT, "subjectAltName=DNS:tornado-ovms")),
            "prometheus/tls": authority.issue("prometheus"),
        }.items():
            for file in made:
                shutil.copyfile(file, folder / f"{place}{file.suffix}")
        shutil.copyfile(authority.certificate, folder / "tls/ca.crt")
        for name, text in {"inference": "abc\n", "management": "def\nghi\n", "prometheus": "ghi"}.items():
            (folder / "keys" / name).write_text(text)
        words = [re.sub("=/(tls|keys|cache)", rf"={folder}/\1", word) for word in self._container["args"]]
        self.server = TlsServer(*words, log=folder / "server.log")

    def probe(self, kind: str) -> bool:
        """What the kubelet concludes, which looks at no certificate and has none."""
        probe = self._container[f"{kind}Probe"]
        if "exec" in probe:
            program = self._folder / "bin/tornado-ovms"
            program.write_text(PROGRAM.format(python=sys.executable, process=self.server.process.pid))
            program.chmod(0o755)
            path = f"{program.parent}:{os.environ['PATH']}"
            done = subprocess.run(
                probe["exec"]["command"],
                env={**os.environ, "PATH": path},
                check=False,
                timeout=probe["timeoutSeconds"],  # it is to find out by itself, sooner than this
            )
            return done.returncode == 0
        assert probe["httpGet"]["scheme"] == "HTTPS"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            return self.ask(context, None, probe["httpGet"]["path"], timeout_s=probe["timeoutSeconds"])[0] == 200
        except OSError:
            return False

    def scrape(self, **headers: str) -> tuple[int, bytes]:
        """What Prometheus gets, with other headers than its own if there are any."""
        places = {"tornado-ovms-tls": "tls", "tornado-ovms-keys": "keys", "tornado-ovms-prometheus-tls": "prometheus"}

        def mounted(secret: Any) -> Path:
            return self._folder / places[secret["name"]] / secret["key"]

        tls = self._endpoint["tlsConfig"]
        context = ssl.create_default_context(cafile=str(mounted(tls["ca"]["secret"])))
        if "cert" in tls:
            context.load_cert_chain(mounted(tls["cert"]["secret"]), mounted(tls["keySecret"]))
        key = mounted(self._endpoint["authorization"]["credentials"]).read_text()
        own = {"Authorization": f"Bearer {key}"}
        return self.ask(context, tls["serverName"], self._endpoint["path"], headers or own)

    def ask(
        self,
        context: ssl.SSLContext,
        name: str | None,
        path: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        timeout_s: float = ANSWER_S,
    ) -> tuple[int, bytes]:
        """One request to the pod's address, where a certificate with another name is expected."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.connect()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


@pytest.mark.parametrize("more", [[], ["client-certificates"]], ids=["keys", "certificates"])
def test_the_secure_components(more: list[str], tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    """Prometheus gets in with its key, and its certificate if one is needed; probes tell who hangs from who is not ready."""
    for name in ("built", "pod"):
        (tmp_path / name).mkdir()
    built = combine(needs_program("kubectl"), tmp_path / "built", "demo", "monitoring", "secure", *more)
    pod = SecurePod(tmp_path / "pod", built, needs_program("openssl"))
    with pod.server as running:
        until(lambda: pod.probe("startup"))
        until(lambda: pod.probe("readiness"))
        assert pod.probe("liveness")
        status, samples = pod.scrape()
        assert (status, b"ovms_current_requests" in samples) == (200, True)
        assert pod.scrape(Authorization="Bearer abc")[0] == 401
        running.process.send_signal(signal.SIGSTOP)
        assert not pod.probe("liveness")
        running.process.send_signal(signal.SIGCONT)
        running.process.terminate()
        until(lambda: not pod.probe("readiness"))
        assert pod.probe("liveness")
        running.process.terminate()


def test_the_serving_runtime(tmp_path: Path) -> None:
    """With KServe's arguments a model is served under the name of the InferenceService, by both protocols."""
    name = read("kserve/inference-service.yaml")["metadata"]["name"]
    models.save(models.adder(), tmp_path / "models/1")
    places = {"{{.Name}}": name, "/mnt/models": str(tmp_path / "models")}
    words = [
        re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], word)
        for word in kserve_container()["args"]
    ]
    container = kserve_container()
    with Server(*words, "--drain_delay", "0", log=tmp_path / "server.log") as running:
        assert probe(running, container, "liveness")
        assert probe(running, container, "readiness")
        tensor = {"name": "b", "shape": [1, 10], "datatype": "FP32", "data": [0.0] * 10}
        assert running.post(f"/v1/models/{name}:predict", ROW).json["predictions"] == [[1.0] * 10]
        assert running.post(f"/v2/models/{name}/infer", {"inputs": [tensor]}).json["outputs"][0]["data"] == [1.0] * 10
        path = read("kserve/serving-runtime.yaml")["spec"]["annotations"]["prometheus.kserve.io/path"]
        assert running.get(path).status == 200


def types(content: bytes) -> tuple[str, dict[str, str]]:
    """The name of a module's one class, and the types of its keys as they are written in YAML."""
    (made,) = [node for node in ast.parse(content).body if isinstance(node, ast.ClassDef)]
    tables: Mapping[str, Mapping[str, str]] = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in made.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return made.name, {key: tables["openapi_types"][attribute] for attribute, key in tables["attribute_map"].items()}


def strange(value: Any, kind: str, known: Mapping[str, Mapping[str, str]], place: str = "") -> list[str]:
    """Keys that a type does not know, and values that are none of their type."""
    if kind.startswith("list["):
        return [fault for each in value for fault in strange(each, kind[5:-1], known, place)]
    if kind in known:
        faults = [f"{place}/{key}" for key in value if key not in known[kind]]
        for key in value.keys() & known[kind].keys():
            faults += strange(value[key], known[kind][key], known, f"{place}/{key}")
        return faults
    python = {"str": str, "bool": bool, "int": int}.get(kind, object)  # what else there is, is Kubernetes's own
    return [] if isinstance(value, python) else [f"{place}: {value!r} is no {kind}"]


@needs_downloads
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("kserve/serving-runtime.yaml", "V1alpha1ClusterServingRuntime"),
        ("kserve/inference-service.yaml", "V1beta1InferenceService"),
    ],
)
def test_the_types_of_kserve(path: str, kind: str) -> None:
    """They know every key, down to where Kubernetes's own types begin: those are checked by tests/unit/test_kubernetes.py."""
    known = dict(map(types, KSERVE.read()))
    document = read(path)
    assert strange(document, kind, known) == []
    document["spec"]["bogus"] = 1
    assert strange(document, kind, known) == ["/spec/bogus"]


@needs_downloads
def test_the_types_of_the_prometheus_operator(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    """They take the ServiceMonitor, also with TLS and keys, and the PrometheusRule, and know every key."""
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
        "--target",
        str(tmp_path / "types"),
    ]
    subprocess.run([*install, *PROMETHEUS_OPERATOR], check=True)
    monitor, wrong = read("monitoring/service-monitor.yaml"), read("monitoring/service-monitor.yaml")
    wrong["spec"]["endpoints"][0]["bogus"] = 1
    components = ("monitoring", "secure", "client-certificates")
    secure = combine(needs_program("kubectl"), tmp_path, "base", *components)["ServiceMonitor"]

    def judge(*documents: Any) -> str:
        return subprocess.run(
            [sys.executable, "-c", JUDGE],
            input=json.dumps(documents),
            env={**os.environ, "PYTHONPATH": str(tmp_path / "types")},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    assert judge(monitor, secure, prometheus_rule()) == ""
    assert judge(wrong) == "ServiceMonitor\n"
