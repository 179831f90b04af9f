"""What a worker finds where it works, and how it is told to who asked."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vggflow.commands import findings, worker_checks
from vggflow.commands.ask_workers import as_line, rows
from vggflow.commands.findings import Finding
from vggflow.processes import ray_head
from vggflow.processes.work_place import WorkPlace
from vggflow.workspace import find

CPU, GPU = WorkPlace("vggflow", "cpu"), WorkPlace("vggflow", "gpu")
WELL = [
    Finding("git", "ok", "commit 1a2b3c4"),
    Finding("DVC remote", "ok", "s3://dvc/pets"),
    Finding("MLflow", "ok", "http://mlflow:5000 as `worker`"),
    Finding("disk", "ok", "100.0 GB free at /state"),
]
REACH = "git (commit 1a2b3c4), the DVC remote (s3://dvc/pets) and MLflow (http://mlflow:5000 as `worker`)"


def test_places_that_reach_the_same_share_a_line() -> None:
    assert [as_line(row) for row in rows([(CPU, WELL), (GPU, WELL)])] == [
        f"workers of vggflow / cpu and vggflow / gpu reach {REACH}"
    ]


def test_a_place_where_something_is_wrong_has_a_line_for_each_trouble_and_none_for_what_is_well() -> None:
    full = Finding("disk", "warning", "3.0 GB free at /state", "a larger disk")
    refused = Finding("MLflow", "wrong", "does not know user 'worker'")
    assert [as_line(row) for row in rows([(CPU, WELL), (GPU, [*WELL[:2], refused, full])])] == [
        "worker of vggflow / gpu: MLflow: does not know user 'worker'",
        "worker of vggflow / gpu: disk: 3.0 GB free at /state: a larger disk",
        f"worker of vggflow / cpu reaches {REACH}",
    ]


@pytest.mark.parametrize(
    ("address", "asker", "named", "says"),
    [
        ("https://mlflow.example.org", "laptop", False, ""),
        ("http://10.0.0.7:5000", "laptop", False, ""),
        ("http://[fd00::7]:5000", "laptop", False, ""),
        ("http://mlflow:5000", "box", False, "browsers can't open"),
        ("http://mlflow:5000", "laptop", True, "browsers can't open"),
        ("http://127.0.0.1:5000", "box", False, ""),
        ("http://127.0.0.1:5000", "", False, ""),
        ("http://127.0.0.1:5000", "laptop", False, "only browsers on box can open"),
        ("http://localhost:5000", "laptop", False, "only browsers on box can open"),
        ("http://[::1]:5000", "laptop", False, "only browsers on box can open"),
        ("http://localhost:5000", "laptop", True, ""),  # somebody has a tunnel, and says so
    ],
)
def test_a_link_that_browsers_of_who_asks_can_not_open_is_a_warning(
    address: str, asker: str, named: bool, says: str
) -> None:
    (found,) = worker_checks.links(address, asker, "box", named=named)
    assert (found.health, says in found.found) == ("warning" if says else "ok", True)
    assert ("VGGFLOW_MLFLOW_URL" in found.advice) == bool(says)


def test_without_a_server_there_are_no_links() -> None:
    assert list(worker_checks.links("", "laptop", "box", named=False)) == []


def test_what_does_not_answer_is_not_waited_for_and_leaves_no_program_behind() -> None:
    another = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started: list[subprocess.Popen[bytes]] = []

    def hang() -> Finding:
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        started[0].wait()
        return Finding("DVC remote", "ok", "")

    began = time.monotonic()
    found = worker_checks.in_time("DVC remote", hang, 1.0)
    assert (found.health, found.found) == ("wrong", "no answer within 1 s")
    assert started[0].wait(10) != 0
    another.communicate(b"\n")
    assert another.returncode == 0, "it was there before"
    assert time.monotonic() - began < 10


def test_a_clone_whose_remote_lacks_what_was_pushed_has_another_remote(
    workspace: Path, tmp_path: Path
) -> None:
    here = find(workspace)
    here.dvc("remote", "modify", "local", "url", str(tmp_path / "remote"))  # not the one that tests share
    assert findings.dvc_remote(here).health == "ok", "before the first push there is nothing yet"
    lacks = findings.dvc_remote(here, pushed=True)
    assert (lacks.health, "lacks the start weights" in lacks.found) == ("wrong", True)
    here.dvc("push", "weights.dvc")
    assert findings.dvc_remote(here, pushed=True) == Finding("DVC remote", "ok", str(here.dvc_remote()))


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_found_also_where_nothing_is_cached(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc status --cloud` says there that all is well."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    subprocess.run(["git", "clone", "--quiet", workspace, tmp_path / "clone"], check=True)
    clone = find(tmp_path / "clone")
    clone.dvc("remote", "modify", "local", "url", "s3://dvc/pets")
    clone.dvc("remote", "modify", "local", "endpointurl", "http://127.0.0.1:9")
    found = findings.dvc_remote(clone)
    assert (found.health, 'Could not connect to the endpoint URL: "http://127.0.0.1:9' in found.found) == (
        "wrong",
        True,
    )
    assert "\n" not in found.found


def test_a_web_server_that_is_away_is_not_taken_for_one_that_lacks_a_file(workspace: Path) -> None:
    here = find(workspace)
    here.dvc("remote", "modify", "local", "url", "http://127.0.0.1:9/pets")
    found = findings.dvc_remote(here)
    assert (found.health, "Cannot connect to host 127.0.0.1:9" in found.found) == ("wrong", True)


def test_a_worker_tells_of_the_cluster_of_its_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_head, "sockets_here", lambda: iter(()))
    assert worker_checks.RAY not in {each.check for each in worker_checks.machine("")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    told = next(each for each in worker_checks.machine("") if each.check == worker_checks.RAY)
    assert (told.health, f"no Ray answers at {address}" in told.found) == ("wrong", True)
    well = Finding(worker_checks.RAY, "ok", f"2.60.0 at {address}")
    (row,) = rows([(GPU, [*WELL, well])])
    assert row.found.endswith(f" and Ray (2.60.0 at {address})")


def test_a_cluster_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_checks, "SECONDS_AT_MOST", 0.5)
    monkeypatch.setattr(ray_head, "sockets_here", lambda: iter(()))
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent.getsockname()[1]}")
        told = next(each for each in worker_checks.machine("") if each.check == worker_checks.RAY)
    assert (told.health, told.found) == ("wrong", "no answer within 0 s")
    assert time.monotonic() - began < 5
