"""What a node of a cluster does for predictions: it holds a model and answers for images.

Imports no Keras before it is told the backend and what else decides about arithmetic.
"""

import socket
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggflow import cluster
from vggflow.data import spread
from vggflow.data.places import Place
from vggflow.data.spread import Lacking, Needs
from vggflow.errors import UsageError
from vggflow.models import switches

if TYPE_CHECKING:
    from vggflow.prediction.predictor import Answers


@dataclass(frozen=True)
class Model:
    """What a node has to know to answer as the machine of the run does.

    Attributes:
        content: The model's file.
        suffix: How its name ends.
        predictor: The class that asks it, of a module.
        backend: What Keras computes with; None where the model needs no Keras.
        device: What that machine computes on.
        switches: Variables of the environment that decide about arithmetic; None for one that is not set.
        batch_size: How many images the network takes at once.
    """

    content: bytes
    suffix: str
    predictor: str
    backend: str | None
    device: str
    switches: Mapping[str, str | None]
    batch_size: int


@dataclass(frozen=True)
class Part:
    """Images of several batches: where they are."""

    places: tuple[Place, ...]
    needs: Needs


class AnswerNode:
    """A model on the device of a node.

    Raises:
        UsageError: that is another device than the one of the run.
        ModelFileError: the model is damaged.
    """

    def __init__(self, model: Model) -> None:
        switches.take_over(model.switches)
        if model.backend:
            from vggflow.models import start_keras

            start_keras.start(model.backend)
        if (ours := device(model.backend)) != model.device:
            raise UsageError(
                f"node {socket.gethostname()} of the cluster computes on {ours}, expected {model.device}: start the "
                "run on a machine like it, or take it off"
            )
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            path = Path(folder) / f"model{model.suffix}"
            path.write_bytes(model.content)
            self._predictor = cluster.named(model.predictor)(path)
            # Loads the network, while its file is there.
            self._predictor.answer_once()
        self._batch_size = model.batch_size
        self._answering = threading.Lock()

    def work(self, part: Part) -> "list[Answers] | Lacking":
        """The answers for the images of a part, batch by batch."""
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            # Another thread answers for the part before meanwhile.
            moved = spread.brought(iter(part.places), part.needs, Path(folder))
            if isinstance(moved, Lacking):
                return moved
            places = [moved.get(place, place) for place in part.places]
            with self._answering:
                return list(self._predictor.answers(places, self._batch_size))


def device(backend: str | None) -> str:
    """What Keras computes on with this backend: `CPU`, or the name of a GPU."""
    if backend == "jax":
        import jax

        first = jax.devices()[0]
        return "CPU" if first.platform == "cpu" else str(first.device_kind)
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name")) if gpus else "CPU"
    return "CPU"
