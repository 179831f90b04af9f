"""A model's answers of now beside those of its evaluation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vggflow.commands import promotion_evidence
from vggflow.models import vgg16_in_numpy
from vggflow.prediction import table
from vggflow.promotion.rules import GOLDEN_TOLERANCE, GOLDEN_TOLERANCE_TF32


def answers(*probabilities: float) -> pd.DataFrame:
    """A predictions table of two classes."""
    hashes = [f"{number:02}" for number in range(len(probabilities))]
    first = np.array(probabilities)
    return pd.DataFrame({"path": hashes, "sha256": hashes, "truth": "a", "p:a": first, "p:b": 1 - first})


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_agrees_with_nothing(broken: float) -> None:
    whole, spoilt = answers(0.5, 0.25), answers(0.5, broken)
    for now, then in ((spoilt, whole), (whole, spoilt), (spoilt, spoilt)):
        found = promotion_evidence.golden(now, then)
        assert found.images == 2
        assert np.isfinite(found.difference) and found.difference > GOLDEN_TOLERANCE
    assert promotion_evidence.golden(whole, whole).difference == 0.0


def test_how_an_evaluation_was_computed_travels_with_its_answers(tmp_path: Path) -> None:
    images = pd.DataFrame({"path": ["1"], "sha256": ["01"], "class_name": ["a"]})
    table.write(table.make(images, np.array([[0.75, 0.25]]), ("a", "b")), tmp_path / "predictions.parquet")
    recorded = table.read(tmp_path / "predictions.parquet")
    assert recorded.attrs == {table.ARITHMETIC: table.FULL_FLOAT32}
    assert promotion_evidence.golden(recorded, recorded).tolerance == GOLDEN_TOLERANCE
    older = answers(0.75)
    assert promotion_evidence.golden(recorded, older).tolerance == GOLDEN_TOLERANCE_TF32


def in_tf32(values: np.ndarray) -> np.ndarray:
    """Float32 with 10 bits of fraction, rounded to the nearest: what a GPU multiplies where TF32 is on."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0xFFF) + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


class Rounded(dict):
    """Weights as TF32 takes them."""

    def __init__(self, weights: vgg16_in_numpy.Weights) -> None:
        super().__init__({name: (in_tf32(kernel), bias) for name, (kernel, bias) in weights.items()})


def network(generator: np.random.Generator, images: np.ndarray) -> vgg16_in_numpy.Weights:
    """A VGG16 with few channels, whose answers to the images are spread between 0 and 1."""
    channels, weights = 3, {}
    for block, count in enumerate(vgg16_in_numpy.CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            scale = np.sqrt(2 / (9 * channels)) / (64 if channels == 3 else 1)
            weights[f"block{block}_conv{number}"] = (
                generator.normal(0, scale, (3, 3, channels, 8)),
                np.zeros(8),
            )
            channels = 8
    weights["predictions"] = generator.normal(0, 1, (8, 1)), np.zeros(1)
    features = dict(vgg16_in_numpy.layers(vgg16_in_numpy.preprocess(images), weights))["flatten"]
    kernel = weights["predictions"][0]
    kernel *= 3 / (features @ kernel).std()
    weights["predictions"] = kernel, -(features @ kernel).mean(axis=0)
    return weights


@pytest.mark.parametrize("seed", range(4))
def test_a_gpu_in_tf32_is_told_from_true_float32_and_is_within_its_own_tolerance(seed: int) -> None:
    """Weights alone are rounded, half of what TF32 does, in networks of 8 channels, where little averages out."""
    generator = np.random.default_rng(seed)
    images = np.kron(generator.uniform(0, 256, (20, 4, 4, 3)), np.ones((1, 8, 8, 1)))
    weights = network(generator, images)
    exact, rounded = vgg16_in_numpy.forward(images, weights), vgg16_in_numpy.forward(images, Rounded(weights))
    assert exact.std() > 0.2
    found = promotion_evidence.golden(answers(*exact.ravel()), answers(*rounded.ravel()))
    assert GOLDEN_TOLERANCE < found.difference <= found.tolerance == GOLDEN_TOLERANCE_TF32
