"""`vggflow deploy`: applies prefect.yaml to the Prefect server."""

import typer

from vggflow.commands import ask_workers, options
from vggflow.console import out, say, table
from vggflow.processes.work_place import WorkPlace


def command(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Applies prefect.yaml to the Prefect server and says what will run when and where."""
    from vggflow.processes import servers

    workspace = options.workspace(context)
    found = servers.ask_flows(workspace, "deploy")
    if as_json:
        rows = ask_workers.ask(workspace, found["served"])
        options.print_json(found | {"findings": [row.to_dict() for row in rows]})
        return
    columns = ["deployment", "when", "where", "at once"]
    out.print(table("", columns, [[str(row[column]) for column in columns] for row in found["deployments"]]))
    say(f"workspace {found['workspace']}: {found['place']}")
    say(f"automations: {', '.join(found['automations'])}")
    if found["note"]:
        say(found["note"])
    for place in (WorkPlace(**each) for each in found["unserved"]):
        say(f"no worker serves {place}, and what is due there waits for one: {place.how_to_serve}")
    if found["silent"]:
        say(f"nobody is told of {', '.join(found['silent'])}: set VGGFLOW_NOTIFY_URL and deploy again")
    # Last: what is deployed is deployed, whatever workers answer.
    for row in ask_workers.ask(workspace, found["served"]):
        say(ask_workers.as_line(row))
