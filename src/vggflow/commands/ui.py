"""`vggflow ui`: the user interfaces of MLflow and Prefect on a workspace."""

import typer

from vggflow.commands import options


def command(context: typer.Context) -> None:
    """Opens the user interfaces of MLflow and Prefect on this workspace."""
    from vggflow.processes import servers

    raise typer.Exit(servers.show(options.workspace(context)))
