"""`vggflow suggest`: which unlabelled images would teach most, for a person to label."""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow import artifacts, console
from vggflow.commands import audit, options
from vggflow.console import out, say, table, tell
from vggflow.data.places import Place, path_of
from vggflow.errors import DataError, UsageError, VggflowError
from vggflow.models import start_keras
from vggflow.processes.locks import alone_on_devices
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from vggflow.features.decode import Examples

PAGE = artifacts.STATE / "suggest" / "report.html"
SHOWN = 10
READ_AT_A_TIME = 64


def command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder with images that have no label.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many to suggest.")] = 100,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A CSV of them, with a column for your labels."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Suggests which images to label next: the hardest to tell, spread out, none a copy; changes nothing."""
    workspace = options.workspace(context)
    if output:
        from vggflow.audit import written_tables

        written_tables.refuse_unwritable(output, written_tables.LABEL)
    found, message, page = suggest(workspace, folder, count)
    if output:
        written_tables.write_suggestions(found, output)
    if as_json:
        options.print_json(found.to_dict("records"))
        return
    rows = [
        [row["image"], row["guess"], f"{row['probability']:.3f}"]
        for row in found.head(SHOWN).to_dict("records")
    ]
    if rows:
        out.print(table("", ["image", "guess", "probability"], rows))
    say(message)
    say(f"page: {page}")
    if output:
        say(
            f"{output}: {len(found)} rows; write a class into its column label, then `vggflow data import {output}`"
        )


def suggest(workspace: Workspace, folder: Path, count: int) -> "tuple[pd.DataFrame, str, Path]":
    """Chooses images of a folder and writes the page; the champion guesses, where there is one.

    Returns:
        The images, the hardest first: image (absolute), sha256, guess, probability, margin; what was found in one line;
        and the page.

    Raises:
        DataError: there is no new image that can be read, or fewer than two classes are labelled.
        SettingsError: the start weights are random and see nothing.
    """
    settings = audit.settings_for_features(workspace)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: name one with images that have no label")
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    import numpy as np
    import pandas as pd

    from vggflow.audit import most_informative
    from vggflow.data import manifest as manifests
    from vggflow.features.batches import examples
    from vggflow.report import audit_page
    from vggflow.training.start_features import start_features

    manifest, data = manifests.read(workspace.path(artifacts.MANIFEST)), workspace.path(artifacts.DATA)
    names = manifests.class_names(manifest)
    learned, measured = (
        [
            examples(manifest, split, names, data)
            for split in splits
            if len(manifests.labelled(manifest, split))
        ]
        for splits in (("train", "valid"), ("test",))
    )
    new = _new_images(folder, set(manifest["sha256"].dropna()))
    job = audit.job_for_features(workspace, settings, manifest)
    with alone_on_devices(), console.progress("features") as advance:
        features = start_features(job, [*learned, *measured, new.images], advance)
    ends = np.cumsum([sum(map(len, learned)), sum(map(len, measured))])
    labelled, apart, asked = np.split(features, ends)
    labels = np.concatenate([split.labels for split in learned])
    try:
        chosen = most_informative.choose(labelled, labels, asked, count, kept_apart=apart)
    except ValueError as error:
        raise DataError(str(error)) from error
    found = pd.DataFrame(
        {
            "image": [str(new.images.places[row]) for row in chosen.rows],
            "sha256": [new.images.hashes[row] for row in chosen.rows],
            "guess": [names[number] for number in chosen.suggested],
            "probability": chosen.probability,
            "margin": chosen.margin,
        }
    )
    whose = _ask_champion(workspace, found)
    message = (
        f"{len(found):,} of {len(new.images):,} images suggested, guesses by {whose}; passed over: {new.known:,} that "
        f"are there already, {chosen.copies:,} near copies, {new.unreadable:,} unreadable"
    )
    page = workspace.path(PAGE)
    title = f"What {workspace.name} would learn most from"
    audit_page.write_suggestions(found, folder, page, title=title, summary=message)
    return found, message, page


@dataclass(frozen=True)
class New:
    """Images that the data do not have, and how many of a folder's files were passed over."""

    images: "Examples"
    known: int
    unreadable: int


def _new_images(folder: Path, there: Collection[str]) -> New:
    """Each content once, in natural order; files that can't be read are counted only.

    Raises:
        DataError: there is none.
    """
    import numpy as np

    from vggflow.features.decode import Examples, threads
    from vggflow.prediction.find_images import find_images

    root = folder.resolve()
    paths = find_images([root])
    found: dict[str, str] = {}
    known = unreadable = 0
    with threads() as pool, console.progress("look") as advance:
        for start in range(0, len(paths), READ_AT_A_TIME):
            batch = paths[start : start + READ_AT_A_TIME]
            for path, digest in zip(batch, pool.map(_digest, batch), strict=True):
                if digest is None:
                    unreadable += 1
                elif digest in there or digest in found:
                    known += 1
                else:
                    found[digest] = os.path.relpath(path_of(path), root)
            advance(start + len(batch), len(paths))
    if not found:
        raise DataError(
            f"nothing to suggest in {folder}: {known} of its images are in the data, {unreadable} can't be read"
        )
    images = Examples(root, tuple(found.values()), tuple(found), np.zeros(len(found), np.int64))
    return New(images, known, unreadable)


def _digest(image: Path | Place) -> str | None:
    """The SHA-256 of an image that can be read."""
    from vggflow.data.images import ImageError, open_image, read

    try:
        content = read(image)
        open_image(content)
    except ImageError:
        return None
    return hashlib.sha256(content).hexdigest()


def _ask_champion(workspace: Workspace, found: "pd.DataFrame") -> str:
    """Its guesses in place of the classifier's, where there is a champion; says whose they are."""
    from vggflow.commands import predict

    if not len(found):
        return "nobody"
    try:
        answered = predict.predict(workspace.root, [Path(image) for image in found["image"]])
    except VggflowError as error:
        tell(f"the champion was not asked: {error}")
        return "a classifier on the start weights' features"
    rows = answered.rows()
    if any(answered.errors):  # one went away since
        return "a classifier on the start weights' features"
    found["guess"] = [row["label"] for row in rows]
    found["probability"] = [float(row["probability"]) for row in rows]
    return answered.model
