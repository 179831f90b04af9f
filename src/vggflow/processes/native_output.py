"""What native libraries print, kept apart from what vggflow says: both go to the same two file descriptors."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vggflow.credentials import hidden_from_output

OUT, ERR = 1, 2


@contextmanager
def native_output_into(path: Path) -> Iterator[None]:
    """Within the block, what is written past Python to stdout and stderr goes into a file; what Python prints does not.

    A process that `abort()` ends leaves it there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = sys.stdout, sys.stderr
    for stream in before:
        stream.flush()
    with (
        path.open("ab") as log,
        # Line by line: what waits in a buffer is lost where the process is ended.
        os.fdopen(os.dup(OUT), "w", buffering=1, encoding=before[0].encoding) as out,
        os.fdopen(os.dup(ERR), "w", buffering=1, encoding=before[1].encoding) as err,
    ):
        sys.stdout, sys.stderr = out, err
        for number in (OUT, ERR):
            os.dup2(log.fileno(), number)
        try:
            with hidden_from_output():
                yield
        finally:
            sys.stdout, sys.stderr = before
            for number, stream in ((OUT, out), (ERR, err)):
                stream.flush()
                os.dup2(stream.fileno(), number)
