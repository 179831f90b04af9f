"""Files that save the next scan time and nothing else: none that can't be read or written ends this one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pandas as pd

from vggflow import console
from vggflow.errors import VggflowError


@contextmanager
def remembering(folder: Path) -> Iterator[None]:
    """Writes to a folder of such files; where that fails the rest of the block is left out, and a line says why."""
    try:
        yield
    except (OSError, VggflowError) as error:
        # What `replacing` says of a full disk stands before the error of the system.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        _tell(folder, getattr(cause, "strerror", None) or str(cause))


@cache
def _tell(folder: Path, why: str) -> None:
    """Once, however many files there are."""
    console.tell(f"nothing can be remembered in {folder} ({why}): the next scan looks at all images again")


def read_memory(path: Path) -> pd.DataFrame | None:
    """A table that was written to be remembered; null where there is none, or it is damaged or can't be read."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # An error of the system has a number and may pass; what Arrow can't understand has none, and stays so.
        if getattr(error, "errno", None) is None:
            with suppress(OSError):
                path.unlink()
        return None
