import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vggflow.evaluation import metrics
from vggflow.report import plots

HISTORY = [
    {"phase": phase, "epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch}
    | {"val_loss": 1.1 / epoch, "val_accuracy": 1 - 0.6 / epoch}
    for epoch, phase in enumerate(["head", "head", "top", "top", "top"], start=1)
]


@pytest.mark.parametrize("classes", [2, 3, 25])
def test_every_figure_is_written_and_holds_something(make_predictions, tmp_path, classes):
    names = tuple(f"class{number:02}" for number in range(classes))
    drawn = plots.draw_all(make_predictions(names), names, HISTORY, tmp_path / "plots", temperature=1.5)
    assert [path.stem for path in drawn.values()] == list(drawn)
    paths = drawn.values()
    assert {path.name for path in paths} == {
        "confusion_matrix.png", "roc_and_pr.png", "reliability.png", "learning_curves.png",
    }  # fmt: skip
    for path in paths:
        assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 100
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(path.name for path in paths)


def test_the_same_numbers_give_the_same_bytes(make_predictions, tmp_path):
    for folder in ("a", "b"):
        plots.draw_all(make_predictions(("cats", "dogs")), ("cats", "dogs"), HISTORY, tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_line_stands_where_a_phase_ends():
    loss, accuracy = plots.learning_curves(HISTORY).axes
    for axes in (loss, accuracy):
        borders = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert borders == [2.5]
        assert [text.get_text() for text in axes.texts] == ["head", "top"]


def test_the_confusion_matrix_shows_the_counts(make_predictions):
    measured = metrics.measure(make_predictions(("cats", "dogs")), ("cats", "dogs"), replicates=0)
    axes = plots.confusion_matrix(measured).axes[0]
    shown = [int(text.get_text()) for text in axes.texts]
    assert shown == list(np.array(measured["confusion_matrix"]).ravel())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cats", "dogs"]


def test_an_image_of_one_class_only_still_gives_figures(make_predictions, tmp_path):
    predictions = make_predictions(("cats", "dogs"))
    plots.draw_all(predictions[predictions["truth"] == "cats"], ("cats", "dogs"), HISTORY[:1], tmp_path)


def test_figures_are_drawn_without_pyplot():
    code = "import sys, vggflow.report.plots as p; p.learning_curves([dict(phase='a', epoch=1, loss=1., "
    code += "accuracy=.5, val_loss=1., val_accuracy=.5)]); print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
