"""Fine-tuning on real photographs from real start weights."""

import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from tiny_training import Listener, settings

from vggflow.features.batches import Decoding, Shape, examples
from vggflow.gate.scan import scan
from vggflow.models.probabilities import class_probabilities
from vggflow.settings import parse
from vggflow.training.fitting import fit
from vggflow.training.job import TrainingJob
from vggflow.training.learner import predict
from vggflow.workspace import recipe_text

PHOTOS, START_WEIGHTS = os.environ.get("VGGFLOW_PHOTOS"), os.environ.get("VGGFLOW_START_WEIGHTS")
IMAGENET = os.environ.get("VGGFLOW_IMAGENET_WEIGHTS")


@pytest.mark.slow
@pytest.mark.skipif(
    not (PHOTOS and START_WEIGHTS), reason="VGGFLOW_PHOTOS and VGGFLOW_START_WEIGHTS are not set"
)
def test_cats_and_dogs_are_told_apart(tmp_path):
    data, weights = Path(PHOTOS), Path(START_WEIGHTS)
    phases = [
        {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.001, "epochs": 5},
        {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.0001, "epochs": 10},
    ]
    model = {"width": 0.25, "image_size_px": 64, "head": "pooling", "weights": weights.name}
    train = {
        "batch_size": 32,
        "features": {"batch_size": 32},
        "phases": phases,
        "backend": keras.backend.backend(),
    }
    manifest = scan(data)
    job = TrainingJob(settings(train, model), manifest, data, weights.parent, tmp_path)
    trained = fit(job, Listener())
    test = examples(manifest, "test", trained.info.class_names, data)
    outputs = predict(trained.model, Decoding(test, Shape(64, "stretch")), 32)
    accuracy = float((class_probabilities(outputs).argmax(axis=1) == test.labels).mean())
    probe = trained.results["linear_probe_val_accuracy"]
    sys.stdout.write(f"test {accuracy:.3f}, linear probe on valid {probe:.3f}\n")  # for `pytest -rP`
    assert accuracy >= 0.80
    assert trained.history[-1]["val_accuracy"] > max(row["val_accuracy"] for row in trained.history[:5])
    assert 0.6 <= probe < accuracy
    assert np.isfinite(trained.info.temperature)


@pytest.mark.slow
@pytest.mark.skipif(
    not (PHOTOS and IMAGENET), reason="VGGFLOW_PHOTOS and VGGFLOW_IMAGENET_WEIGHTS are not set"
)
def test_the_recipe_for_laptops_learns_from_imagenets_weights(tmp_path):
    """On smaller pictures and fewer of them than it is meant for: benchmarks.training_learns has the real figures."""
    data, weights = Path(PHOTOS), Path(IMAGENET)
    recipe = parse(yaml.safe_load(recipe_text("laptop")))
    model = recipe.model.model_copy(update={"weights": weights.name, "image_size_px": 96})
    epochs = {"head": 10, "top": 2}
    phases = tuple(each.model_copy(update={"epochs": epochs[each.name]}) for each in recipe.train.phases)
    train = recipe.train.model_copy(update={"phases": phases, "backend": keras.backend.backend()})
    manifest = scan(data)
    few = manifest[manifest.groupby(["split", "class_name"]).cumcount() < 100]
    job = TrainingJob(
        recipe.model_copy(update={"model": model, "train": train}), few, data, weights.parent, tmp_path
    )
    trained = fit(job, Listener())
    test = examples(few, "test", trained.info.class_names, data)
    outputs = predict(trained.model, Decoding(test, Shape(96, "stretch")), 32)
    accuracy = float((class_probabilities(outputs).argmax(axis=1) == test.labels).mean())
    sys.stdout.write(f"test {accuracy:.3f}\n")  # for `pytest -rP`
    assert accuracy >= 0.75
