"""The audit flow on a real Prefect server: a table, a summary, and pages in MLflow that outlive a clone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pandas as pd
import pytest
import yaml
from team import change_params, team, wait
from tiny import COLOURS, draw

from vggflow import workspace as workspaces
from vggflow.files import sha256
from vggflow.tracking import connection
from vggflow.workspace import Workspace

pytestmark = pytest.mark.slow
RUN = """
import json, sys
from flows.audit import audit
state = audit(sys.argv[1], return_state=True)
print(json.dumps([state.name, state.message]))
"""


def _run(prefect_api: str, here: Workspace, state: Path) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(here.root)],
        env=os.environ | {"PREFECT_API_URL": prefect_api, "VGGFLOW_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, message = json.loads(done.stdout.splitlines()[-1])
    return name, message


def _artifact(prefect_api: str, key: str) -> str:
    found = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).json()
    return str(next(each["data"] for each in found if each["key"] == key))


def _weights(here: Workspace, name: str) -> None:
    content = yaml.safe_load((here.root / "params.yaml").read_text())
    content["model"]["weights"] = name
    (here.root / "params.yaml").write_text(yaml.safe_dump(content))


def _bytes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_the_first_suspects_stand_in_prefect_and_the_pages_in_mlflow(
    prefect_api: str, here: Workspace, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    assert _run(prefect_api, here, state)[0] == "Not audited"
    assert not (state / "features").exists()
    shutil.copy(here.root / "model" / "model.keras", here.root / "weights" / "start.keras")
    _weights(here, "start.keras")
    name, message = _run(prefect_api, here, state)
    assert (name, message.partition(";")[0]) == (
        "No doubts",
        "36 images: 0 labels in doubt, 0 of them surely",
    )
    assert json.loads(_artifact(prefect_api, "tiny-audit")) == [{"image": "none", "label": "in doubt"}]

    image = here.root / "data" / "train" / "blue" / "0.png"
    shutil.move(image, here.root / "data" / "train" / "red" / "a|b <i>.png")
    before = _bytes(here.root / "data")
    name, message = _run(prefect_api, here, state)
    assert (name, message.partition(";")[0]) == (
        "Labels in doubt",
        "36 images: 1 label in doubt, 1 of them surely",
    )
    (row,) = json.loads(_artifact(prefect_api, "tiny-audit"))
    assert (row["image"], row["label"], row["looks like"]) == ("train/red/a|b <i>.png", "red", "blue")
    summary = _artifact(prefect_api, "tiny-summary")
    assert summary.startswith("# Labels in doubt")
    assert "| red | blue | 1 | 1 |" in summary
    assert _bytes(here.root / "data") == before
    # What a worker keeps when its clone goes: features, and what the data gate reads.
    kept = pd.read_parquet(state / "audits" / "tiny.parquet")
    assert int(kept["sure"].sum()) == 1
    assert any((state / "features").iterdir())

    assert _run(prefect_api, here, state)[0] == "Labels in doubt"
    client = connection.connect(here).client
    experiment = client.get_experiment_by_name("tiny")
    found = client.search_runs([experiment.experiment_id], "tags.stage = 'audit'")
    assert len(found) == 2, "the same images by the same start weights are not put there twice"
    newest = found[0]
    assert newest.info.status == "FINISHED"
    assert newest.data.metrics["audit.surely_in_doubt"] == 1
    folder = Path(client.download_artifacts(newest.info.run_id, "audit", str(tmp_path)))
    assert "a|b &lt;i&gt;.png" in (folder / "report.html").read_text()
    table = pd.read_csv(folder / "suspects.csv", encoding="utf-8-sig")
    assert table["path"].tolist() == ["train/red/a|b <i>.png"]
    assert table["decision"].isna().all()


def test_refused_data_are_not_audited(prefect_api: str, here: Workspace, tmp_path: Path) -> None:
    shutil.copy(here.root / "model" / "model.keras", here.root / "weights" / "start.keras")
    _weights(here, "start.keras")
    (here.root / "data" / "train" / "red" / "broken.png").write_bytes(b"no image")
    name, message = _run(prefect_api, here, tmp_path / "state")
    assert name == "Refused"
    assert "broken.png" in message
    assert not (tmp_path / "state" / "audits").exists()


def test_a_worker_leaves_features_and_links_when_its_clone_goes(tmp_path: Path, with_champion: Path) -> None:
    with team(tmp_path) as made:
        root = made.root
        shutil.copy(with_champion / "model" / "model.keras", root / "weights" / "start.keras")
        here = Workspace(root)
        here.dvc("add", "weights")
        workspaces.commit(here, ["weights.dvc"], "Start weights")
        change_params(root, model={"weights": "start.keras"})
        draw(made.folder / "delivery" / "train" / "red" / "of-another-kind.png", COLOURS["blue"], 60_000)
        made.vggflow("data", "import", str(made.folder / "delivery"))
        made.vggflow("deploy")
        made.worker()
        run = made.ended(made.request("audit", "audit"), 400)
        assert run["state"]["name"] == "Labels in doubt", run["state"]
        assert run["name"].startswith("audit · data ")
        wait(lambda: not made.clones(), 60, "its clone is removed")
        shown = made.artifacts(run["id"])
        assert "train/red/of-another-kind.png" in shown["tiny-audit"]["data"]
        summary = shown["tiny-summary"]["data"]
        place = f"{made.mlflow_url}/#/experiments/"
        assert f"[report.html]({place}" in summary
        assert f"[suspects.csv]({place}" in summary
        # The next look of the data gate on this machine knows what was found, in whatever clone.
        made.vggflow("validate")
        result = json.loads((root / "validation" / "result.json").read_text())
        problem = next(each for each in result["problems"] if each["expectation"] == "label_suspects")
        assert problem["paths"] == ["train/red/of-another-kind.png"]
