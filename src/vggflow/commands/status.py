"""How a workspace is doing, on one screen: champion, challenger, data, runs, schedules, queue."""

import os
import time
from typing import TYPE_CHECKING, Any

import typer

from vggflow import workspace as workspaces
from vggflow.commands import local_runs, options
from vggflow.console import out, say
from vggflow.errors import VggflowError
from vggflow.processes import servers
from vggflow.processes.work_place import WorkPlace
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.tracking.registry.model_versions import Version

WIDTH = 80
SHOWN = 5


def command(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Shows champion, challenger, data, last runs, next runs and who waits, on one screen."""
    found = overview(options.workspace(context))
    if as_json:
        options.print_json(found)
        return
    # Only a terminal has a width; what reads a pipe wants all of a line.
    for line in render(found, whole=not out.file.isatty()):
        say(line)


def overview(workspace: Workspace) -> dict[str, Any]:
    """All of it, ready for JSON. A server that does not answer is named under its `problem`; the rest is there."""
    return {
        "workspace": workspace.name,
        "folder": str(workspace.root),
        "data": _data(workspace),
        "models": _models(workspace),
        "server": _server(workspace),
    }


def _data(workspace: Workspace) -> dict[str, Any]:
    from vggflow.tracking.registry import lineage

    return {"version": lineage.data_hash(workspace), "state": workspaces.status(workspace, "data")}


def _models(workspace: Workspace) -> dict[str, Any]:
    from vggflow.tracking import connection
    from vggflow.tracking.registry import champions, model_versions

    names = workspace.settings().registry
    try:
        registry = connection.connect(workspace, names)
        history = champions.read(registry)
        challenger = model_versions.with_alias(registry.client, names.candidates, model_versions.CHALLENGER)
    except VggflowError as error:
        return {"champion": None, "challenger": None, "hold": None, "problem": str(error)}
    held = history.hold
    return {
        "champion": _version(history.champion),
        "challenger": _version(challenger),
        "hold": f"version {held.taken_back} was rolled back: {held.facts.get('reason', '')}"
        if held
        else None,
        "problem": None,
    }


def _version(version: "Version | None") -> dict[str, Any] | None:
    if version is None:
        return None
    return {
        "version": version.number,
        "accuracy": version.accuracy,
        "data": version.tags.get("data.hash", ""),
        "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created_ms / 1000)),
    }


def _server(workspace: Workspace) -> dict[str, Any]:
    """What Prefect's server says; without one, the runs that were started by hand in this folder."""
    nothing = {
        "runs": local_runs.runs(workspace)[:SHOWN],
        "next": [],
        "queue": [],
        "workers": 0,
        "served": [],
        "unserved": [],
    }
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        return nothing | {
            "address": None,
            "problem": "none named: no schedules (PREFECT_API_URL, `vggflow up`)",
        }
    try:
        return {"address": address, "problem": None} | servers.ask_flows(workspace, "status")
    except VggflowError as error:
        return nothing | {"address": address, "problem": str(error)}


def render(found: dict[str, Any], *, whole: bool = False) -> list[str]:
    """The overview as lines, cut at 80 characters unless `whole` ones are asked for."""
    data, models, server = found["data"], found["models"], found["server"]
    states = {
        "same": "as versioned",
        "changed": "not as versioned: `vggflow retrain` brings both together",
        "missing": "not here: pulled when needed",
        "untracked": "not versioned yet",
    }
    lines = [
        f"workspace   {found['workspace']}",
        f"data        {data['version'][:6] or 'none'}  {states[data['state']]}",
        f"champion    {_model(models['champion'])}",
        f"challenger  {_model(models['challenger'])}",
        f"hold        {models['hold'] or 'none'}",
    ]
    if models["problem"]:
        lines.append(f"MLflow      {models['problem']}")
    lines += ["", "last runs" if server["runs"] else "no runs yet"]
    lines += [f"  {_time(run)}  {run['state']:<16} {run['run']}{_took(run)}" for run in server["runs"]]
    if server["queue"]:
        lines += ["", "at work or waiting"]
        lines += [f"  {_time(run)}  {run['state']:<16} {run['run']}" for run in server["queue"]]
    if server["next"]:
        lines += ["", "next"]
        lines += [f"  {_time(run)}  {run['run']}" for run in server["next"]]
    lines += ["", f"Prefect     {_prefect(server)}"]
    lines += [
        f"            no worker serves {WorkPlace(**place)}: what is due there waits"
        for place in server["unserved"]
    ]
    return [_cut(line, None if whole else WIDTH) for line in lines]


def _model(version: dict[str, Any] | None) -> str:
    if version is None:
        return "none yet"
    accuracy = f"{version['accuracy']:.1%}" if version["accuracy"] is not None else "unknown"
    return f"version {version['version']}, accuracy {accuracy}, data {version['data'][:6]}, {version['made']}"


def _prefect(server: dict[str, Any]) -> str:
    if server["problem"]:
        return str(server["problem"])
    workers = server["workers"]
    return f"{server['address']}, {workers or 'no'} worker{'s' if workers != 1 else ''} online"


def _time(run: dict[str, Any]) -> str:
    """Month, day, hour and minute: the year is in the run's name."""
    return str(run["at"])[5:16].replace("T", " ")


def _took(run: dict[str, Any]) -> str:
    seconds = run["seconds"]
    return f" ({seconds} s)" if seconds < 120 else f" ({seconds // 60} min)"


def _cut(line: str, width: int | None) -> str:
    # A reason that a person gave may have several lines.
    line = " ".join(line.splitlines())
    return line if width is None or len(line) <= width else line[: width - 1] + "…"
