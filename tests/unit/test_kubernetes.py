"""The files for Kubernetes: valid by the published schemas, of one mind with each other, the server and its image."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from tests.kubernetes import (
    KUBERNETES,
    PAGE,
    ROOT,
    combine,
    kserve_container,
    kustomize,
    pod,
    prometheus_rule,
    read,
    server,
)
from tornado_ovms import __version__
from tornado_ovms.core.arguments import Arguments, parse
from tornado_ovms.core.checks import Machine, find_conflict, find_fault
from tornado_ovms.core.command_line import server_settings
from tornado_ovms.core.config import parse as parse_config
from tornado_ovms.core.metric_families import FAMILIES, OUR_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLDEST, NEWEST = "1.27", kubernetes_validate.latest_version()
LABELS = {"app.kubernetes.io/name": "tornado-ovms"}
CONFIG = KUBERNETES / "base/config.json"
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text("utf-8")
BY_KUBERNETES = [
    "base/deployment.yaml",
    "base/service.yaml",
    "base/disruption.yaml",
    "autoscaling/autoscaler.yaml",
]
KUSTOMIZATIONS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
REFERENCE = ("--model_name=m", "--model_path=/mnt/models", "--port=9000", "--rest_port=8080")
"""What KServe starts OpenVINO Model Server with, besides --file_system_poll_wait_seconds=0."""


def accept(words: list[str]) -> Arguments:
    """The container's arguments, if the server starts with them."""
    arguments = parse(words)
    assert find_conflict(arguments) is None
    assert find_fault(arguments, Machine(2, lambda _: True)) is None
    return arguments


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", BY_KUBERNETES)
def test_the_published_schemas_of_kubernetes(path: str, version: str) -> None:
    """No key that they do not know, no value of a wrong type."""
    kubernetes_validate.validate(read(path), version, strict=True)


def test_a_wrong_key_would_be_found() -> None:
    """The schemas are the strict ones."""
    service = read("base/service.yaml")
    service["spec"]["ports"][0]["targetport"] = "http"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, NEWEST, strict=True)


def test_the_alerts_as_a_rule_of_the_operator() -> None:
    """The page's command makes a PrometheusRule of them all."""
    rules = yaml.safe_load((ROOT / "etc/prometheus/tornado-ovms.rules.yml").read_text("utf-8"))
    assert prometheus_rule()["spec"] == rules


def test_every_file_is_of_use() -> None:
    """Each is a kustomization, listed by one, or spoken of on the page."""
    listed = {
        f"{folder}/{name}"
        for folder in KUSTOMIZATIONS
        for name in read(f"{folder}/kustomization.yaml").get("resources", ())
    }
    for path in KUBERNETES.rglob("*.*"):
        name = path.relative_to(KUBERNETES).as_posix()
        is_known = path.name == "kustomization.yaml" or name in listed
        assert is_known or name in PAGE or path == CONFIG, name


def test_all_mean_the_same_pods() -> None:
    """Whoever selects pods, or the Service, does it by the labels that these have."""
    deployment, service = read("base/deployment.yaml"), read("base/service.yaml")
    (spread,) = pod()["spec"]["topologySpreadConstraints"]
    assert pod()["metadata"]["labels"] == LABELS
    assert service["metadata"]["labels"] == LABELS
    assert service["spec"]["selector"] == LABELS
    for selector in (
        deployment["spec"]["selector"],
        read("base/disruption.yaml")["spec"]["selector"],
        read("monitoring/service-monitor.yaml")["spec"]["selector"],
        spread["labelSelector"],
    ):
        assert selector == {"matchLabels": LABELS}


