"""The gate on two real Ray nodes that have no data: their bytes come from an S3 store, by their hash."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_work import CRASHING
from made_pictures import jpeg
from ray_nodes import Cluster, cluster, wait_for
from tiny import write_params

from vggflow import workspace as workspaces
from vggflow.data.places import shards
from vggflow.importing import packing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
STORE = "http://127.0.0.1:5000"
IMAGES = 400
MAKE_BUCKET = f"import boto3; boto3.client('s3', endpoint_url='{STORE}').create_bucket(Bucket='dvc')"


@dataclass(frozen=True)
class Lab:
    """A workspace whose data are in an S3 store, and a cluster whose nodes don't see it."""

    cluster: Cluster
    root: Path
    folder: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    def python(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """A Python program where the head is."""
        return self.cluster.network.run(sys.executable, *arguments, **variables)

    def dvc(self, root: Path, *arguments: str) -> None:
        done = self.python("-m", "dvc", "--cd", str(root), *arguments)
        assert done.returncode == 0, done.stderr

    def look(self, what: str, *, alone: bool = False, data: Path | None = None) -> Any:
        """What the cluster, or this machine alone, finds in the data."""
        address = "" if alone else self.cluster.address
        done = self.python("-m", "cluster_program", str(data or self.data), what, RAY_ADDRESS=address)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["ray"] is not alone
        return told["found"]

    def begin(self, what: str = "slowly") -> "subprocess.Popen[str]":
        """A long piece of work."""
        program = ("-m", "cluster_program", str(self.data), what)
        variables = {"RAY_ADDRESS": self.cluster.address}
        return self.cluster.network.start(sys.executable, *program, name="driver", **variables)

    def wait_until_begun(self, driver: "subprocess.Popen[str]") -> None:
        end = time.monotonic() + 120
        while "begun" not in self.cluster.network.said("driver"):
            assert driver.poll() is None and time.monotonic() < end, self.cluster.network.said("driver")
            time.sleep(0.05)


def _python_path(*first: Path) -> str:
    return os.pathsep.join(map(str, [*first, SOURCE, TESTS, TESTS / "integration"]))


def _fill(data: Path) -> None:
    for number in range(IMAGES):
        path = data / ("train", "valid")[number % 4 == 0] / ("cats", "dogs")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number % 350, quality=80 + number % 3))
    odd = data / "train" / "cats"
    (odd / "cut.jpg").write_bytes(jpeg(7)[:-900])
    (odd / "empty.jpg").write_bytes(b"")
    (odd / "notes.txt").write_text("no image")
    (odd / "crashing.jpg").write_bytes(CRASHING)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder, temporary = tmp_path_factory.mktemp("lab"), Path(tempfile.mkdtemp(prefix="ray"))
    root = folder / "work" / "tiny"
    write_params(root)
    made = workspaces.init(root)
    _fill(root / "data")
    variables = KEYS | {"PYTHONPATH": _python_path()}
    try:
        with (
            cluster(folder, temporary, hidden=(root.parent,)) as started,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name, value in variables.items():
                patch.setenv(name, value)
            network = started.network
            network.start(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "5000", name="store")
            for _ in range(2):
                started.add(wait=False)
            for number, node in enumerate(started.nodes, start=2):
                wait_for(network, f"node{number}", node)
            lab = Lab(started, root, folder)
            made_bucket = lab.python("-c", MAKE_BUCKET)
            assert made_bucket.returncode == 0, made_bucket.stderr
            lab.dvc(root, "remote", "modify", "local", "url", "s3://dvc/tiny")
            lab.dvc(root, "remote", "modify", "local", "endpointurl", STORE)
            lab.dvc(root, "add", "data")
            lab.dvc(root, "push")
            workspaces.commit(made, ["data.dvc", ".dvc/config"], "Data in S3")
            yield lab
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def test_the_manifest_is_that_of_one_machine(lab: Lab) -> None:
    assert lab.look("scan") == lab.look("scan", alone=True)


def test_the_manifest_of_shards_is_that_of_files(lab: Lab) -> None:
    packed = lab.root.with_name("packed")
    shutil.copytree(lab.root, packed, symlinks=True)
    packing.pack(packed / "data", 1_000_000)
    assert len(shards(packed / "data")) > 2
    lab.dvc(packed, "add", "data")
    lab.dvc(packed, "push")
    assert lab.look("scan", data=packed / "data") == lab.look("scan", alone=True)


def test_pairs_are_as_alike_as_on_one_machine(lab: Lab) -> None:
    assert lab.look("pairs") == lab.look("pairs", alone=True)


def _near_hashes(lab: Lab, *, alone: bool) -> Any:
    done = lab.python("-m", "cluster_hashes", RAY_ADDRESS="" if alone else lab.cluster.address)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("ray") is not alone
    return told


def test_near_hashes_are_those_of_one_machine(lab: Lab) -> None:
    alone = _near_hashes(lab, alone=True)
    assert min(alone["counts"]) > 100
    assert _near_hashes(lab, alone=False) == alone


def test_a_file_that_crashes_its_process_costs_its_own_row(lab: Lab) -> None:
    found = lab.look("bytes")
    assert len(found) == IMAGES + 4
    assert found.count(["crashed", 0]) == 1
    assert found == lab.look("bytes", alone=True)


def test_an_image_that_changed_since_it_was_added_is_seen_as_it_is_now(lab: Lab) -> None:
    path = lab.data / "train" / "dogs" / "1.jpg"
    before, status = path.read_bytes(), path.stat()
    fresh = lab.data / "train" / "dogs" / "fresh.jpg"
    path.unlink()  # a link into DVC's cache, where DVC made one
    path.write_bytes(before[:-50] + bytes(50))
    fresh.write_bytes(jpeg(1000))
    try:
        assert lab.look("scan") == lab.look("scan", alone=True)
    finally:
        fresh.unlink()
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _at_work() -> list[psutil.Process]:
    """Processes that work on images of `begin`."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if "cluster_work:slowly" in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _driver(process: "subprocess.Popen[str]") -> psutil.Process:
    """The program that `nsenter` started."""
    return psutil.Process(process.pid).children()[0]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_on_the_cluster_when_its_driver_ends(lab: Lab, end: signal.Signals) -> None:
    driver = lab.begin()
    end_of_wait = time.monotonic() + 60
    while len(_at_work()) < 2:
        assert time.monotonic() < end_of_wait
        time.sleep(0.1)
    _driver(driver).send_signal(end)
    code = driver.wait(30)
    assert code == 130 or end != signal.SIGINT, lab.cluster.network.said("driver", "err")
    gone = time.monotonic() + 5
    while _at_work() and time.monotonic() < gone:
        time.sleep(0.1)
    assert _at_work() == []


def test_a_node_killed_on_the_way_costs_no_row(lab: Lab) -> None:
    driver = lab.begin()
    lab.wait_until_begun(driver)
    lab.cluster.kill(0)
    try:
        assert driver.wait(200) == 0, lab.cluster.network.said("driver", "err")
    finally:
        lab.cluster.add()
    told = lab.cluster.network.said("driver").splitlines()
    assert len(told) == 2, "Ray's words about the node are not on stdout, which programs read"
    assert json.loads(told[1])["found"] == lab.look("bytes", alone=True)


def test_a_node_that_joins_on_the_way_gets_work(lab: Lab) -> None:
    driver = lab.begin("where")
    lab.wait_until_begun(driver)
    lab.cluster.add()
    try:
        assert driver.wait(100) == 0, lab.cluster.network.said("driver", "err")
    finally:
        lab.cluster.kill(-1)
    assert len(set(json.loads(lab.cluster.network.said("driver").splitlines()[1])["found"])) == 3


def test_two_runs_share_a_cluster_one_after_the_other(lab: Lab) -> None:
    first = lab.begin("where")
    lab.wait_until_begun(first)
    assert lab.look("bytes") == lab.look("bytes", alone=True)
    assert first.wait(60) == 0


def test_a_worker_that_hangs_costs_no_row(lab: Lab) -> None:
    driver = lab.begin()
    lab.wait_until_begun(driver)
    hanging = next(each for each in psutil.process_iter(["name"]) if "Holder" in each.info["name"])
    hanging.suspend()
    try:
        assert driver.wait(200) == 0, lab.cluster.network.said("driver", "err")
    finally:
        with suppress(psutil.NoSuchProcess):
            hanging.kill()
    told = lab.cluster.network.said("driver").splitlines()
    assert json.loads(told[1])["found"] == lab.look("bytes", alone=True)


def _features(lab: Lab, name: str, backend: str, *, alone: bool = False) -> Any:
    state, address = lab.folder / name, "" if alone else lab.cluster.address
    program = ("-m", "cluster_features", str(lab.data), str(state), backend)
    done = lab.python(*program, RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def alone(lab: Lab, request: pytest.FixtureRequest) -> tuple[str, Any]:
    """A backend, and the features that this machine alone computes with it."""
    return request.param, _features(lab, f"alone-{request.param}", request.param, alone=True)


def test_features_are_those_of_one_machine(lab: Lab, alone: tuple[str, Any]) -> None:
    backend, expected = alone
    assert len(expected["files"]) > 4 and expected["images"] == IMAGES
    assert _features(lab, f"spread-{backend}", backend) == expected


@pytest.mark.parametrize("killed", ["worker", "node"])
def test_what_is_killed_in_the_pass_costs_no_row(lab: Lab, alone: tuple[str, Any], killed: str) -> None:
    backend, expected = alone
    program = ("-m", "cluster_features", str(lab.data), str(lab.folder / f"{killed}-{backend}"), backend)
    driver = lab.cluster.network.start(
        sys.executable, *program, name="driver", RAY_ADDRESS=lab.cluster.address
    )
    lab.wait_until_begun(driver)
    if killed == "worker":
        next(each for each in psutil.process_iter(["name"]) if "Holder" in each.info["name"]).kill()
    else:
        lab.cluster.kill(-1)
    try:
        assert driver.wait(300) == 0, lab.cluster.network.said("driver", "err")
    finally:
        if killed == "node":
            lab.cluster.add()
    assert json.loads(lab.cluster.network.said("driver").splitlines()[-1]) == expected


def _answers(lab: Lab, model: Path, name: str, *, alone: bool = False) -> bytes:
    address = "" if alone else lab.cluster.address
    out = lab.folder / f"{name}.jsonl"
    done = lab.python("-m", "cluster_answers", str(lab.data), str(model), str(out), RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"images": IMAGES + 4, "ray": not alone}
    return out.read_bytes()


@pytest.mark.parametrize("kind", ["keras", "onnx"])
def test_predictions_are_those_of_one_machine(lab: Lab, kind: str) -> None:
    model = lab.folder / "model.keras"
    if not model.exists():
        made = lab.python("-m", "cluster_answers", "--make", str(model))
        assert made.returncode == 0, made.stderr
    model = model.with_suffix(f".{kind}")
    found = _answers(lab, model, f"spread-{kind}")
    assert found == _answers(lab, model, f"alone-{kind}", alone=True)
    assert found.count(b"the file is empty") == 1


def _other_source(folder: Path) -> Path:
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "vggflow" / "gate" / "rules.py").open("a") as file:
        file.write("# another one\n")
    return folder


def _other_jax(folder: Path) -> Path:
    told = folder / "jax-0.0.1.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.0.1\n")
    return folder


def _no_vggflow(folder: Path) -> Path:
    (folder / "vggflow").mkdir(parents=True)
    (folder / "vggflow" / "__init__.py").write_text("raise ImportError('no vggflow here')\n")
    return folder


@pytest.mark.parametrize(
    ("other", "named"),
    [(_other_source, "vggflow 0"), (_other_jax, "jax 0.0.1 (here "), (_no_vggflow, "no vggflow here")],
)
def test_a_node_with_other_software_is_refused_by_name(
    lab: Lab, other: Callable[[Path], Path], named: str, tmp_path: Path
) -> None:
    lab.cluster.add(PYTHONPATH=_python_path(other(tmp_path / "other")))
    try:
        done = lab.python("-m", "cluster_program", str(lab.data), "slowly", RAY_ADDRESS=lab.cluster.address)
    finally:
        lab.cluster.kill(-1)
    said = [line for line in done.stderr.splitlines() if "network_util" not in line]
    assert (done.returncode, len(said)) in {(1, 1), (2, 1)}, done.stderr
    assert "of the cluster" in said[0] and named in said[0]
