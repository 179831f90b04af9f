"""How long a training will take and what it puts on disk, said before it begins."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vggflow.training.costs import duration
from vggflow.training.phase_inputs import Inputs
from vggflow.training.phases import Plan


@dataclass(frozen=True)
class PhaseEstimate:
    """Seconds of all epochs of a phase, with valid measured after each; `at_most` where it may end early."""

    name: str
    epochs: int
    at_most: bool
    reads: str
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a training takes.

    Attributes:
        images: That go through the frozen layers, since their features are not cached.
        feature_seconds: What that takes, all passes together.
        feature_bytes: What it puts on disk.
        reasons: By cut, whether its features are kept and why, where that was a question.
        phases: In their order.
    """

    images: int
    feature_seconds: float
    feature_bytes: int
    reasons: dict[str, str]
    phases: tuple[PhaseEstimate, ...]

    @property
    def seconds(self) -> float:
        """The whole training."""
        return self.feature_seconds + sum(phase.seconds for phase in self.phases)

    @property
    def said(self) -> str:
        """The whole training, for people."""
        return duration(self.seconds)

    def lines(self) -> list[str]:
        """For people, in at most 80 columns."""
        found = []
        if self.images:
            time, size = duration(self.feature_seconds), f"{self.feature_bytes / 1e6:,.0f} MB"
            found.append(f"features: {self.images:,} images, about {time}, {size} on disk")
        found += [f"{cut} {reason}" for cut, reason in self.reasons.items()]
        for phase in self.phases:
            epochs = f"{'at most ' if phase.at_most else ''}{phase.epochs} epoch{'s' * (phase.epochs > 1)}"
            found.append(f"phase {phase.name}: {epochs} from {phase.reads}, about {duration(phase.seconds)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"seconds": self.seconds}


def estimate(plans: Sequence[Plan], inputs: Inputs) -> Estimate | None:
    """What the training will take; none where that is so little that a trial would be much of it."""
    if inputs.is_short:
        return None
    costs = inputs.costs()
    images, seconds, size = 0, 0.0, 0
    for due, missing in inputs.passes():
        images = max(images, missing)
        seconds += costs.feature_pass(due, missing)
        size += sum(costs.bytes[cut] * missing // (costs.train + costs.valid) for cut in due)
    phases = tuple(
        PhaseEstimate(
            plan.phase.name,
            plan.phase.epochs,
            plan.phase.early_stopping is not None,
            inputs.read_in(plan),
            costs.phase(plan, inputs.kept_for(plan), inputs.computed),
        )
        for plan in plans
    )
    return Estimate(images, seconds, size, dict(inputs.reasons), phases)
