"""`vggflow train`: fine-tunes the network in the phases of params.yaml, or tries learning rates."""

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow import artifacts, console, files
from vggflow.commands import options
from vggflow.commands.validate import PASSED
from vggflow.console import say
from vggflow.environment import state_folder
from vggflow.errors import DataError, DataRefused, UsageError
from vggflow.models import start_keras
from vggflow.processes import stage, stage_inputs, training_group, watched
from vggflow.processes.locks import alone_on_devices
from vggflow.processes.stage import Outcome
from vggflow.processes.training_group import Member
from vggflow.settings import Settings
from vggflow.training.phase_results import phase_results
from vggflow.workspace import Workspace, check_version

if TYPE_CHECKING:
    from vggflow.training.estimate import Estimate
    from vggflow.training.job import TrainingJob
    from vggflow.training.rate_search import RateCurve

DRAWN = (".png", ".svg", ".pdf")


def command(
    context: typer.Context,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Only try learning rates: draw the loss at each, suggest one.")
    ] = False,
    phase: Annotated[str | None, typer.Option(help="With --find-lr: the phase; else the first.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --find-lr: the PNG, SVG or PDF to draw into.")
    ] = None,
) -> None:
    """Fine-tunes the network in the phases of params.yaml."""
    if not find_lr:
        if phase or output:
            raise UsageError("--phase and --output belong to --find-lr: add it, or leave them out")
        _run(options.workspace(context), training_group.member())
        return
    curve, path = find_learning_rate(options.workspace(context), phase, output)
    found = f"learning_rate {curve.suggestion:g} suggested, from the start weights on"
    say(f"phase {curve.phase}: {found}, curve in {path}")


def _run(workspace: Workspace, member: Member | None) -> None:
    """Trains in this process; as one of several, in a process of its own, of which this one tells how it ended.

    Of several only the first one is the stage: the others may share its folder, and leave nothing there.
    """
    if member and not watched.is_watched():
        raise typer.Exit(watched.run(sys.argv[1:], _native_log(workspace, member)))
    if member is None or member.leads:
        options.run_stage(workspace, "train", train)
        return
    with stage.ending_with_parents(), stage_inputs.unchanged(workspace, "train"):
        check_version(workspace)
        _take_part(workspace, member)


def _native_log(workspace: Workspace, member: Member | None) -> Path:
    """Of each process its own: they may share the folder."""
    return workspace.path(artifacts.STATE) / f"training-process-{member.index if member else 0}.log"


def _take_part(workspace: Workspace, member: Member) -> None:
    """Trains with the others and writes nothing: the first process has the same."""
    settings = workspace.settings()
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    from vggflow.training import hosts
    from vggflow.training.fitting import fit
    from vggflow.training.job import SilentObserver

    job = training_job(workspace, settings)
    with (
        alone_on_devices() if member.first_on_host else nullcontext(),
        hosts.joined(settings.train, member, _native_log(workspace, member)),
    ):
        trained = fit(job, SilentObserver())
    say(f"took part in {len(trained.history)} epochs as process {member.index}: process 0 has the model")


def train(workspace: Workspace) -> Outcome:
    """Fine-tunes the network in its phases, in one MLflow run, alone on the device.

    Raises:
        DataRefused: the data gate has not passed this manifest.
    """
    with stage_inputs.unchanged(workspace, "train") as inputs:
        return _train(workspace, inputs)


def _train(workspace: Workspace, inputs: "stage_inputs.Inputs") -> Outcome:
    settings = workspace.settings()
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    from vggflow.models import files as models
    from vggflow.tracking import connection
    from vggflow.tracking.registry import lineage
    from vggflow.tracking.training_run import Origin, TrainingRun
    from vggflow.tracking.users import who
    from vggflow.training import hosts
    from vggflow.training.bar import Bar
    from vggflow.training.fitting import discard_checkpoint, fit

    # Before the wait for the device: what the gate refused is told at once.
    job = training_job(workspace, settings)
    # Before it too: what is committed or edited in the hours to come is not what it was trained from.
    snapshot = lineage.of_training(workspace, settings)
    began = time.monotonic()
    member = training_group.member()
    with alone_on_devices(), console.progress("train") as advance:
        client = connection.connect(workspace, settings.registry).client
        # Asked now: whoever registers the model later may be somebody else.
        trainer = who.asking(client)
        bar = Bar(advance, settings.train.phases, settings.train.batch_size)
        origin = Origin(snapshot.tags, workspace.path(artifacts.TRAINING_IMAGES))
        observer = TrainingRun(client, settings, lineage.run_name(workspace), bar, origin)
        with observer.closing():
            with hosts.joined(settings.train, member, _native_log(workspace, member)):
                trained = fit(job, observer)
            inputs.refuse_changes()  # here too, so that the run is not closed as finished
            for name in (artifacts.MODEL, artifacts.HISTORY, artifacts.RUN):
                # Nobody else writes these, by the stage's lock. Half a model takes disk like a whole one.
                files.remove_halves(workspace.path(name))
            models.save(trained.model, trained.info, workspace.path(artifacts.MODEL))
            files.write_json(workspace.path(artifacts.HISTORY), trained.history)
            files.write_json(
                workspace.path(artifacts.RUN),
                {
                    "run_id": observer.run_id,
                    "experiment": settings.registry.experiment,
                    "trained_by": trainer.name,
                    "trained_by_kind": trainer.kind,
                    "facts": trained.facts,
                    "results": trained.results,
                    lineage.FOLDER: snapshot.to_dict(),
                },
            )
        # Not before the run has every point: where the server stays away, the next try has only that left to do.
        discard_checkpoint(job, trained)
    message = (
        f"{len(trained.history)} epochs in {time.monotonic() - began:.0f} s: {_compared(trained.results)}"
    )
    reached = phase_results(trained.history)
    phases = {each.name: {"epochs": each.epochs, "val_accuracy": each.accuracy} for each in reached}
    facts = {"run_id": observer.run_id, "phases": phases, "results": trained.results}
    return Outcome(0, message, facts=facts)


