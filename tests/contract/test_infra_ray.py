"""The nodes of Ray in `infra/k8s/ray/`: with a token, closed to all but runs of flows, with limits, and startable."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
SCHEMA = INFRA / "raycluster.schema.json"
CLUSTER = INFRA / "k8s" / "ray" / "cluster.yaml"
RAY = yaml.safe_load(CLUSTER.read_text())
POLICIES = [
    document
    for path in (INFRA / "k8s" / "1-network.yaml", INFRA / "k8s" / "ray" / "network.yaml")
    for document in yaml.safe_load_all(path.read_text())
]
POOL = json.loads((INFRA / "pools" / "vggflow-kubernetes.json").read_text())
ADDRESSES = next(
    document["data"]
    for document in yaml.safe_load_all((INFRA / "k8s" / "0-namespace.yaml").read_text())
    if document["kind"] == "ConfigMap"
)
HEAD, WORKER = {"app": "ray", "ray.io/node-type": "head"}, {"app": "ray", "ray.io/node-type": "worker"}
OTHERS = ("postgres", "storage", "buckets", "mlflow", "prefect", "worker", "serve", "egress", "run")
Documents = list[dict[str, Any]]


def groups(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """The head and the groups of workers."""
    workers = {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}
    return {"head": cluster["spec"]["headGroupSpec"], **workers}


def container(group: Mapping[str, Any]) -> Any:
    (found,) = group["template"]["spec"]["containers"]
    return found


def environment(group: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(group)["env"]}


def problems(cluster: Mapping[str, Any]) -> Iterator[str]:
    """What would be wrong with a cluster of Ray."""
    head = cluster["spec"]["headGroupSpec"]
    if head["serviceType"] != "ClusterIP":
        yield "head: a port is open outside the cluster"
    if head["rayStartParams"].get("include-dashboard") != "false":
        yield "head: the dashboard runs"
    if head["rayStartParams"].get("dashboard-host") != "127.0.0.1":
        yield "head: KubeRay opens the dashboard to all addresses"
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "head: it works on images"
    for name, group in groups(cluster).items():
        given, resources = environment(group), container(group)["resources"]
        if given.get("RAY_AUTH_MODE") != "token":
            yield f"{name}: lets in whoever reaches it"
        if given.get("RAY_AUTH_TOKEN") != {"secretKeyRef": {"name": "vggflow-ray", "key": "RAY_AUTH_TOKEN"}}:
            yield f"{name}: has no token of the secret"
        if not {"cpu", "memory"} <= set(resources["limits"]):
            yield f"{name}: has no limits"
        if group["template"]["spec"].get("automountServiceAccountToken") is not False:
            yield f"{name}: has a log-in of the cluster"
        if not all("sizeLimit" in volume["emptyDir"] for volume in group["template"]["spec"]["volumes"]):
            yield f"{name}: fills the disk"
        # KubeRay's own probes need wget and the dashboard's agents, which the image has not.
        if not all("grpc" in container(group).get(f"{kind}Probe", {}) for kind in ("readiness", "liveness")):
            yield f"{name}: KubeRay adds probes that fail"
        if "hostPort" in json.dumps(group) or group["template"]["spec"].get("hostNetwork"):
            yield f"{name}: a port of the node is open"


def reaches(policies: Documents, source: Mapping[str, str], target: Mapping[str, str], port: int) -> bool:
    """Whether policies let a pod with some labels reach a port of another one of this namespace."""
    leaves = _allowed(policies, "Egress", "to", source, target, port)
    return leaves and _allowed(policies, "Ingress", "from", target, source, port)


def _allowed(
    policies: Documents, kind: str, key: str, pod: Mapping[str, str], peer: Mapping[str, str], port: int
) -> bool:
    own = [
        p["spec"] for p in policies if kind in p["spec"]["policyTypes"] and _is(p["spec"]["podSelector"], pod)
    ]
    rules = [rule for spec in own for rule in spec.get(kind.lower(), [])]
    return not own or any(
        (
            key not in rule
            or any("podSelector" in each and _is(each["podSelector"], peer) for each in rule[key])
        )
        and ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        for rule in rules
    )


def _is(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def wrong_ways(policies: Documents) -> set[str]:
    """Ways that are open and should not be, and ways that are closed and should be open."""
    pods = {"head": HEAD, "node": WORKER, **{name: {"app": name} for name in OTHERS}}
    expected = {("run", "head", 10001), ("node", "storage", 8333), ("node", "egress", 8888)}
    expected |= {
        (a, b, port) for a in ("head", "node") for b in ("head", "node") for port in (6379, 6380, 10001, 8265)
    }
    ports = (53, 443, 4200, 5000, 5432, 6379, 6380, 6443, 8080, 8265, 8333, 8888, 10001, 44217)
    found = {
        (source, target, port)
        for source in pods
        for target in pods
        for port in ports
        if {source, target} & {"head", "node"} and reaches(policies, pods[source], pods[target], port)
    }
    among = {(a, b, port) for a in ("head", "node") for b in ("head", "node") for port in ports}
    return {
        f"{source} → {target}:{port}" for source, target, port in (found - among) ^ (expected - among)
    } | {f"{source} → {target}:{port}" for source, target, port in among - found}


def test_the_cluster_is_as_it_should_be() -> None:
    assert list(problems(RAY)) == []
    assert set(groups(RAY)) == {"head", "cpu", "gpu"}


def _change(path: Sequence[str | int], value: Any = None) -> Callable[[Any], None]:
    """Something in a document made another, or taken out."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        if value is None:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return change


