"""Features of frozen layers for images: found in the cache, computed where they are not there, in one pass for all."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import PIL

from vggflow import console
from vggflow.data import images as decoder
from vggflow.errors import VggflowError
from vggflow.features.batches import Examples, Rows, Shape
from vggflow.features.compute import PIXELS, Extraction, Layers, Report, fill
from vggflow.features.limit import contents, evict, held_bytes
from vggflow.features.store import Kind, Store
from vggflow.models import cut as prefix
from vggflow.settings import FeatureSettings, Phase, TrainSettings
from vggflow.training import arithmetic, spread_features
from vggflow.training.checkpoints import digest
from vggflow.training.hardware import Hardware, explaining_lack_of_memory
from vggflow.training.spread_features import SpreadExtraction

# Checkpoints go there too: one of all of VGG16 with Adam's moments takes 1.7 GB.
DISK_TO_LEAVE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Cache:
    """Where features are kept, in what form, and how much room they may take."""

    state_folder: Path
    limit_bytes: int
    settings: TrainSettings
    hardware: Hardware

    @property
    def features(self) -> FeatureSettings:
        """The part of the settings that is about features."""
        return self.settings.features

    @property
    def feature_dtype(self) -> str:
        """What features are kept in: as the frozen layers compute them, unless the settings name something."""
        given = self.features.dtype
        return keras.DTypePolicy(self.hardware.policy).compute_dtype if given == "auto" else given

    def keeps_features(self, phase: Phase) -> bool:
        """Whether the phase's pixels stay as they are, so that features of its frozen layers can be kept."""
        return self.features.cache == "auto" and not self.settings.augments(phase)


@dataclass
class Work:
    """What the feature pass cost this training."""

    images: int = 0
    seconds: float = 0.0

    def results(self) -> dict[str, float]:
        """For the tracking run."""
        return {"feature_images": self.images, "feature_seconds": round(self.seconds, 3)}


