"""What a training would take here, as `retrain --dry-run` and `summary` say it."""

from typing import TYPE_CHECKING

from vggflow import artifacts
from vggflow.commands import train
from vggflow.console import out, say, tell
from vggflow.errors import VggflowError
from vggflow.processes.locks import device_locks, if_free
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.training.estimate import Estimate


def expected(workspace: Workspace) -> "Estimate | None":
    """What a training of the workspace's data would take, tried here if it never was; none where nobody can say now."""
    if not workspace.path(artifacts.DATA).is_dir():
        return None
    # Beside a training a trial would show what is left of the machine, and slow that down.
    with if_free(device_locks() / "all") as free:
        if not free:
            tell("a training is under way on this machine: no estimate of the time")
            return None
        try:
            found = train.expect(workspace)
        except VggflowError as error:
            tell(f"no estimate of the time: {error}")
            return None
    if found is None:
        tell("a training takes about ten seconds or less here: no times are tried beforehand")
    return found


def show(found: "Estimate | None", what: str) -> None:
    """Prints it, if there is one."""
    if found is None:
        return
    out.print()
    say(f"{what} about {found.said} here, less where features are cached:")
    for line in found.lines():
        say(f"  {line}")
