"""A tiny model, and its answers for the images of a data folder.

    python -m cluster_answers --make MODEL.keras
    python -m cluster_answers DATA_FOLDER MODEL OUT.jsonl

The first also writes the exported graph beside the model. The second prints a line of JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np

from vggflow.prediction.batch import Batch
from vggflow.prediction.onnx_predictor import ready


def make(path: Path) -> None:
    from vggflow.models import files, start_keras

    start_keras.start("tensorflow")
    from vggflow.models.builder import build
    from vggflow.models.files import ModelInfo
    from vggflow.prediction import exported_graph
    from vggflow.prediction.predictor import Predictor
    from vggflow.settings import ModelSettings

    settings = ModelSettings(
        image_size_px=64, weights="none", width=0.125, builder="sequential", preprocessing="rescale"
    )
    model = build(settings, ("cats", "dogs"), None, seed=1)
    kernel, bias = model.get_layer("predictions").get_weights()
    model.get_layer("predictions").set_weights([np.random.default_rng(2).normal(0, 3, kernel.shape), bias])
    files.save(model, ModelInfo(("cats", "dogs"), 64, "stretch", "rescale"), path)
    exported_graph.write(Predictor(path), path.with_suffix(".onnx"))


def answer(data: Path, model: Path, out: Path) -> None:
    images = sorted(path for path in data.rglob("*.*") if path.is_file())
    batch = Batch(ready(model, lambda: "tensorflow"), "tiny", "none", images, out, data)
    summary = batch.run(lambda _done, _total, _note: None)
    print(json.dumps({"images": summary.images, "ray": "ray" in sys.modules}))  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]))
    else:
        answer(*map(Path, sys.argv[1:]))
