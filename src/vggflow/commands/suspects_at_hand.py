"""Labels in doubt as far as they can be told at once: by the last audit, or by features that are kept already.

No image is looked at and nothing goes through a network; what would take more than a few seconds is left to
`vggflow audit`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from vggflow import artifacts
from vggflow.environment import state_place
from vggflow.errors import VggflowError
from vggflow.settings import Settings
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from vggflow.audit.suspects import Audit
    from vggflow.report.page import Doubts

# 20,000 images by 512 channels took 4 to 6 s on two busy cores, and without the limits below minutes.
MOST_IMAGES = 20_000
MOST_BYTES = 2**30
# A classifier learns from so many images, and from fewer where there are many classes: multiply-adds of a step.
MOST_TO_LEARN_FROM = 2_000
MOST_PRODUCTS = 10**7
# With fewer of a class it would say little.
LEAST_OF_A_CLASS = 20


def doubts(workspace: Workspace, settings: Settings, manifest: "pd.DataFrame") -> "Doubts | None":
    """For a page: what can be told, and of which images; or that nothing can. None with random start weights."""
    from vggflow.data import manifest as manifests
    from vggflow.data.layout import SPLITS
    from vggflow.report.page import Doubts

    if settings.model.weights == "none":
        return None
    rows = {split: manifests.labelled(manifest, split) for split in SPLITS}
    if audited := _audited(settings, rows):
        return Doubts("all labelled images, as the last audit saw them", audited)
    splits, found = _computed(workspace, settings, manifest, rows)
    return Doubts(" and ".join(splits), found)


def _audited(settings: Settings, rows: "Mapping[str, pd.DataFrame]") -> "Audit | None":
    """What the last audit said, where it saw all images of now by these start weights."""
    import pandas as pd

    from vggflow.audit import record, suspects

    kept = record.read(record.place(state_place(), settings.registry.name))
    if kept is None or not kept["weights"].eq(settings.model.weights).all():
        return None
    images = pd.concat(rows.values(), ignore_index=True)
    known = record.known(images, kept)
    return suspects.again(known) if len(known) == len(images) else None


def _computed(
    workspace: Workspace, settings: Settings, manifest: "pd.DataFrame", rows: "Mapping[str, pd.DataFrame]"
) -> "tuple[tuple[str, ...], Audit | None]":
    """What kept features say, and of which splits; nothing where they are not there, or it would take long."""
    import pandas as pd

    from vggflow.audit import record, suspects
    from vggflow.data import manifest as manifests
    from vggflow.training import start_features
    from vggflow.training.job import TrainingJob

    if sum(map(len, rows.values())) > MOST_IMAGES:
        return (), None
    folders = workspace.path(artifacts.DATA), workspace.path(artifacts.WEIGHTS), state_place()
    job = TrainingJob(settings, manifest, *folders)
    hashes = {split: list(table["sha256"]) for split, table in rows.items()}
    found = start_features.cached(job, hashes, MOST_BYTES)
    names = manifests.class_names(manifest)
    if found is None or not (most := images_to_learn_from(found.features.shape, len(names))):
        return (), None
    images = pd.concat([rows[split] for split in found.splits], ignore_index=True)
    audited = suspects.audit(images, found.features, names, most)
    _keep(settings, record.table(audited, images, settings.model.weights), pd.concat(rows.values()))
    return found.splits, audited


def _keep(settings: Settings, now: "pd.DataFrame", images: "pd.DataFrame") -> None:
    """For the data gate, unless what is kept knows of more of these images."""
    from vggflow.audit import record

    path = record.place(state_place(), settings.registry.name)
    before = record.read(path)
    if before is None or len(record.known(images, before)) <= len(record.known(images, now)):
        with suppress(OSError, VggflowError):  # the state folder may be read-only
            record.write(now, path)


def images_to_learn_from(shape: tuple[int, ...], classes: int) -> int:
    """How many a classifier can learn from in a moment; 0 where those are too few to say anything.

    Args:
        shape: Of the features: (images, channels).
        classes: How many there are.
    """
    images, channels = shape
    most = min(MOST_TO_LEARN_FROM, MOST_PRODUCTS // (channels * classes))
    return most if most >= min(images, LEAST_OF_A_CLASS * classes) else 0
