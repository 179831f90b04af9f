"""The same images through two models: how far apart, how often of one mind, how good, how fast."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from vggflow.console import table
from vggflow.errors import UsageError

# From images, whatever they are to the model, to probabilities (N, K).
Predict = Callable[[Sequence[Any]], NDArray[np.float64]]


@dataclass(frozen=True)
class Answers:
    """What a model said: probabilities (N, K) in the order of `class_names`, and how long it took."""

    name: str
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images; pairs are in the order of `names`."""

    names: tuple[str, str]
    images: int
    largest_difference: float
    most_different: int
    agreement: float
    accuracy: tuple[float, float] | None
    seconds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; `most_different` is the position of the image with the largest difference."""
        return asdict(self)


def ask(name: str, class_names: Sequence[str], predict: Predict, images: Sequence[Any]) -> Answers:
    """Runs a model over the images, and times it without its first call, which compiles."""
    predict(images[:1])
    began = time.perf_counter()
    probabilities = predict(images)
    return Answers(name, tuple(class_names), probabilities, time.perf_counter() - began)


def compare(first: Answers, second: Answers, truth: Sequence[str] | None = None) -> Comparison:
    """Compares the answers of two models to the same images; `truth` holds the class name of each.

    The order of the classes may differ between the models.

    Raises:
        UsageError: there are no images, or the models know different classes or saw different images.
    """
    _check(first, second, truth)
    columns = [second.class_names.index(name) for name in first.class_names]
    ours, theirs = first.probabilities, second.probabilities[:, columns]
    differences = np.abs(ours - theirs).max(axis=1)
    chosen = ours.argmax(axis=1), theirs.argmax(axis=1)
    labels = None if truth is None else np.array([first.class_names.index(name) for name in truth])
    return Comparison(
        names=(first.name, second.name),
        images=len(ours),
        largest_difference=float(differences.max()),
        most_different=int(differences.argmax()),
        agreement=float(np.mean(chosen[0] == chosen[1])),
        accuracy=None
        if labels is None
        else (float(np.mean(chosen[0] == labels)), float(np.mean(chosen[1] == labels))),
        seconds=(first.seconds, second.seconds),
    )


def _check(first: Answers, second: Answers, truth: Sequence[str] | None) -> None:
    if set(first.class_names) != set(second.class_names):
        classes = [", ".join(answers.class_names) for answers in (first, second)]
        raise UsageError(
            f"{first.name} knows {classes[0]} and {second.name} {classes[1]}: expected the same classes"
        )
    counts = [len(first.probabilities), len(second.probabilities), *([] if truth is None else [len(truth)])]
    if len(set(counts)) != 1 or counts[0] == 0:
        raise UsageError(
            f"expected answers for the same images, one at least, got {', '.join(map(str, counts))}"
        )
    if unknown := set(truth or ()) - set(first.class_names):
        raise UsageError(
            f"images of class {', '.join(sorted(unknown))}, expected {', '.join(first.class_names)}"
        )


def render(comparison: Comparison) -> RenderableType:
    """One table: what both have in common, then each by itself."""
    images = comparison.images
    rows = [
        ["largest difference", f"{comparison.largest_difference:.2g}", ""],
        ["agreement", f"{comparison.agreement:.2%}", ""],
    ]
    if comparison.accuracy is not None:
        rows.append(["accuracy", *(f"{value:.2%}" for value in comparison.accuracy)])
    rows.append(["seconds", *(f"{value:.2f}" for value in comparison.seconds)])
    rows.append(["images a second", *(f"{images / value:,.1f}" for value in comparison.seconds)])
    return table(f"{images:,} images", ["", *comparison.names], rows)
