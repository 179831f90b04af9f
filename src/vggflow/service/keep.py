"""Writes down every hour what the service's answers were like, so that `vggflow drift` finds it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from vggflow.console import tell
from vggflow.errors import VggflowError
from vggflow.prediction import observations
from vggflow.prediction.observations import Observations
from vggflow.service.served_model import Service

# What a model's answers were like, by its title, to where it is kept.
Write = Callable[[str, Observations], None]

SECONDS = 3600.0
# A service that is stopped waits for the tracking server no longer.
SECONDS_AT_THE_END = 10.0


class Keeping:
    """Of one service; what can't be written is tried again with what comes next.

    Args:
        service: Whose answers.
        write: It is called in a thread; whatever it raises is told.
        seconds: Between two writes; a service that is killed loses as much.
    """

    def __init__(self, service: Service, write: Write, seconds: float = SECONDS) -> None:
        self._service = service
        self._write = write
        self._seconds = seconds
        self._waiting: dict[str, Observations] = {}
        self._problem = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self._write_all()

    async def end(self) -> None:
        """What came since the last write, after the last answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_AT_THE_END):
                await self._write_all()

    async def _write_all(self) -> None:
        for title, found in self._service.take():
            before = self._waiting.get(title)
            self._waiting[title] = observations.merge([before, found]) if before else found
        for title, found in list(self._waiting.items()):
            try:
                await asyncio.to_thread(partial(self._write, title, found))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next time may go well
                self._service.metrics.keep_errors.inc()
                self._tell(str(error) if isinstance(error, VggflowError) else repr(error))
            else:
                del self._waiting[title]
                self._problem = ""

    def _tell(self, problem: str) -> None:
        # Once: it is the same in an hour, and all night.
        if problem != self._problem:
            self._problem = problem
            tell(f"answers are not kept for `vggflow drift` yet: {' '.join(problem.split())}")
