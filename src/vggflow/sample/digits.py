"""Handwritten digits as a workspace: 5–9 to learn, start weights from 0–4, and a second delivery for later.

The 1,797 pictures are scikit-learn's `load_digits` (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten
Digits, UCI Machine Learning Repository, 1998), 8×8 pixels with 17 grey levels; here they are enlarged to 32×32.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggflow.files import replacing
from vggflow.models import start_keras
from vggflow.settings import ModelSettings, Settings

SIZE_PX = 32
LEARNED_BEFORE = range(5)
TO_LEARN = range(5, 10)
# Of the pictures of each digit, in their order: a small first delivery, and a larger one that comes later.
FIRST = {"train": slice(0, 30), "valid": slice(30, 55), "test": slice(55, 95)}
UNLABELLED = slice(95, 99)
SECOND = {"train": slice(99, 174)}
PRETRAINING_EPOCHS = 12


def write_delivery(folder: Path, slices: dict[str, slice]) -> int:
    """Writes pictures of the digits 5–9 as `folder/<split>/<digit>/…png`; returns how many."""
    images, labels = _load()
    count = 0
    for digit in TO_LEARN:
        of_digit = np.flatnonzero(labels == digit)
        for split, part in slices.items():
            for index in of_digit[part]:
                _write(folder / split / str(digit) / f"digit.{index}.png", images[index])
                count += 1
    return count


def write_unlabelled(folder: Path) -> int:
    """Writes pictures whose digit is not told as `folder/test/unknown/…png`; returns how many."""
    images, labels = _load()
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == digit)[UNLABELLED] for digit in TO_LEARN]))
    for number, index in enumerate(chosen, start=1):
        _write(folder / "test" / "unknown" / f"{number}.png", images[index])
    return len(chosen)


def write_start_weights(path: Path, settings: Settings) -> float:
    """Trains the network on the digits 0–4 and keeps its weights as a start; returns the accuracy reached.

    Takes about 20 s on two cores.
    """
    start_keras.start()
    import keras

    from vggflow.models import weight_files
    from vggflow.models.builder import build

    images, labels = _load()
    chosen = np.isin(labels, list(LEARNED_BEFORE))
    keras.utils.set_random_seed(settings.train.seed)
    model = build(
        _from_nothing(settings.model), [str(digit) for digit in LEARNED_BEFORE], None, settings.train.seed
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    pixels = np.stack([_enlarged(image) for image in images[chosen]])[..., None].repeat(3, axis=-1)
    history = model.fit(pixels, labels[chosen], batch_size=32, epochs=PRETRAINING_EPOCHS, verbose=0)
    with replacing(path) as beside:
        named = beside.with_name(f"{beside.name}.weights.h5")
        model.save_weights(named)
        weight_files.say_preprocessing(named, settings.model.preprocessing)
        named.replace(beside)
    return float(history.history["accuracy"][-1])


def _from_nothing(model: ModelSettings) -> ModelSettings:
    return model.model_copy(update={"weights": "none"})


def _load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def _enlarged(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    grey = Image.fromarray((image * (255 / 16)).round().astype(np.uint8))
    return np.asarray(grey.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))


def _write(path: Path, image: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_enlarged(image)).save(path)
