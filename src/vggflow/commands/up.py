"""`vggflow up`: the servers of a team on this machine."""

from typing import Annotated

import typer

from vggflow.commands import options


def command(
    context: typer.Context,
    show_passwords: Annotated[
        bool, typer.Option("--show-passwords", help="Print log-ins with their passwords.")
    ] = False,
) -> None:
    """Runs the servers of a team on this machine: PostgreSQL, MLflow with users, Prefect, a worker."""
    from vggflow.stack.up import up

    raise typer.Exit(up(options.workspace(context), show_passwords=show_passwords))
