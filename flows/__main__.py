"""Starts a flow here and now: `python -m flows retrain WORKSPACE [--sample]`.

The command line of vggflow starts this as a process, since vggflow itself does not import Prefect.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Runs the flow that the arguments name; returns the exit code that vggflow promises."""
    parser = argparse.ArgumentParser(prog="python -m flows", description="Starts a flow here and now.")
    parser.add_argument("flow", choices=["retrain"])
    parser.add_argument("workspace", type=Path)
    parser.add_argument(
        "--sample", action="store_true", help="the whole way on data/sample, without touching an alias"
    )
    arguments = parser.parse_args()

    from flows.retrain import run_here

    return run_here(arguments.workspace, sample=arguments.sample)


if __name__ == "__main__":
    sys.exit(main())
