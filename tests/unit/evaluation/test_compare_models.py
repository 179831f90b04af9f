"""Two models on the same images."""

import io
import json
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vggflow.errors import DataError, UsageError
from vggflow.evaluation.compare_models import BATCH_SIZE, Comparison, Contestant, compare, render
from vggflow.models import builder
from vggflow.models.files import ModelInfo
from vggflow.settings import ModelSettings

TINY = {"image_size_px": 32, "weights": "none", "width": 0.0625, "builder": "sequential"}
FOUND = Comparison(("ours", "theirs"), 40, 0.25, "test/cats/[1].png", 10, 30, (0.75, 0.5), (2.0, 0.5))


def contestant(name: str, classes=("cats", "dogs"), resize="stretch", seed=0, **changes) -> Contestant:
    settings = ModelSettings(**{**TINY, **changes})
    info = ModelInfo(tuple(classes), settings.image_size_px, resize, settings.preprocessing)
    return Contestant(name, builder.build(settings, classes, seed=seed).predict_on_batch, info)


def reading_brightness(name: str, classes: tuple[str, str], logit_of_white: float = 2.0) -> Contestant:
    """A network that says the first class of black images, the more of the second the brighter they are."""
    pixels = keras.Input((8, 8, 3))
    brightness = keras.layers.GlobalAveragePooling2D()(pixels)
    logit = keras.layers.Dense(1, kernel_initializer="ones", trainable=False)(brightness)
    scaled = keras.layers.Rescaling(2 * logit_of_white / 765, offset=-logit_of_white)(logit)
    model = keras.Model(pixels, keras.layers.Activation("sigmoid")(scaled))
    return Contestant(name, model.predict_on_batch, ModelInfo(classes, 8, "stretch", "rescale"))


def draw(folder: Path, brightness: dict[str, int]) -> list[Path]:
    for name, value in brightness.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (value, value, value)).save(folder / name)
    return [folder / name for name in brightness]


def noise(folder: Path, count: int, size: tuple[int, int] = (40, 30)) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    return paths


def watch(done: int, total: int) -> None:
    assert 0 < done <= total


def test_differences_agreement_and_accuracy_go_by_class_name_and_only_labelled_images_count(tmp_path):
    # To the one bright images are dogs, to the other cats: of opposite minds, in another order of classes.
    one = reading_brightness("one", ("cats", "dogs"))
    other = reading_brightness("other", ("dogs", "cats"))
    twin = reading_brightness("twin", ("dogs", "cats"), -2.0)
    brightness = {"cats/1.png": 0, "cats/2.png": 200, "dogs/3.png": 250, "unknown/4.png": 255, "a.png": 40}
    paths = draw(tmp_path, brightness)
    found = compare(one, other, paths, watch)
    assert found.images == 5
    assert found.labelled == 3
    assert found.accuracy == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.agreement == 0.0
    assert found.largest_difference == pytest.approx(np.tanh(1.0), abs=1e-5)
    assert found.most_different in (str(tmp_path / "cats/1.png"), str(tmp_path / "unknown/4.png"))
    assert json.loads(json.dumps(found.to_dict()))["most_different"] == found.most_different
    same = compare(reading_brightness("one", ("cats", "dogs")), twin, paths, watch)
    assert same.agreement == 1.0
    assert same.largest_difference < 1e-6
    assert same.accuracy == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_there_is_no_accuracy_without_labels(tmp_path):
    paths = draw(tmp_path, {"unknown/1.png": 0, "hens/2.png": 255})
    names = ("cats", "dogs")
    found = compare(reading_brightness("one", names), reading_brightness("other", names), paths, watch)
    assert (found.labelled, found.accuracy) == (0, None)


@pytest.mark.slow
def test_both_builders_with_the_same_weights_agree_on_more_images_than_a_batch(tmp_path):
    paths = noise(tmp_path, BATCH_SIZE + 3)
    pair = [contestant(name, builder=name, width=1.0) for name in ("keras", "sequential")]
    found = compare(*pair, paths, watch)
    assert found.images == BATCH_SIZE + 3
    assert found.largest_difference < 1e-5
    assert found.agreement == 1.0


def test_each_model_gets_the_image_in_its_own_size_and_shape(tmp_path):
    from vggflow.data import images

    paths = noise(tmp_path, 3, (60, 30))
    pair = contestant("crop", resize="crop"), contestant("large", image_size_px=64, seed=1)
    found = compare(*pair, paths, watch)
    alone = []
    for asked, seed in zip(pair, (0, 1), strict=True):
        info = asked.info
        pixels = np.stack([images.load(path, info.image_size_px, info.resize) for path in paths])
        settings = ModelSettings(**{**TINY, "image_size_px": info.image_size_px})
        alone.append(builder.build(settings, ["cats", "dogs"], seed=seed).predict(pixels, verbose=0)[:, 0])
    assert found.largest_difference == pytest.approx(np.abs(alone[0] - alone[1]).max(), rel=1e-4)


class SlowToCompile(keras.layers.Layer):
    """Takes a moment whenever a backend turns it into a program."""

    programs = 0

    def call(self, values):
        type(self).programs += 1
        time.sleep(0.4)
        return values


def test_compiling_for_a_full_batch_and_for_the_rest_is_not_timed(tmp_path):
    images = keras.Input((32, 32, 3))
    features = keras.layers.GlobalAveragePooling2D()(SlowToCompile()(images))
    slow = keras.Model(images, keras.layers.Dense(2, activation="softmax")(features))
    first = Contestant("slow", slow.predict_on_batch, ModelInfo(("cats", "dogs"), 32, "stretch", "rescale"))
    before = SlowToCompile.programs
    found = compare(first, contestant("tiny"), noise(tmp_path, BATCH_SIZE + 1), watch)
    assert SlowToCompile.programs - before >= 2
    assert 0.0 < found.seconds[0] < 0.4
    assert found.seconds[1] > 0.0


def test_models_that_know_different_classes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="ours knows cats, dogs and theirs cats, hens"):
        compare(contestant("ours"), contestant("theirs", ("cats", "hens")), noise(tmp_path, 1), watch)


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg: not a readable image"):
        compare(contestant("ours"), contestant("theirs"), [tmp_path / "broken.jpg"], watch)


def test_the_table_names_both_models_the_labelled_images_and_the_most_different_one():
    console = Console(width=80, file=io.StringIO())
    console.print(render(FOUND))
    text = console.file.getvalue()
    lines = [line.split() for line in text.splitlines()]
    assert "40 images, 30 of them labelled" in text
    assert ["ours", "theirs"] in lines
    assert ["accuracy", "75.00%", "50.00%"] in lines
    assert ["images", "a", "second", "20.0", "80.0"] in lines
    assert "most different: test/cats/[1].png" in text
