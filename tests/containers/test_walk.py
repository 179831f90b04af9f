"""The whole way in containers, in the order in which a team comes along: each test goes on where the last one ended."""

import json
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.exceptions
import dotenv
import httpx
import pytest
from playwright.sync_api import sync_playwright
from stack import ROOT, Stack, reaches, through_the_proxy
from team import schedule_within, wait
from tiny import COLOURS, draw, draw_data, write_params

from vggflow import workspace as workspaces
from vggflow.stack.choices import free_ports

pytestmark = pytest.mark.timeout(1800)
REFUSED = r"AccessDenied|403|Forbidden"
GIT_IMAGE = "vggflow-test-git"
SERVERS = ("postgres", "storage", "mlflow", "prefect", "egress", "worker-cpu", "worker-gpu")


@pytest.fixture(scope="module")
def stack(
    docker: Mapping[str, str], base_images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A clone of vggflow and a new workspace; all containers, networks and volumes go in the end."""
    folder = tmp_path_factory.mktemp("team")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "vggflow")], check=True)
    root = folder / "pets"
    write_params(root, registry={"name": "pets", "experiment": "pets"})
    workspaces.init(root)
    made = Stack(folder / "vggflow", root, f"vggflow-test-{uuid.uuid4().hex[:8]}", docker)
    try:
        yield made
    finally:
        if (made.infra / ".env").exists():
            made.run("docker", "rm", "--force", f"{made.project}-git", check=False)
            made.run("docker", "image", "rm", GIT_IMAGE, check=False)
            made.compose("--profile", "serve", "down", "--volumes", "--timeout", "20")


def test_one_command_brings_all_of_it_up(stack: Stack) -> None:
    said = stack.up()
    assert re.search(r"^MLflow +http://127\.0\.0\.1:\d+ ", said, re.M), said
    assert re.search(r"^Prefect +http://127\.0\.0\.1:\d+ ", said, re.M)
    assert "workers can't clone this workspace" in said
    assert "workers can't reach the DVC remote" in said
    for name in SERVERS:
        state = stack.inspect(name)["State"]
        assert state["Running"] and state.get("Health", {}).get("Status", "healthy") == "healthy", name
    passwords = [
        value for name, value in stack.env.items() if re.search("PASSWORD|SECRET|LOGIN|ACCESS_KEY", name)
    ]
    assert not [value for value in passwords if value and value in said], "a password was printed"


def test_servers_carry_no_tensorflow_and_workers_carry_pip(stack: Stack) -> None:
    find = "import importlib.util as u, sys; print([u.find_spec(n) is not None for n in sys.argv[1:]])"
    for service, expected in (("mlflow", "[False, False]"), ("worker-cpu", "[True, True]")):
        assert expected in stack.compose("exec", "-T", service, "python", "-c", find, "tensorflow", "pip")
    sizes = {
        target: int(stack.run("docker", "image", "inspect", "-f", "{{.Size}}", f"vggflow:0.1.0-{target}"))
        for target in ("server", "worker")
    }
    assert sizes["server"] < sizes["worker"] / 2, sizes


def test_no_container_has_rights_or_shows_a_password(stack: Stack, report: list[str]) -> None:
    env = stack.env
    passwords = {
        value for name, value in env.items() if value and re.search("PASSWORD|SECRET|LOGIN|_KEY", name)
    }
    report.append("container | user | capabilities | new rights | memory | processes | open ports")
    for name in SERVERS:
        found = stack.inspect(name)
        host = found["HostConfig"]
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Memory"] > 0 and host["PidsLimit"] > 0, name
        assert host["LogConfig"]["Config"]["max-size"], name
        shown = json.dumps(found)
        assert not [value for value in passwords if value in shown], f"{name} shows a password"
        status = stack.compose("exec", "-T", name, "cat", "/proc/1/status")
        rights = dict(re.findall(r"^(Uid|CapEff|NoNewPrivs):\s+(\S+)", status, re.M))
        assert rights["Uid"] != "0", name
        assert int(rights["CapEff"], 16) == 0, name
        assert rights["NoNewPrivs"] == "1", name
        opened = {
            f"{each['HostIp']}:{each['HostPort']}"
            for places in found["NetworkSettings"]["Ports"].values()
            for each in places or []
        }
        assert all(place.startswith("127.0.0.1:") for place in opened), opened
        report.append(
            f"{name} | {rights['Uid']} | none | no | {host['Memory'] // 2**20} MiB | {host['PidsLimit']} | "
            f"{', '.join(sorted(opened)) or 'none'}"
        )
    volumes = stack.run("docker", "volume", "ls", "--quiet", "--filter", f"name={stack.project}").split()
    mounted = {
        mount.get("Name")
        for name in SERVERS
        for mount in stack.inspect(name)["Mounts"]
        if mount["Type"] == "volume"
    }
    assert mounted == set(volumes), "a volume without a name"


def test_log_ins_are_asked_for_and_open_what_they_may(stack: Stack) -> None:
    env = stack.env
    asked = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search", params={"max_results": 1})
    assert asked.status_code == httpx.codes.UNAUTHORIZED
    admin = httpx.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search",
        params={"max_results": 1},
        auth=("admin", env["MLFLOW_ADMIN_PASSWORD"]),
    )
    assert admin.is_success, admin.text
    flows = f"{stack.prefect_url}/api/flows/filter"
    assert httpx.post(flows, json={}).status_code == httpx.codes.UNAUTHORIZED
    name, _, password = env["PREFECT_LOGIN"].partition(":")
    assert httpx.post(flows, json={}, auth=(name, password)).is_success
    assert "MLflow user" in stack.vggflow("doctor")


def test_the_store_s_keys_open_their_buckets_only(stack: Stack) -> None:
    for who in ("WORKER", "PERSON"):
        store = stack.store(who)
        store.put_object(Bucket="dvc", Key=f"of-{who}", Body=b"mine")
        with pytest.raises(botocore.exceptions.ClientError, match=REFUSED):
            store.list_objects_v2(Bucket="mlflow")
        with pytest.raises(botocore.exceptions.ClientError, match=REFUSED):
            store.put_object(Bucket="mlflow", Key="planted", Body=b"x")
        store.delete_object(Bucket="dvc", Key=f"of-{who}")
    assert "Contents" not in stack.store("STORAGE").list_objects_v2(Bucket="mlflow")
    assert httpx.get(f"http://127.0.0.1:{stack.env['STORAGE_PORT']}/dvc").status_code == httpx.codes.FORBIDDEN


def test_both_user_interfaces_open_in_a_browser(stack: Stack) -> None:
    env = stack.env
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        login = {"username": "admin", "password": env["MLFLOW_ADMIN_PASSWORD"]}
        page = browser.new_context(http_credentials=login).new_page()
        page.goto(stack.mlflow_url)
        page.get_by_text("Experiments").first.wait_for()
        context = browser.new_context()
        for path in ("/", "/v2/"):
            page = context.new_page()
            answer = page.goto(f"{stack.prefect_url}{path}")
            assert answer is not None and answer.ok, path
            page.get_by_text(re.compile("Login|Password|Dashboard|Flow", re.I)).first.wait_for()
        browser.close()
    settings = httpx.get(f"{stack.prefect_url}/ui-settings").json()
    assert settings["api_url"] == f"{env['PREFECT_URL']}/api"
    assert settings["available_uis"] == ["v1", "v2"]


def _git_server(stack: Stack, docker: Mapping[str, str], base: str) -> str:
    """Starts it beside the stack; returns the address of its repository, the same here and for containers."""
    recipe = Path(__file__).parent / "git_server"
    stack.run(
        "docker", "build", "--quiet", "--build-arg", f"BASE={base}", "-t", GIT_IMAGE, str(recipe), seconds=900
    )
    name = f"{stack.project}-git"
    stack.run(
        "docker", "run", "--detach", "--name", name, "--network", f"{stack.project}_published", GIT_IMAGE
    )
    key = stack.root.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    write = "cd /home/git/.ssh && cat > authorized_keys && chown -R git:git . && chmod 600 authorized_keys"
    stack.run("docker", "exec", "-i", name, "sh", "-c", write, given=key.with_suffix(".pub").read_text())
    networks = json.loads(stack.run("docker", "inspect", name))[0]["NetworkSettings"]["Networks"]
    (address,) = (network["IPAddress"] for network in networks.values())
    return f"ssh://git@{address}/home/git/pets.git"


def test_a_key_for_git_and_a_remote_in_the_store_are_all_that_workers_lack(
    stack: Stack, docker: Mapping[str, str], base_images: Mapping[str, str]
) -> None:
    python = next(name for name in base_images if name.startswith("python:"))
    url = _git_server(stack, docker, python)
    address = url.partition("@")[2].partition("/")[0]
    key, known = stack.root.parent / "key", stack.root.parent / "known_hosts"
    known.write_text(wait(lambda: stack.run("ssh-keyscan", address, check=False), 30, "sshd answers"))
    known.write_text("".join(line for line in known.read_text().splitlines(keepends=True) if line[0] != "#"))
    stack.extra["GIT_SSH_COMMAND"] = f"ssh -i {key} -o UserKnownHostsFile={known} -o IdentitiesOnly=yes"
    stack.run("git", "remote", "add", "origin", url)
    stack.run("dvc", "remote", "add", "--default", "--force", "team", "s3://dvc/pets")
    said = stack.up()
    assert "workers have no key for" in said
    assert "DVC      remote team: its keys are in .dvc/config.local" in said
    with (stack.infra / ".env").open("a") as env:
        env.write(f'GIT_KEY="{key.read_text()}"\nGIT_KNOWN_HOSTS="{known.read_text()}"\n')
    said = stack.up()
    assert "note" not in said, said
    assert stack.env["WORKERS_MAY_REACH"] == f"{address}:22"
    stack.run("git", "commit", "--quiet", "--all", "-m", "Data lies in the team's store")
    stack.run("git", "push", "--quiet", "--set-upstream", "origin", "HEAD:main")


def test_what_a_worker_reaches_and_what_not(stack: Stack, report: list[str]) -> None:
    git = stack.env["WORKERS_MAY_REACH"]
    allowed = [("mlflow", 5000), ("prefect", 4200), ("storage", 8333), ("egress", 8888)]
    refused = [
        ("postgres", 5432),
        *[("storage", port) for port in (9333, 8080, 8888, 18333, 18888, 8181, 9101)],
        (git.partition(":")[0], 22),
        ("192.0.2.1", 443),
    ]
    networks = stack.inspect("postgres")["NetworkSettings"]["Networks"]
    refused.append((networks[f"{stack.project}_databases"]["IPAddress"], 5432))
    # An address of this machine, and what listens there.
    (machine,) = (
        network["Gateway"]
        for name, network in stack.inspect("egress")["NetworkSettings"]["Networks"].items()
        if name.endswith("_published")
    )
    listening = socket.create_server((machine, 0))
    refused.append((machine, listening.getsockname()[1]))
    for service in ("worker-cpu", "worker-gpu"):
        for host, port in allowed:
            assert reaches(stack, service, host, port), (service, host, port)
        for host, port in refused:
            assert not reaches(stack, service, host, port), (service, host, port)
        assert "SSH-2.0" in through_the_proxy(stack, service, git)
        for place in ("postgres:5432", "mlflow:5000", "example.org:443", git.replace(":22", ":80")):
            assert "403" in through_the_proxy(stack, service, place), place
    listening.close()
    report += [
        f"a worker reaches: {', '.join(f'{host}:{port}' for host, port in allowed)}, and {git} through egress",
        f"a worker does not reach: {', '.join(f'{host}:{port}' for host, port in refused)}; nor, through egress, "
        "postgres:5432, mlflow:5000, example.org:443, another port of git's host",
    ]


def test_by_the_clock_a_worker_trains_the_first_champion(stack: Stack, report: list[str]) -> None:
    folder = draw_data(stack.root.parent / "delivery")
    due = datetime.now(UTC) + timedelta(minutes=4)
    schedule_within(stack.root, "retrain-nightly", f"{due.minute} {due.hour} * * *")
    stack.run("git", "commit", "--quiet", "--all", "-m", "Another time")
    stack.run("git", "push", "--quiet")
    stack.vggflow("data", "import", str(folder))
    said = stack.vggflow("deploy")
    assert "no worker serves" not in said, said
    team = stack.team()
    number = wait(team.runs, 400, "the clock starts a run")[0]["id"]
    began = time.monotonic()
    run = team.ended(number, 900)
    assert run["state"]["name"] == "Promoted", run["state"]
    report.append(f"by the clock: first champion {time.monotonic() - began:.0f} s after its time")
    rows = json.loads(stack.vggflow("models", "--json"))
    assert [row["aliases"] for row in rows if row["model"] == "pets"] == ["champion"]
    links = {
        address
        for artifact in team.artifacts(number).values()
        for address in re.findall(r"\((https?://[^)/]+)", str(artifact["data"]))
    }
    assert links <= {stack.env["MLFLOW_URL"], stack.env["PREFECT_URL"]}, links
    assert stack.env["MLFLOW_URL"] in links


def test_the_champion_answers_here_and_its_environment_names_pip(stack: Stack) -> None:
    image = stack.root.parent / "delivery" / "test" / "red" / "0.png"
    answer = json.loads(stack.vggflow("predict", str(image), "--json"))
    assert "red" in json.dumps(answer)
    needs = stack.root.parent / "needs"
    download = "import mlflow, sys; mlflow.artifacts.download_artifacts(sys.argv[1], dst_path=sys.argv[2])"
    shell = f"source {stack.root}/.vggflow/stack/env && {sys.executable} -c '{download}' models:/pets@champion {needs}"
    stack.extra["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
    stack.run("bash", "-c", shell)
    (environment,) = needs.rglob("python_env.yaml")
    assert re.search(r"^- pip==\d", environment.read_text(), re.M), environment.read_text()


def test_the_champion_answers_over_http_from_a_clone_that_somebody_else_owns(stack: Stack) -> None:
    clone = stack.root.parent / "served"
    url = stack.run("git", "remote", "get-url", "origin").strip()
    stack.run("git", "clone", "--quiet", url, str(clone))
    dotenv.set_key(stack.infra / ".env", "SERVE_WORKSPACE", str(clone), quote_mode="never")
    dotenv.set_key(stack.infra / ".env", "SERVE_PORT", str(free_ports(1)[0]), quote_mode="never")
    stack.compose("--profile", "serve", "up", "--detach", "--wait", "serve")
    address = f"http://127.0.0.1:{stack.env['SERVE_PORT']}/predict"
    image = (stack.root.parent / "delivery" / "test" / "red" / "0.png").read_bytes()
    assert httpx.post(address, files={"image": image}).status_code == httpx.codes.UNAUTHORIZED
    bearer = {"Authorization": f"Bearer {stack.env['SERVE_TOKEN']}"}
    answer = httpx.post(address, files={"image": image}, headers=bearer).raise_for_status().json()
    assert answer["predictions"][0]["label"] == "red", answer
    stack.compose("--profile", "serve", "stop", "serve")


def test_an_import_starts_a_retraining_by_its_event(stack: Stack) -> None:
    team = stack.team()
    before = {run["id"] for run in team.runs()}
    folder = stack.root.parent / "more"
    for index in range(6):
        for colour, rgb in COLOURS.items():
            draw(folder / "train" / colour / f"more-{index}.png", rgb, 77_000 + index)
    stack.vggflow("data", "import", str(folder))
    (new,) = wait(
        lambda: [run for run in team.runs() if run["id"] not in before], 120, "the event starts a run"
    )
    run = team.ended(new["id"], 900)
    assert run["state"]["name"] in ("Promoted", "Champion kept"), run["state"]
    assert len(json.loads(stack.vggflow("models", "--json"))) >= 2


def test_a_worker_that_is_killed_comes_back_and_its_run_goes_on(stack: Stack) -> None:
    team = stack.team()
    change = stack.root / "params.yaml"
    change.write_text(change.read_text().replace("epochs: 8", "epochs: 60"))
    stack.run("git", "commit", "--quiet", "--all", "-m", "Longer")
    stack.run("git", "push", "--quiet")
    number = team.ask(
        "POST",
        f"/deployments/{team.ask('GET', '/deployments/name/retrain/retrain-nightly@pets')['id']}/create_flow_run",
        {"parameters": {}, "state": {"type": "SCHEDULED"}},
    )["id"]

    def trains() -> bool:
        tasks = team.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [number]}}})
        return any(task["name"].startswith("train") and task["state"]["type"] == "RUNNING" for task in tasks)

    wait(trains, 300, "it trains")
    time.sleep(5)
    before = stack.inspect("worker-gpu")
    subprocess.run(["kill", "-KILL", str(before["State"]["Pid"])], check=True)
    wait(
        lambda: stack.inspect("worker-gpu")["RestartCount"] > before["RestartCount"],
        60,
        "Docker starts it again",
    )
    # Until somebody notices it counts as running, then as crashed, which would be an end, and then it is begun again.
    wait(lambda: team.run(number)["run_count"] >= 2, 900, "the run is begun again")
    run = team.ended(number, 1500)
    assert run["state"]["name"] in ("Promoted", "Champion kept"), run["state"]


def test_a_store_that_is_away_is_named(stack: Stack) -> None:
    image = stack.root.parent / "delivery" / "test" / "red" / "0.png"
    stack.compose("pause", "storage")
    try:
        began = time.monotonic()
        # By its number: of the champion there is a copy here.
        done = subprocess.run(
            ["vggflow", "-C", str(stack.root), "predict", "--model", "1", str(image)],
            env=stack.environment | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 1, done
        assert done.stderr.splitlines()[-1].endswith("look at its artifact store"), done.stderr
        assert time.monotonic() - began < 60
    finally:
        stack.compose("unpause", "storage")


def test_all_stopped_and_started_keeps_everything(stack: Stack) -> None:
    before, deployments = stack.rows(), stack.vggflow("status", "--json")
    stack.compose("stop", "--timeout", "60")
    said = stack.up()
    assert "note" not in said, said
    assert stack.rows() == before
    assert json.loads(stack.vggflow("status", "--json")).keys() == json.loads(deployments).keys()


def test_databases_and_files_are_restored_into_an_empty_stack(stack: Stack) -> None:
    before = stack.rows()
    backup = stack.root.parent / "backup"
    backup.mkdir()
    names = ("mlflow", "mlflow_auth", "prefect")
    script = (ROOT / "docs" / "operating.md").read_text()
    compose = f"docker compose -f {stack.infra / 'compose.yaml'}"
    for name in names:
        dump = "pg_dump -U vggflow --format custom"
        assert dump in script
        stack.run("bash", "-c", f"{compose} exec -T postgres {dump} {name} > {backup}/{name}.dump")
    files = _files(stack)
    stack.compose("down", "--timeout", "30")
    for volume in ("postgres", "prefect", "storage"):
        stack.run("docker", "volume", "rm", f"{stack.project}_{volume}")
    stack.compose("up", "--detach", "--wait", seconds=900)
    stack.compose("stop", "mlflow", "prefect", "worker-cpu", "worker-gpu")
    for name in names:
        restore = f"pg_restore -U vggflow --clean --if-exists --dbname {name}"
        assert restore.rpartition(" ")[0] in script
        stack.run("bash", "-c", f"{compose} exec -T postgres {restore} < {backup}/{name}.dump")
    _put(stack, files)
    stack.compose("up", "--detach", "--wait", seconds=900)
    assert stack.rows() == before
    image = stack.root.parent / "delivery" / "test" / "red" / "0.png"
    stack.extra["VGGFLOW_STATE"] = str(stack.root.parent / "state-after-restore")
    assert "red" in stack.vggflow("predict", str(image))


def _files(stack: Stack) -> dict[tuple[str, str], bytes]:
    client = stack.store("STORAGE")
    return {
        (bucket, entry["Key"]): client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for bucket in ("mlflow", "dvc")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in page.get("Contents", [])
    }


def _put(stack: Stack, files: Mapping[tuple[str, str], bytes]) -> None:
    client = stack.store("STORAGE")
    for (bucket, key), content in files.items():
        client.put_object(Bucket=bucket, Key=key, Body=content)
