"""`vggflow rollback`: puts the previous champion into use again, and holds automatic promotion."""

import typer

from vggflow.commands import options
from vggflow.console import say


def command(context: typer.Context, reason: options.Reason, by: options.By = None) -> None:
    """Puts the previous champion into use again, and holds automatic promotion."""
    from vggflow.commands.promotion_acts import rollback

    done = rollback(options.workspace(context), reason, by)
    say(f"version {done.to} is champion again, version {done.taken_back} is rolled back")
    say('the flow promotes nothing until `vggflow promote --release --reason "WHY"`')
