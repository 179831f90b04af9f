"""The same images through two models: how far apart, how often of one mind, how good, how fast."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from vggflow.console import table
from vggflow.data import images
from vggflow.data.parallel import DECODING_THREADS
from vggflow.data.places import Place, path_of
from vggflow.errors import DataError, UsageError
from vggflow.models.files import ModelInfo
from vggflow.models.full_precision import full_float32
from vggflow.models.probabilities import class_probabilities

BATCH_SIZE = 32


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images; pairs are in the order of `names`.

    Attributes:
        most_different: Path of the image with the largest difference of a probability.
        labels_differ: To how many images they give different classes.
        labelled: How many images lie in a folder named like a class.
        accuracy: On the labelled images; none where there are none.
        seconds: What the networks took, without decoding and compiling.
    """

    names: tuple[str, str]
    images: int
    largest_difference: float
    most_different: str
    labels_differ: int
    labelled: int
    accuracy: tuple[float, float] | None
    seconds: tuple[float, float]

    @property
    def agreement(self) -> float:
        """Share of the images to which both give the same class."""
        return 1 - self.labels_differ / self.images

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"agreement": self.agreement}


class Contestant:
    """A model, what it has answered so far, and the seconds that its network took.

    Args:
        name: What it is called.
        ask: The network: from pixels (n, S, S, 3) to its outputs.
        info: What it was made for.
    """

    def __init__(self, name: str, ask: Callable[[NDArray[np.uint8]], Any], info: ModelInfo) -> None:
        self.name = name
        self.info = info
        self.seconds = 0.0
        self._ask = ask
        self._outputs: list[NDArray[Any]] = []
        self._compiled_for: set[int] = set()

    def answer(self, pixels: NDArray[np.uint8]) -> None:
        """Runs the network on a batch; a batch of a new size runs twice, since the first time compiles."""
        with full_float32():
            if len(pixels) not in self._compiled_for:
                self._ask(pixels)
                self._compiled_for.add(len(pixels))
            began = time.perf_counter()
            outputs = np.asarray(self._ask(pixels))
            self.seconds += time.perf_counter() - began
        self._outputs.append(outputs)

    def probabilities(self, class_names: Sequence[str]) -> NDArray[np.float64]:
        """All answers (N, K), the classes in the order of `class_names`."""
        # By name: two models may know the same classes in different orders.
        columns = [self.info.class_names.index(name) for name in class_names]
        return class_probabilities(np.concatenate(self._outputs))[:, columns]


def compare(
    first: Contestant, second: Contestant, paths: Sequence[Path | Place], progress: Callable[[int, int], None]
) -> Comparison:
    """Sends image files, each decoded once, through both; folders named like a class give the truth.

    Raises:
        UsageError: the models know different classes; their order may differ.
        DataError: an image can't be read.
    """
    names = first.info.class_names
    if set(names) != set(second.info.class_names):
        classes = [", ".join(contestant.info.class_names) for contestant in (first, second)]
        raise UsageError(
            f"{first.name} knows {classes[0]} and {second.name} {classes[1]}: expected the same classes"
        )
    done = 0
    for ours, theirs in _batches(paths, (first.info, second.info)):
        first.answer(ours)
        second.answer(theirs)
        done += len(ours)
        progress(done, len(paths))
    one, other = first.probabilities(names), second.probabilities(names)
    differences = np.abs(one - other).max(axis=1)
    chosen = one.argmax(axis=1), other.argmax(axis=1)
    # -1 for an image whose folder is no class: it counts for all but accuracy.
    folders = [path_of(path).parent.name for path in paths]
    labels = np.array([names.index(folder) if folder in names else -1 for folder in folders])
    known = labels >= 0
    return Comparison(
        names=(first.name, second.name),
        images=len(paths),
        largest_difference=float(differences.max()),
        most_different=str(path_of(paths[int(differences.argmax())])),
        labels_differ=int((chosen[0] != chosen[1]).sum()),
        labelled=int(known.sum()),
        accuracy=cast("tuple[float, float]", tuple(float(np.mean(c[known] == labels[known])) for c in chosen))
        if known.any()
        else None,
        seconds=(first.seconds, second.seconds),
    )


def _batches(
    paths: Sequence[Path | Place], infos: tuple[ModelInfo, ModelInfo]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Batches of pixels as each of the two models takes them."""

    def decode(path: Path | Place) -> tuple[images.Pixels, ...]:
        try:
            picture = images.open_image(path)
        except images.ImageError as error:
            raise DataError(f"{path}: not a readable image ({error}); leave it out or replace it") from error
        # Decoded once, resized for each model.
        return tuple(
            images.pixels(picture, info.image_size_px, cast("images.Resize", info.resize)) for info in infos
        )

    # Not a batch ahead: decoding beside the networks would take cores from them while their time is taken.
    with ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode") as threads:
        for start in range(0, len(paths), BATCH_SIZE):
            ours, theirs = zip(*threads.map(decode, paths[start : start + BATCH_SIZE]), strict=True)
            yield np.stack(ours), np.stack(theirs)


def render(comparison: Comparison) -> RenderableType:
    """One table: what both have in common, then each by itself."""
    images, labelled = comparison.images, comparison.labelled
    rows = [
        ["largest difference", f"{comparison.largest_difference:.2g}", ""],
        ["agreement", f"{comparison.agreement:.2%}", ""],
    ]
    if comparison.accuracy is not None:
        rows.append(["accuracy", *(f"{value:.2%}" for value in comparison.accuracy)])
    rows.append(["seconds", *(f"{value:.2f}" for value in comparison.seconds)])
    rows.append(["images a second", *(f"{images / value:,.1f}" for value in comparison.seconds)])
    title = f"{images:,} images, {labelled:,} of them labelled"
    different = Text(f"most different: {comparison.most_different}", overflow="fold")
    return Group(table(title, ["", *comparison.names], rows), different)
