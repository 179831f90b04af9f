"""A workspace, a database of MLflow with two champions and a prefect.yaml that an earlier vggflow made go on working.

`tests/fixtures/workspace_before.tar.xz` was made by the vggflow before its modules were moved: `init`, an import of 36
pictures, and twice `validate`, `train`, `evaluate`, `register` and `promote`. Pages and figures were left out.
"""

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny import Ran

from flows import deployable
from vggflow import artifacts
from vggflow.tracking import connection
from vggflow.tracking.registry import champions
from vggflow.workspace import find

FIXTURE = Path(__file__).parents[1] / "fixtures" / "workspace_before.tar.xz"


@pytest.fixture
def before(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "pets"


def test_its_champion_answers(before: Path, vggflow: Callable[..., Ran]) -> None:
    pictures = [before / f"data/test/{name}/0.png" for name in ("blue", "red")]
    ran = vggflow("-C", before, "predict", *pictures, "--json")
    assert ran.code == 0, ran.err
    assert [row["label"] for row in json.loads(ran.out)] == ["blue", "red"]


def test_its_champion_is_rolled_back_to_the_one_before(before: Path, vggflow: Callable[..., Ran]) -> None:
    ran = vggflow("-C", before, "rollback", "--reason", "the one before was better", "--by", "bob")
    assert ran.code == 0, ran.err
    here = find(before)
    book = champions.read(connection.connect(here))
    assert book.champion is not None and book.champion.number == 1
    ran = vggflow("-C", before, "models", "--history", "--json")
    assert [(row["version"], row["why"]) for row in json.loads(ran.out)][1:] == [(2, "seed 1"), (1, "seed 0")]
    assert vggflow("-C", before, "predict", before / "data/test/red/1.png").code == 0


def test_its_prefect_yaml_can_be_deployed(before: Path) -> None:
    content = yaml.safe_load((before / deployable.FILE).read_text("utf-8"))
    assert len(content["deployments"]) >= 5
    deployable.check_file(content, before)


@pytest.mark.slow
def test_it_is_deployed_to_a_server(
    before: Path, vggflow: Callable[..., Ran], prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = before.with_name("pets.git")
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", origin], check=True)
    here = find(before)
    here.git("remote", "add", "origin", str(origin))
    here.git("push", "--quiet", "-u", "origin", "HEAD:main")
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    ran = vggflow("-C", before, "deploy", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    names = {row["deployment"].partition("@")[0] for row in found["deployments"]}
    assert {"check-data", "promote", "retrain-nightly", "retrain-on-new-data", "rollback"} <= names
    again = vggflow("-C", before, "deploy", "--json")
    assert (again.code, json.loads(again.out)["deployments"]) == (0, found["deployments"])


def test_its_stages_run_again_and_the_plan_says_why(before: Path, vggflow: Callable[..., Ran]) -> None:
    ran = vggflow("-C", before, "retrain", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    steps = {step["step"]: step for step in json.loads(ran.out)}
    for stage in ("validate", "train", "evaluate"):
        assert steps[stage]["would"] not in ("up to date", "nothing"), steps[stage]
    assert "vggflow" in steps["validate"]["why"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_retrained_once_and_then_there_is_nothing_new(
    before: Path, vggflow: Callable[..., Ran]
) -> None:
    ran = vggflow("-C", before, "retrain")
    assert ran.code == 0, ran.err
    assert "stages run again, since results depend on it: vggflow" in ran.out + ran.err
    recorded = json.loads((before / artifacts.RUN).read_text("utf-8"))
    again = vggflow("-C", before, "retrain")
    assert again.code == 0 and "Nothing new" in again.out + again.err
    assert json.loads((before / artifacts.RUN).read_text("utf-8")) == recorded
