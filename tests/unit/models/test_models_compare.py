"""Two models on the same images."""

import io
import json
import time

import numpy as np
import pytest
from rich.console import Console

from vggflow.errors import UsageError
from vggflow.models import builder
from vggflow.models.compare import Answers, ask, compare, render
from vggflow.models.probabilities import class_probabilities
from vggflow.settings import ModelSettings

OURS = Answers("ours", ("cats", "dogs"), np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]]), 2.0)
THEIRS = Answers("theirs", ("dogs", "cats"), np.array([[0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]]), 0.5)


def test_differences_and_agreement_are_counted_by_class_name():
    found = compare(OURS, THEIRS)
    assert found.images == 4
    assert found.largest_difference == pytest.approx(0.2)
    assert found.most_different == 1
    assert found.agreement == 0.75
    assert found.accuracy is None
    assert found.seconds == (2.0, 0.5)


def test_accuracy_needs_labels():
    found = compare(OURS, THEIRS, ["cats", "dogs", "dogs", "dogs"])
    assert found.accuracy == (0.75, 0.5)
    assert json.loads(json.dumps(found.to_dict()))["accuracy"] == [0.75, 0.5]


def test_both_builders_with_the_same_weights_agree():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    answers = []
    for name in ("keras", "sequential"):
        settings = ModelSettings(image_size_px=32, weights="none", builder=name)
        model = builder.build(settings, ["cats", "dogs"])
        answers.append(
            ask(
                name,
                ["cats", "dogs"],
                lambda batch, m=model: class_probabilities(m.predict(batch, verbose=0)),
                images,
            )
        )
    found = compare(*answers)
    assert found.largest_difference < 1e-5
    assert found.agreement == 1.0


def test_the_first_call_is_not_timed():
    calls = []

    def predict(images):
        time.sleep(0.5 if not calls else 0.0)
        calls.append(len(images))
        return np.full((len(images), 2), 0.5)

    assert ask("slow start", ["cats", "dogs"], predict, [1, 2, 3]).seconds < 0.4
    assert calls == [1, 3]


@pytest.mark.parametrize(
    ("other", "truth", "words"),
    [
        (
            Answers("theirs", ("cats", "hens"), THEIRS.probabilities, 1.0),
            None,
            "cats, dogs and theirs cats, hens",
        ),
        (
            Answers("theirs", ("cats", "dogs"), THEIRS.probabilities[:2], 1.0),
            None,
            "same images, .* got 4, 2",
        ),
        (THEIRS, ["cats"], "got 4, 4, 1"),
        (THEIRS, ["cats", "dogs", "hens", "cats"], "images of class hens, expected cats, dogs"),
    ],
)
def test_models_or_images_that_cannot_be_compared_are_refused(other, truth, words):
    with pytest.raises(UsageError, match=words):
        compare(OURS, other, truth)


def test_the_table_names_both_models():
    console = Console(width=80, file=io.StringIO())
    console.print(render(compare(OURS, THEIRS, ["cats", "dogs", "dogs", "dogs"])))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["ours", "theirs"] in lines
    assert ["accuracy", "75.00%", "50.00%"] in lines
    assert ["images", "a", "second", "2.0", "8.0"] in lines
