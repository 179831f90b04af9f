from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggflow.models.files import ModelInfo
from vggflow.settings import ModelSettings

SIZE = 32


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> list[Path]:
    """Five PNG files of noise, of several sizes."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    paths = []
    for number, side in enumerate((SIZE, 40, 50, SIZE, 45)):
        pixels = noise.integers(0, 256, (side, side + number, 3), dtype=np.uint8)
        path = folder / f"image.{number}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def save_model(path: Path, class_names: tuple[str, ...]) -> Path:
    """A tiny VGG16 whose answers differ from image to image."""
    import keras

    from vggflow.models import files
    from vggflow.models.builder import build

    settings = ModelSettings(
        image_size_px=SIZE, weights="none", width=0.0625, builder="sequential", preprocessing="rescale"
    )
    model = build(settings, class_names, None, seed=1)
    kernel, bias = model.get_layer("predictions").get_weights()
    generator = np.random.default_rng(2)
    model.get_layer("predictions").set_weights([generator.normal(0, 3, kernel.shape), bias])
    files.save(model, ModelInfo(class_names, SIZE, "stretch", "rescale"), path)
    keras.backend.clear_session()
    return path


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.keras", ("cats", "dogs"))


@pytest.fixture(scope="session")
def three_class_model_path(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model3") / "model.keras", ("cats", "dogs", "hens"))