def test_ports_have_one_name_and_number() -> None:
    """The server's, the container's, the Service's, the probes' and Prometheus's."""
    (port,) = server()["ports"]
    (service,) = read("base/service.yaml")["spec"]["ports"]
    (endpoint,) = read("monitoring/service-monitor.yaml")["spec"]["endpoints"]
    assert port["containerPort"] == accept(server()["args"]).number("rest_port")
    assert service["targetPort"] == port["name"]
    assert endpoint["port"] == service["name"]
    probes = {server()[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {port["name"]}


def test_the_autoscaler() -> None:
    """It scales the Deployment, by a family that the server has and the adapter's rule makes known under the same name."""
    spec = read("autoscaling/autoscaler.yaml")["spec"]
    deployment = read("base/deployment.yaml")
    target = {key: spec["scaleTargetRef"][key] for key in ("apiVersion", "kind")}
    assert target == {key: deployment[key] for key in target}
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    names = [metric["pods"]["metric"]["name"] for metric in spec["metrics"] if metric["type"] == "Pods"]
    (rule,) = read("autoscaling/prometheus-adapter.values.yaml")["rules"]["custom"]
    assert "name" not in rule
    assert names == [rule["seriesQuery"].partition("{")[0]]
    families = {family.name: family for family in (*FAMILIES, *OUR_FAMILIES)}
    assert families[names[0]].by_default
    assert spec["minReplicas"] == deployment["spec"]["replicas"]


def test_the_arguments_of_the_deployment() -> None:
    """The server takes them; they serve the mounted configuration, with metrics."""
    settings = server_settings(accept(server()["args"]), "/", cpus=2)
    assert settings.config_path == "/config/config.json"
    assert server()["args"][0] == "--config_path=/config/config.json"
    assert settings.workers == 1
    assert accept(server()["args"]).flag("metrics_enable")


def test_the_arguments_of_the_serving_runtime() -> None:
    """The server takes them, and those of the reference; the port is the one that KServe's annotation names."""
    words = [word.replace("{{.Name}}", "m") for word in kserve_container()["args"]]
    arguments = accept(words)
    accept([*REFERENCE, "--file_system_poll_wait_seconds=0"])
    assert {*REFERENCE, "--file_system_poll_wait_seconds=0"} - set(words) == {"--port=9000"}
    annotations = read("kserve/serving-runtime.yaml")["spec"]["annotations"]
    assert annotations == {"prometheus.kserve.io/path": "/metrics", "prometheus.kserve.io/port": "8080"}
    (port,) = kserve_container()["ports"]
    assert arguments.number("rest_port") == port["containerPort"] == 8080
    assert {kserve_container()[f"{kind}Probe"]["httpGet"]["port"] for kind in ("liveness", "readiness")} == {8080}


def test_there_is_time_to_drain() -> None:
    """The kubelet waits longer than the server takes at most; the page has the same numbers."""
    arguments = accept(server()["args"])
    delay, timeout = arguments.number("drain_delay"), arguments.number("drain_timeout")
    grace = pod()["spec"]["terminationGracePeriodSeconds"]
    assert delay > 0
    assert grace >= delay + timeout + 10
    for line in (
        f"| 0 to {delay} | `--drain_delay={delay}`",
        f"| {delay} to {delay + timeout} | `--drain_timeout={timeout}`",
        f"| {grace} | `terminationGracePeriodSeconds`",
    ):
        assert line in PAGE
    theirs = accept([word.replace("{{.Name}}", "m") for word in kserve_container()["args"]])
    assert theirs.number("drain_delay") + theirs.number("drain_timeout") + 10 <= 30


def test_volumes_are_those_of_the_arguments() -> None:
    """Each volume is mounted once; what the arguments and the configuration name lies on one; only two can be written."""
    mounts = {mount["name"]: mount for mount in server()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    places = {mount["mountPath"] for mount in mounts.values()}
    arguments = accept(server()["args"])
    paths = [arguments.text("cache_dir"), arguments.text("config_path")]
    paths += [model.base_path for model in parse_config(CONFIG.read_bytes(), "/config").models]
    assert {"/" + path.split("/")[1] for path in paths} | {"/tmp"} == places  # noqa: S108
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} == {"cache", "tmp"}
    assert all("emptyDir" in volumes[name] for name in ("cache", "tmp"))
    assert all("subPath" not in mount for mount in mounts.values())
    (generated,) = read("base/kustomization.yaml")["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    assert generated["files"] == [CONFIG.name]
    assert generated["options"]["disableNameSuffixHash"]


def test_the_configuration_is_without_fault() -> None:
    """It is read without a fault, and without a warning."""
    config = parse_config(CONFIG.read_bytes(), "/config")
    assert (config.faults, config.warnings) == ((), ())
    assert config.metrics is None  # --metrics_enable speaks of them, also for the demo
    assert json.loads(CONFIG.read_bytes())["model_config_list"]


def test_nobody_has_more_rights_than_needed() -> None:
    """The rules that Kubernetes calls restricted, and a read-only root; the user is the image's."""
    (user,) = set(re.findall(r"--uid (\d+)", DOCKERFILE))
    for container, spec in ((server(), pod()["spec"]), (kserve_container(), {})):
        context = {**spec.get("securityContext", {}), **container["securityContext"]}
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == int(user)
        assert context["allowPrivilegeEscalation"] is context["privileged"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["spec"]["automountServiceAccountToken"] is False


def test_the_image_is_the_one_that_is_built() -> None:
    """Under the name that the Dockerfile's first line and the page give it, in this version; the entry point is the server."""
    (image,) = read("base/kustomization.yaml")["images"]
    assert server()["image"] == image["name"] == image["newName"]
    names = {f"{image['newName']}:{image['newTag']}", kserve_container()["image"]}
    assert names == set(re.findall(r"docker build -t (\S+)", PAGE)) == {f"tornado-ovms:{__version__}"}
    assert re.findall(r"docker build -t (\S+)", DOCKERFILE) == ["tornado-ovms"]
    assert "command" not in server()
    assert "command" not in kserve_container()


def test_the_serving_runtime_as_a_pod() -> None:
    """Its containers and volumes are those of a pod, as KServe makes one of them."""
    spec = read("kserve/serving-runtime.yaml")["spec"]
    made = {"containers": spec["containers"], "volumes": spec["volumes"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m"}, "spec": made}, NEWEST, strict=True
    )
    assert [volume["name"] for volume in spec["volumes"]] == [
        mount["name"] for mount in kserve_container()["volumeMounts"]
    ]


def test_the_inference_service() -> None:
    """It names the runtime, one of its formats and one of its protocols."""
    runtime = read("kserve/serving-runtime.yaml")
    model = read("kserve/inference-service.yaml")["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_kustomize_builds_the_base(needs_program: Callable[[str], str]) -> None:
    """Out of it come the files as they are, the ConfigMap under its own name, and the image with a tag."""
    built = kustomize(needs_program("kubectl"), KUBERNETES / "base")
    assert built.keys() == {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"}
    for document in built.values():
        kubernetes_validate.validate(document, NEWEST, strict=True)
    assert built["ConfigMap"]["metadata"]["name"] == "tornado-ovms"
    assert built["ConfigMap"]["data"] == {"config.json": CONFIG.read_text("utf-8")}
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container == {**server(), "image": f"tornado-ovms:{__version__}"}


def test_kustomize_builds_the_demo(needs_program: Callable[[str], str]) -> None:
    """It needs neither a volume claim nor a ConfigMap, and serves with --demo; all else is the base."""
    built = kustomize(needs_program("kubectl"), KUBERNETES / "demo")
    assert built.keys() == {"Deployment", "PodDisruptionBudget", "Service"}
    spec = built["Deployment"]["spec"]["template"]["spec"]
    kubernetes_validate.validate(built["Deployment"], NEWEST, strict=True)
    (container,) = spec["containers"]
    assert container["args"] == ["--demo", *server()["args"][1:]]
    accept(container["args"])
    names = [volume["name"] for volume in spec["volumes"]]
    assert names == [mount["name"] for mount in container["volumeMounts"]] == ["cache", "tmp"]


def test_kustomize_builds_the_page_s_kustomization(needs_program: Callable[[str], str], tmp_path: Path) -> None:
    """Base and both components, in a namespace, with an image and a configuration of one's own."""
    (text,) = re.findall(r"```yaml\n(apiVersion: kustomize.+?)```", PAGE, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(text)
    (tmp_path / "config.json").write_text('{"model_config_list": []}')
    shutil.copytree(KUBERNETES, tmp_path / "tornado_ovms/etc/kubernetes")
    built = kustomize(needs_program("kubectl"), tmp_path)
    assert built.keys() == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "ServiceMonitor"
    }  # fmt: skip
    assert {document["metadata"]["namespace"] for document in built.values()} == {"models"}
    assert built["ConfigMap"]["metadata"]["name"] == "tornado-ovms"
    assert built["ConfigMap"]["data"] == {"config.json": '{"model_config_list": []}'}
    deployment = built["Deployment"]["spec"]
    assert "replicas" not in deployment
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/tornado-ovms:{__version__}"
    assert accept(container["args"]).number("max_queue") == 20


def secrets(document: Any) -> set[tuple[str, str]]:
    """Each Secret and its key that a part of a ServiceMonitor wants."""
    if not isinstance(document, dict):
        return set()
    if document.keys() == {"name", "key"}:
        return {(document["name"], document["key"])}
    return {found for each in document.values() for found in secrets(each)}


def made_by_the_page() -> set[tuple[str, str]]:
    """Each Secret and its keys that the page's commands make."""
    found = set()
    for kind, name, rest in re.findall(r"^kubectl create secret (\w+) (\S+) (.*)$", PAGE, re.MULTILINE):
        keys = ["tls.crt", "tls.key"] if kind == "tls" else re.findall(r"--from-(?:file|literal)=([\w.]+)", rest)
        found |= {(name, key) for key in keys}
    return found


@pytest.mark.parametrize("base", ["base", "demo"])
@pytest.mark.parametrize("more", [[], ["client-certificates"]], ids=["", "client-certificates"])
def test_kustomize_builds_the_secure_components(
    base: str, more: list[str], needs_program: Callable[[str], str], tmp_path: Path
) -> None:
    """With all others: the server takes the options, whose files are in Secrets that the page tells how to make."""
    built = combine(needs_program("kubectl"), tmp_path, base, "monitoring", "autoscaling", "secure", *more)
    for document in (built["Deployment"], built["Service"]):
        kubernetes_validate.validate(document, NEWEST, strict=True)
    assert [port["appProtocol"] for port in built["Service"]["spec"]["ports"]] == ["https"]
    spec = built["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    arguments = accept(container["args"])
    names = ["tls_certificate", "tls_key", "inference_keys", "management_keys"]
    names += ["tls_client_ca"] if more else []
    assert [name for name in arguments.given if name.startswith("tls_") or name.endswith("_keys")] == names
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if mount.get("readOnly")}
    volumes = {volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    files = [arguments.text(name).rsplit("/", 1) for name in names]
    wanted = {(volumes[mounts[folder]], file) for folder, file in files}
    (endpoint,) = built["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    wanted |= secrets(endpoint)
    made = made_by_the_page()
    assert wanted == (made if more else {secret for secret in made if secret[0] != "tornado-ovms-prometheus-tls"})


def test_secure_alone(needs_program: Callable[[str], str], tmp_path: Path) -> None:
    """Without the Prometheus operator, of which a cluster may know nothing; the kubelet asks by HTTPS."""
    built = combine(needs_program("kubectl"), tmp_path, "base", "secure")
    assert "ServiceMonitor" not in built
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    for kind in ("startup", "liveness", "readiness"):
        probe = f"{kind}Probe"
        assert container[probe]["httpGet"] == {**server()[probe]["httpGet"], "scheme": "HTTPS"}
