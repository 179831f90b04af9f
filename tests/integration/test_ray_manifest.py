"""The nodes of `infra/k8s/ray/cluster.yaml` started with its parameters and variables, as KubeRay would."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray_nodes import PROGRAMS, Network, network, wait_for

INFRA = Path(__file__).parents[2] / "infra"
ADDRESSES = next(
    document["data"]
    for document in yaml.safe_load_all((INFRA / "k8s" / "0-namespace.yaml").read_text())
    if document["kind"] == "ConfigMap"
)
RAY = yaml.safe_load((INFRA / "k8s" / "ray" / "cluster.yaml").read_text())["spec"]
# Where nodes find what tests give them to do.
WHERE = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent)])
TOKEN = "0123456789abcdef" * 4
OTHER = "another"
DROPPED = "the Ray client has already been disconnected"
HEAD, NODE = "127.0.0.1", "127.0.0.2"
# What kubelet asks for a probe of the kind `grpc`, without any token.
PROBE = """
import grpc, sys
with grpc.insecure_channel(sys.argv[1]) as channel:
    answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
sys.exit(answer != bytes([8, 1]))  # SERVING
"""
WAIT = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)  # MiB
sys.exit(code)
"""
# Others may work on this machine beside the tests.
PATIENT = (
    "from cluster_work import Adding, Sleeping; from vggflow import cluster; cluster.SECONDS_TO_CONNECT = 60; "
    "from vggflow.cluster_workers import for_each; "
)
SLEEP = f"{PATIENT}list(for_each(Sleeping, 300, range(8)))"
WORK = f"{PATIENT}print(cluster.nodes(), list(for_each(Adding, 1, range(3))))"

# What a run has in its environment; the proxies are for git, and Ray must not go there.
OF_A_RUN = {
    **{name: value for name, value in ADDRESSES.items() if name.startswith("RAY_")},
    "RAY_ADDRESS": f"ray://{HEAD}:10001",
    "RAY_AUTH_TOKEN": TOKEN,
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def start(made: Network, name: str, group: Mapping[str, Any], sessions: str, *options: str) -> None:
    """A node of a group; the variables that come from elsewhere are the token, and keys that nothing here uses."""
    (container,) = group["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value", "elsewhere") for entry in container["env"]}
    limits = container["resources"]["limits"]
    parameters = {
        "num-cpus": limits["cpu"],
        "memory": str(int(limits["memory"].removesuffix("Gi")) << 30),
        "metrics-export-port": "8080",
        **group["rayStartParams"],
    }
    told = " ".join([*options, *(f"--{key}={value}" for key, value in parameters.items())])
    command = f"ulimit -n 65536; {PROGRAMS}/ray start --block --temp-dir={sessions} {told}"
    started = made.start("/bin/bash", "-c", "--", command, name=name, **variables | {"RAY_AUTH_TOKEN": TOKEN})
    wait_for(made, name, started)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("nodes")
    with (
        network(folder) as made,
        tempfile.TemporaryDirectory(prefix="vm", ignore_cleanup_errors=True) as sessions,
    ):
        made.variables = {**made.variables, "HOME": str(folder), "PYTHONPATH": WHERE}
        start(made, "head", RAY["headGroupSpec"], f"{sessions}/h", "--head", f"--node-ip-address={HEAD}")
        where = (f"--address={HEAD}:6379", f"--node-ip-address={NODE}")
        start(made, "node", RAY["workerGroupSpecs"][0], f"{sessions}/n", *where)
        yield made


@pytest.mark.parametrize(
    ("address", "group"), [(HEAD, RAY["headGroupSpec"]), (NODE, RAY["workerGroupSpecs"][0])]
)
@pytest.mark.parametrize("kind", ["readinessProbe", "livenessProbe"])
def test_its_probes_find_it_well(nodes: Network, address: str, group: Mapping[str, Any], kind: str) -> None:
    port = group["template"]["spec"]["containers"][0][kind]["grpc"]["port"]
    done = nodes.run(sys.executable, "-c", PROBE, f"{address}:{port}")
    assert done.returncode == 0, done.stderr


def test_a_run_gives_it_work_from_outside_with_the_token(nodes: Network) -> None:
    done = nodes.run(sys.executable, "-c", WORK, timeout=120, **OF_A_RUN)
    # Ray drops a client now and then on a busy machine, probably since the server it starts for each is late.
    for _ in range(2):
        if DROPPED in done.stderr:
            done = nodes.run(sys.executable, "-c", WORK, timeout=120, **OF_A_RUN)
    assert done.returncode == 0, done.stderr
    # The head has no cores.
    assert f"[Node(address='{NODE}', cores=4.0, gpus=0.0, differences=())] [1, 2, 3]" in done.stdout
    refused = nodes.run(sys.executable, "-c", WORK, timeout=120, **OF_A_RUN | {"RAY_AUTH_TOKEN": OTHER})
    assert refused.returncode == 1


def test_what_a_killed_run_began_is_gone_from_it_after_five_seconds(nodes: Network) -> None:
    run = nodes.start(sys.executable, "-c", SLEEP, name="run", **OF_A_RUN)
    wait_until(lambda: at_work(nodes) > 0, 120)
    (inner,) = psutil.Process(run.pid).children() or [psutil.Process(run.pid)]
    inner.kill()
    wait_until(lambda: at_work(nodes) == 0, 5)


def at_work(made: Network) -> int:
    return made.run("ps", "-e", "-o", "args").stdout.count("ray::Holder.work")


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so after {seconds:g} s"
        time.sleep(0.2)


def test_no_dashboard_and_no_server_of_jobs_listens(nodes: Network) -> None:
    listening = nodes.run("ss", "-ltnH").stdout
    assert ":6379 " in listening and ":10001 " in listening
    assert ":8265 " not in listening and ":52365 " not in listening


def test_what_kuberay_waits_with_finds_the_head_within_its_memory(nodes: Network) -> None:
    """`wait-gcs-ready`, which it puts before a node, has 256 MiB."""
    command = (sys.executable, "-c", WAIT, str(PROGRAMS / "ray"), "health-check", "--address", f"{HEAD}:6379")
    done = nodes.run(*command, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert 20 < int(done.stdout.splitlines()[-1]) < 240
    refused = nodes.run(*command, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=OTHER)
    assert refused.returncode != 0
