"""`vggflow audit`: which labels may be wrong, by what the start weights see in the images."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow import artifacts, console
from vggflow.commands import options
from vggflow.console import counted, out, say, table, tell
from vggflow.environment import state_folder
from vggflow.errors import DataError, SettingsError
from vggflow.models import start_keras
from vggflow.processes.locks import alone_on_devices
from vggflow.settings import Settings
from vggflow.version import stamp
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from vggflow.audit.suspects import Audit
    from vggflow.tracking.audit_pages import Pages
    from vggflow.training.job import TrainingJob

PAGE, TABLE = artifacts.STATE / "audit" / "report.html", artifacts.STATE / "audit" / "suspects.csv"
SHOWN = 10


def command(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A CSV of the suspects, with a column for your decisions."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Ranks labels that may be wrong, and shows their images; changes nothing."""
    workspace = options.workspace(context)
    if output:
        from vggflow.audit import written_tables

        written_tables.refuse_unwritable(output, written_tables.DECISION)
    audited = look(workspace)
    found = audited.audit
    if output:
        written_tables.write_suspects(found.suspects, output)
    if as_json:
        options.print_json(found.to_dict())
        return
    columns = ["image", "label", "looks like", "probability"]
    rows = [
        [row["path"], row["class_name"], row["suggested"], f"{row['probability']:.3f}"]
        for row in found.suspects.head(SHOWN).to_dict("records")
    ]
    if rows:
        out.print(table("", columns, rows))
    say(audited.message)
    say(f"page: {audited.page}")
    if output:
        say(
            f"{output}: {len(found.suspects)} rows; write keep, exclude or move CLASS into its column decision"
        )


def summary(found: "Audit") -> str:
    """In one line: how many labels are in doubt, how many images are unlike the others, how many are copies."""
    copies = sum(found.copies.values())
    return (
        f"{found.images:,} images: {counted(len(found.suspects), 'label')} in doubt, {found.sure:,} of them surely; "
        f"{counted(found.unlike, 'image')} unlike all others; {counted(copies, 'copy', 'copies')} within a class"
    )


@dataclass(frozen=True)
class Audited:
    """What an audit found, its page, and a digest of what that depends on: images, labels, features, vggflow."""

    audit: "Audit"
    page: Path
    subject: str

    @property
    def message(self) -> str:
        """In one line."""
        return summary(self.audit)


def look(workspace: Workspace) -> Audited:
    """Doubts the labels of all splits and writes the page; reads what `vggflow validate` let through.

    Raises:
        DataError: there is no manifest, an image changed since, or there is only one class.
        SettingsError: the start weights are random and see nothing.
    """
    settings = settings_for_features(workspace)
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    import pandas as pd

    from vggflow.audit import record, suspects
    from vggflow.data import manifest as manifests
    from vggflow.data.layout import SPLITS
    from vggflow.features.batches import examples
    from vggflow.report import audit_page
    from vggflow.training.start_features import start_features

    if settings.model.weights.endswith(".keras"):
        tell(f"{settings.model.weights} was trained: labels that it has seen are doubted less")
    manifest, data = manifests.read(workspace.path(artifacts.MANIFEST)), workspace.path(artifacts.DATA)
    names = manifests.class_names(manifest)
    rows = {split: manifests.labelled(manifest, split) for split in SPLITS}
    splits = [examples(manifest, split, names, data) for split in SPLITS if len(rows[split])]
    job = job_for_features(workspace, settings, manifest)
    with alone_on_devices(), console.progress("features") as advance:
        features = start_features(job, splits, advance)
    images = pd.concat(rows.values(), ignore_index=True)
    try:
        found = suspects.audit(images, features, names)
    except ValueError as error:
        raise DataError(str(error)) from error
    kept = record.table(found, images, settings.model.weights)
    record.write(kept, record.place(state_folder(), settings.registry.name))
    page = workspace.path(PAGE)
    audit_page.write(found, data, page, title=f"Audit of {workspace.name}", summary=summary(found))
    subject = hashlib.sha256(f"{stamp()}\n{manifests.content_digest(images)}\n".encode())
    subject.update(features.tobytes())
    return Audited(found, page, subject.hexdigest())


def publish(workspace: Workspace, found: Audited, name: str) -> "Pages":
    """Puts the page, and the table that a person writes decisions into, into an MLflow run, once for the same images.

    Args:
        workspace: Whose.
        found: The audit.
        name: What a new run is called.
    """
    from vggflow.audit import written_tables
    from vggflow.tracking import audit_pages

    suspects = workspace.path(TABLE)
    written_tables.write_suspects(found.audit.suspects, suspects)
    numbers = {
        "audit.images": found.audit.images,
        "audit.in_doubt": len(found.audit.suspects),
        "audit.surely_in_doubt": found.audit.sure,
        "audit.unlike_all_others": found.audit.unlike,
    }
    return audit_pages.publish(workspace, name, found.subject, [found.page, suspects], numbers)


def settings_for_features(workspace: Workspace) -> Settings:
    """The settings, whose start weights see something.

    Raises:
        SettingsError: they are random.
    """
    settings = workspace.settings()
    if settings.model.weights == "none":
        raise SettingsError("model.weights is none: random layers see nothing; name start weights")
    return settings


def job_for_features(workspace: Workspace, settings: Settings, manifest: "pd.DataFrame") -> "TrainingJob":
    """What features of the start weights are computed for, and kept with those of trainings."""
    from vggflow.features import limit
    from vggflow.training.job import TrainingJob

    return TrainingJob(
        settings,
        manifest,
        workspace.path(artifacts.DATA),
        workspace.path(artifacts.WEIGHTS),
        state_folder(),
        feature_limit_bytes=limit.limit_bytes(),
    )
