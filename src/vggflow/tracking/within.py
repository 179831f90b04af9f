"""An answer that is waited for so long and no longer, whatever the server does that should give it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns or raises.

    Raises:
        TimeoutError: it takes longer; it goes on in a thread that ends with the program.
    """
    future: Future[Answer] = Future()

    def answer() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            future.set_exception(error)

    # A thread: names that don't resolve, and servers that send a byte a second, know no other limit.
    threading.Thread(target=answer, daemon=True, name="within").start()
    return future.result(seconds)