CPU: tuple[str | int, ...] = ("spec", "workerGroupSpecs", 0)
GPU: tuple[str | int, ...] = ("spec", "workerGroupSpecs", 1)
FRONT: tuple[str | int, ...] = ("spec", "headGroupSpec")
OF_POD: tuple[str | int, ...] = ("template", "spec")
OF_RAY: tuple[str | int, ...] = (*OF_POD, "containers", 0)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((*FRONT, "serviceType"), "LoadBalancer", "a port is open outside"),
        ((*FRONT, "rayStartParams", "include-dashboard"), None, "the dashboard runs"),
        ((*FRONT, "rayStartParams", "dashboard-host"), None, "opens the dashboard"),
        ((*FRONT, "rayStartParams", "num-cpus"), None, "works on images"),
        ((*FRONT, *OF_RAY, "env", 0), None, "head: lets in whoever"),
        ((*FRONT, *OF_RAY, "env", 1), None, "head: has no token"),
        ((*CPU, *OF_RAY, "env", 0, "value"), "disabled", "cpu: lets in whoever"),
        (
            (*GPU, *OF_RAY, "env", 1),
            {"name": "RAY_AUTH_TOKEN", "value": "secret"},
            "gpu: has no token of the secret",
        ),
        ((*GPU, *OF_RAY, "resources", "limits", "memory"), None, "gpu: has no limits"),
        ((*CPU, *OF_RAY, "resources", "limits", "cpu"), None, "cpu: has no limits"),
        ((*CPU, *OF_POD, "automountServiceAccountToken"), None, "cpu: has a log-in"),
        ((*CPU, *OF_POD, "volumes", 0, "emptyDir", "sizeLimit"), None, "cpu: fills the disk"),
        ((*GPU, *OF_RAY, "livenessProbe"), None, "gpu: KubeRay adds probes"),
        ((*FRONT, *OF_RAY, "ports", 0, "hostPort"), 6379, "head: a port of the node"),
    ],
)
def test_a_cluster_that_is_less_closed_is_noticed(path: Sequence[str | int], value: Any, told: str) -> None:
    changed = copy.deepcopy(RAY)
    _change(path, value)(changed)
    assert any(told in problem for problem in problems(changed)), list(problems(changed))


def test_who_reaches_nodes_and_whom_they_reach() -> None:
    assert wrong_ways(POLICIES) == set()
    # Nor does anything in another namespace: no rule names one but for asking for names.
    for policy in POLICIES:
        text = json.dumps(policy["spec"].get("ingress", []))
        assert "namespaceSelector" not in text and "ipBlock" not in text, policy["metadata"]["name"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ray", "node → head:6379"),
        ("run-to-ray", "run → head:10001"),
        ("ray-from-run", "run → head:10001"),
        ("from-ray", "node → storage:8333"),
        ("ray-to-storage", "node → storage:8333"),
        ("ray-to-egress", "node → egress:8888"),
    ],
)
def test_a_policy_that_is_missing_is_noticed(name: str, told: str) -> None:
    left = [policy for policy in POLICIES if policy["metadata"]["name"] != name]
    assert len(left) == len(POLICIES) - 1
    assert told in wrong_ways(left)


