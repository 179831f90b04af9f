"""`vggflow up`: the servers of a team on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from vggflow.commands import options


def command(
    context: typer.Context,
    show_passwords: Annotated[
        bool, typer.Option("--show-passwords", help="Print log-ins with their passwords.")
    ] = False,
    containers: Annotated[
        Path | None,
        typer.Option(
            "--containers",
            metavar="INFRA",
            help="Run them as containers and leave them running: the folder `infra` of a checkout.",
        ),
    ] = None,
) -> None:
    """Runs the servers of a team on this machine: PostgreSQL, MLflow with users, Prefect, a worker."""
    from vggflow.stack import containers as in_containers
    from vggflow.stack.up import up

    workspace = options.workspace(context)
    if containers is not None:
        raise typer.Exit(in_containers.up(workspace, containers, show_passwords=show_passwords))
    raise typer.Exit(up(workspace, show_passwords=show_passwords))
