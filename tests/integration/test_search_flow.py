"""The search flow on a real Prefect server, and a search that is killed again and again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from tiny import write_params

from vggflow import files
from vggflow.workspace import Workspace

pytestmark = pytest.mark.slow
PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.0001, "epochs": 3},
    {"name": "top", "freeze_through": "block4_pool", "learning_rate": 0.001, "epochs": 2},
]
SPACE = {
    "train.phases.head.learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"},
    "model.head": ["pooling", "flatten"],
    "train.phases.top.freeze_through": ["block4_pool", "block3_pool"],
}
RUN = """
import json, sys
from flows.search import search
state = search(**json.loads(sys.argv[1]), return_state=True)
print(json.dumps([state.name, state.message]))
"""


def _run(prefect_api: str, here: Workspace, state: Path, **parameters: object) -> tuple[str, str]:
    given = json.dumps({"workspace": str(here.root), "minutes": 10} | parameters)
    done = subprocess.run(
        [sys.executable, "-c", RUN, given],
        env=os.environ | {"PREFECT_API_URL": prefect_api, "VGGFLOW_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, message = json.loads(done.stdout.splitlines()[-1])
    return name, message


def _artifact(prefect_api: str, key: str) -> str:
    found = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).json()
    return str(next(each["data"] for each in found if each["key"] == key))


def test_what_is_better_stands_on_the_page_of_the_run_and_params_stay(
    prefect_api: str, here: Workspace, tmp_path: Path
) -> None:
    write_params(here.root, train={"phases": PHASES}, search={"space": SPACE})
    before = (here.root / "params.yaml").read_bytes()
    name, message = _run(prefect_api, here, tmp_path / "state", trials=6, network_trials=0)
    assert name == "Better settings"
    assert message == "6 trials on 8 images of valid"
    table = json.loads(_artifact(prefect_api, "tiny-search"))
    assert [row["what"] for row in table][:3] == ["linear probe", "settings as they are", "best of 6 trials"]
    assert "vggflow search --apply" in _artifact(prefect_api, "tiny-summary")
    assert (here.root / "params.yaml").read_bytes() == before

    write_params(here.root, train={"phases": PHASES}, search={"space": {"model.width": [1.0]}})
    name, message = _run(prefect_api, here, tmp_path / "state", trials=5, network_trials=1)
    assert name == "Failed"
    assert message.startswith("search.space: `model.width` can't be varied")


def test_a_search_that_is_killed_again_and_again_ends_like_one_that_is_not(
    here: Workspace, tmp_path: Path
) -> None:
    write_params(here.root, train={"phases": PHASES}, search={"space": SPACE})

    def start(state: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "vggflow.cli", "-C", str(here.root), "search", "--json"]
        return subprocess.Popen(
            [*command, "--trials", "8", "--network-trials", "3"],
            env=os.environ | {"VGGFLOW_STATE": str(tmp_path / state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    validated = [sys.executable, "-m", "vggflow.cli", "-C", str(here.root), "validate"]
    subprocess.run(validated, check=True, capture_output=True)
    began = time.monotonic()
    whole, told = start("whole").communicate(timeout=500)
    seconds = time.monotonic() - began
    assert whole, told
    killed = 0
    for part in (0.3, 0.45, 0.55, 0.65, 0.75, 0.85):
        process = start("killed")
        try:
            process.communicate(timeout=part * seconds)
        except subprocess.TimeoutExpired:
            killed += 1
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert killed >= 3
    said, told = start("killed").communicate(timeout=500)
    assert said, told
    first, again = json.loads(whole), json.loads(said)
    assert {**again, "run_id": ""} == {**first, "run_id": ""}
    # Either state folder knows the same search: its run is one, and each trial is there once.
    assert again["run_id"] == first["run_id"]
    client = MlflowClient(f"sqlite:///{here.root}/.vggflow/mlflow.db")
    places = [place.experiment_id for place in client.search_experiments()]
    trials = client.search_runs(places, "tags.stage = 'search-trial'")
    names = [run.data.tags["vggflow.trial"] for run in trials]
    assert len(names) == len(set(names)) == again["trials"]
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert files.read_text(here.root / "params.yaml").count("chosen") == 0