class FrozenFeatures:
    """What the frozen layers of a network give for images, computing only what is not in the cache.

    Layers are frozen as they are when a cut is asked for; one that learns meanwhile gives features of another kind.
    """

    def __init__(self, model: keras.Model, splits: Sequence[Examples], shape: Shape, cache: Cache) -> None:
        self.work = Work()
        self.images = _together(splits)
        self._model = model
        self._shape = shape
        self._cache = cache
        self._started = time.time()
        self._opened: dict[str, Store] = {}

    def total_bytes(self, cut: str) -> int:
        """What the features of all images take."""
        return len(self.images) * self.form(cut).row_bytes

    def room(self) -> int:
        """Bytes that features may take: the limit, or what the disk has once old ones are gone."""
        folder = self._cache.state_folder
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free - DISK_TO_LEAVE_BYTES
        return min(self._cache.limit_bytes, free + held_bytes(folder))

    def form(self, cut: str) -> Kind:
        """Shape and numbers of the features of a layer, or of pixels, whatever they are computed from."""
        if cut == PIXELS:
            return Kind(cut, (self._shape.size_px, self._shape.size_px, 3), "uint8", "", "", "")
        return Kind(cut, prefix.feature_shape(self._model, cut), self._cache.feature_dtype, "", "", "")

    def missing(self, cut: str) -> list[str]:
        """The images that have no such features yet."""
        return self._store(cut).missing(self.images.hashes)

    def fill(self, cuts: Sequence[str], report: Report) -> dict[str, Store]:
        """The stores of these cuts, with the features of all images.

        Raises:
            VggflowError: the cache was cleared meanwhile.
            WeightsError: the layers give something else than finite numbers.
        """
        started = time.perf_counter()
        stores = {cut: self._store(cut) for cut in cuts}
        missing = {cut: store.missing(self.images.hashes) for cut, store in stores.items()}
        if any(missing.values()):
            for cut, store in stores.items():
                # Where some are there already, only images are new.
                if len(missing[cut]) == len(self.images):
                    self._tell_why_not(store.kind)
            self._compute(stores, missing, report)
        self.work.seconds += time.perf_counter() - started
        return stores

    def _store(self, cut: str) -> Store:
        """The store for the network as it is now; one that was opened before need not be checked again."""
        kind = self._kind(cut)
        return self._opened.setdefault(kind.key(), Store(self._cache.state_folder, kind))

    def _kind(self, cut: str) -> Kind:
        network = "" if cut == PIXELS else digest(prefix.prefix(self._model, [cut]))
        size = self._cache.features.batch_size
        # Another batch size may add up in another order.
        computed = (
            [] if cut == PIXELS else [self._cache.hardware.feature_arithmetic(), f"{size} images at a time"]
        )
        return replace(
            self.form(cut),
            network=network,
            reading=reading(self._shape),
            arithmetic=arithmetic.SEPARATOR.join(computed),
        )

    def _kept_pixels(self) -> Rows | None:
        """The pixels of all images, where an earlier training kept them: a pass need not decode them again."""
        store = self._store(PIXELS)
        return None if store.missing(self.images.hashes) else store.rows(self.images.hashes)

    def _tell_why_not(self, kind: Kind) -> None:
        """Where the same features are there, but computed otherwise, by name what differs."""
        held = [entry.kind for entry in contents(self._cache.state_folder)]
        for other in held:
            if other.key() != kind.key() and replace(other, arithmetic=kind.arithmetic) == kind:
                differs = arithmetic.difference(kind.arithmetic, other.arithmetic)
                console.tell(
                    f"cached features of {kind.cut} were computed otherwise, these are new: {differs}"
                )
                return

    def _compute(self, stores: dict[str, Store], missing: dict[str, list[str]], report: Report) -> None:
        needed = sum(len(missing[cut]) * store.kind.row_bytes for cut, store in stores.items())
        # What this training has read stays: it may read it again.
        evict(self._cache.state_folder, self.room() - needed, unused_since=self._started)
        lacking = {cut: images for cut, images in missing.items() if images}
        wanted = set().union(*lacking.values())
        indices = [number for number, image in enumerate(self.images.hashes) if image in wanted]
        size, done = self._cache.features.batch_size, 0

        def add(images: int) -> None:
            nonlocal done
            done += images
            report(done, len(indices))

        try:
            with explaining_lack_of_memory("train.features.batch_size", size, self._cache.hardware.kind):
                fill(
                    stores,
                    lacking,
                    self._pass(stores, list(lacking), len(indices)).batches(indices),
                    size,
                    add,
                )
            self.work.images += len(indices)
            for store in stores.values():
                store.merge()
        # FileExistsError comes from mkdir, when the folder goes at that very moment.
        except (FileNotFoundError, FileExistsError) as error:
            raise VggflowError(
                f"{error.filename} was removed while features were computed, as `vggflow cache --clear` does: "
                "run the same command again"
            ) from error

    def _pass(self, stores: dict[str, Store], cuts: list[str], images: int) -> Extraction | SpreadExtraction:
        """What computes features at these cuts for so many images: this machine, or a cluster."""
        size, hardware = self._cache.features.batch_size, self._cache.hardware
        if spread_features.is_worth_it(images, hardware):
            kinds = {cut: stores[cut].kind for cut in cuts}
            network = spread_features.network(self._model, self._cache.settings, hardware, kinds, self._shape)
            return SpreadExtraction(self.images, network, hardware.kind == "GPU")
        pixels = None if PIXELS in cuts else self._kept_pixels()
        layers = Layers(self._model, cuts, size, hardware.xla)
        return Extraction(self.images, self._shape, layers, pixels)


def reading(shape: Shape) -> str:
    """How a file becomes pixels, in words that change whenever the pixels might."""
    code = decoder.code_digest()[:12]
    return f"{shape.size_px} px, {shape.resize}, decoder {code}, Pillow {PIL.__version__}"


def _together(splits: Sequence[Examples]) -> Examples:
    """All images of splits, each content once; names below another folder than the first one's are whole paths."""
    folder = splits[0].folder
    names = {
        image: name if split.folder == folder else str(split.folder / name)
        for split in splits
        for image, name in zip(split.hashes, split.names, strict=True)
    }
    return Examples(folder, tuple(names.values()), tuple(names), np.zeros(len(names), np.int64))
