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

import dotenv
import kubernetes_validate
import pytest
import yaml
from tiny import write_params

import vggflow
from vggflow.environment import TRAINING_HOSTS
from vggflow.processes.servers import POOL
from vggflow.stack import containers, programs
from vggflow.stack.choices import open_place
from vggflow.workspace import Workspace

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = (INFRA / "compose.yaml").read_text()
COMPOSED = yaml.safe_load(COMPOSE)
SERVICES = COMPOSED["services"]
WORKERS = ("worker-cpu", "worker-gpu")
FOR_GPUS = yaml.safe_load((INFRA / "compose.gpu.yaml").read_text())
KUBERNETES = [
    document
    for path in sorted((INFRA / "k8s").rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
DOCKERFILE = (INFRA / "Dockerfile").read_text()
POOLS = {path.stem: json.loads(path.read_text()) for path in sorted((INFRA / "pools").glob("*.json"))}
DEPLOYED = yaml.safe_load((INFRA.parent / "prefect.yaml").read_text())
PLACES = {entry["work_pool"]["work_queue_name"]: entry["work_pool"] for entry in DEPLOYED["deployments"]}
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)*")
SECRET = re.compile(r"PASSWORD(?!_FILE)|SECRET|_KEY\b|ACCESS_KEY|AUTH_STRING|TOKEN|LOGIN|CREDENTIALS")
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


def _images() -> Iterator[str]:
    for service in SERVICES.values():
        yield service["image"]
    yield from (each["image"] for each in FOR_GPUS["services"].values())
    for document in KUBERNETES:
        for container in _containers(document):
            yield container["image"]
    for line in DOCKERFILE.splitlines():
        if line.startswith("FROM ") and ":" in line:
            yield line.split()[1]
    for pool in POOLS.values():
        if image := pool["variables"]["properties"].get("image"):
            yield image["default"]


def _pod(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.get("spec", {}).get("template", {}).get("spec", {})


def _pods(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if document["kind"] == "RayCluster":
        return [_pod({"spec": group}) for group in _groups(document).values()]
    return [_pod(document)]


def _groups(cluster: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The head and the groups of workers of a RayCluster."""
    workers = {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}
    return {"head": cluster["spec"]["headGroupSpec"], **workers}


def _containers(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [container for pod in _pods(document) for container in pod.get("containers", [])]


def test_the_job_of_several_hosts_in_the_docs_is_one_that_kubernetes_takes() -> None:
    text = (INFRA.parent / "docs/training.md").read_text()
    (written,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    service, job = yaml.safe_load_all(written)
    for document in (service, job):
        kubernetes_validate.validate(document, "1.37.0", strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    hosts = next(each["value"] for each in container["env"] if each["name"] == TRAINING_HOSTS).split(",")
    named = [
        f"{job['metadata']['name']}-{number}.{pod['subdomain']}"
        for number in range(job["spec"]["completions"])
    ]
    assert [host.partition(":")[0] for host in hosts] == named
    assert service["metadata"]["name"] == pod["subdomain"]


@pytest.mark.parametrize("image", sorted(set(_images())))
def test_every_image_is_pinned_by_version(image: str) -> None:
    assert PINNED.fullmatch(image), image
    if image.startswith("vggflow:"):
        assert image.startswith(f"vggflow:{vggflow.__version__}-")


def test_images_name_a_target_of_the_dockerfile() -> None:
    targets = re.findall(r"^FROM \S+ AS ([\w-]+)$", DOCKERFILE, re.M)
    own = {image.partition("-")[2] for image in _images() if image.startswith("vggflow:")}
    assert own <= set(targets)


def test_each_image_is_built_by_one_service_and_pulled_by_none() -> None:
    own = [service for service in SERVICES.values() if service["image"].startswith("vggflow:")]
    assert {service["pull_policy"] for service in own} == {"never"}
    built = [service["build"]["target"] for service in own if "build" in service]
    assert sorted(built) == sorted({service["image"].partition("-")[2] for service in own})


def test_packages_are_locked_with_hashes() -> None:
    for line in DOCKERFILE.splitlines():
        if re.search(r"pip (install|sync)|uv build", line):
            assert "--require-hashes" in line or "--no-deps --no-index" in line, line
        for lock in re.findall(r"requirements/[\w.-]+", line):
            assert (INFRA.parent / lock).is_file(), lock


def test_each_extra_for_gpus_has_its_lock_and_can_be_taken_for_the_image() -> None:
    project = tomllib.loads((INFRA.parent / "pyproject.toml").read_text())
    extras = [name for name in project["project"]["optional-dependencies"] if name.startswith("gpu")]
    assert extras == ["gpu", "gpu-jax"]
    taken = next(line for line in DOCKERFILE.splitlines() if "worker-gpu.lock" in line)
    for extra in extras:
        assert f"requirements/worker-{extra}.lock" in taken
        assert re.search(r"^(nvidia-cudnn|jax-cuda)\S*==", _lock(f"worker-{extra}"), re.M)


def test_servers_are_free_of_tensorflow_and_models_name_the_workers_pip() -> None:
    assert not re.search(r"^(tensorflow|keras|dvc)==", _lock("server"), re.M)
    for name in ("worker", "worker-gpu", "worker-gpu-jax"):
        for package in ("pip", "tensorflow", "dvc-s3"):
            assert re.search(rf"^{package}==", _lock(name), re.M), (name, package)
    assert {SERVICES[name]["image"].partition("-")[2] for name in ("mlflow", "prefect", "buckets")} == {
        "server"
    }


def _lock(name: str) -> str:
    return (INFRA.parent / "requirements" / f"{name}.lock").read_text()


def test_only_what_the_dockerfile_copies_reaches_docker() -> None:
    """Passwords, environments and data lie in the same folder."""
    ignored = (INFRA.parent / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if line and not line.startswith("#")) == "*"
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    sources = {word for words in copied if not words[0].startswith("--from") for word in words}
    for source in sorted(source for source in sources if not source.startswith("--")):
        assert any(source == each or source.startswith(f"{each}/") for each in kept), source
    assert not {".env", "infra", "infra/.env", "demo", ".venv"} & kept
    assert "VOLUME" not in DOCKERFILE  # each start would leave one without a name


def test_programs_run_as_an_ordinary_user_without_rights() -> None:
    stages = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.M)[1:]
    users = {
        re.search(r"AS ([\w-]+)", stage)[1]: re.findall(r"^USER (\w+)$", stage, re.M) for stage in stages
    }
    own = {name: users[name] for name in ("server", "worker", "worker-gpu", "egress")}
    assert own == {
        "server": ["vggflow"],
        "worker": ["vggflow"],
        "worker-gpu": ["vggflow"],
        "egress": ["nobody"],
    }
    assert "root" not in {name for names in users.values() for name in names}
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"] and service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["image"].startswith("vggflow:") or not service["user"].startswith(("0", "root")), name
    for pod in (pod for document in KUBERNETES for pod in _pods(document)):
        for container in pod.get("containers", []):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, container["name"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, container["name"]
            assert {**pod["securityContext"], **container["securityContext"]}["runAsNonRoot"]
            assert "limits" in container["resources"], container["name"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_stands_in_a_service_s_environment_or_command(name: str) -> None:
    """`docker inspect` shows both: passwords come as Docker's secrets, which are files."""
    service = SERVICES[name]
    for key, value in service.get("environment", {}).items():
        assert not SECRET.search(key), f"{name}: {key}"
        assert not [found[0] for found in VARIABLE.findall(str(value)) if SECRET.search(found[0])], key
    assert not SECRET.search(" ".join(service.get("command", [])))
    # Docker up to 28 looks for the owner of such a file among the users of the host, and fails.
    for given in (*service.get("secrets", []), *service.get("configs", [])):
        assert not {"uid", "gid", "mode"} & set(given), given
    assert {secret["source"] for secret in service.get("secrets", [])} <= set(COMPOSED["secrets"])


def test_every_variable_is_explained_and_nothing_secret_has_a_default() -> None:
    given = dotenv.dotenv_values(INFRA / "env.example", interpolate=False)
    secrets = {entry["environment"] for entry in COMPOSED["secrets"].values()}
    used = {name: (kind, default) for name, kind, default in VARIABLE.findall(COMPOSE)}
    del used["WORKER_SECRETS_DIGEST"]  # for `vggflow up --containers` to say
    assert set(given) == set(used) | secrets | {"PERSON_PASSWORD"}
    assert {name for name in given if SECRET.search(name)} >= secrets - {"GIT_KNOWN_HOSTS"}
    for name, value in given.items():
        if SECRET.search(name):
            assert (value, used.get(name, ("?", ""))[0]) == ("", "?"), name
        elif name in used:
            kind, default = used[name]
            assert (kind, default) in {("-", value), ("-", "/nowhere")}, name


def test_workers_are_made_anew_when_one_of_their_secrets_is_another() -> None:
    for name in WORKERS:
        given = {COMPOSED["secrets"][secret["source"]]["environment"] for secret in SERVICES[name]["secrets"]}
        assert given == set(containers.SECRETS_OF_WORKERS)
        assert SERVICES[name]["labels"]["org.vggflow.secrets"] == "${WORKER_SECRETS_DIGEST:-}"


def test_compose_makes_passwords_for_all_that_need_one() -> None:
    given = dotenv.dotenv_values(INFRA / "env.example", interpolate=False)
    by_hand = {"GIT_KEY", "GIT_CREDENTIALS"}
    assert {name for name in given if SECRET.search(name)} - by_hand == {
        *containers.SECRETS,
        containers.LOGIN,
    }


def test_who_is_on_a_network_with_whom() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    internal = {name for name, network in COMPOSED["networks"].items() if (network or {}).get("internal")}
    assert internal == {"databases", "work"}
    # Else what listens on the host is reached by the host's address in the network.
    for name in internal:
        options = COMPOSED["networks"][name]["driver_opts"]
        assert options == {"com.docker.network.bridge.inhibit_ipv4": "true"}
    assert {name for name, own in networks.items() if "databases" in own} == {"postgres", "mlflow", "prefect"}
    assert networks["postgres"] == {"databases"}
    # A worker runs what the workspace's git says: it has no way out but the proxy.
    assert all(networks[name] == {"work"} for name in WORKERS)
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to others"
            assert "published" in networks[name], f"{name}: no port is opened on an internal network"


def test_the_store_listens_outside_with_s3_alone() -> None:
    for words in (SERVICES["storage"]["command"], _container("storage")["args"]):
        assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-s3.port.iceberg=0", "-s3.port.lance=0"} <= set(
            words
        )
    assert "[jwt.filer_signing]" in COMPOSED["configs"]["storage-signing"]["content"]


def test_prefect_s_pages_have_a_place_and_are_asked_for() -> None:
    """Without them `/api/health` is as healthy as with them."""
    folder = SERVICES["prefect"]["environment"]["PREFECT_SERVER_UI_STATIC_DIRECTORY"]
    assert [
        volume
        for volume in SERVICES["prefect"]["volumes"]
        if folder.startswith(volume.partition(":")[2] + "/")
    ]
    asked = SERVICES["prefect"]["healthcheck"]["test"]
    assert {"http://127.0.0.1:4200/", "http://127.0.0.1:4200/v2/"} <= set(asked)


def test_people_reach_the_store_and_workers_have_log_ins_for_git() -> None:
    assert [port for port in SERVICES["storage"]["ports"] if port.endswith(":8333")]
    configured = "".join(path.read_text() for path in sorted((INFRA / "git").iterdir()))
    for name in WORKERS:
        targets = {secret["target"] for secret in SERVICES[name]["secrets"]}
        assert {"git_key", "git_known_hosts", "git_credentials"} <= targets
    for target in ("git_key", "git_known_hosts", "git_credentials"):
        assert f"/run/secrets/{target}" in configured
    assert "infra/git/gitconfig /etc/gitconfig" in DOCKERFILE
    assert "infra/git/ssh_config /etc/ssh/ssh_config.d/" in DOCKERFILE


def test_what_serves_reads_a_clone_that_somebody_else_owns() -> None:
    (volume,) = SERVICES["serve"]["volumes"]
    mounted = VARIABLE.sub("", volume).split(":")[1]
    assert f"directory = {mounted}" in (INFRA / "git" / "gitconfig").read_text()
    assert mounted in SERVICES["serve"]["command"]


def test_workers_give_links_for_browsers() -> None:
    for name in WORKERS:
        environment = SERVICES[name]["environment"]
        assert environment["VGGFLOW_MLFLOW_URL"] == "${MLFLOW_URL:-http://localhost:5000}"
        assert environment["PREFECT_UI_URL"] == "${PREFECT_URL:-http://localhost:4200}"


def _container(name: str) -> Mapping[str, Any]:
    return next(each for document in KUBERNETES for each in _containers(document) if each["name"] == name)


SECRETS_OF_THE_CLUSTER = {
    name: set(re.findall(r"--from-literal=([\w.]+)=", made))
    for name, made in re.findall(
        r"create secret generic (\S+)((?:.*\\\n)*.*)",
        "".join(path.read_text() for path in sorted((INFRA / "k8s").rglob("*.yaml"))),
    )
}


@pytest.mark.parametrize("name", ["postgres", "storage", "mlflow", "prefect", "egress", "serve"])
def test_a_cluster_runs_what_compose_runs(name: str) -> None:
    """Images, ports, commands, environment, probes and limits are written in both, and are the same."""
    service, container = SERVICES[name], _container(name)
    assert container["image"] == service["image"]
    assert container.get("args") == service.get("command")
    ports = {int(port.rpartition(":")[2]) for port in service.get("ports", [])}
    assert ports <= {port["containerPort"] for port in container["ports"]}
    given = {entry["name"] for entry in container.get("env", [])}
    for source in container.get("envFrom", []):
        given |= SECRETS_OF_THE_CLUSTER[source["secretRef"]["name"]]
    assert {key.removesuffix("_FILE") for key in service.get("environment", {})} <= given
    assert {secret["target"] for secret in service.get("secrets", []) if secret["target"].isupper()} <= given
    probe = container["readinessProbe"].get("httpGet", {}).get("path", "")
    assert probe in " ".join(service.get("healthcheck", {}).get("test", []))
    limit = container["resources"]["limits"]["memory"].removesuffix("i").lower()
    assert limit == service["mem_limit"]


def test_a_cluster_lets_programs_reach_what_compose_lets_them_reach() -> None:
    """What the nodes of Ray may reach, which Compose has none of, is in test_infra_ray.py."""
    documents = list(yaml.safe_load_all((INFRA / "k8s" / "1-network.yaml").read_text()))
    policies = {document["metadata"]["name"]: document["spec"] for document in documents}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    into = {}
    for name, spec in policies.items():
        for rule in spec.get("ingress", []):
            (peer,) = rule["from"]
            (expression,) = peer["podSelector"]["matchExpressions"]
            into[name.removeprefix("to-"), rule["ports"][0]["port"]] = set(expression["values"])
    assert {who for names in into.values() for who in names} <= {
        *("mlflow", "prefect", "buckets", "run", "serve", "worker")
    }
    assert into["postgres", 5432] == {"mlflow", "prefect"}
    assert into["storage", 8333] == {"mlflow", "buckets", "run"}
    # Both sides have to allow it.
    for (target, port), sources in into.items():
        for source in sources:
            rules = policies[f"from-{source}"]["egress"]
            assert any(
                {"port": port} in rule["ports"]
                and rule.get("to") == [{"podSelector": {"matchLabels": {"app": target}}}]
                for rule in rules
            ), (source, target)
    assert not [
        rule
        for rule in policies["from-run"]["egress"]
        if rule["to"][0]["podSelector"]["matchLabels"]["app"]
        not in {"mlflow", "prefect", "storage", "egress"}
    ]


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


@pytest.mark.parametrize("name", ["vggflow-docker", "vggflow-kubernetes"])
def test_a_pool_s_runs_find_what_workers_of_compose_find(name: str) -> None:
    """Addresses, log-ins and the way out are written in each."""
    expected = dict(SERVICES["worker-cpu"]["environment"])
    expected["VGGFLOW_STATE"] = "/state"
    secrets = {each["target"] for each in SERVICES["worker-cpu"]["secrets"] if each["target"].isupper()}
    given = dict(POOLS[name]["variables"]["properties"]["env"]["default"])
    if name == "vggflow-kubernetes":
        (addresses,) = (
            document["data"]
            for document in KUBERNETES
            if document["kind"] == "ConfigMap" and document["metadata"]["name"] == "vggflow-addresses"
        )
        given = addresses | dict.fromkeys(SECRETS_OF_THE_CLUSTER["vggflow-worker"], "") | given
    del expected["PREFECT_API_URL"]  # Prefect's worker hands it on
    assert set(expected) | secrets <= set(given)
    for key, value in expected.items():
        if given[key]:
            assert given[key] == VARIABLE.sub(lambda found: found[3], value), key


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
    state = next(entry["value"] for entry in values["env"] if entry["name"] == "VGGFLOW_STATE")
    assert container["volumeMounts"][0]["mountPath"] == state == "/state"
    assert _pod(job)["nodeSelector"]
    assert {"secretRef": {"name": "vggflow-worker"}} in container["envFrom"]
    assert job["spec"]["template"]["metadata"]["labels"] == {"app": "run"}


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


def test_workers_and_people_have_no_keys_to_mlflow_s_bucket() -> None:
    for name in WORKERS:
        sources = {secret["source"] for secret in SERVICES[name]["secrets"]}
        assert not {"storage-access-key", "storage-secret-key", "postgres-password"} & sources
        assert "MLFLOW_S3_ENDPOINT_URL" not in SERVICES[name]["environment"]
    allowed = json.loads(COMPOSED["configs"]["storage"]["content"])["identities"]
    assert {identity["name"] for identity in allowed} == {"servers", "worker", "person"}
    for identity in allowed:
        buckets = {action.partition(":")[2] for action in identity["actions"]}
        assert buckets == ({""} if identity["name"] == "servers" else {"dvc"}), identity["name"]


def test_every_queue_that_deployments_use_has_a_worker_with_the_template_of_its_pool() -> None:
    commands = {name: SERVICES[name]["command"] for name in WORKERS}
    queues = [command[command.index("--work-queue") + 1] for command in commands.values()]
    assert sorted(queues) == sorted(PLACES) == ["cpu", "gpu"]
    assert not [name for name in WORKERS if "profiles" in SERVICES[name]]
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
        targets = {secret["target"] for secret in SERVICES[name]["secrets"]}
        assert ours <= set(SERVICES[name]["environment"]) | targets, name
    assert "default_permission = NO_PERMISSIONS" in COMPOSE
    for option in ("--app-name", "basic-auth"):
        assert option in SERVICES["mlflow"]["command"]
        assert option in programs.mlflow(place).command


def test_settings_of_the_servers_exist() -> None:
    """A misspelt variable is silently ignored by both servers."""
    names = {key for service in SERVICES.values() for key in service.get("environment", {})}
    names |= {each["target"] for service in SERVICES.values() for each in service.get("secrets", [])}
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
