"""What a search for settings costs and brings: `python -m benchmarks.search [--json]`.

On the photographs of `$VGGFLOW_PHOTOS` and on scikit-learn's digits, at 64 px from `$VGGFLOW_IMAGENET_WEIGHTS`: trials
of the first phase a minute after one feature pass, beside a Keras `fit` for each; then the accuracy on test of the
settings as they are and of the best ones, both trained normally, with 95 % intervals. A figure that misses its aim
ends with exit code 1.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import training_learns
from benchmarks.audit import draw_digits
from benchmarks.training import row, show_all
from vggflow.models import start_keras

if TYPE_CHECKING:
    from vggflow.search.run_search import Found
    from vggflow.training.job import TrainingJob

SIZE_PX, TRIALS, ALONE = 64, 100, 5
TRIALS_A_MINUTE, DIFFERENCE = 60.0, 1e-6
# What a search can go by.
METRICS = ("val_loss", "val_accuracy")
HEAD = {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.001, "epochs": 10}
TOP = {"name": "top", "freeze_through": "block4_pool", "learning_rate": 0.00002, "epochs": 3}


class Clock:
    """Listens to a search, and knows when its features were there."""

    def __init__(self) -> None:
        self.began = 0.0

    def on_start(self, key: str) -> None:  # noqa: ARG002
        """The features come next, where they are not cached."""
        self.began = time.perf_counter()

    def on_features(self, done: int, total: int) -> None:  # noqa: ARG002
        """From the last image of the pass on, trials are counted."""
        self.began = time.perf_counter()

    def on_trial(self, study: Any, trial: Any, settings: Any) -> None:
        """Does nothing."""


def job_of(folder: Path, weights: Path, state: Path, seed: int, *, later: bool) -> "TrainingJob":
    """A job with the settings from which a search starts."""
    from vggflow.gate.scan import scan
    from vggflow.settings import parse
    from vggflow.training.job import TrainingJob

    content = {
        "model": {"image_size_px": SIZE_PX, "weights": weights.name},
        "validate": {},
        "train": {"phases": [HEAD, TOP] if later else [HEAD]},
        "evaluate": {},
        "registry": {"experiment": "none"},
        "search": {"seed": seed},
    }
    return TrainingJob(parse(content), scan(folder), folder, weights.parent, state)


def measure(photos: Path, weights: Path, state: Path, network_trials: int) -> Iterator[dict[str, Any]]:
    """The figures of photographs, then of digits."""
    yield from _figures("photographs", photos, weights, state, network_trials)
    with tempfile.TemporaryDirectory() as folder:
        draw_digits(Path(folder))
        # Every fifth one of train becomes test: digits are in their order, so classes stay as they are.
        for number, path in enumerate(sorted(Path(folder).glob("train/*/*"))):
            if number % 5 == 0:
                target = Path(folder) / "test" / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        yield from _figures("digits", Path(folder), weights, state, 0)


def _figures(
    what: str, folder: Path, weights: Path, state: Path, network_trials: int
) -> Iterator[dict[str, Any]]:
    from vggflow.search.run_search import Budget, search

    # Trials that an earlier run left would cost no time.
    shutil.rmtree(state / "searches", ignore_errors=True)
    job = job_of(folder, weights, state, 0, later=network_trials > 0)
    # Features first: what they take is not what is asked.
    search(job_of(folder, weights, state, 1, later=network_trials > 0), Budget(1, 0), Clock())
    clock = Clock()
    found = search(job, Budget(TRIALS, 0), clock)
    rate = 60 * TRIALS / (time.perf_counter() - clock.began)
    yield row(f"{what}: trials of the first phase a minute", rate, TRIALS_A_MINUTE, least=True)
    apart, each = _trained_alone(job, found)
    yield row(f"{what}: a Keras fit for each, a minute", each, None, least=True)
    yield row(f"{what}: a trial's metrics beside those", apart, DIFFERENCE, least=False)
    if network_trials:
        found = search(job, Budget(TRIALS, network_trials), Clock())
    yield from _on_test(what, job, found)


def _trained_alone(job: "TrainingJob", found: "Found") -> tuple[float, float]:
    """The largest difference between some trials and trainings of their settings, and how many of these a minute."""
    from vggflow.search.space import with_values
    from vggflow.training.fitting import discard_checkpoint, fit
    from vggflow.training.job import SilentObserver

    if found.first is None:
        raise AssertionError("features of the first phase are cached here")
    complete = [trial for trial in found.first.trials if trial.state == "complete"][:ALONE]
    differences: list[float] = []
    began = time.perf_counter()
    for trial in complete:
        settings = with_values(job.settings, trial.values)
        train = settings.train.model_copy(update={"phases": settings.train.phases[:1]})
        alone = replace(job, settings=settings.model_copy(update={"train": train}))
        trained = fit(alone, SilentObserver())
        discard_checkpoint(alone, trained)
        for ours, theirs in zip(trial.rows, trained.history, strict=True):
            differences += [abs(float(ours[name]) - float(theirs[name])) for name in METRICS]
    return max(differences), 60 * len(complete) / (time.perf_counter() - began)


def _on_test(what: str, job: "TrainingJob", found: "Found") -> Iterator[dict[str, Any]]:
    from scipy.stats import binomtest

    from vggflow.data import manifest as manifests

    images = len(manifests.labelled(job.manifest, "test"))
    for name, settings in (("settings as they are", job.settings), ("the best ones", found.best_settings)):
        accuracy = training_learns.measure(replace(job, settings=settings))["test"]
        between = binomtest(round(accuracy * images), images).proportion_ci(method="wilson")
        interval = [round(float(between.low), 3), round(float(between.high), 3)]
        yield row(f"{what}: accuracy on test, {name}", accuracy, None, least=True) | {"interval": interval}
    changes = {name.removeprefix("train.phases."): value for name, value in found.changes.items()}
    yield row(f"{what}: trials in all", found.trials, None, least=True) | {"best": changes}


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.search", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("VGGFLOW_IMAGENET_WEIGHTS"))
    parser.add_argument("--state", type=Path, help="a folder to keep features in")
    parser.add_argument(
        "--network-trials", type=int, default=0, help="whole trainings, of photographs: minutes each"
    )
    given = parser.parse_args()
    if given.photos is None or given.weights is None:
        parser.error("no photographs or weights: set VGGFLOW_PHOTOS and VGGFLOW_IMAGENET_WEIGHTS")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start("tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        state = given.state or Path(folder)
        figures = measure(Path(given.photos), Path(given.weights), state, given.network_trials)
        return show_all(figures, judged=True, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
