"""What `infra/` says about servers: everything pinned, no default passwords, the same settings as `vggflow up`."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tiny import write_params

import vggflow
from vggflow.processes.servers import POOL
from vggflow.stack import programs
from vggflow.stack.choices import open_place
from vggflow.workspace import Workspace

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = (INFRA / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
KUBERNETES = [
    document
    for path in sorted((INFRA / "k8s").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
POOLS = {path.stem: json.loads(path.read_text()) for path in sorted((INFRA / "pools").glob("*.json"))}
DEPLOYED = yaml.safe_load((INFRA.parent / "prefect.yaml").read_text())
PLACES = {entry["work_pool"]["work_queue_name"]: entry["work_pool"] for entry in DEPLOYED["deployments"]}
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)*")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY\b|ACCESS_KEY|AUTH_STRING|CONNECTION_URL")
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")


def _images() -> Iterator[str]:
    for service in SERVICES.values():
        yield service["image"]
    for document in KUBERNETES:
        for container in _containers(document):
            yield container["image"]
    for line in (INFRA / "Dockerfile").read_text().splitlines():
        if line.startswith("FROM ") and ":" in line:
            yield line.split()[1]
    for pool in POOLS.values():
        if image := pool["variables"]["properties"].get("image"):
            yield image["default"]


def _pod(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.get("spec", {}).get("template", {}).get("spec", {})


def _containers(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _pod(document).get("containers", [])


@pytest.mark.parametrize("image", sorted(set(_images())))
def test_every_image_is_pinned_by_version(image: str) -> None:
    assert PINNED.fullmatch(image), image
    if image.startswith("vggflow:"):
        assert image.startswith(f"vggflow:{vggflow.__version__}-")


def test_images_name_a_target_of_the_dockerfile() -> None:
    targets = re.findall(r"^FROM \S+ AS (\w+)$", (INFRA / "Dockerfile").read_text(), re.M)
    own = {image.partition("-")[2] for image in _images() if image.startswith("vggflow:")}
    assert own <= set(targets)


def test_packages_are_locked_with_hashes() -> None:
    for line in (INFRA / "Dockerfile").read_text().splitlines():
        if re.search(r"pip (install|sync)|uv build", line):
            assert "--require-hashes" in line or "--offline" in line, line
        for lock in re.findall(r"requirements/[\w.-]+", line):
            assert (INFRA.parent / lock).is_file(), lock


def test_each_extra_for_gpus_has_its_lock_and_can_be_taken_for_the_image() -> None:
    project = tomllib.loads((INFRA.parent / "pyproject.toml").read_text())
    extras = [name for name in project["project"]["optional-dependencies"] if name.startswith("gpu")]
    assert extras == ["gpu", "gpu-jax"]
    taken = next(line for line in (INFRA / "Dockerfile").read_text().splitlines() if "gpu.lock" in line)
    for extra in extras:
        assert f"requirements/{extra}.lock" in taken
        assert re.search(
            r"^(nvidia-cudnn|jax-cuda)\S*==", (INFRA.parent / f"requirements/{extra}.lock").read_text(), re.M
        )


def test_programs_run_as_an_ordinary_user() -> None:
    dockerfile = (INFRA / "Dockerfile").read_text()
    assert dockerfile.index("\nUSER vggflow") < dockerfile.index("\nENTRYPOINT")
    assert "USER root" not in dockerfile
    for document in KUBERNETES:
        for container in _containers(document):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, container["name"]
            assert "limits" in container["resources"], container["name"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_default_password(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(key):
            assert REQUIRED.search(str(value)), f"{name}: {key}"
    assert not re.search(r"\$\{\w+:?-", COMPOSE), "a default value"


def test_every_variable_of_compose_is_explained_and_empty() -> None:
    lines = [line for line in (INFRA / "env.example").read_text().splitlines() if not line.startswith("#")]
    given = dict(line.split("=", 1) for line in lines)
    assert set(given) == set(REQUIRED.findall(COMPOSE))
    assert set(given.values()) == {""}


def test_kubernetes_files_hold_no_passwords() -> None:
    assert "Secret" not in {document["kind"] for document in KUBERNETES}
    for document in KUBERNETES:
        for container in _containers(document):
            for entry in container.get("env", []):
                assert not SECRET.search(entry["name"]) or "valueFrom" in entry, entry


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_holds_no_passwords(name: str) -> None:
    given = POOLS[name]["variables"]["properties"]["env"].get("default", {})
    for key, value in given.items():
        assert not SECRET.search(key) or value.startswith("{{ prefect.blocks.secret."), key


@pytest.mark.parametrize("name", POOLS)
def test_a_template_uses_the_variables_that_it_declares(name: str) -> None:
    used = set(re.findall(r"\{\{ ([\w]+) \}\}", json.dumps(POOLS[name]["job_configuration"])))
    assert used == set(POOLS[name]["variables"]["properties"])


def _defaults(pool: str) -> dict[str, Any]:
    variables = POOLS[pool]["variables"]["properties"]
    return {key: entry["default"] for key, entry in variables.items() if "default" in entry}


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """A template as Prefect fills it: what has no value is left out."""
    if isinstance(template, dict):
        found = {key: _filled(value, values) for key, value in template.items()}
        return {key: value for key, value in found.items() if value is not None}
    if isinstance(template, list):
        return [_filled(entry, values) for entry in template]
    if isinstance(template, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", template)):
        return values.get(whole[1])
    return (
        re.sub(r"\{\{ (\w+) \}\}", lambda m: str(values[m[1]]), template)
        if isinstance(template, str)
        else template
    )


def test_the_job_of_the_kubernetes_pool_is_valid_and_asks_for_a_gpu() -> None:
    pool = POOLS["vggflow-kubernetes"]
    values = _defaults("vggflow-kubernetes")
    values |= {"name": "run", "labels": {"app": "run"}, "command": ["prefect", "flow-run", "execute"]}
    values["env"] = [{"name": key, "value": value} for key, value in values["env"].items()]
    job = _filled(pool["job_configuration"]["job_manifest"], values)
    kubernetes_validate.validate(job, "1.37.0", strict=True)
    container = _containers(job)[0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["volumeMounts"][0]["mountPath"] == values["env"][-1]["value"] == "/state"
    assert _pod(job)["nodeSelector"]
    assert container["envFrom"] == [{"secretRef": {"name": "vggflow-worker"}}]


def test_runs_of_the_queue_cpu_ask_for_no_gpu() -> None:
    given = PLACES["cpu"]["job_variables"]
    values = _defaults("vggflow-kubernetes") | given | {"name": "run", "command": ["true"], "env": []}
    job = _filled(POOLS["vggflow-kubernetes"]["job_configuration"]["job_manifest"], values)
    kubernetes_validate.validate(job, "1.37.0", strict=True)
    assert _containers(job)[0]["resources"]["limits"]["nvidia.com/gpu"] == "0"
    assert _pod(job)["nodeSelector"] == {}
    docker = _defaults("vggflow-docker") | given
    assert "device_requests" not in docker["container_create_kwargs"]
    assert docker["container_create_kwargs"]["cap_drop"] == ["ALL"]
    assert "gpus" not in PLACES["gpu"]["job_variables"]


def test_a_run_that_waits_for_a_node_is_not_given_to_another_worker() -> None:
    stuck = next(spec for spec in DEPLOYED["automations"] if spec["name"] == "stuck")
    assert stuck["trigger"]["within"] > _defaults("vggflow-kubernetes")["pod_watch_timeout_seconds"]


def test_workers_have_no_keys_to_mlflow_s_bucket() -> None:
    servers = {"${STORAGE_ACCESS_KEY", "${STORAGE_SECRET_KEY"}
    for name in ("worker", "worker-gpu"):
        assert not [
            value for value in SERVICES[name]["environment"].values() if str(value).split(":?")[0] in servers
        ]
        assert "MLFLOW_S3_ENDPOINT_URL" not in SERVICES[name]["environment"]
    allowed = json.loads(yaml.safe_load(COMPOSE)["configs"]["storage"]["content"])["identities"]
    worker = next(identity for identity in allowed if identity["name"] == "worker")
    assert {action.partition(":")[2] for action in worker["actions"]} == {"dvc"}


def test_every_worker_names_its_queue_and_the_template_of_its_pool() -> None:
    commands = {name: SERVICES[name]["command"] for name in ("worker", "worker-gpu")}
    queues = [command[command.index("--work-queue") + 1] for command in commands.values()]
    assert sorted(queues) == ["cpu", "gpu"]
    arguments = [word for command in commands.values() for word in command]
    arguments += [
        word for document in KUBERNETES for each in _containers(document) for word in each.get("args", [])
    ]
    templates = {Path(found[0]).stem for word in arguments if (found := re.search(r"/opt/pools/.+", word))}
    assert templates == {"vggflow", "vggflow-kubernetes"} <= set(POOLS)


@pytest.mark.parametrize(
    "address", ["10.0.3.7:5000", "192.168.1.9:5000", "172.16.0.4:5000", "172.24.1.1", "172.31.255.1"]
)
def test_the_probes_of_a_cluster_may_ask_mlflow_by_address(address: str) -> None:
    # Here: it brings half of MLflow's server, which takes seconds.
    from mlflow.server.security_utils import is_allowed_host_header

    entries = [
        entry for document in KUBERNETES for each in _containers(document) for entry in each.get("env", [])
    ]
    allowed = next(
        entry["value"] for entry in entries if entry["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS"
    ).split(",")
    assert is_allowed_host_header(allowed, address)
    assert not is_allowed_host_header(allowed, "172.32.0.1")


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_fits_the_schema_and_a_broken_one_does_not(name: str, tmp_path: Path) -> None:
    def check(path: Path) -> int:
        command = [sys.executable, "-m", "check_jsonschema", "--schemafile", INFRA / "pool.schema.json", path]
        return subprocess.run(command, capture_output=True).returncode

    assert check(INFRA / "pools" / f"{name}.json") == 0
    broken = json.loads(json.dumps(POOLS[name]))
    broken["variables"]["properties"]["labels"]["type"] = "objekt"
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    assert check(tmp_path / "broken.json") == 1


def test_what_the_cluster_refers_to_is_there() -> None:
    named = {(document["kind"], document["metadata"]["name"]) for document in KUBERNETES}
    defaults = _defaults("vggflow-kubernetes")
    assert ("PersistentVolumeClaim", defaults["state_volume_claim"]) in named
    assert ("ServiceAccount", defaults["service_account_name"]) in named
    assert ("Namespace", defaults["namespace"]) in named


def test_the_installed_package_brings_the_pool_of_up() -> None:
    packed = files("vggflow") / "template" / "pools" / f"{POOL}.json"
    assert json.loads(packed.read_text()) == POOLS[POOL]


def test_compose_sets_what_up_sets(tmp_path: Path) -> None:
    """`vggflow up` is what the tests start; the containers must not differ in a setting that matters."""
    write_params(tmp_path)
    place = open_place(Workspace(tmp_path))
    here = {"PREFECT_HOME", "PREFECT_API_URL", "PGPORT"}  # where it lies on one machine
    for name, program in {"mlflow": programs.mlflow(place), "prefect": programs.prefect(place)}.items():
        ours = {key for key in program.environment if key.startswith(("MLFLOW_", "PREFECT_", "PG"))}
        ours -= set(programs.QUIET) | set(os.environ) | here
        assert ours <= set(SERVICES[name]["environment"]), name
    assert "default_permission = NO_PERMISSIONS" in COMPOSE
    for option in ("--app-name", "basic-auth"):
        assert option in SERVICES["mlflow"]["command"]
        assert option in programs.mlflow(place).command


def test_settings_of_the_servers_exist() -> None:
    """A misspelt variable is silently ignored by both servers."""
    names = {key for service in SERVICES.values() for key in service.get("environment", {})}
    ask = (
        "import sys, mlflow, pathlib, prefect.settings as s;"
        "text = ''.join(p.read_text() for p in pathlib.Path(mlflow.__file__).parent.rglob('*.py')"
        " if p.name in ('environment_variables.py', 'cli_args.py') or p.parent.name == 'cli');"
        "print(*[n for n in sys.argv[1:] if not (n in text if n.startswith('MLFLOW_') else hasattr(s, n))])"
    )
    wanted = sorted(name for name in names if name.startswith(("MLFLOW_", "PREFECT_")))
    done = subprocess.run([sys.executable, "-c", ask, *wanted], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert len(wanted) > 10
