"""A model file, and the probabilities it gives for images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import ImageError, Resize, open_image, pixels
from vggflow.errors import DataError
from vggflow.models import files, probabilities
from vggflow.models.full_precision import full_float32

Source = Path | bytes
Progress = Callable[[int, int], None]

# Pillow decodes outside the interpreter lock; beyond eight threads the network is always the slower part.
DECODING_THREADS = 8


class Predictor:
    """A model file, read at once, and its network, loaded at the first prediction."""

    def __init__(self, model_path: Path) -> None:
        # Without Keras, so that a wrong file is refused before the seconds that TensorFlow takes to start.
        self.info = files.read_info(model_path)
        self._model_path = model_path
        self._network: Any = None

    def predict(
        self, sources: Sequence[Source], batch_size: int = 32, progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """The probabilities of the classes, in the order of `info.class_names`, computed in true float32.

        Args:
            sources: Image files, or the encoded bytes of images.
            batch_size: How many images the network takes at once.
            progress: Called after each batch with the images done and the images in total.

        Returns:
            Shape (N, K); rows add up to 1.

        Raises:
            DataError: an image can't be read; the message names its path.
            ModelFileError: the model is damaged, or answers with something else than numbers.
        """
        if not sources:
            return np.empty((0, len(self.info.class_names)))
        if self._network is None:
            self._network, self.info = files.load(self._model_path)
        outputs: list[NDArray[Any]] = []
        done = 0
        for batch in self._batches(sources, batch_size):
            with full_float32():
                outputs.append(np.asarray(self._network.predict_on_batch(batch)))
            done += len(batch)
            if progress is not None:
                progress(done, len(sources))
        answers = probabilities.class_probabilities(np.concatenate(outputs))
        # Finite weights may overflow all the same, and to `argmax` a NaN is the largest of all.
        if not np.isfinite(answers).all():
            raise files.ModelFileError(
                f"{self._model_path} answers with numbers that are not finite; "
                "train again with a lower train.phases learning_rate"
            )
        return answers

    def _batches(self, sources: Sequence[Source], batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """Batches of pixels, the next one being decoded while the network works on the last."""
        with closing(_Decoding(self.info)) as decoding:
            numbered = list(enumerate(sources))
            waiting = decoding.start(numbered[:batch_size])
            for start in range(0, len(sources), batch_size):
                current = waiting
                # One batch ahead and no more: two of them are in memory, however many images there are.
                waiting = decoding.start(numbered[start + batch_size : start + 2 * batch_size])
                yield np.stack([future.result() for future in current])


class _Decoding:
    """Threads that turn sources into pixels of the size that the network takes."""

    def __init__(self, info: files.ModelInfo) -> None:
        self._info = info
        self._threads = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")

    def start(self, numbered: Sequence[tuple[int, Source]]) -> list[Future[NDArray[np.uint8]]]:
        return [self._threads.submit(self._decode, number, source) for number, source in numbered]

    def close(self) -> None:
        # What is not begun is dropped: after an unreadable image the rest of a batch would only take time.
        self._threads.shutdown(cancel_futures=True)

    def _decode(self, number: int, source: Source) -> NDArray[np.uint8]:
        try:
            resize = cast("Resize", self._info.resize)
            return pixels(open_image(source), self._info.image_size_px, resize)
        except ImageError as error:
            name = f"image {number}, counted from 0" if isinstance(source, bytes) else str(source)
            raise DataError(f"{name}: not a readable image ({error}); leave it out or replace it") from error
