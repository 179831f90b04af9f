"""All doors give the same probabilities: the file, the clean process, and the MLflow model that takes bytes."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import write_params

from vggflow import artifacts
from vggflow.commands import evaluate, register, train, validate
from vggflow.data import images
from vggflow.models import files, heads
from vggflow.models.probabilities import class_probabilities
from vggflow.prediction.predictor import Predictor
from vggflow.tracking import connection
from vggflow.tracking.registry import champions, model_versions
from vggflow.workspace import Workspace, find

# High enough that none of the answers is certain.
TEMPERATURE = 8.0
SHORT = {"phases": [{"name": "all", "learning_rate": 0.002, "epochs": 1}]}


@pytest.fixture(scope="module")
def registered(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("registered") / "tiny"
    shutil.copytree(evaluated, root)
    workspace = find(root)
    register.register(workspace)
    return workspace


def test_the_mlflow_model_answers_as_the_file_does(registered: Workspace) -> None:
    import mlflow

    registry = connection.connect(registered)
    client, names = registry.client, registry.names
    version = model_versions.version_of(client, names.candidates, None, model_versions.CHALLENGER)
    pictures = registered.root / "data/test"
    paths = [pictures / name for name in ("blue/0.png", "red/0.png", "blue/1.png", "red/1.png")]
    with model_versions.model_file(version) as path:
        expected = Predictor(path).predict(paths)
    served = mlflow.pyfunc.load_model(version.uri)
    encoded = pd.DataFrame({"image": [path.read_bytes() for path in paths]})
    answer = served.predict(encoded)
    np.testing.assert_array_equal(answer[["p:blue", "p:red"]].to_numpy(), expected)
    assert not np.allclose(expected[0], expected[1], atol=1e-3), "of different pictures"
    assert list(answer["label"]) == ["blue" if blue > red else "red" for blue, red in expected]
    as_text = pd.DataFrame({"image": [base64.b64encode(path.read_bytes()).decode() for path in paths]})
    np.testing.assert_array_equal(_direct(version, as_text), expected)


@pytest.fixture(scope="module")
def of_imagenet(versioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a candidate whose preprocessing is ImageNet's."""
    root = tmp_path_factory.mktemp("imagenet") / "tiny"
    shutil.copytree(versioned, root, symlinks=True)
    registry_names = {"name": "bgr", "experiment": "bgr"}
    write_params(root, model={"preprocessing": "imagenet"}, train=SHORT, registry=registry_names)
    workspace = find(root)
    validate.validate(workspace)
    train.train(workspace)
    # Calibration leaves a model alone that needs none; the doors have to agree on one that it changed.
    model, info = files.load(workspace.path(artifacts.MODEL))
    heads.set_temperature(model, TEMPERATURE)
    files.save(model, replace(info, temperature=TEMPERATURE), workspace.path(artifacts.MODEL))
    evaluate.evaluate(workspace)
    register.register(workspace)
    return workspace


@pytest.mark.slow
def test_a_jpeg_gives_the_same_answer_through_all_four_doors(of_imagenet: Workspace, tmp_path: Path) -> None:
    import keras
    import mlflow
    import tensorflow as tf

    colours = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)
    photo = tmp_path / "photo.jpg"
    Image.fromarray(colours).resize((300, 200)).save(photo, quality=90)
    pixels = images.load(photo, 32)[None]
    names = of_imagenet.settings().registry
    version = model_versions.version_of(
        connection.connect(of_imagenet).client, names.candidates, None, model_versions.CHALLENGER
    )
    with model_versions.model_file(version) as path:
        model, info = files.load(path)
    assert (info.preprocessing, info.temperature == 1.0) == ("imagenet", False)
    files.save(model, info, tmp_path / "again.keras")
    reloaded = keras.saving.load_model(tmp_path / "again.keras", safe_mode=True)
    (inside,) = tf.data.Dataset.from_tensors(pixels).map(model).as_numpy_iterator()
    served = mlflow.pyfunc.load_model(version.uri).predict(pd.DataFrame({"image": [photo.read_bytes()]}))
    eager = class_probabilities(model(pixels))
    assert eager.min() > 0.001, "an answer that is certain would be the same for many inputs"
    assert not np.allclose(class_probabilities(model(pixels[..., ::-1])), eager, rtol=1e-3)
    for door in (
        class_probabilities(inside),
        class_probabilities(reloaded(pixels)),
        served[["p:blue", "p:red"]].to_numpy(),
    ):
        np.testing.assert_allclose(door, eager, rtol=1e-5)


