"""`vggflow deploy`: applies prefect.yaml to the Prefect server."""

import typer

from vggflow.commands import options
from vggflow.console import out, say, table
from vggflow.processes.work_place import WorkPlace


def command(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Applies prefect.yaml to the Prefect server and says what will run when and where."""
    from vggflow.processes import servers

    found = servers.ask_flows(options.workspace(context), "deploy")
    if as_json:
        options.print_json(found)
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
