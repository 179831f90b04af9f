"""What mended labels are worth: `python -m benchmarks.relabel [--json]`.

Of the training photographs of `$VGGFLOW_PHOTOS` 5 % lie in the folder of another class, with three seeds.
`vggflow audit` ranks doubts, a person who sees what is in a picture decides about the first 100, and
`vggflow data relabel` carries it out: accuracy on test after training from `$VGGFLOW_IMAGENET_WEIGHTS` at 128 px,
before, after, and with the true labels.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.audit import swap
from benchmarks.training import row, show_all

SEEDS, LOOKED_AT = (0, 1, 2), 100
SETTINGS = {
    "model": {"image_size_px": 128, "resize": "stretch", "weights": "{weights}", "head": "pooling"},
    "validate": {"min_images_per_class": 2},
    "train": {
        "phases": [{"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.003, "epochs": 30}]
    },
    "evaluate": {"batch_size": 32},
    "registry": {"name": "pets", "experiment": "pets"},
}


def vggflow(workspace: Path, *arguments: str) -> None:
    """One command in a workspace."""
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(workspace), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"vggflow {' '.join(arguments)}: {done.stderr}")


def accuracy(workspace: Path, seed: int) -> float:
    """Of the model that is trained from what lies in the workspace, on test."""
    path = workspace / "params.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content["train"]["seed"] = seed
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    for stage in ("validate", "train", "evaluate"):
        vggflow(workspace, stage)
    return float(json.loads((workspace / "evaluation/metrics.json").read_text())["accuracy"])


def swapped(photos: Path, target: Path, seed: int) -> dict[str, str]:
    """A copy of the photographs with 5 % of train in another class; the true class by the name of the file."""
    shutil.copytree(photos, target)
    images = sorted((target / "train").glob("*/*"))
    labels = [path.parent.name for path in images]
    wrong = swap(labels, np.arange(len(images)), sorted(set(labels)), seed)
    for number, name in wrong.items():
        images[number].rename(target / "train" / name / images[number].name)
    return {path.name: label for path, label in zip(images, labels, strict=True)}


def decide(table: Path, truth: dict[str, str]) -> int:
    """What somebody who looks at the first doubts writes into the column; returns how many are moved."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows, names = list(reader), list(reader.fieldnames or ())
    moved = 0
    for each in [one for one in rows if one["path"].startswith("train/")][:LOOKED_AT]:
        true = truth[Path(each["path"]).name]
        if true != each["class_name"]:
            each["decision"] = f"move {true}"
            moved += 1
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return moved


def measure(photos: Path, weights: Path, folder: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The figures."""
    found: dict[str, list[float]] = {"before": [], "after": [], "with the true labels": []}
    moved = []
    for seed in seeds:
        truth = swapped(photos, folder / f"swapped-{seed}", seed)
        workspace = _workspace(folder / f"workspace-{seed}", folder / f"swapped-{seed}", weights)
        found["before"].append(accuracy(workspace, seed))
        vggflow(workspace, "audit", "-o", str(folder / f"{seed}.csv"))
        moved.append(decide(folder / f"{seed}.csv", truth))
        vggflow(workspace, "data", "relabel", str(folder / f"{seed}.csv"))
        found["after"].append(accuracy(workspace, seed))
        right = _workspace(folder / f"true-{seed}", photos, weights)
        found["with the true labels"].append(accuracy(right, seed))
    yield row("swapped labels that were moved back, of 50", statistics.median(moved), None, least=True) | {
        "seeds": moved
    }
    for name, values in found.items():
        yield row(f"accuracy on test {name}", statistics.median(values), None, least=True) | {"seeds": values}


def _workspace(folder: Path, data: Path, weights: Path) -> Path:
    vggflow(Path(), "init", str(folder))
    content = SETTINGS | {"model": SETTINGS["model"] | {"weights": weights.name}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "weights").mkdir(exist_ok=True)
    shutil.copy(weights, folder / "weights")
    vggflow(folder, "data", "import", str(data))
    return folder


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.relabel", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("VGGFLOW_IMAGENET_WEIGHTS"))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    given = parser.parse_args()
    if given.photos is None or given.weights is None:
        parser.error("no photographs or weights: set VGGFLOW_PHOTOS and VGGFLOW_IMAGENET_WEIGHTS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("VGGFLOW_STATE", f"{folder}/state")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        figures = measure(Path(given.photos), Path(given.weights), Path(folder), given.seeds)
        return show_all(figures, judged=True, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
