"""The model that answers: loaded and asked once before it is the one, and replaced while requests go on."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vggflow.data.parallel import usable_cores
from vggflow.prediction.observations import Observations
from vggflow.prediction.predictor import Predictor, Source
from vggflow.service.batches import Batches, Pixels, Probabilities
from vggflow.service.collect import Collector
from vggflow.service.limits import Limits, refusal_of_size
from vggflow.service.metrics import Metrics
from vggflow.tracking.registry import champion_alias


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to answer.

    Attributes:
        predictor: It has answered once: the first to ask need not wait for the network.
        name: Of the registered model, or of the file.
        number: Of its version; None for a file.
        keras_file: Gives the `.keras` file for the time of a block, where there is one; heat maps need it.
    """

    predictor: Predictor
    name: str
    number: int | None
    keras_file: Callable[[], AbstractContextManager[Path]] | None = None

    @property
    def title(self) -> str:
        """What it is called: `pets version 3`."""
        return champion_alias.title(self.name, self.number)

    @property
    def version(self) -> str:
        """Its version as answers tell it; empty for a file."""
        return "" if self.number is None else str(self.number)


@dataclass(frozen=True)
class Answer:
    """Of one image: probabilities of the K classes, or why there are none."""

    probabilities: Probabilities | None
    error: str = ""


class ServedModel:
    """A loaded model, within a running event loop."""

    def __init__(self, loaded: Loaded, limits: Limits, metrics: Metrics) -> None:
        self.loaded = loaded
        self._limits = limits
        self._metrics = metrics
        self._requests = 0
        self.collector = Collector(loaded.predictor.info.class_names)
        self._batches = Batches(loaded.predictor.ask_with_features, metrics.batch_images.observe)
        # A picture at its full size takes a hundred times the memory of what the network sees of it.
        self._decoders = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode")

    async def answers(self, sent: Sequence[Source | str]) -> list[Answer]:
        """One for each image; texts are reasons why there is none.

        Raises:
            VggflowError: the network answers with something else than numbers.
        """
        self._requests += 1
        try:
            return list(await asyncio.gather(*map(self._answer, sent)))
        finally:
            self._requests -= 1

    async def close_when_idle(self) -> None:
        """Ends after its last answer."""
        while self._requests:
            await asyncio.sleep(0.05)
        await self._batches.close()
        self._decoders.shutdown(wait=False)

    async def _answer(self, sent: Source | str) -> Answer:
        if isinstance(sent, str):
            return Answer(None, sent)
        decoded = await asyncio.get_running_loop().run_in_executor(self._decoders, self._decode, sent)
        if isinstance(decoded, str):
            return Answer(None, decoded)
        found, features = await self._batches.answer(decoded)
        self._metrics.answered(self.loaded.predictor.info.class_names, found)
        self.collector.add(found, features)
        return Answer(found)

    def _decode(self, source: Source) -> Pixels | str:
        refusal = refusal_of_size(source, self._limits) if isinstance(source, bytes) else ""
        if refusal:
            return refusal
        decoded = self.loaded.predictor.decode(source)
        return decoded.error if decoded.pixels is None else decoded.pixels


class Service:
    """The model that answers now, and what replaces it."""

    def __init__(self, loaded: Loaded, limits: Limits) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self.first = loaded
        self._current: ServedModel | None = None
        # Else a task that nobody names may be collected before it ends.
        self._closing: set[asyncio.Task[None]] = set()
        # Of models that answer no more.
        self._left: list[tuple[str, Observations]] = []

    def begin(self) -> None:
        """Within the event loop."""
        self.replace(self.first)

    @property
    def current(self) -> ServedModel:
        """Whoever took it keeps it until his answer is there, also where it is replaced meanwhile."""
        if self._current is None:
            raise RuntimeError("expected begin() before the first request")
        return self._current

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered."""
        return self._current is not None

    def replace(self, loaded: Loaded) -> None:
        """New requests go to this model; those under way end on the one before."""
        before, self._current = self._current, ServedModel(loaded, self.limits, self.metrics)
        self.metrics.model_version(loaded)
        if before is not None:
            closing = asyncio.create_task(self._close(before))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def end(self) -> None:
        """After the last request."""
        current, self._current = self._current, None
        if current is not None:
            await self._close(current)

    def take(self) -> list[tuple[str, Observations]]:
        """What answers were like since the last time, by the title of the model that gave them."""
        found, self._left = self._left, []
        if self._current is not None:
            found += _collected(self._current)
        return found

    async def _close(self, model: ServedModel) -> None:
        await model.close_when_idle()
        self._left += _collected(model)


def _collected(model: ServedModel) -> list[tuple[str, Observations]]:
    taken = model.collector.take() if model.loaded.number is not None else None
    return [(model.loaded.title, taken)] if taken else []
