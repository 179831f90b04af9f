"""A model file, and the probabilities it gives for images."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggflow.data import images
from vggflow.data.images import ImageError, Resize
from vggflow.data.parallel import DECODING_THREADS
from vggflow.data.places import Place
from vggflow.errors import DataError
from vggflow.models import files, probabilities
from vggflow.models.full_precision import full_float32

# A file, the encoded bytes of an image, or its RGB pixels: uint8, shape (height, width, 3).
Source = Path | Place | bytes | NDArray[np.uint8]
Progress = Callable[[int, int], None]

BATCH_SIZE = 32
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Answers:
    """What a model says about N images, in their order.

    Attributes:
        probabilities: Of the K classes, shape (N, K); rows add up to 1, and are NaN where there is no answer.
        errors: Why there is none, in words about the file; empty where there is one.
        sha256: Of the images' bytes, in hexadecimal; empty where a file could not be read at all.
        features: Pooled ones of the network, shape (N, F), NaN where there is no answer; None where it has none.
    """

    probabilities: NDArray[np.float64]
    errors: tuple[str, ...]
    sha256: tuple[str, ...]
    features: NDArray[np.float32] | None = None


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers to several batches, one or more, as one."""
    given = [part.features for part in parts if part.features is not None]
    features = None
    if given:
        # Where no image of a batch could be read, nothing gave features.
        missing = [np.full((len(part.errors), given[0].shape[1]), np.nan, np.float32) for part in parts]
        features = np.concatenate(
            [
                none if part.features is None else part.features
                for none, part in zip(missing, parts, strict=True)
            ]
        )
    return Answers(
        np.concatenate([part.probabilities for part in parts]),
        tuple(error for part in parts for error in part.errors),
        tuple(digest for part in parts for digest in part.sha256),
        features,
    )