@pytest.mark.parametrize(
    ("name", "path", "told"),
    [
        ("run-to-ray", ("spec", "ingress", 0, "from"), "serve → head:10001"),
        ("run-to-ray", ("spec", "ingress", 0, "ports"), "run → head:6379"),
        ("run-to-ray", ("spec", "podSelector", "matchLabels", "ray.io/node-type"), "run → node:10001"),
        ("from-ray", ("spec", "egress", 0, "to"), "node → mlflow:8333"),
        ("ray", ("spec", "ingress", 0, "from"), "run → head:6379"),
    ],
)
def test_a_policy_that_allows_more_is_noticed(name: str, path: Sequence[str | int], told: str) -> None:
    """The other side is left open here, as a rule of somebody else's might."""
    changed = copy.deepcopy(POLICIES)
    _change(path)(next(policy for policy in changed if policy["metadata"]["name"] == name))
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for direction in ("ingress", "egress"):
        opened = [*changed, {"metadata": {"name": "more"}, "spec": {**everything, direction: [{}]}}]
        if told in wrong_ways(opened) and told not in wrong_ways([*POLICIES, opened[-1]]):
            return
    pytest.fail(told)


def test_the_cluster_fits_the_schema_and_broken_ones_do_not(tmp_path: Path) -> None:
    def check(document: Any) -> int:
        (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(document))
        command = [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--schemafile",
            SCHEMA,
            tmp_path / "cluster.yaml",
        ]
        return subprocess.run(command, capture_output=True).returncode

    assert check(RAY) == 0
    # KubeRay takes texts only, and drops what it does not know without a word.
    for path, value in (
        (("spec", "rayVersoin"), "2.60.0"),
        ((*FRONT, "rayStartParams", "num-cpus"), 1),
        ((*CPU, "template"), None),
        ((*GPU, "replica"), 3),
        (("kind",), "RayJob"),
    ):
        changed = copy.deepcopy(RAY)
        _change(path, value)(changed)
        assert check(changed) == 1, path


@pytest.mark.parametrize("name", groups(RAY))
def test_its_templates_are_pods(name: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", **groups(RAY)[name]["template"]}
    pod["metadata"] = {"name": "ray", **pod["metadata"]}
    kubernetes_validate.validate(pod, "1.37.0", strict=True)
    pod["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, "1.37.0", strict=True)


def test_its_ray_is_that_of_the_images() -> None:
    for lock in ("worker", "worker-gpu", "worker-gpu-jax"):
        text = (INFRA.parent / "requirements" / f"{lock}.lock").read_text()
        assert re.search(rf"^ray=={re.escape(RAY['spec']['rayVersion'])} ", text, re.M), lock
    assert version("ray") == RAY["spec"]["rayVersion"]


def test_the_groups_differ_in_their_gpus_only() -> None:
    """A node with other packages than the run is refused, so both images are of one set."""
    cpu, gpu = (copy.deepcopy(groups(RAY)[name]) for name in ("cpu", "gpu"))
    assert container(gpu)["resources"]["limits"].pop("nvidia.com/gpu") == "1"
    assert (
        gpu["template"]["spec"].pop("nodeSelector")
        == POOL["variables"]["properties"]["node_selector"]["default"]
    )
    assert (
        gpu["template"]["spec"].pop("tolerations")
        == POOL["variables"]["properties"]["tolerations"]["default"]
    )
    images = [container(group).pop("image").partition("-")[2] for group in (cpu, gpu)]
    assert images == ["worker", "worker-gpu"]
    for group in (cpu, gpu):
        container(group)["resources"] = group["groupName"] = ""
        del group["replicas"], group["maxReplicas"]
    assert cpu == gpu


def test_a_node_has_the_keys_of_the_dvc_remote_and_no_other_log_in() -> None:
    secrets = {
        name: {
            key
            for key, value in environment(group).items()
            if isinstance(value, dict) and "secretKeyRef" in value
        }
        for name, group in groups(RAY).items()
    }
    keys = {"RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert secrets == {"head": {"RAY_AUTH_TOKEN"}, "cpu": keys, "gpu": keys}
    assert not [name for name, group in groups(RAY).items() if "envFrom" in container(group)]


def test_runs_of_flows_get_address_mode_and_token() -> None:
    """No address stands there until somebody has the nodes."""
    assert (ADDRESSES["RAY_ADDRESS"], ADDRESSES["RAY_AUTH_MODE"]) == ("", "token")
    (job,) = POOL["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "vggflow-ray", "optional": True}} in job["envFrom"]
    told = re.search(r'"RAY_ADDRESS": "(ray://[\w-]+):(\d+)"', CLUSTER.read_text())
    assert told is not None
    assert told[1] == f"ray://{RAY['metadata']['name']}-head-svc"
    assert int(told[2]) in {port["containerPort"] for port in container(groups(RAY)["head"])["ports"]}
