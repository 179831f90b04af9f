"""`vggflow init`: makes a workspace."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from vggflow import artifacts
from vggflow.console import say, tell
from vggflow.errors import UsageError, VggflowError
from vggflow.processes import nvidia_smi
from vggflow.versioning import git_state
from vggflow.workspace import init, recipes


def command(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")] = Path(),
    recipe: Annotated[
        str | None,
        typer.Option(
            help="What params.yaml starts from; else two-phase, or laptop where there is no GPU.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="With the embedded digits and start weights.")
    ] = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="A repository of its own also inside another one.")
    ] = False,
) -> None:
    """Makes a workspace: git, DVC, a DVC remote beside it, settings."""
    if recipe is not None and recipe not in recipes():
        raise UsageError(f"unknown recipe {recipe!r}: choose one of {', '.join(recipes())}")
    if not nested:
        # A script has nobody who could answer.
        git_state.refuse_nesting(folder, ask=typer.confirm if sys.stdin.isatty() else None)
    if sample:
        from vggflow.sample import workspace as digits

        tell("making start weights from the digits 0 to 4 (about 20 s)")
        workspace = digits.make(folder)
    else:
        workspace = init(folder, recipe or _fitting_recipe(folder))
    say(f"workspace {workspace.root}")
    say(f"DVC remote {workspace.dvc_remote() or 'none'}")
    step = "vggflow retrain" if sample else "vggflow data import FOLDER"
    say(f"next: cd {folder} && {step}" if folder != Path() else f"next: {step}")


def _fitting_recipe(folder: Path) -> str:
    """The recipe that this machine can follow in reasonable time."""
    try:
        found = nvidia_smi.gpus()
    except VggflowError as error:
        tell(f"{error}: taken for a machine without a GPU")
        found = []
    if found:
        return "two-phase"
    # Settings that are there already stay.
    if not (folder / artifacts.PARAMS).exists():
        tell(
            "no GPU here, so recipe laptop: pictures of 128 px, minutes for 1,000 of them on two cores; "
            "`--recipe two-phase` takes VGG16 whole"
        )
    return "laptop"
