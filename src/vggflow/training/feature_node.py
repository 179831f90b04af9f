"""What a node of a cluster does in a feature pass: it holds the network and computes parts.

Imports no Keras before it is told the backend and what else decides about arithmetic.
"""

import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vggflow import cluster
from vggflow.data import spread
from vggflow.data.places import Place
from vggflow.data.spread import Lacking, Needs
from vggflow.environment import state_folder
from vggflow.errors import DataError, UsageError
from vggflow.features.decode import Shape, changed
from vggflow.features.store import Kind
from vggflow.models import switches
from vggflow.settings import TrainSettings


@dataclass(frozen=True)
class Network:
    """What a node has to know to compute as the machine of the run does.

    Attributes:
        content: A model file.
        settings: How training computes.
        switches: Variables of the environment that decide about arithmetic; None for one that is not set.
        arithmetic: What that machine computes with: a node has to have the same.
        kinds: The features that are computed, by cut.
        shape: What images are brought into.
        batch_size: How many of them the network takes at once.
    """

    content: bytes
    settings: TrainSettings
    switches: Mapping[str, str | None]
    arithmetic: str
    kinds: Mapping[str, Kind]
    shape: Shape
    batch_size: int


@dataclass(frozen=True)
class Part:
    """Images of several batches: where they are and what they hold."""

    places: tuple[Place, ...]
    hashes: tuple[str, ...]
    needs: Needs

    def __len__(self) -> int:
        return len(self.hashes)


def settle(part: Part, found: Any) -> Any:
    """The features of a part; the part with the bytes that a node lacked, where it lacked some.

    Raises:
        DataError: an image that a node lacked can't be read here either.
    """
    if not isinstance(found, Lacking):
        return found
    try:
        return cluster.Again(replace(part, needs=spread.with_bytes(part.needs, found)))
    except OSError:
        raise changed(found.places[0]) from None


class FeatureNode:
    """The network on the device of a node.

    Raises:
        UsageError: it computes with something else than the machine of the run.
    """

    def __init__(self, network: Network) -> None:
        switches.take_over(network.switches)
        from vggflow.models import start_keras

        start_keras.start(network.settings.backend, deterministic=network.settings.deterministic)
        from vggflow.features.compute import Layers
        from vggflow.training import hardware

        self._network = network
        self._machine = hardware.prepare(network.settings, state_folder())
        _refuse_other_arithmetic(self._machine.feature_arithmetic(), network.arithmetic)
        self._layers = Layers(
            _model(network.content), list(network.kinds), network.batch_size, self._machine.xla
        )
        self._computing = threading.Lock()

    def work(self, part: Part) -> dict[str, NDArray[Any]] | Lacking:
        """The features of a part by cut, in the order of its images, as a store keeps them.

        Raises:
            DataError: an image is not what the manifest says, or can't be decoded.
            SettingsError: memory ran out.
        """
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            # Another thread computes the part before meanwhile.
            moved = spread.brought(iter(part.places), part.needs, Path(folder))
            if isinstance(moved, Lacking):
                return moved
            try:
                with self._computing:
                    return self._computed(part, [moved.get(place, place) for place in part.places])
            except DataError as error:
                raise DataError(spread.as_before(str(error), Path(folder))) from None

    def _computed(self, part: Part, places: Sequence[Place]) -> dict[str, NDArray[Any]]:
        import numpy as np

        from vggflow.features.compute import Extraction
        from vggflow.features.store import narrowed
        from vggflow.training.hardware import explaining_lack_of_memory

        network, images = self._network, _Images(places, part.hashes)
        run = Extraction(images, network.shape, self._layers)
        with (
            explaining_lack_of_memory("train.features.batch_size", network.batch_size, self._machine.kind),
            closing(run.batches(range(len(part)))) as batches,
        ):
            found = [features for _, features in batches]
        kinds = network.kinds
        return {cut: np.concatenate([narrowed(each[cut], kinds[cut]) for each in found]) for cut in kinds}


@dataclass(frozen=True)
class _Images:
    places: Sequence[Place]
    hashes: Sequence[str]

    def __len__(self) -> int:
        return len(self.hashes)


def _refuse_other_arithmetic(ours: str, theirs: str) -> None:
    from vggflow.training import arithmetic

    if ours != theirs:
        raise UsageError(
            f"node {socket.gethostname()} of the cluster would compute other last digits "
            f"({arithmetic.difference(ours, theirs)}): start the run on a machine like it, or take it off"
        )


def _model(content: bytes) -> Any:
    from vggflow.models import files

    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        path = Path(folder) / "network.keras"
        path.write_bytes(content)
        return files.load(path)[0]
