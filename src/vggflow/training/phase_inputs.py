"""What each phase learns from: cached features of its frozen layers, cached pixels, or images decoded each time."""

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
from vggflow.features.batches import Decoding, Examples, Rows, Shape
from vggflow.features.compute import PIXELS, Extraction, Report
from vggflow.features.limit import contents, evict, held_bytes
from vggflow.features.store import Kind, Store
from vggflow.models import cut as prefix
from vggflow.settings import FeatureSettings, Phase, TrainSettings
from vggflow.training import arithmetic, augmentation
from vggflow.training.checkpoints import digest
from vggflow.training.costs import Costs
from vggflow.training.hardware import Hardware, explaining_lack_of_memory
from vggflow.training.phases import Plan
from vggflow.training.speed_trial import Trial

# Checkpoints go there too: one of all of VGG16 with Adam's moments takes 1.7 GB.
DISK_TO_LEAVE_BYTES = 2 * 2**30
# Features that take less are read back in less time than a trial takes.
NO_QUESTION_BYTES = 64 * 2**20


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


class Inputs:
    """Gives each phase what it learns from, computing only what is not in the cache.

    One pass through the network serves all phases whose frozen layers no phase changes before them.
    """

    def __init__(
        self,
        model: keras.Model,
        plans: Sequence[Plan],
        splits: Sequence[Examples],
        shape: Shape,
        cache: Cache,
    ) -> None:
        self.work = Work()
        self._model = model
        self._plans = plans
        self._splits = splits
        self._all = _together(splits)
        self.shape = shape
        self._cache = cache
        self._started = time.time()
        self._opened: dict[str, Store] = {}
        # Why features of a cut are kept, or are not, where that was a question.
        self.reasons: dict[str, str] = {}
        self.kept = self._choose_kept()

    def cut(self, plan: Plan) -> str | None:
        """The layer whose features the phase reads, where they are cached."""
        cached = self._cache.keeps_features(plan.phase) and plan.cut in self.kept
        return plan.cut if cached else None

    def of_phase(self, number: int, report: Report) -> tuple[keras.Model, list[Rows]]:
        """The network that learns in the phase, and its inputs for each split."""
        plan = self._plans[number]
        stores = {cut: self._store(cut) for cut in self._due(number)}
        self._fill(stores, report)
        cut = self.cut(plan)
        network = self._uncut(plan, number) if cut is None else prefix.suffix(self._model, cut)
        store = stores.get(cut or PIXELS)
        if store is None:
            return network, [Decoding(split, self.shape) for split in self._splits]
        return network, [store.rows(split.hashes) for split in self._splits]

    def _uncut(self, plan: Plan, number: int) -> keras.Model:
        settings = self._cache.settings
        if not settings.augments(plan.phase):
            return prefix.uncut(self._model, plan.cut)
        return prefix.uncut(
            self._model, plan.cut, augmentation.layers(settings.augmentation, settings.seed + number)
        )

    def _choose_kept(self) -> list[str]:
        """The kinds of features that pay and that there is room for, the smallest first; else, pixels."""
        room = _room(self._cache)
        kept: list[str] = []
        cuts = {plan.cut for plan in self._plans if plan.cut and self._cache.keeps_features(plan.phase)}
        pixels_fit = self._bytes(PIXELS) <= room
        asked = sum(map(self._bytes, cuts)) > NO_QUESTION_BYTES
        for cut in sorted(cuts, key=self._bytes):
            if self._bytes(cut) > room:
                self.reasons[cut] = "not kept: no room"
            elif not asked or self._pays(cut, pixels_kept=pixels_fit):
                kept.append(cut)
                room -= self._bytes(cut)
        if (
            any(plan.cut not in kept or not self._cache.keeps_features(plan.phase) for plan in self._plans)
            and self._bytes(PIXELS) <= room
        ):
            kept.append(PIXELS)
        return kept

    def _pays(self, cut: str, *, pixels_kept: bool) -> bool:
        costs = self.costs()
        plans = [plan for plan in self._plans if plan.cut == cut and self._cache.keeps_features(plan.phase)]
        pays = costs.pays(cut, plans, pixels_kept=pixels_kept)
        self.reasons[cut] = f"{'kept' if pays else 'not kept'}: {costs.why(cut)}"
        return pays

    def costs(self) -> Costs:
        """What parts of this training take on this machine, tried where that is not known yet."""
        cuts = [PIXELS, *dict.fromkeys(plan.cut for plan in self._plans if plan.cut)]
        hardware, size = self._cache.hardware, self._cache.features.batch_size
        trial = Trial(
            self._model,
            self._plans,
            self._all,
            self.shape,
            # Neither weights nor images decide about time.
            {cut: Kind(cut, *self._form(cut), "", "", "") for cut in cuts},
            max(size, self._cache.settings.batch_size),
            hardware.arithmetic(),
            self._cache.state_folder,
            hardware.xla,
            len(hardware.devices),
            hardware.kind != "CPU",
        )
        train, valid = map(len, self._splits)
        sizes = {cut: self._bytes(cut) for cut in cuts}
        return Costs(trial.speeds(), hardware.kind != "CPU", train, valid, sizes)

    @property
    def images(self) -> int:
        """Images of all splits, each content once."""
        return len(self._all)

    def passes(self) -> list[tuple[list[str], int]]:
        """Of each feature pass, what it fills and how many images it takes; before any of them ran."""
        filled: set[str] = set()
        found = []
        for number in range(len(self._plans)):
            due = [cut for cut in self._due(number) if cut not in filled]
            filled |= set(due)
            # Features of layers that are yet to learn can't be there.
            lacking = [self._store(cut).missing(self._all.hashes) for cut in due] if number == 0 else []
            images = len({image for some in lacking for image in some}) if number == 0 else self.images
            if due and images:
                found.append((due, images))
        return found

    def kept_for(self, plan: Plan) -> list[str]:
        """What is kept that the phase could read: features of its cut, or pixels."""
        cut = self.cut(plan)
        return [kind for kind in self.kept if kind in (cut, PIXELS)]

    def read_in(self, plan: Plan) -> str:
        """What the phase reads, in words."""
        cut = self.cut(plan)
        if cut:
            return f"features of {cut}"
        return "cached pixels" if PIXELS in self.kept else "image files"

    def _bytes(self, cut: str) -> int:
        shape, dtype = self._form(cut)
        return len(self._all) * Kind(cut, shape, dtype, "", "", "").row_bytes

    def _form(self, cut: str) -> tuple[tuple[int, ...], str]:
        if cut == PIXELS:
            return (self.shape.size_px, self.shape.size_px, 3), "uint8"
        return prefix.feature_shape(self._model, cut), self._cache.feature_dtype

    def _store(self, cut: str) -> Store:
        """The store for the network as it is now; one that was opened before need not be checked again."""
        kind = self._kind(cut)
        return self._opened.setdefault(kind.key(), Store(self._cache.state_folder, kind))

    def _kind(self, cut: str) -> Kind:
        shape, dtype = self._form(cut)
        network = "" if cut == PIXELS else digest(prefix.prefix(self._model, [cut]))
        size = self._cache.features.batch_size
        # Another batch size may add up in another order.
        computed = [] if cut == PIXELS else [self._cache.hardware.arithmetic(), f"{size} images at a time"]
        return Kind(cut, shape, dtype, network, reading(self.shape), arithmetic.SEPARATOR.join(computed))

    def _due(self, number: int) -> list[str]:
        """What this phase and later ones read that is final now: nothing before its cut learns until then."""
        due = []
        for later in range(number, len(self._plans)):
            cut = self.cut(self._plans[later])
            learning = {name for plan in self._plans[number:later] for name in plan.learning}
            if cut is not None and learning.isdisjoint(prefix.layers_before(self._model, cut)):
                due.append(cut)
            elif cut is None and PIXELS in self.kept:
                due.append(PIXELS)
        return list(dict.fromkeys(due))

    def _fill(self, stores: dict[str, Store], report: Report) -> None:
        started = time.perf_counter()
        missing = {cut: store.missing(self._all.hashes) for cut, store in stores.items()}
        if any(missing.values()):
            for cut, store in stores.items():
                # Where some are there already, only images are new.
                if len(missing[cut]) == len(self._all):
                    self._tell_why_not(store.kind)
            self._compute(stores, missing, report)
        self.work.seconds += time.perf_counter() - started

    def _kept_pixels(self) -> Rows | None:
        """The pixels of all images, where an earlier training kept them: a pass need not decode them again."""
        store = self._store(PIXELS)
        return None if store.missing(self._all.hashes) else store.rows(self._all.hashes)

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
        evict(self._cache.state_folder, _room(self._cache) - needed, unused_since=self._started)
        size = self._cache.features.batch_size
        pixels = None if missing.get(PIXELS) else self._kept_pixels()
        extraction = Extraction(self._model, self._all, self.shape, size, self._cache.hardware.xla, pixels)
        try:
            with explaining_lack_of_memory("train.features.batch_size", size, self._cache.hardware.kind):
                self.work.images += extraction.fill(stores, missing, report)
            for store in stores.values():
                store.merge()
        # FileExistsError comes from mkdir, when the folder goes at that very moment.
        except (FileNotFoundError, FileExistsError) as error:
            raise VggflowError(
                f"{error.filename} was removed while features were computed, as `vggflow cache --clear` does: "
                "run the same command again"
            ) from error


def reading(shape: Shape) -> str:
    """How a file becomes pixels, in words that change whenever the pixels might."""
    code = decoder.code_digest()[:12]
    return f"{shape.size_px} px, {shape.resize}, decoder {code}, Pillow {PIL.__version__}"


def _together(splits: Sequence[Examples]) -> Examples:
    """All images of splits in one folder, each content once."""
    names = {image: name for split in splits for image, name in zip(split.hashes, split.names, strict=True)}
    return Examples(splits[0].folder, tuple(names.values()), tuple(names), np.zeros(len(names), np.int64))


def _room(cache: Cache) -> int:
    """Bytes that the features may take: the limit, or what the disk has once old ones are gone."""
    cache.state_folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.state_folder).free - DISK_TO_LEAVE_BYTES
    return min(cache.limit_bytes, free + held_bytes(cache.state_folder))