def _direct(version: model_versions.Version, table: pd.DataFrame) -> np.ndarray:
    """As MLflow's JSON server hands it over."""
    from vggflow.prediction.pyfunc import _load_pyfunc

    with model_versions.model_file(version) as path:
        return _load_pyfunc(str(path)).predict(table)[["p:blue", "p:red"]].to_numpy()


def test_a_version_carries_its_lineage(registered: Workspace) -> None:
    names = registered.settings().registry
    version = model_versions.versions(connection.connect(registered).client, names.candidates)[-1]
    for tag in (
        *("git.commit", "git.dirty", "data.hash", "data.files", "data.bytes", "data_gate", "accuracy"),
        *("sha256.model", "sha256.params", "sha256.manifest", "package.tensorflow", "package.vggflow"),
    ):
        assert version.tags[tag], tag
    manifest = model_versions.training_manifest(version)
    assert len(manifest) == 36


def test_registering_twice_makes_one_version(registered: Workspace) -> None:
    again, new = register.register(registered)
    assert (again.number, new) == (1, False)


def test_a_flipped_byte_in_the_stored_model_is_noticed(registered: Workspace) -> None:
    from vggflow.errors import VggflowError

    client = connection.connect(registered).client
    version = model_versions.versions(client, registered.settings().registry.candidates)[-1]
    source = client.get_model_version(version.name, str(version.number)).source  # models:/m-…
    folder = client.get_logged_model(source.rpartition("/")[2]).artifact_location.removeprefix("file://")
    stored = Path(folder) / model_versions.MODEL_FILE
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(VggflowError, match="is damaged"), model_versions.model_file(version):
            pass
    finally:
        stored.write_bytes(content)


def test_of_promoters_that_judged_against_one_state_the_first_wins(registered: Workspace) -> None:
    registry = connection.connect(registered)
    client, names = registry.client, registry.names
    candidate = model_versions.versions(client, names.candidates)[-1]
    state = champions.read(registry).state
    assert state == "0.0"
    first = champions.claim(registry, candidate, state, {})
    assert first is not None
    assert champions.claim(registry, candidate, state, {}) is None
    book = champions.read(registry)
    assert (book.champion.number if book.champion else None) == first.number
    second = champions.claim(registry, candidate, book.state, {})
    assert second is not None
    done = champions.roll_back(registry, champions.read(registry), {"rollback.reason": "test"})
    settled = champions.read(registry)
    assert done is not None and settled.champion is not None
    assert settled.champion.number == first.number
    assert [v.number for v in settled.versions if champions.CHAMPION in v.aliases] == [first.number]
    assert champions.claim(registry, candidate, book.state, {}) is None


def test_a_claim_that_was_killed_is_completed_by_the_next(registered: Workspace) -> None:
    registry = connection.connect(registered)
    client, names = registry.client, registry.names
    candidate = model_versions.versions(client, names.candidates)[-1]
    state = champions.read(registry).state
    tags = {**candidate.tags, champions.STATE: state, champions.CANDIDATE: str(candidate.number)}
    begun = client.create_model_version(names.name, candidate.uri, run_id=candidate.run_id, tags=tags)
    settled = champions.settle(registry)
    assert settled.champion is not None
    assert settled.champion.number == int(begun.version)
    assert champions.CHAMPION in settled.champion.aliases
