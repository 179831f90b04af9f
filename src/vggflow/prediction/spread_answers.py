"""Answers for many images: by the nodes of a cluster where `RAY_ADDRESS` names one, else by this machine.

Batches have the borders that they have on one machine, and so the same last digits.
"""

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from vggflow import cluster, cluster_workers
from vggflow.data import spread
from vggflow.data.places import Place
from vggflow.data.spread import Lacking
from vggflow.data.tracked import Tracked
from vggflow.models import switches
from vggflow.prediction import answer_node
from vggflow.prediction.answer_node import AnswerNode, Model, Part
from vggflow.prediction.predictor import Answers, Predictor

# Fewer are answered for here before a node has loaded the model.
FEWEST_FOR_NODES = 300
BATCHES_PER_PART = 8


def answers(
    predictor: Predictor, images: Sequence[Path | Place], batch_size: int, data_folder: Path | None = None
) -> Generator[Answers, None, None]:
    """What `predictor.answers` gives, a batch at a time.

    Args:
        predictor: A model.
        images: Where images are.
        batch_size: How many of them the network takes at once.
        data_folder: What DVC says of it tells where else some of the images are.

    Raises:
        ModelFileError: the model is damaged, or answers with something else than numbers.
        VggflowError: the cluster failed.
    """
    if not cluster.is_named() or len(images) < FEWEST_FOR_NODES:
        yield from predictor.answers(images, batch_size)
        return

    def settle(part: Part, found: Any) -> Any:
        if not isinstance(found, Lacking):
            return found
        try:
            return cluster.Again(replace(part, needs=spread.with_bytes(part.needs, found)))
        except OSError:
            # What can't be read here either is told as it is told without a cluster.
            return list(predictor.answers(part.places, batch_size))

    model = _model(predictor, batch_size)
    parts = _parts(images, batch_size * BATCHES_PER_PART, data_folder)
    one_per: cluster_workers.OnePer = "node" if model.device == "CPU" else "gpu"
    with closing(cluster_workers.for_each(AnswerNode, model, parts, settle, one_per=one_per)) as found:
        for batches in found:
            yield from batches


def _parts(images: Sequence[Path | Place], rows: int, data_folder: Path | None) -> Iterator[Part]:
    # None is DVC's below no folder.
    tracked = Tracked((data_folder or Path("/nowhere/data")).absolute())
    for start in range(0, len(images), rows):
        places = tuple(
            # A node has another working directory.
            image if isinstance(image, Place) else Place(str(image.absolute()))
            for image in images[start : start + rows]
        )
        yield Part(places, spread.needs(places, tracked))


def _model(predictor: Predictor, batch_size: int) -> Model:
    # Imported by whoever loaded a model that needs it.
    backend = sys.modules["keras"].backend.backend() if predictor.needs_keras else None
    device = answer_node.device(backend)
    path, kind = predictor.path, cluster.name_of(type(predictor))
    return Model(path.read_bytes(), path.suffix, kind, backend, device, switches.here(), batch_size)
