"""The predict flow on a real Prefect server: file, table, states; and a worker that is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from team import wait

from vggflow.workspace import Workspace

pytestmark = pytest.mark.slow
RUN = """
import json, sys
from flows.predict import predict
state = predict(**json.loads(sys.argv[1]), return_state=True)
print(json.dumps([state.name, state.message]))
"""


def _start(prefect_api: str, here: Workspace, **parameters: object) -> "subprocess.Popen[str]":
    given = json.dumps({"workspace": str(here.root)} | parameters)
    return subprocess.Popen(
        [sys.executable, "-c", RUN, given],
        env=os.environ | {"PREFECT_API_URL": prefect_api},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    said, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    name, message = json.loads(said.splitlines()[-1])
    return name, message


@pytest.fixture
def archive(here: Workspace, tmp_path: Path) -> Path:
    """Forty pictures, two of them cut off."""
    folder = tmp_path / "archive"
    folder.mkdir()
    originals = sorted((here.root / "data").rglob("*.png"))[:36]
    for number in range(40):
        content = originals[number % 36].read_bytes()
        (folder / f"{number:02}.png").write_bytes(content if number % 20 else content[:60])
    return folder


def test_a_file_a_table_and_a_summary(
    prefect_api: str, here: Workspace, archive: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.parquet"
    name, message = _ended(_start(prefect_api, here, images=str(archive), output=str(output)))
    assert name == "Predicted"
    assert message == f"{output}: 40 rows by tiny version 1, 2 can't be read"
    assert pq.read_table(output).num_rows == 40
    found = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).json()
    table = json.loads(next(each["data"] for each in found if each["key"] == "tiny-predict"))
    assert sum(row["images"] for row in table if not row["class"].startswith("unreadable")) == 38
    assert [row["class"] for row in table][-2:] == [f"unreadable: {archive}/{n}.png" for n in ("00", "20")]


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({"strict": True}, "Refused", "2 of 40 images can't be read"),
        ({"images": "/nowhere"}, "Failed", "/nowhere does not exist"),
        ({"model": "99"}, "Failed", "99"),
    ],
)
def test_a_run_that_fails_says_why_in_one_line(
    prefect_api: str, here: Workspace, archive: Path, tmp_path: Path, changed: dict, state: str, said: str
) -> None:
    given = {"images": str(archive), "output": str(tmp_path / "answers.csv")} | changed
    name, message = _ended(_start(prefect_api, here, **given))
    assert name == state and said in message and "\n" not in message


def test_a_killed_worker_takes_the_command_with_it_and_the_next_run_ends_well(
    prefect_api: str, here: Workspace, archive: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    for number in range(60):
        shutil.copytree(archive, many / str(number))
    output = tmp_path / "answers.parquet"
    given = {"images": str(many), "output": str(output)}
    process = _start(prefect_api, here, **given)
    parts = tmp_path / ".answers.parquet.parts"
    wait(lambda: list(parts.glob("*.parquet")) or process.poll() is not None, 120, "a part is written")
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(below, 30)
    assert not [each for each in below if each.is_running()]
    assert not output.exists()
    name, message = _ended(_start(prefect_api, here, **given))
    assert name == "Predicted" and "2,400 rows" in message
    assert pq.read_table(output).num_rows == 2400
