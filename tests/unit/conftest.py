"""Tables of predictions and folders of pictures that many tests of parts need."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_pictures import grow

from vggflow.prediction.table import probability_column

MakePredictions = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def make_predictions() -> MakePredictions:
    """Makes a predictions table of random answers, the better the larger `skill`."""

    def make(class_names, images=300, skill=2.0, seed=0) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        truth = np.arange(images) % len(class_names)
        logits = np.random.default_rng([seed, 1]).normal(size=(images, len(class_names)))
        logits[np.arange(images), truth] += skill
        odds = np.exp(logits + 0.1 * generator.normal(size=logits.shape))
        table = pd.DataFrame(
            {
                "path": [f"test/{class_names[t]}/{i:05}.jpg" for i, t in enumerate(truth)],
                "sha256": [f"{i:064x}" for i in range(images)],
                "truth": [class_names[t] for t in truth],
            }
        )
        for column, name in enumerate(class_names):
            table[probability_column(name)] = odds[:, column] / odds.sum(axis=1)
        return table

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two classes in all splits, two pictures in each."""
    return grow(tmp_path / "data")


@pytest.fixture(scope="session")
def model_and_image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and a picture."""
    from PIL import Image

    from vggflow.models import files
    from vggflow.models.builder import build
    from vggflow.settings import ModelSettings

    folder = tmp_path_factory.mktemp("engine")
    settings = ModelSettings(image_size_px=32, weights="none", width=0.0625, builder="sequential")
    info = files.ModelInfo(("cats", "dogs"), 32, "stretch", "imagenet")
    files.save(build(settings, ["cats", "dogs"], None, seed=1), info, folder / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder / "model.keras", folder / "image.png"
