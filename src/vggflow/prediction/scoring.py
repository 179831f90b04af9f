"""Scores a model on the images of a manifest, in a process of its own where asked:

    python -m vggflow.prediction.scoring MODEL.keras MANIFEST.parquet DATA_FOLDER OUT.parquet [--split test]

A clean process shows that the file alone, in safe mode, gives the answers. It prints one line of JSON: how
many images it scored, in how many seconds, and the digest of the manifest.
"""

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path

import pandas as pd

from vggflow.data import manifest as manifests
from vggflow.data.contents import Contents
from vggflow.errors import DataError, VggflowError
from vggflow.models import start_keras
from vggflow.models.files import ModelFileError
from vggflow.prediction import spread_answers, table
from vggflow.prediction.predictor import Predictor, Progress, probabilities_of
from vggflow.processes.stage import ending_with_parents, exit_fast

# How the program ends where the file is no model or needs code: that is the model's fault, anything else is not.
# 1 to 3 have their meaning already, see `errors`.
UNFIT = 4


def score(
    predictor: Predictor,
    images: pd.DataFrame,
    data_folder: Path,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The predictions table of a model, in the order of `images`.

    Args:
        predictor: The model.
        images: Usable rows of a manifest, as `manifest.labelled` gives them.
        data_folder: The folder that the paths in the manifest start from.
        batch_size: How many images the network takes at once.
        progress: Called with the images done and in total.

    Raises:
        DataError: there are no rows, or an image can't be read.
    """
    if images.empty:
        raise DataError("no usable images to score: the split is empty, look at the manifest")
    places = Contents(data_folder).places(images["path"])
    classes = len(predictor.info.class_names)
    with closing(spread_answers.answers(predictor, places, batch_size, data_folder)) as answers:
        probabilities = probabilities_of(answers, places, classes, progress)
    return table.make(images, probabilities, predictor.info.class_names)


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit code and prints errors as one line."""
    options = _options(arguments)
    start_keras.start(options.backend)
    try:
        manifest = manifests.read(options.manifest)
        images = manifests.labelled(manifest, options.split)
        began = time.perf_counter()
        scores = score(Predictor(options.model), images, options.data_folder, options.batch_size)
        seconds = time.perf_counter() - began
        table.write(scores, options.out)
    except VggflowError as error:
        print(error, file=sys.stderr)  # noqa: T201 (a program's own output)
        return UNFIT if isinstance(error, ModelFileError) else error.exit_code
    # Of the table, not of the file: another pandas writes an equal manifest in other bytes.
    facts = {"images": len(scores), "seconds": round(seconds, 3), "manifest": manifests.digest(manifest)}
    print(json.dumps(facts))  # noqa: T201
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vggflow.prediction.scoring", description="Scores a model."
    )
    parser.add_argument("model", type=Path, help="a .keras file")
    parser.add_argument("manifest", type=Path, help="a manifest as Parquet")
    parser.add_argument("data_folder", type=Path, help="the folder that the manifest describes")
    parser.add_argument("out", type=Path, help="the predictions table to write, as Parquet")
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--backend", choices=start_keras.BACKENDS, help="what Keras computes with")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with ending_with_parents():
        exit_fast(main())
