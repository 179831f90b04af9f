"""All doors give the same probabilities: the file, the clean process, and the MLflow model that takes bytes."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vggflow import pipeline
from vggflow.prediction.predictor import Predictor
from vggflow.tracking import connection, ledger, registry
from vggflow.workspace import Workspace, find


@pytest.fixture(scope="module")
def registered(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("registered") / "tiny"
    shutil.copytree(evaluated, root)
    workspace = find(root)
    pipeline.register(workspace)
    return workspace


def test_the_mlflow_model_answers_as_the_file_does(registered: Workspace) -> None:
    import mlflow

    names = registered.settings().registry
    client = connection.connect(registered)
    version = registry.version_of(client, names.candidates, None, registry.CHALLENGER)
    paths = sorted((registered.root / "data/test").rglob("*.png"))[:4]
    with registry.model_file(version) as path:
        expected = Predictor(path).predict(paths)
    served = mlflow.pyfunc.load_model(version.uri)
    encoded = pd.DataFrame({"image": [path.read_bytes() for path in paths]})
    answer = served.predict(encoded)
    np.testing.assert_array_equal(answer[["p:blue", "p:red"]].to_numpy(), expected)
    assert list(answer["label"]) == [path.parent.name for path in paths]
    as_text = pd.DataFrame({"image": [base64.b64encode(path.read_bytes()).decode() for path in paths]})
    np.testing.assert_array_equal(_direct(version, as_text), expected)


def _direct(version: registry.Version, table: pd.DataFrame) -> np.ndarray:
    """As MLflow's JSON server hands it over."""
    from vggflow.prediction.pyfunc import _load_pyfunc

    with registry.model_file(version) as path:
        return _load_pyfunc(str(path)).predict(table)[["p:blue", "p:red"]].to_numpy()


def test_a_version_carries_its_lineage(registered: Workspace) -> None:
    names = registered.settings().registry
    version = registry.versions(connection.connect(registered), names.candidates)[-1]
    for tag in (
        *("git.commit", "git.dirty", "data.hash", "data.files", "data.bytes", "data_gate", "accuracy"),
        *("sha256.model", "sha256.params", "sha256.manifest", "package.tensorflow", "package.vggflow"),
    ):
        assert version.tags[tag], tag
    manifest = registry.training_manifest(version)
    assert len(manifest) == 36


def test_registering_twice_makes_one_version(registered: Workspace) -> None:
    again, new = pipeline.register(registered)
    assert (again.number, new) == (1, False)


def test_a_flipped_byte_in_the_stored_model_is_noticed(registered: Workspace, evaluated: Path) -> None:
    from vggflow.errors import VggflowError

    names = registered.settings().registry
    version = registry.versions(connection.connect(registered), names.candidates)[-1]
    # The experiment keeps its artifacts where it was made, beside the workspace that this one is a copy of.
    stored = next((evaluated / ".vggflow/mlartifacts").rglob("model.keras"))
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(VggflowError, match="is damaged"), registry.model_file(version):
            pass
    finally:
        stored.write_bytes(content)


def test_of_promoters_that_judged_against_one_state_the_first_wins(registered: Workspace) -> None:
    names = registered.settings().registry
    client = connection.connect(registered)
    candidate = registry.versions(client, names.candidates)[-1]
    state = ledger.read(client, names).state
    assert state == "0.0"
    first = ledger.claim(client, names, candidate, state, {})
    assert first is not None
    assert ledger.claim(client, names, candidate, state, {}) is None
    book = ledger.read(client, names)
    assert (book.champion.number if book.champion else None) == first.number
    second = ledger.claim(client, names, candidate, book.state, {})
    assert second is not None
    done = ledger.withdraw(client, names, ledger.read(client, names), {"rollback.reason": "test"})
    settled = ledger.read(client, names)
    assert done is not None and settled.champion is not None
    assert settled.champion.number == first.number
    assert [v.number for v in settled.versions if registry.CHAMPION in v.aliases] == [first.number]
    assert ledger.claim(client, names, candidate, book.state, {}) is None


def test_a_claim_that_was_killed_is_completed_by_the_next(registered: Workspace) -> None:
    names = registered.settings().registry
    client = connection.connect(registered)
    candidate = registry.versions(client, names.candidates)[-1]
    state = ledger.read(client, names).state
    tags = {**candidate.tags, ledger.STATE: state, ledger.CANDIDATE: str(candidate.number)}
    begun = client.create_model_version(names.name, candidate.uri, run_id=candidate.run_id, tags=tags)
    settled = ledger.settle(client, names)
    assert settled.champion is not None
    assert settled.champion.number == int(begun.version)
    assert registry.CHAMPION in settled.champion.aliases
