"""jobs/kubernetes agrees with the configs, locks and images that it names, and keeps its secrets."""

from __future__ import annotations

import copy
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen.cli import run_command
from synthgen.config.compose import compose_config

ROOT = Path(__file__).parent.parent.parent
KUBERNETES = ROOT / "jobs" / "kubernetes"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def rayjob() -> dict[str, Any]:
    documents = yaml.safe_load_all((KUBERNETES / "base/kuberay.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def pod_specs(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = rayjob["RayJob"]["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_kuberay_entrypoint_composes(rayjob: dict[str, Any]) -> None:
    program, command, *overrides = shlex.split(rayjob["RayJob"]["spec"]["entrypoint"])
    assert (program, command) == ("synthgen", "run")
    config = compose_config(overrides)
    generator, judge = config.generators["main"].model, config.judge.model
    assert "70b" in generator.name
    assert "w8a8" in generator.name
    assert "405b" in judge.name
    assert "fp8" in judge.name


def test_kuberay_nodes_are_those_of_the_cluster_config(rayjob: dict[str, Any]) -> None:
    config = compose_config(shlex.split(rayjob["RayJob"]["spec"]["entrypoint"])[2:])
    [workers] = rayjob["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    [container] = workers["template"]["spec"]["containers"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == config.cluster.nodes
    assert container["resources"]["limits"]["nvidia.com/gpu"] == config.cluster.gpus_per_node


def test_kuberay_nodes_hold_both_models_at_once(
    rayjob: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = shlex.split(rayjob["RayJob"]["spec"]["entrypoint"])[2:]
    here = ["cluster.address=null", "prompts.path=builtin:examples", f"run.dir={tmp_path}/run", "plan.format=json"]
    assert run_command(["plan", *overrides, *here]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["mode"] == "together"
    gpus = {pool["name"]: pool["engine"]["replicas"] * pool["engine"]["num_gpus"] for pool in plan["pools"]}
    assert gpus == {"llama-3.3-70b-w8a8": 8, "llama-3.1-405b-fp8": 8}


def test_kuberay_keeps_everything_on_the_shared_volume(rayjob: dict[str, Any]) -> None:
    config = compose_config(shlex.split(rayjob["RayJob"]["spec"]["entrypoint"])[2:])
    assert rayjob["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    claim = rayjob["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in pod_specs(rayjob):
        [volume] = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        for container in pod["containers"]:
            [mount] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
            environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
            for path in (config.run.dir, config.prompts.path, environment["HF_HOME"]):
                assert path.startswith(f"{mount}/")


def test_kuberay_has_no_secret_in_the_open(rayjob: dict[str, Any]) -> None:
    for pod in pod_specs(rayjob):
        for variable in (variable for container in pod["containers"] for variable in container["env"]):
            if re.search("TOKEN|KEY|SECRET|PASSWORD", variable["name"]):
                assert "value" not in variable
                assert "secretKeyRef" in variable["valueFrom"]


def test_kuberay_asks_for_a_token_and_no_privileges(rayjob: dict[str, Any]) -> None:
    assert rayjob["RayJob"]["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for pod in pod_specs(rayjob):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] != 0
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_kuberay_names_the_versions_of_the_project(rayjob: dict[str, Any]) -> None:
    lock = (ROOT / "requirements/gpu.lock").read_text(encoding="utf-8").splitlines()
    assert f"ray=={rayjob['RayJob']['spec']['rayClusterSpec']['rayVersion']}" in lock
    for container in (container for pod in pod_specs(rayjob) for container in pod["containers"]):
        assert container["image"].endswith(f":{VERSION}-gpu")


def apply_overlay(name: str) -> dict[str, Any]:
    """Return the RayJob of an overlay: the base with the overlay's JSON patches (RFC 6902)."""
    overlay = yaml.safe_load((KUBERNETES / name / "kustomization.yaml").read_text(encoding="utf-8"))
    assert overlay["resources"] == ["../base"]
    base = yaml.safe_load_all((KUBERNETES / "base/kuberay.yaml").read_text(encoding="utf-8"))
    made = copy.deepcopy(next(document for document in base if document["kind"] == "RayJob"))  # anchors are shared
    made = json.loads(json.dumps(made))
    for patch in overlay["patches"]:
        assert patch["target"] == {"kind": "RayJob", "name": made["metadata"]["name"]}
        for change in yaml.safe_load(patch["patch"]):
            *way, last = change["path"].strip("/").split("/")
            place: Any = made
            for step in way:
                place = place[int(step)] if isinstance(place, list) else place[step]
            if change["op"] == "remove":
                del place[last]
            elif isinstance(place, list) and last == "-":
                place.append(change["value"])
            else:
                assert change["op"] == ("replace" if last in place else "add")
                place[last] = change["value"]
    return dict(made)


def test_overlays_name_what_is_there() -> None:
    for path in KUBERNETES.glob("*/kustomization.yaml"):
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert (described["kind"], described["apiVersion"]) == ("Kustomization", "kustomize.config.k8s.io/v1beta1")
        for name in described["resources"]:
            assert (path.parent / name).exists()


def test_openshift_leaves_the_user_to_the_namespace() -> None:
    for pod in pod_specs({"RayJob": apply_overlay("openshift")}):
        assert set(pod["securityContext"]) == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_spot_keeps_the_head_on_a_node_that_stays() -> None:
    head, worker = pod_specs({"RayJob": apply_overlay("spot")})
    assert "nodeSelector" not in head
    assert worker["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert {toleration["key"] for toleration in worker["tolerations"]} >= {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    }
    assert worker["terminationGracePeriodSeconds"] >= 60


def test_monitoring_scrapes_a_port_that_every_pod_has(rayjob: dict[str, Any]) -> None:
    monitor = yaml.safe_load((KUBERNETES / "monitoring/podmonitor.yaml").read_text(encoding="utf-8"))
    ports = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for pod in pod_specs(rayjob):
        [container] = pod["containers"]
        assert ports <= {port["name"] for port in container["ports"]}
