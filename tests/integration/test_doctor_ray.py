"""`vggflow doctor` before real heads of Ray, each in a network of its own."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray_nodes import PROGRAMS, STORE_BYTES, Network, network, wait_for

import vggflow

PORT = 6391
HEAD = f"127.0.0.1:{PORT}"
CLIENTS = "ray://127.0.0.1:10001"
TOKEN = "0123456789abcdef" * 4
DROPPED = "the Ray client has already been disconnected"
WITH_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
# Others may work on this machine beside the tests.
PATIENT = "import sys; from vggflow import cli, cluster; cluster.SECONDS_TO_CONNECT = 60; sys.exit(cli.run())"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Found:
    """What doctor said: its exit code, and by check how it is, what was found and the advice."""

    code: int
    checks: Mapping[str, tuple[str, str, str]]
    text: str

    def of(self, check: str) -> tuple[str, str, str]:
        return self.checks[check]


def doctor(made: Network, **variables: str) -> Found:
    """Doctor where the head is, outside of any workspace, with these variables alone."""
    command = [sys.executable, "-c", PATIENT, "-C", str(made.folder), "doctor", "--json"]
    done = made.run(*command, timeout=120, **variables)
    assert "Traceback" not in done.stderr, done.stderr
    checks = {
        each["check"]: (each["health"], each["found"], each["advice"]) for each in json.loads(done.stdout)
    }
    return Found(done.returncode, checks, done.stdout + done.stderr)


@contextmanager
def head(folder: Path, *options: str, address: str = "127.0.0.1", **variables: str) -> Iterator[Network]:
    """A head with one core, and with a home of its own."""
    home = folder / "home"
    home.mkdir()
    # Short, as the path of a socket has 107 characters at most.
    with (
        network(folder) as made,
        tempfile.TemporaryDirectory(prefix="vd", ignore_cleanup_errors=True) as sessions,
    ):
        made.variables = {**made.variables, "HOME": str(home)}
        if not address.startswith("127."):
            made.run("ip", "link", "add", "one", "type", "veth", "peer", "name", "other")
            made.run("ip", "address", "add", f"{address}/24", "dev", "one")
            made.run("ip", "link", "set", "one", "up")
        ray = [str(PROGRAMS / "ray"), "start", "--block", "--head", f"--port={PORT}", "--num-cpus=1"]
        ray += [f"--node-ip-address={address}", "--include-dashboard=false", f"--temp-dir={sessions}"]
        ray += [f"--object-store-memory={STORE_BYTES}", *options]
        started = made.start(*ray, name="head", **variables)
        wait_for(made, "head", started)
        yield made


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with head(tmp_path_factory.mktemp("guarded"), **WITH_TOKEN) as made:
        yield made


@pytest.mark.parametrize("address", [HEAD, CLIENTS])
def test_a_cluster_that_wants_a_token_and_takes_ours_is_well(guarded: Network, address: str) -> None:
    found = doctor(guarded, RAY_ADDRESS=address, **WITH_TOKEN)
    # Ray drops a client now and then on a busy machine, probably since the server it starts for each is late.
    for _ in range(2):
        if DROPPED in found.text:
            found = doctor(guarded, RAY_ADDRESS=address, **WITH_TOKEN)
    assert found.of("Ray's token")[:2] == (
        "ok",
        f"{address} wants one, and takes ours; nothing is encrypted, so its network has to be closed",
    )
    assert found.of("Ray")[0] == "ok", found.text
    assert found.of("Ray's nodes") == (
        "ok",
        "nodes 1, cores 1, GPUs 0: all with the software of this machine",
        "",
    )
    assert found.of("Ray's head here")[:2] == ("ok", f"listens on {HEAD}, and wants a token")
    assert TOKEN not in found.text


@pytest.mark.parametrize("address", [HEAD, CLIENTS])
@pytest.mark.parametrize(
    ("variables", "told", "advice"),
    [
        ({"RAY_AUTH_TOKEN": TOKEN}, "wants one, and RAY_AUTH_MODE is not set", "export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "token"}, "wants one, and there is none here", ".ray/auth_token with mode 600"),
        (
            {**WITH_TOKEN, "RAY_AUTH_TOKEN": "of-before-it-was-changed"},
            "does not take that of",
            "the one it has now",
        ),
    ],
)
def test_who_comes_without_the_token_is_told_why_before_anything_is_tried(
    guarded: Network, address: str, variables: Mapping[str, str], told: str, advice: str
) -> None:
    found = doctor(guarded, RAY_ADDRESS=address, **variables)
    assert found.code == 1
    health, said, what_to_do = found.of("Ray's token")
    assert health == "wrong"
    assert f"{address} {told}" in said and advice in what_to_do
    assert "Ray's nodes" not in found.checks
    assert "of-before-it-was-changed" not in found.text


def test_a_token_in_a_file_is_used_and_one_that_ray_wrote_is_too_open(
    guarded: Network, tmp_path: Path
) -> None:
    """`ray get-auth-token --generate` makes the file, as users do."""
    home = tmp_path / "home"
    home.mkdir()
    made = guarded.run(str(PROGRAMS / "ray"), "get-auth-token", "--generate", HOME=str(home))
    assert made.returncode == 0, made.stderr
    file = home / ".ray" / "auth_token"
    found = doctor(guarded, HOME=str(home))
    assert found.of("Ray's token file") == (
        "wrong",
        f"{file} is readable by others",
        f"chmod 600 {file}, and another token if others have an account here: docs/operating.md",
    )
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    found = doctor(guarded, HOME=str(home), RAY_ADDRESS=HEAD, RAY_AUTH_MODE="token")
    assert "Ray's token file" not in found.checks
    assert (found.of("Ray's token")[0], found.of("Ray's nodes")[0]) == ("ok", "ok"), found.text


@pytest.mark.parametrize("address", [HEAD, CLIENTS])
def test_a_cluster_without_a_token_is_a_problem_and_its_cve_is_named(tmp_path: Path, address: str) -> None:
    with head(tmp_path) as made:
        found = doctor(made, RAY_ADDRESS=address)
        for _ in range(2):
            if DROPPED in found.text:
                found = doctor(made, RAY_ADDRESS=address)
    assert found.code == 1
    health, told, advice = found.of("Ray's token")
    assert (health, told) == ("wrong", f"{address} takes work from whoever reaches it (CVE-2023-48022)")
    assert "RAY_AUTH_MODE=token" in advice
    # Only this machine reaches it, since it was given an address of its own.
    assert found.of("Ray's head here")[:2] == (
        "warning",
        f"listens on {HEAD}, and takes work from every account of this machine",
    )
    assert found.of("Ray's nodes")[0] == "ok"


@pytest.mark.parametrize(("variables", "health"), [({}, "wrong"), (WITH_TOKEN, "ok")])
def test_a_head_on_this_machine_that_listens_for_all_is_found_without_its_address(
    tmp_path: Path, variables: Mapping[str, str], health: str
) -> None:
    with head(tmp_path, address="10.87.0.1", **variables) as made:
        found = doctor(made)
    assert found.code == (1 if health == "wrong" else 0)
    said = found.of("Ray's head here")
    assert said[0] == health
    assert said[1].startswith(f"listens on all addresses, port {PORT}, and ")
    assert ("CVE-2023-48022" in said[1]) == (health == "wrong")


def test_a_node_with_another_vggflow_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(
        Path(vggflow.__file__).parent, other / "vggflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (other / "vggflow" / "errors.py").open("a") as source:
        source.write("# another one\n")
    with head(tmp_path, PYTHONPATH=str(other), **WITH_TOKEN) as made:
        found = doctor(made, RAY_ADDRESS=HEAD, **WITH_TOKEN)
    assert found.code == 1
    health, told, advice = found.of("Ray's nodes")
    assert health == "wrong"
    assert told.startswith("127.0.0.1: vggflow ") and " → " in told
    assert "take the node off" in advice


def test_a_cluster_with_tls_is_asked_with_our_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made_of = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ray -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", *made_of.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY")
    tls = {"RAY_USE_TLS": "1", **dict(zip(names, map(str, (certificate, certificate, key)), strict=True))}
    with head(tmp_path, **tls, **WITH_TOKEN) as made:
        found = doctor(made, RAY_ADDRESS=HEAD, **tls, **WITH_TOKEN)
        without = doctor(made, RAY_ADDRESS=HEAD, **WITH_TOKEN)
    assert found.of("Ray's token")[:2] == ("ok", f"{HEAD} wants one, and takes ours")
    assert found.of("Ray's nodes")[0] == "ok", found.text
    assert without.code == 1
    assert without.of("Ray")[1].startswith(f"no Ray answers at {HEAD}")
