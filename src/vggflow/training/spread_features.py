"""The feature pass on a cluster: nodes that hold the network compute parts of it, this machine writes the shards.

Batches and shards have the borders that they have on one machine, and so the same bytes.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import keras

from vggflow import cluster, cluster_workers
from vggflow.data import spread
from vggflow.data.tracked import Tracked
from vggflow.features.compute import Batches
from vggflow.features.decode import Examples, Shape
from vggflow.features.store import Kind
from vggflow.models import files, switches
from vggflow.models.files import ModelInfo
from vggflow.settings import TrainSettings
from vggflow.training.feature_node import FeatureNode, Network, Part, settle
from vggflow.training.hardware import Hardware

# Fewer are computed here before a node has started the network.
FEWEST_FOR_NODES = 300
# A piece of work. Its features after block3_pool at 224 px take 50 MB.
BATCHES_PER_PART = 4


@dataclass(frozen=True)
class SpreadExtraction:
    """A pass of images through frozen layers, which the nodes of a cluster compute.

    Attributes:
        images: What goes through, each content once.
        network: The layers, and how they compute.
        gpu: Whether they do so on a GPU.
    """

    images: Examples
    network: Network
    gpu: bool

    def batches(self, indices: Sequence[int]) -> Batches:
        """Images by their hashes, with their features by cut, in order."""
        with closing(
            cluster_workers.for_each(
                FeatureNode, self.network, self._parts(indices), settle, one_per="gpu" if self.gpu else "node"
            )
        ) as found:
            for numbers, features in zip(self._numbers(indices), found, strict=True):
                yield [self.images.hashes[number] for number in numbers], features

    def _numbers(self, indices: Sequence[int]) -> Iterator[Sequence[int]]:
        rows = BATCHES_PER_PART * self.network.batch_size
        return (indices[start : start + rows] for start in range(0, len(indices), rows))

    def _parts(self, indices: Sequence[int]) -> Iterator[Part]:
        tracked = Tracked(self.images.folder)
        for numbers in self._numbers(indices):
            places = tuple(self.images.places[number] for number in numbers)
            hashes = tuple(self.images.hashes[number] for number in numbers)
            yield Part(places, hashes, spread.needs(places, tracked))


def is_worth_it(images: int, hardware: Hardware) -> bool:
    """Whether nodes compute: several devices share each batch, which a node does not repeat."""
    return cluster.is_named() and images >= FEWEST_FOR_NODES and len(hardware.devices) == 1


def network(
    model: keras.Model, settings: TrainSettings, hardware: Hardware, kinds: Mapping[str, Kind], shape: Shape
) -> Network:
    """The layers of a model up to the cuts of `kinds`, for nodes that compute as this machine does."""
    info = ModelInfo(("none",), shape.size_px, str(shape.resize), "none")
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        path = Path(folder) / "network.keras"
        files.save(model, info, path)
        content = path.read_bytes()
    size = settings.features.batch_size
    return Network(content, settings, switches.here(), hardware.feature_arithmetic(), kinds, shape, size)