class Predictor:
    """A model file, read at once, and its network, loaded at the first prediction."""

    # Whether its network is asked through Keras.
    needs_keras = True

    def __init__(self, model_path: Path) -> None:
        # Without Keras, so that a wrong file is refused before the seconds that TensorFlow takes to start.
        self.info = files.read_info(model_path)
        self.path = model_path
        self._network: Any = None

    def answer_once(self) -> None:
        """Asks about a black picture: the next one need not wait for the network, and Keras can export it then.

        Raises:
            ModelFileError: the model is damaged, or answers with something else than numbers.
        """
        size = self.info.image_size_px
        self.ask(np.zeros((1, size, size, 3), np.uint8))

    def predict(
        self, sources: Sequence[Source], batch_size: int = BATCH_SIZE, progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """The probabilities of the classes, in the order of `info.class_names`, computed in true float32.

        Args:
            sources: Image files, the encoded bytes of images, or their pixels.
            batch_size: How many images the network takes at once.
            progress: Called after each batch with the images done and the images in total.

        Returns:
            Shape (N, K); rows add up to 1.

        Raises:
            DataError: an image can't be read; the message names its path.
            ModelFileError: the model is damaged, or answers with something else than numbers.
        """
        with closing(self.answers(sources, batch_size)) as parts:
            return probabilities_of(parts, sources, len(self.info.class_names), progress)

    def answers(
        self, sources: Iterable[Source], batch_size: int = BATCH_SIZE
    ) -> Generator[Answers, None, None]:
        """The same a batch at a time, with a reason in place of an answer where an image can't be read.

        However many there are, three batches are in memory.

        Raises:
            ModelFileError: the model is damaged, or answers with something else than numbers.
        """
        with closing(_Decoding(self.decode)) as decoding:
            waiting = iter(sources)
            ahead: deque[list[Future[Decoded]]] = deque()
            # Decoding goes on while the network works on a batch, and while the caller writes it down.
            while started := decoding.start(islice(waiting, batch_size)):
                ahead.append(started)
                if len(ahead) > BATCHES_AHEAD:
                    yield self._answered([future.result() for future in ahead.popleft()])
            while ahead:
                yield self._answered([future.result() for future in ahead.popleft()])

    def _answered(self, decoded: list["Decoded"]) -> Answers:
        answers = np.full((len(decoded), len(self.info.class_names)), np.nan)
        features = None
        readable = [row for row, each in enumerate(decoded) if each.pixels is not None]
        if readable:
            pixels = np.stack([cast(Any, decoded[row].pixels) for row in readable])
            answers[readable], found = self.ask_with_features(pixels)
            if found is not None:
                features = np.full((len(decoded), found.shape[1]), np.nan, np.float32)
                features[readable] = found
        errors, digests = tuple(each.error for each in decoded), tuple(each.sha256 for each in decoded)
        return Answers(answers, errors, digests, features)

    def decode(self, source: Source) -> "Decoded":
        """The pixels that the network takes of an image, or why there are none; threads may do it at once."""
        digest = ""
        try:
            content = images.read(source) if isinstance(source, Path | Place) else source
            encoded = content.tobytes() if isinstance(content, np.ndarray) else content
            digest = hashlib.sha256(encoded).hexdigest()
            image = (
                Image.fromarray(content) if isinstance(content, np.ndarray) else images.decode(content).image
            )
            resize = cast("Resize", self.info.resize)
            return Decoded(images.pixels(image, self.info.image_size_px, resize), "", digest)
        except ImageError as error:
            return Decoded(None, str(error), digest)

    def ask(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The probabilities of the classes, shape (N, K), for pixels of `decode`, shape (N, S, S, 3).

        Raises:
            ModelFileError: the model is damaged, or answers with something else than numbers.
        """
        return self.ask_with_features(batch)[0]

    def ask_with_features(
        self, batch: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """The same, and the pooled features of the network, shape (N, F); None where it does not give them.

        Raises:
            ModelFileError: the model is damaged, or answers with something else than numbers.
        """
        outputs, features = self._outputs(batch)
        answers = probabilities.class_probabilities(outputs)
        # Finite weights may overflow all the same, and to `argmax` a NaN is the largest of all.
        if not np.isfinite(answers).all():
            raise files.ModelFileError(
                f"{self.path.name} answers with numbers that are not finite; "
                "train again with a lower train.phases learning_rate"
            )
        return answers, features

    @property
    def network(self) -> Any:
        """The network as Keras loads it, when it is first asked for.

        Raises:
            ModelFileError: the model is damaged.
        """
        if self._network is None:
            self._network, self.info = files.load(self.path)
        return self._network

    def _outputs(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        network = self.network
        with full_float32():
            return np.asarray(network.predict_on_batch(batch)), None


def probabilities_of(
    parts: Iterable[Answers], sources: Sequence[Source], classes: int, progress: Progress | None = None
) -> NDArray[np.float64]:
    """The probabilities for all images, shape (N, K), from their answers batch by batch.

    Raises:
        DataError: an image can't be read; the message names its path.
    """
    found = [np.empty((0, classes))]
    done = 0
    for part in parts:
        refuse_unread(sources[done:], part.errors, done)
        found.append(part.probabilities)
        done += len(part.errors)
        if progress is not None:
            progress(done, len(sources))
    return np.concatenate(found)


def refuse_unread(sources: Sequence[Source], errors: Sequence[str], before: int = 0) -> None:
    """Where every image needs an answer; `before` others came before these.

    Raises:
        DataError: one can't be read: the first of them, and why.
    """
    for number, (source, error) in enumerate(zip(sources, errors, strict=False), start=before):
        if error:
            name = str(source) if isinstance(source, Path | Place) else f"image {number}, counted from 0"
            raise DataError(f"{name}: not a readable image ({error}); leave it out or replace it")


@dataclass(frozen=True)
class Decoded:
    """Pixels of the size that the network takes, or why there are none; the SHA-256 of the image's bytes."""

    pixels: NDArray[np.uint8] | None
    error: str
    sha256: str


class _Decoding:
    """Threads that turn sources into pixels."""

    def __init__(self, decode: Callable[[Source], Decoded]) -> None:
        self._decode = decode
        self._threads = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")

    def start(self, sources: Iterable[Source]) -> list[Future[Decoded]]:
        return [self._threads.submit(self._decode, source) for source in sources]

    def close(self) -> None:
        # What is not begun is dropped: after an unreadable image the rest of a batch would only take time.
        self._threads.shutdown(cancel_futures=True)
