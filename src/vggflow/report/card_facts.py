"""The facts of the model card, from the files of a workspace that trained and evaluated a model."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from vggflow import artifacts, files
from vggflow.data import manifest as manifests
from vggflow.models.files import read_info
from vggflow.settings import Settings, parse
from vggflow.training.phase_results import phase_results
from vggflow.workspace import Workspace

LABELLED_SPLITS = ("train", "valid", "test")


def gather(
    workspace: Workspace, settings: Settings, lineage: Mapping[str, str], trained_with: str | None = None
) -> dict[str, Any]:
    """What `card.render` takes: evaluation, data, training, and where it all came from.

    Args:
        workspace: With the files of validate, train and evaluate.
        settings: Of the workspace now.
        lineage: The tags of the version.
        trained_with: The text of the settings at the training; those of now unless given.
    """
    info = read_info(workspace.path(artifacts.MODEL))
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    # The settings of now may have been edited since, which the card must not take for those of the training.
    trained = parse(yaml.safe_load(trained_with)) if trained_with else settings
    model = trained.model.model_dump(mode="json", exclude_none=True)
    return {
        "name": settings.registry.name,
        "class_names": info.class_names,
        "image_size_px": info.image_size_px,
        "evaluation": files.read_json(workspace.path(artifacts.METRICS)),
        "images": _images(manifest),
        "phases": _phases(files.read_json(workspace.path(artifacts.HISTORY))),
        "model": model | {"temperature": f"{info.temperature:.3f}"},
        "data": _named(lineage, "data.hash", "data.files", "data.bytes", "data_gate"),
        "training": files.read_json(workspace.path(artifacts.RUN)).get("facts", {}),
        "chosen": _chosen(trained),
        "lineage": {key: value for key, value in lineage.items() if key.startswith(_TRACED)},
    }


def _chosen(settings: Settings) -> dict[str, Any]:
    """By how much trying the settings were found; nothing where they are not those that a search chose."""
    chosen = settings.search.chosen
    return chosen.model_dump() if chosen and chosen.settings == settings.digest_of_choice() else {}


def _images(manifest: pd.DataFrame) -> dict[str, dict[str, int]]:
    counts = {split: manifests.labelled(manifest, split)["class_name"] for split in LABELLED_SPLITS}
    return {
        split: {str(name): int(count) for name, count in rows.value_counts().items()}
        for split, rows in counts.items()
        if len(rows)
    }


def _phases(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "phase": phase.name,
            "epochs": phase.epochs,
            "best_accuracy_on_valid": f"{phase.accuracy:.1%}",
            "least_loss_on_valid": f"{phase.loss:.4f}",
        }
        for phase in phase_results(history)
    ]


def _named(lineage: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: lineage[name] for name in names if name in lineage}


_TRACED = ("git.", "sha256.", "package.", "trained_by", "flow_run_id")
