"""A Python module as a program that ends, with all it started, when its starter is gone.

Called as `python -m vggflow.processes.end_with_starter MODULE …`.

Its standard input is a pipe that the kernel closes however the starter ends; it leads a session of its own.
"""

import os
import runpy
import signal
import sys
import threading
import time

SECONDS_TO_STOP = 8.0


def main() -> None:
    """Runs the module that the first argument names, with the others as its arguments."""
    threading.Thread(target=_end_with_starter, daemon=True, name="starter-watch").start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_starter() -> None:
    # Nobody writes into it: an empty read is the end of the pipe.
    while os.read(0, 4096):
        continue
    # 0 is our own group: without a session of our own this would end the starter's other programs too.
    os.killpg(0, signal.SIGTERM)
    time.sleep(SECONDS_TO_STOP)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
