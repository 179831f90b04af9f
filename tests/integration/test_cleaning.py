"""`vggflow clean` takes what is old, and nothing that a champion, an alias or a rollback needs."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vggflow import artifacts, files
from vggflow.commands import register
from vggflow.features import limit
from vggflow.features.store import Kind, Store, Writer
from vggflow.tracking import connection, retention, runs
from vggflow.tracking.registry import champions, model_versions
from vggflow.workspace import Workspace, find

pytestmark = pytest.mark.slow
CANDIDATES = 6


@pytest.fixture
def full(evaluated: Path, tmp_path: Path) -> Workspace:
    """Six candidates with a run each; the first two were promoted, the second is champion."""
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    workspace = find(root)
    first, _ = register.register(workspace)
    registry = connection.connect(workspace)
    client, names = registry.client, registry.names
    place = connection.experiment_id(client, names.experiment)
    model = workspace.path(artifacts.MODEL)
    for number in range(2, CANDIDATES + 1):
        run = runs.open_run(client, place, f"run {number}", {})
        runs.end_run(client, run)
        tags = {**first.tags, model_versions.KEY: f"key {number}"}
        version = model_versions.create_candidate(registry, run, model, model_versions.Described(tags))
    model_versions.challenge(client, version)
    found = model_versions.versions(client, names.candidates)
    for candidate in found[:2]:
        assert champions.claim(registry, candidate, champions.read(registry).state, {})
    return workspace


def left(workspace: Workspace) -> tuple[list[int], list[int], int]:
    """Numbers of candidates and of champions, and how many model files there are."""
    registry = connection.connect(workspace)
    client, names = registry.client, registry.names
    stored = workspace.path(artifacts.MLFLOW_ARTIFACTS).rglob("model.keras")
    return (
        [version.number for version in model_versions.versions(client, names.candidates)],
        [version.number for version in model_versions.versions(client, names.name)],
        len(list(stored)),
    )


def test_a_dry_run_says_what_would_go_and_changes_nothing(full: Workspace, vggflow: Callable) -> None:
    before = left(full)
    ran = vggflow("-C", full.root, "clean", "--keep", "2", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    found = {row["what"]: row["count"] for row in json.loads(ran.out)}
    assert (found["candidate versions"], found["MLflow runs"]) == (2, 2)
    assert left(full) == before == ([1, 2, 3, 4, 5, 6], [1, 2], 6)


def test_what_goes_is_gone_and_a_rollback_still_finds_its_model(
    full: Workspace, vggflow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / "state"))
    _compute_features(tmp_path / "state", kinds=4)
    ran = vggflow("-C", full.root, "clean", "--keep", "2")
    assert ran.code == 0, ran.err
    assert left(full) == ([1, 2, 5, 6], [1, 2], 4)
    assert len(limit.contents(tmp_path / "state")) == 2
    registry = connection.connect(full)
    ran = vggflow("-C", full.root, "rollback", "--reason", "after cleaning")
    assert ran.code == 0, ran.err
    champion = champions.read(registry).champion
    assert champion is not None
    with model_versions.model_file(champion) as model:
        assert files.sha256(model) == champion.tags["sha256.model"]
    assert len(model_versions.training_manifest(champion)) == 36
    again = vggflow("-C", full.root, "clean", "--keep", "2", "--json")
    assert {row["count"] for row in json.loads(again.out)} == {0}


def _compute_features(state: Path, kinds: int) -> None:
    for number in range(kinds):
        store = Store(state, Kind("pool", (2,), "float32", str(number), "", ""))
        with Writer(store, ["image"], 1) as writer:
            writer.add(np.zeros((1, 2), np.float32))


def test_keeping_none_is_wrong_usage(full: Workspace, vggflow: Callable) -> None:
    assert vggflow("-C", full.root, "clean", "--keep", "0").code == 2
    assert vggflow("-C", full.root, "clean").code == 2


def test_the_trials_of_a_search_take_no_training_s_place_and_go_with_their_search(full: Workspace) -> None:
    registry = connection.connect(full)
    client = registry.client
    place = connection.experiment_id(client, registry.names.experiment)
    before = retention.old(registry, keep=8)
    for search in range(3):
        parent = runs.open_run(client, place, f"search {search}", {"stage": "search"})
        for trial in range(10):
            tags = {"stage": "search-trial", "mlflow.parentRunId": parent}
            runs.end_run(client, runs.open_run(client, place, f"trial {trial}", tags))
        runs.end_run(client, parent)
    assert retention.old(registry, keep=8) == before
    gone = set(retention.old(registry, keep=1).runs) - set(before.runs)
    kinds = Counter(client.get_run(run).data.tags.get("stage") for run in gone)
    assert (kinds["search"], kinds["search-trial"]) == (2, 20)
