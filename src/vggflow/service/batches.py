"""Gathers the images of all requests into batches for the network, which one thread asks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from vggflow.prediction.predictor import BATCH_SIZE

# While the network works on a batch the next one gathers by itself; only after a pause is it waited for.
SECONDS_TO_GATHER = 0.003

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float64]
Features = NDArray[np.float32] | None
Found = tuple[Probabilities, Features]
_Waiting = tuple[Pixels, "asyncio.Future[Found]"]


class Batches:
    """Within a running event loop.

    Args:
        ask: The network: pixels of shape (N, S, S, 3) to probabilities (N, K) and features (N, F), where it has
            any, in a thread.
        seen: Called with the size of each batch.
    """

    def __init__(self, ask: Callable[[Pixels], Found], seen: Callable[[int], None]) -> None:
        self._ask = ask
        self._seen = seen
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._work = asyncio.create_task(self._run())

    async def answer(self, pixels: Pixels) -> Found:
        """Probabilities of shape (K,) and features of shape (F,) for one image of shape (S, S, 3).

        Raises:
            VggflowError: the network answers with something else than numbers.
        """
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((pixels, answer))
        return await answer

    async def close(self) -> None:
        """Ends; nobody may be waiting any more."""
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            if not batch:
                continue
            self._seen(len(batch))
            try:
                found, features = await loop.run_in_executor(
                    self._thread, self._ask, np.stack([pixels for pixels, _ in batch])
                )
            except Exception as error:  # noqa: BLE001 - raised where it is waited for; the next batch goes on
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for row, (_, answer) in enumerate(batch):
                if not answer.done():
                    answer.set_result((found[row], None if features is None else features[row]))

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._waiting.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_GATHER):
                while len(batch) < BATCH_SIZE:
                    batch.append(await self._waiting.get())
        # Whoever went away, or waited too long, needs no answer.
        return [(pixels, answer) for pixels, answer in batch if not answer.done()]