def expect(workspace: Workspace) -> "Estimate | None":
    """How long a training of what lies in `data/` will take here, whatever is cached; none where it is a matter of
    seconds.

    Raises:
        DataError: there is no data to learn from.
        SettingsError: the settings don't fit the network or the machine.
    """
    settings = workspace.settings()
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    from vggflow.data import listing
    from vggflow.features import limit
    from vggflow.training.job import TrainingJob
    from vggflow.training.preparation import set_up

    # Random weights compute as fast as ImageNet's, and need not be downloaded first.
    model = settings.model.model_copy(update={"weights": "none"})
    data = workspace.path(artifacts.DATA)
    job = TrainingJob(
        settings.model_copy(update={"model": model}),
        listing.listed(data),
        data,
        None,
        state_folder(),
        feature_limit_bytes=limit.limit_bytes(),
    )
    return set_up(job).expected


def find_learning_rate(
    workspace: Workspace, phase: str | None, output: Path | None
) -> "tuple[RateCurve, Path]":
    """Tries rates on a phase and draws the loss at each; changes no result and no registry.

    Raises:
        SettingsError: there is no such phase.
        UsageError: the file to draw into is of a kind that is not drawn.
    """
    # Before the search: matplotlib would refuse the name only when the curve is there.
    if output and output.suffix not in DRAWN:
        raise UsageError(f"{output} can't be drawn: expected a name ending in {', '.join(DRAWN)}")
    settings = workspace.settings()
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    from vggflow.training import rate_search

    job = training_job(workspace, settings)
    with alone_on_devices(), console.progress("find rate") as advance:
        curve = rate_search.find_learning_rate(job, phase, advance)
    path = output or workspace.path(artifacts.STATE) / f"learning-rate-{curve.phase}.png"
    with files.replacing(path) as beside:
        rate_search.draw(curve).savefig(beside)
    return curve, path


def training_job(workspace: Workspace, settings: Settings) -> "TrainingJob":
    """What the data gate let through, to be trained with these settings."""
    from vggflow.data import manifest as manifests
    from vggflow.features import limit
    from vggflow.training.job import TrainingJob

    images = manifests.read(workspace.path(artifacts.TRAINING_IMAGES))
    manifests.refuse_other(
        workspace.path(artifacts.TRAINING_DIGEST),
        images,
        known=stage_inputs.depends_on(workspace, "train", str(artifacts.TRAINING_DIGEST)),
    )
    _ask_gate(workspace, manifests.digest(images))
    return TrainingJob(
        settings,
        images,
        workspace.path(artifacts.DATA),
        workspace.path(artifacts.WEIGHTS),
        state_folder(),
        feature_limit_bytes=limit.limit_bytes(),
    )


def _compared(results: Mapping[str, float]) -> str:
    """How the model does on valid, beside what its frozen layers are worth without training."""
    said = f"valid {results['model_val_accuracy']:.1%}"
    if "linear_probe_val_accuracy" not in results:  # the first phase has no cached features
        return said
    seconds, accuracy = results["linear_probe_seconds"], results["linear_probe_val_accuracy"]
    return f"{said} (no training, {seconds:.{0 if seconds >= 10 else 1}f} s: {accuracy:.1%})"


def _ask_gate(workspace: Workspace, digest: str) -> None:
    """Training is the gate's business too when somebody runs it by hand."""
    path = workspace.path(artifacts.VALIDATION_RESULT)
    result = files.read_json(path) if path.exists() else {}
    # By content: a result that an earlier validation left lets no other images through.
    if result.get("training") != digest:
        raise DataError(f"{path} does not belong to these images: run `vggflow validate` first")
    if result["verdict"] != PASSED:
        raise DataRefused(
            f"the data gate refused this data: see {path}, mend the data, run `vggflow validate` again"
        )
