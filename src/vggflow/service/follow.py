"""Follows the champion: looks for another one every few seconds, loads it beside, and lets it answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from vggflow.console import tell
from vggflow.errors import VggflowError
from vggflow.service.served_model import Loaded, Service

# The number of the version that answers, to the model that is to answer; None where it is the same.
Look = Callable[[int | None], Loaded | None]


async def follow(service: Service, look: Look, seconds: float) -> None:
    """Until it is cancelled; while the registry is away, the model that answers goes on.

    Args:
        service: Whose model is replaced.
        look: It is called in a thread; whatever it raises is told.
        seconds: Between two looks.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="follow")
    problem = ""
    try:
        while True:
            await asyncio.sleep(seconds)
            number = service.current.loaded.number
            try:
                found = await asyncio.get_running_loop().run_in_executor(thread, look, number)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
                service.metrics.follow_errors.inc()
                said = str(error) if isinstance(error, VggflowError) else repr(error)
                # Once: it is the same in five seconds, and all night.
                if said != problem:
                    problem = said
                    tell(f"{' '.join(problem.split())}; {service.current.loaded.title} goes on answering")
                continue
            if problem:
                problem = ""
                tell("the registry answers again")
            if found is not None:
                service.replace(found)
                tell(f"{found.title} answers from now on")
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
