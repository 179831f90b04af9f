"""`vggflow promote`: lets a candidate become champion, if it is better on the same test images."""

from typing import Annotated

import typer

from vggflow.commands import options
from vggflow.console import say, tell
from vggflow.errors import PromotionRefused


def command(
    context: typer.Context,
    reason: options.Reason,
    number: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="The candidate; else the challenger.")
    ] = None,
    by: options.By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, but change nothing.")] = False,
    accept_class_change: Annotated[
        bool, typer.Option("--accept-class-change", help="Compare on the classes that both models know.")
    ] = False,
    override: Annotated[
        bool, typer.Option("--override", help="Promote against the gate; recorded as such.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Only lift the hold that a rollback put on the flow.")
    ] = False,
) -> None:
    """Lets a candidate become champion, if it is better on the same test images."""
    from vggflow.commands import promotion_acts

    if release:
        held = promotion_acts.release(options.workspace(context), reason, by)
        say(f"the flow may promote again (held since version {held.taken_back} was rolled back)")
        return
    request = promotion_acts.Request(
        reason,
        by,
        number,
        dry_run=dry_run,
        override=override,
        accept_class_change=accept_class_change,
    )
    try:
        result = promotion_acts.promote(options.workspace(context), request)
    except PromotionRefused as refused:
        # The error itself is one line, and comes last.
        tell(refused.evidence)
        raise
    if result.evidence:
        say(result.evidence)
    say(f"{result.outcome}: {result.message}")
