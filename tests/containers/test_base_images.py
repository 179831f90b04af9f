"""What infra/ asks of the images that it starts from, stand-ins or originals."""

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import httpx
import pytest
import yaml
from team import wait

pytestmark = pytest.mark.timeout(1800)
ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())["services"]
NO_RIGHTS = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
SECONDS_TO_SETTLE = 5
REFUSED = "AccessDenied|InvalidAccessKeyId|403"
IDENTITIES = {
    "identities": [
        {
            "name": "all",
            "credentials": [{"accessKey": "all", "secretKey": "all's secret"}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "one",
            "credentials": [{"accessKey": "one", "secretKey": "one's secret"}],
            "actions": ["Read:dvc", "Write:dvc", "List:dvc", "Tagging:dvc"],
        },
    ]
}


@dataclass(frozen=True)
class Docker:
    """Runs `docker`; what it makes under `name` goes in the end."""

    environment: Mapping[str, str]
    name: str

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", *words],
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0 or not check, f"docker {' '.join(words)}\n{done.stdout}"
        return done.stdout

    def start(self, image: str, *options: str, command: tuple[str, ...] = ()) -> None:
        self("run", "--detach", "--name", self.name, *options, image, *command)

    def inside(self, *command: str, check: bool = True) -> str:
        return self("exec", self.name, *command, check=check)

    def stop(self) -> Mapping[str, Any]:
        """Ends the container and takes it away; returns the state in which it ended."""
        self("stop", "--time", "60", self.name)
        (found,) = json.loads(self("inspect", self.name))
        self("rm", self.name)
        return found["State"]


@pytest.fixture
def run(docker: Mapping[str, str]) -> Iterator[Docker]:
    made = Docker(docker, f"vggflow-test-{uuid.uuid4().hex[:8]}")
    with ExitStack() as stack:
        for words in (("network", "rm"), ("volume", "rm", "--force"), ("rm", "--force", "--volumes")):
            stack.callback(made, *words, made.name, check=False)
        yield made


@pytest.fixture
def image(base_images: Mapping[str, str], request: pytest.FixtureRequest) -> str:
    """The pinned name of the image that a test asks for."""
    return next(name for name in base_images if name.rpartition(":")[0] == request.param)


@pytest.mark.parametrize("image", ["python"], indirect=True)
def test_python_installs_what_images_are_built_of(image: str, run: Docker) -> None:
    lock = ROOT / "requirements" / "uv.lock.txt"
    script = """
        python --version && python3 --version
        apt-get update -qq && apt-get install -y -qq --no-install-recommends tini > /dev/null
        tini --version
        pip install --quiet --no-cache-dir --require-hashes -r /uv.lock.txt
        uv venv --quiet /opt/environment && /opt/environment/bin/python -c 'print("works")'
    """
    said = run("run", "--rm", "--volume", f"{lock}:/uv.lock.txt:ro", image, "bash", "-ec", script)
    assert len(re.findall(r"Python 3\.11\.", said)) == 2, said
    assert "tini version" in said
    assert said.rstrip().endswith("works")


@pytest.mark.parametrize("image", ["postgres"], indirect=True)
@pytest.mark.parametrize("rights", [("--user", SERVICES["postgres"]["user"], *NO_RIGHTS), ()])
def test_postgresql_keeps_its_databases_with_rights_and_without(
    image: str, rights: tuple[str, ...], run: Docker, tmp_path: Path
) -> None:
    script = tmp_path / "databases.sql"
    script.write_text("create database another;\n")
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    options = [
        *("--volume", f"{run.name}:/var/lib/postgresql"),
        *("--volume", f"{script}:/docker-entrypoint-initdb.d/databases.sql:ro"),
        *("--volume", f"{password}:/run/secrets/password:ro"),
        *("--stop-signal", SERVICES["postgres"]["stop_signal"]),
        *("--env", "POSTGRES_USER=vggflow", "--env", "POSTGRES_DB=mlflow"),
        *("--env", "POSTGRES_PASSWORD_FILE=/run/secrets/password"),
        *("--env", f"POSTGRES_INITDB_ARGS={SERVICES['postgres']['environment']['POSTGRES_INITDB_ARGS']}"),
    ]

    def ask(question: str, password: str = "s3cret", database: str = "another", check: bool = True) -> str:  # noqa: S107
        place = f"postgresql://vggflow:{password}@127.0.0.1/{database}"
        return run.inside("psql", "-tA", place, "-c", question, check=check).strip()

    for start in range(2):
        run.start(image, *rights, *options)
        wait(
            lambda: "accepting" in run.inside("pg_isready", "-h", "127.0.0.1", check=False),
            120,
            "it is ready",
        )
        if start == 0:
            ask("create table kept as select 42 as number")
        assert ask("select number from kept") == "42"
        assert ask("select 1", database="mlflow") == "1"
        assert "password authentication failed" in ask("select 1", password="wrong", check=False)  # noqa: S106
        assert "Uid:\t999\t" in run.inside("cat", "/proc/1/status")
        dump = "pg_dump -U vggflow --format custom another | pg_restore --list"
        assert "TABLE public kept vggflow" in run.inside("bash", "-c", dump)
        assert run.stop()["ExitCode"] == 0


@pytest.mark.parametrize("image", ["postgres"], indirect=True)
def test_postgresql_refuses_to_start_without_a_password(image: str, run: Docker) -> None:
    run.start(image, "--env", "POSTGRES_USER=vggflow")
    assert run("wait", run.name).strip() == "1"
    assert "POSTGRES_PASSWORD" in run("logs", run.name)


@pytest.fixture
def store(run: Docker, tmp_path: Path) -> list[str]:
    """Options of a container that runs as compose.yaml has it."""
    keys = tmp_path / "s3.json"
    keys.write_text(json.dumps(IDENTITIES))
    return [
        *("--user", SERVICES["storage"]["user"], *NO_RIGHTS),
        *("--volume", f"{run.name}:/data", "--volume", f"{keys}:/etc/seaweedfs/s3.json:ro"),
        *("--publish", "127.0.0.1::8333"),
    ]


def _address(run: Docker) -> str:
    """Where S3 answers, once it does."""
    url = f"http://{run('port', run.name, '8333').split()[0]}"

    def healthy() -> bool:
        try:
            return httpx.get(f"{url}/healthz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    wait(healthy, 60, "S3 answers")
    return url


def _client(url: str, who: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=who,
        aws_secret_access_key=f"{who}'s secret",
        region_name="us-east-1",
    )


@pytest.mark.parametrize("image", ["chrislusf/seaweedfs"], indirect=True)
def test_keys_open_the_buckets_that_they_may(image: str, run: Docker, store: list[str]) -> None:
    run.start(image, *store, command=tuple(SERVICES["storage"]["command"]))
    url = _address(run)
    everyone, one, nobody = (_client(url, who) for who in ("all", "one", "nobody"))
    for bucket in ("dvc", "mlflow"):
        everyone.create_bucket(Bucket=bucket)
        everyone.put_object(Bucket=bucket, Key="a", Body=b"A")
    one.put_object(Bucket="dvc", Key="b", Body=b"B")
    assert [entry["Key"] for entry in one.list_objects_v2(Bucket="dvc")["Contents"]] == ["a", "b"]
    for refused in (
        lambda: one.get_object(Bucket="mlflow", Key="a"),
        lambda: one.put_object(Bucket="mlflow", Key="a", Body=b"planted"),
        lambda: one.list_objects_v2(Bucket="mlflow"),
        lambda: one.delete_object(Bucket="mlflow", Key="a"),
        lambda: one.create_bucket(Bucket="another"),
        lambda: nobody.get_object(Bucket="dvc", Key="a"),
        nobody.list_buckets,
    ):
        with pytest.raises(botocore.exceptions.ClientError, match=REFUSED):
            refused()
    for path in ("", "dvc", "dvc/a"):
        assert httpx.get(f"{url}/{path}", trust_env=False).status_code == httpx.codes.FORBIDDEN, path
    run.inside("wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8333/healthz")


@pytest.mark.parametrize("image", ["chrislusf/seaweedfs"], indirect=True)
def test_objects_outlive_a_stop_and_a_kill(image: str, run: Docker, store: list[str]) -> None:
    key = "models/Größe & mehr/" + "long" * 60
    large = os.urandom(6 * 2**20) * 2
    run.start(image, *store, command=tuple(SERVICES["storage"]["command"]))
    client = _client(_address(run), "all")
    client.create_bucket(Bucket="dvc")
    for content in (b"first", b"second"):
        client.put_object(Bucket="dvc", Key=key, Body=content)
    upload = client.create_multipart_upload(Bucket="dvc", Key="large")["UploadId"]
    parts = []
    for number, part in enumerate((large[: 6 * 2**20], large[6 * 2**20 :]), 1):
        made = client.upload_part(Bucket="dvc", Key="large", UploadId=upload, PartNumber=number, Body=part)
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    client.complete_multipart_upload(
        Bucket="dvc", Key="large", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    assert run.stop()["ExitCode"] == 0

    run.start(image, *store, command=tuple(SERVICES["storage"]["command"]))
    client = _client(_address(run), "all")
    assert client.get_object(Bucket="dvc", Key=key)["Body"].read() == b"second"
    assert client.get_object(Bucket="dvc", Key="large")["Body"].read() == large
    client.delete_object(Bucket="dvc", Key="large")
    client.put_object(Bucket="dvc", Key=key, Body=b"third")
    time.sleep(SECONDS_TO_SETTLE)
    run("kill", run.name)
    run("rm", run.name)

    run.start(image, *store, command=tuple(SERVICES["storage"]["command"]))
    client = _client(_address(run), "all")
    (left,) = client.list_objects_v2(Bucket="dvc")["Contents"]
    assert left["Key"] == key
    assert client.get_object(Bucket="dvc", Key=key)["Body"].read() == b"third"


@pytest.mark.parametrize("image", ["chrislusf/seaweedfs"], indirect=True)
def test_ports_that_ask_for_no_key_are_open_unless_compose_closes_them(
    image: str, base_images: Mapping[str, str], run: Docker, store: list[str], tmp_path: Path
) -> None:
    """A test that finds them closed in the stack would find them open without its settings."""
    python = next(name for name in base_images if name.startswith("python:"))
    ask = (
        "import socket, sys\n"
        "for port in (8333, 9333, 8080, 8888, 18888, 18333):\n"
        "    with socket.socket() as connection:\n"
        "        connection.settimeout(5)\n"
        "        print(port, connection.connect_ex((sys.argv[1], port)) == 0)"
    )
    run("network", "create", run.name)
    signing = tmp_path / "security.toml"
    signing.write_text('[jwt.filer_signing]\nkey = "secret"\n')
    closed = tuple(SERVICES["storage"]["command"])
    opened = tuple(word for word in closed if not word.startswith(("-ip=", "-ip.bind=")))
    found = {}
    for command, options in ((opened, []), (closed, [f"--volume={signing}:/etc/seaweedfs/security.toml:ro"])):
        run.start(image, "--network", run.name, *store, *options, command=command)
        _address(run)
        said = run("run", "--rm", "--network", run.name, python, "python", "-c", ask, run.name)
        found[command] = set(re.findall(r"^(\d+) True$", said, re.M))
        run.stop()
    assert found == {opened: {"8333", "9333", "8080", "8888", "18888", "18333"}, closed: {"8333"}}
