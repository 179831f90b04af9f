"""What runs are called: `nightly · data 3f2a91 · 2026-11-21`."""

import time
from pathlib import Path
from typing import Any

from prefect.runtime import deployment, flow_run

from vggflow.errors import VggflowError
from vggflow.tracking.registry import lineage
from vggflow.workspace import find

BY_HAND = "by hand"


def run_name() -> str:
    """The name of the run that begins: why it runs, on which data, and the day."""
    parameters: dict[str, Any] = flow_run.parameters or {}
    try:
        data = lineage.data_version(find(Path(parameters.get("workspace", "."))))
    except VggflowError:  # the flow itself says what is wrong with the workspace
        data = "unknown"
    return f"{_why(parameters)} · data {data} · {time.strftime('%Y-%m-%d')}"


def _why(parameters: dict[str, Any]) -> str:
    """The deployment without its workspace: `nightly`, `on new data`, `promote`; else `by hand` or `sample`."""
    if parameters.get("sample"):
        return "sample"
    name = str(deployment.name or BY_HAND).partition("@")[0]
    return name.removeprefix("retrain-").replace("-", " ")
