"""What each phase learns from: cached features of its frozen layers, cached pixels, or images decoded each time."""

from collections.abc import Sequence

import keras

from vggflow.features.batches import Decoding, Examples, Rows, Shape
from vggflow.features.compute import PIXELS, ComputedRows, Layers, Report
from vggflow.models import cut as prefix
from vggflow.training import augmentation, on_device
from vggflow.training.costs import Costs
from vggflow.training.frozen_features import Cache, FrozenFeatures
from vggflow.training.phases import Plan
from vggflow.training.short_training import is_short
from vggflow.training.speed_trial import Trial

# Features that take less are read back in less time than a trial takes.
NO_QUESTION_BYTES = 64 * 2**20


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
        self._model = model
        self._plans = plans
        self._splits = splits
        self._features = FrozenFeatures(model, splits, shape, cache)
        self.work = self._features.work
        self.shape = shape
        self._cache = cache
        # Why features of a cut are kept, or are not, where that was tried.
        self.reasons: dict[str, str] = {}
        # Cuts whose features are computed once, at the start of their phase, from kept pixels onto the device.
        self.computed: list[str] = []
        self.is_short = is_short(model, plans, len(self._features.images), len(splits[0]), cache)
        self.kept = self._choose_kept()

    def cut(self, plan: Plan) -> str | None:
        """The layer whose features the phase reads, where they are cached or computed once."""
        there = self._cache.keeps_features(plan.phase) and plan.cut in (*self.kept, *self.computed)
        return plan.cut if there else None

    def of_phase(self, number: int, report: Report) -> tuple[keras.Model, list[Rows]]:
        """The network that learns in the phase, and its inputs for each split."""
        plan = self._plans[number]
        stores = self._features.fill(self._due(number), report)
        cut = self.cut(plan)
        network = self._uncut(plan, number) if cut is None else prefix.suffix(self._model, cut)
        if cut is not None and cut in self.computed:
            layers = Layers(self._model, [cut], self._cache.features.batch_size, xla=self._cache.hardware.xla)
            return network, [
                ComputedRows(layers, stores[PIXELS].rows(split.hashes)) for split in self._splits
            ]
        store = stores.get(cut or PIXELS)
        if store is None:
            return network, [Decoding(split, self.shape) for split in self._splits]
        return network, [store.rows(split.hashes) for split in self._splits]

    def fill(self, cuts: Sequence[str], report: Report) -> None:
        """Has features of these layers ready for all images, computed in one pass where they are not."""
        self._features.fill(cuts, report)

    def total_bytes(self, cut: str) -> int:
        """What features of a layer take, of all images."""
        return self._features.total_bytes(cut)

    def _uncut(self, plan: Plan, number: int) -> keras.Model:
        settings = self._cache.settings
        if not settings.augments(plan.phase):
            return prefix.uncut(self._model, plan.cut)
        return prefix.uncut(
            self._model, plan.cut, augmentation.layers(settings.augmentation, settings.seed + number)
        )

    def _choose_kept(self) -> list[str]:
        """The kinds of features that pay and that there is room for, the smallest first; else, pixels."""
        room = self._features.room()
        kept: list[str] = []
        cuts = {plan.cut for plan in self._plans if plan.cut and self._cache.keeps_features(plan.phase)}
        pixels_fit = self._features.total_bytes(PIXELS) <= room
        large = sum(map(self._features.total_bytes, cuts)) > NO_QUESTION_BYTES
        for cut in sorted(cuts, key=self._features.total_bytes):
            pixels = 0 if PIXELS in kept else self._features.total_bytes(PIXELS)
            if large and pixels <= room and self._is_sooner_computed(cut):
                self.computed.append(cut)
                if pixels:
                    kept.append(PIXELS)
                room -= pixels
            elif self._features.total_bytes(cut) > room:
                self.reasons[cut] = "not kept: no room"
            elif not large or self.is_short or self._pays(cut, pixels_kept=pixels_fit):
                kept.append(cut)
                room -= self._features.total_bytes(cut)
        if (
            PIXELS not in kept
            and any(
                plan.cut not in kept or not self._cache.keeps_features(plan.phase) for plan in self._plans
            )
            and self._features.total_bytes(PIXELS) <= room
        ):
            kept.append(PIXELS)
        return kept

    def _is_sooner_computed(self, cut: str) -> bool:
        """Whether the device has room for the features of a phase after the first, and computes them in less time.

        Those of the first phase are asked more than once: a linear probe and a search learn from them too.
        """
        cache = self._cache
        if cut == self._plans[0].cut or cache.features.dtype != "auto":
            return False
        network, size = prefix.suffix(self._model, cut), self._features.total_bytes(cut)
        if not on_device.fits(network, size, cache.settings.batch_size, cache.hardware):
            return False
        if self.is_short:
            return True
        costs = self.costs()
        sooner = costs.sooner_computed(cut)
        if sooner:
            self.reasons[cut] = f"on the device: {costs.why(cut)}"
        return sooner

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
            self._features.images,
            self.shape,
            # Neither weights nor images decide about time.
            {cut: self._features.form(cut) for cut in cuts},
            max(size, self._cache.settings.batch_size),
            hardware.arithmetic(),
            self._cache.state_folder,
            hardware.xla,
            len(hardware.devices),
            hardware.kind != "CPU",
        )
        train, valid = map(len, self._splits)
        sizes = {cut: self._features.total_bytes(cut) for cut in cuts}
        return Costs(trial.speeds(), hardware.kind != "CPU", train, valid, sizes)

    @property
    def images(self) -> int:
        """Images of all splits, each content once."""
        return len(self._features.images)

    def passes(self) -> list[tuple[list[str], int]]:
        """Of each feature pass, what it fills and how many images it takes; before any of them ran."""
        filled: set[str] = set()
        found = []
        for number in range(len(self._plans)):
            due = [cut for cut in self._due(number) if cut not in filled]
            filled |= set(due)
            # Features of layers that are yet to learn can't be there.
            lacking = [self._features.missing(cut) for cut in due] if number == 0 else []
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
        if cut in self.computed:
            return f"{cut} on the device"
        if cut:
            return f"features of {cut}"
        return "cached pixels" if PIXELS in self.kept else "image files"

    def _due(self, number: int) -> list[str]:
        """What this phase and later ones read that is final now: nothing before its cut learns until then."""
        due = []
        for later in range(number, len(self._plans)):
            cut = self.cut(self._plans[later])
            if cut in self.computed:
                cut = None
            learning = {name for plan in self._plans[number:later] for name in plan.learning}
            if cut is not None and learning.isdisjoint(prefix.layers_before(self._model, cut)):
                due.append(cut)
            elif cut is None and PIXELS in self.kept:
                due.append(PIXELS)
        return list(dict.fromkeys(due))
