"""What parts of a training will take on this machine: whether features are worth keeping, and how long it all takes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from vggflow.features.compute import PIXELS
from vggflow.training.phases import Plan
from vggflow.training.speed_trial import Speeds

# Of the memory that is free, for files that were read: more may be wanted by the training itself.
SHARE_FOR_PAGES = 0.5


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of a training's parts.

    Args:
        speeds: Of this machine.
        overlapping: Whether images are read while a device computes; a processor does both with the same cores.
        train: Images in the split. Likewise `valid`.
        bytes: What the features of all images take, by cut, `pixels` among them.
    """

    speeds: Speeds
    overlapping: bool
    train: int
    valid: int
    bytes: dict[str, int]

    def feature_pass(self, cuts: Collection[str], images: int) -> float:
        """Seconds until some images went through the frozen layers, into all cuts at once."""
        parts = [self.speeds.cuts[cut] for cut in cuts]
        # Cuts lie one behind the other: the way to the last one passes the others.
        deepest = max((part.compute for part in parts), default=0.0)
        return images * self._both(self.speeds.decode, deepest, *(part.write for part in parts))

    def epoch(self, plan: Plan, kept: Collection[str], computed: Collection[str] = ()) -> float:
        """Seconds of an epoch of a phase, with valid measured, where features of these cuts are kept.

        Those of `computed` are on the device when an epoch begins.
        """
        behind = self.speeds.phases[plan.phase.name]
        if plan.cut is not None and plan.cut in computed:
            fetch, before = 0.0, 0.0
        elif plan.cut is not None and plan.cut in kept:
            fetch, before = self._read(plan.cut), 0.0
        else:
            fetch = self._read(PIXELS) if PIXELS in kept else self.speeds.decode
            before = self.speeds.cuts[plan.cut].compute if plan.cut else 0.0
        step, measure = before + behind.step, before + behind.measure
        images = self.train * self._both(fetch, step) + self.valid * self._both(fetch, measure)
        return images + behind.epoch

    def phase(self, plan: Plan, kept: Collection[str], computed: Collection[str] = ()) -> float:
        """Seconds of all epochs of a phase, if none stops it early, as `epoch`."""
        before = self.computing(plan.cut) if plan.cut is not None and plan.cut in computed else 0.0
        start = self.speeds.phases[plan.phase.name].start
        return before + start + plan.phase.epochs * self.epoch(plan, kept, computed)

    def pays(self, cut: str, plans: Sequence[Plan], *, pixels_kept: bool) -> bool:
        """Whether keeping the features of a cut saves time.

        One epoch more than is planned is counted, for the linear probe, the temperature and the next training.
        """
        pixels = {PIXELS} if pixels_kept else set()
        epochs = [plan.phase.epochs for plan in plans]
        epochs[-1] += 1
        computed = sum(count * self.epoch(plan, pixels) for count, plan in zip(epochs, plans, strict=True))
        if pixels_kept:
            computed += self.feature_pass([PIXELS], self.train + self.valid)
        kept = sum(count * self.epoch(plan, {cut}) for count, plan in zip(epochs, plans, strict=True))
        return self.feature_pass([cut], self.train + self.valid) + kept < computed

    def computing(self, cut: str) -> float:
        """Seconds until the features of all images are computed once, from kept pixels."""
        return (self.train + self.valid) * self._both(self._read(PIXELS), self.speeds.cuts[cut].compute)

    def sooner_computed(self, cut: str) -> bool:
        """Whether it takes less to compute features once in each training than to keep them and read them back.

        Of this training, which decodes all images either way, and of the next one, which decodes none.
        """
        images = self.train + self.valid
        kept = self.feature_pass([cut], images) + 2 * images * self._read(cut)
        return self.feature_pass([PIXELS], images) + 2 * self.computing(cut) < kept

    def why(self, cut: str) -> str:
        """The two times that decided, in words."""
        speed = self.speeds.cuts[cut]
        return f"{duration(speed.compute)} an image to compute, {duration(self._read(cut))} to read back"

    def _read(self, cut: str) -> float:
        speed = self.speeds.cuts[cut]
        # What was written or read before stays in memory where there is room for all of it.
        fits = self.bytes[cut] < SHARE_FOR_PAGES * psutil.virtual_memory().available
        return speed.reread if fits else speed.read

    def _both(self, *parts: float) -> float:
        return max(parts) if self.overlapping else sum(parts)


def duration(seconds: float) -> str:
    """A time for people: `0.4 ms`, `12 s`, `5 min`, `3.5 h`."""
    for limit, unit, name in ((0.95, 0.001, "ms"), (90.0, 1.0, "s"), (5400.0, 60.0, "min")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.0f} {name}" if value >= 9.5 else f"{value:.1g} {name}"
    return f"{seconds / 3600:.1f} h"
