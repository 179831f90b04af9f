"""What vggflow starts as a process, since it does not import Prefect itself: `python -m flows VERB WORKSPACE`.

retrain [--sample]   the retrain flow, here and now
deploy               applies prefect.yaml to the server; prints JSON
status               what the server knows about the workspace; prints JSON
workers              asks the workspace's workers what they reach; prints JSON
event                tells the server that new data is pushed
pool                 makes the work pool of `vggflow up` where it is missing
clean --keep N       deletes old runs of the workspace; prints JSON
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from vggflow.credentials import hidden_from_output
from vggflow.environment import PATIENT
from vggflow.errors import Interrupted, UsageError, VggflowError
from vggflow.processes.servers import POOL
from vggflow.processes.stage import ending_with_parents
from vggflow.workspace import find


def main() -> int:
    """Does what the arguments say; returns the exit code that vggflow promises."""
    parser = argparse.ArgumentParser(prog="python -m flows", description="vggflow's side of Prefect.")
    parser.add_argument("verb", choices=["retrain", "deploy", "status", "workers", "event", "pool", "clean"])
    parser.add_argument("workspace", type=Path)
    parser.add_argument(
        "--sample", action="store_true", help="the whole way on data/sample, without touching an alias"
    )
    parser.add_argument("--keep", type=int, default=3, help="how many runs of each flow stay")
    parser.add_argument("--dry-run", action="store_true", help="only count")
    arguments = parser.parse_args()
    with hidden_from_output():
        return _end(arguments)


def _end(arguments: argparse.Namespace) -> int:
    try:
        with ending_with_parents():
            return _do(arguments)
    except VggflowError as error:
        return _ended(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _ended(str(Interrupted()), Interrupted.exit_code)
    except (httpx.HTTPError, RuntimeError) as error:
        # Prefect may wrap what its client could not reach in a RuntimeError; any other one is a bug.
        if not isinstance(error, httpx.HTTPError) and not isinstance(error.__cause__, httpx.HTTPError):
            raise
        address, said = os.environ.get("PREFECT_API_URL", "a server of its own"), " ".join(str(error).split())
        return _ended(f"Prefect at {address} fails ({said}): start it, or mend PREFECT_API_URL", 1)


def _ended(message: str, code: int) -> int:
    print(f"vggflow: {message}", file=sys.stderr)  # noqa: T201
    return code


def _do(arguments: argparse.Namespace) -> int:
    verb = arguments.verb
    _require_server()
    if verb == "retrain":
        from flows.retrain import run_here

        os.environ[PATIENT] = "1"  # for this process and the stages that it starts
        return run_here(arguments.workspace, sample=arguments.sample)
    workspace = find(arguments.workspace)
    if verb == "clean":
        from flows.clean import clean

        _print(clean(workspace, arguments.keep, dry_run=arguments.dry_run))
    elif verb == "deploy":
        from flows.deploy import deploy

        _print(deploy(workspace).to_dict())
    elif verb == "status":
        from flows.status import server_status

        _print(server_status(workspace))
    elif verb == "workers":
        from flows.ask_workers import ask

        _print({"workers": ask(workspace)})
    elif verb == "pool":
        from flows.work_pools import make

        make(POOL)
        _print({"pool": POOL})
    else:
        from flows.events import announce_data

        _print({"data": announce_data(workspace)})
    return 0


def _require_server() -> None:
    """Prefect's own words for this are a traceback."""
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    if not PREFECT_API_URL.value() and not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        raise UsageError(
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false forbids a Prefect server for this run alone, and "
            "PREFECT_API_URL names none: set PREFECT_API_URL, or unset the other"
        )


def _print(content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
