"""Joint counts of two models on simulated test images, and what each rule of the promotion gate says to them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vggflow.promotion.evidence import Constant, Evidence, Joint, Scores
from vggflow.promotion.rules import decide
from vggflow.promotion.rules_compared import collapsed, dropped, shown_better
from vggflow.promotion.statistics import SIGNIFICANCE, mcnemar, not_worse
from vggflow.settings import PromotionSettings

# Draws × classes at a time: 80 MB.
ENTRIES = 1_000_000
ANY_NUMBER = PromotionSettings(min_test_images=1)
Said = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """How often each model is really wrong on images of a class, and how often both on the same one."""

    champion_wrong: float
    challenger_wrong: float
    both_wrong: float

    @property
    def chances(self) -> tuple[float, float, float, float]:
        """Of both right, only the challenger, only the champion, neither."""
        only_challenger = self.champion_wrong - self.both_wrong
        only_champion = self.challenger_wrong - self.both_wrong
        both_right = 1 - only_challenger - only_champion - self.both_wrong
        return both_right, only_challenger, only_champion, self.both_wrong


def wrong(champion: float, challenger: float, shared: float = 0.5) -> Truth:
    """Two error rates, and which part of the challenger's errors the champion makes too."""
    return Truth(champion, challenger, shared * challenger)


@dataclass(frozen=True)
class Scenario:
    """A truth per class, the test images in all, the settings, and the share of draws that is asked for.

    Attributes:
        counts: `promoted`, or the rules whose refusals are counted.
        least: The least share that meets the aim; 0 if only `most` matters.
        most: The largest share that meets the aim.
    """

    name: str
    truths: tuple[Truth, ...]
    images: int
    counts: tuple[str, ...] = ("promoted",)
    least: float = 0.0
    most: float = 1.0
    settings: PromotionSettings = field(default=ANY_NUMBER)

    @property
    def per_class(self) -> list[int]:
        """The images of each class, as even as can be; the first ones have one more."""
        classes = len(self.truths)
        return [self.images // classes + (number < self.images % classes) for number in range(classes)]


def share(scenario: Scenario, draws: int, seed: int) -> float:
    """The share of draws in which the challenger is promoted, or refused by one of the rules that are counted."""
    return float(np.concatenate([said(scenario, drawn) for drawn in tables(scenario, draws, seed)]).mean())


def tables(scenario: Scenario, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Joint counts of shape (draws, classes with images, 4), in portions."""
    generator = np.random.default_rng(seed)
    sizes = [number for number in scenario.per_class if number]
    chances = np.array([truth.chances for truth in scenario.truths])[: len(sizes)]
    at_once = max(1, ENTRIES // len(sizes))
    for start in range(0, draws, at_once):
        yield generator.multinomial(sizes, chances, (min(at_once, draws - start), len(sizes)))


def said(scenario: Scenario, drawn: NDArray[np.int64]) -> Said:
    """For each draw whether what the scenario counts happened, by the functions that promote in earnest."""
    gained, lost, images = drawn[..., 1], drawn[..., 2], drawn.sum(axis=-1)
    settings = scenario.settings
    refused = {
        "class_drop": dropped(gained, lost, images, settings.max_class_drop).any(axis=-1),
        "class_loss": collapsed(gained, lost, images, settings.max_class_loss).any(axis=-1),
        settings.rule: ~_overall(settings, gained.sum(axis=-1), lost.sum(axis=-1), scenario.images),
    }
    if scenario.counts == ("promoted",):
        return np.asarray(~np.any(list(refused.values()), axis=0))
    return np.asarray(np.any([refused[rule] for rule in scenario.counts], axis=0))


def _overall(
    settings: PromotionSettings, gained: NDArray[np.int64], lost: NDArray[np.int64], images: int
) -> Said:
    if settings.rule == "better":
        return np.asarray(shown_better(gained, lost) & (gained - lost >= settings.min_gain * images))
    pairs, place = np.unique(np.stack([gained, lost]), axis=1, return_inverse=True)
    passed = [not_worse(int(g), int(c), images, settings.margin) < SIGNIFICANCE / 2 for g, c in pairs.T]
    return np.array(passed)[place.ravel()]


def decided(scenario: Scenario, counts: NDArray[np.int64]) -> bool:
    """The same for one draw, shape (classes, 4), by `promotion.decide` itself."""
    names = tuple(f"class {number}" for number in range(len(counts)))
    scores = Scores(names, "simulated", scenario.images, 1.0, {}, 0.0, 0.0)
    per_class = {name: Joint(*row) for name, row in zip(names, counts.tolist(), strict=True)}
    decision = decide(Evidence(scores, scores, per_class=per_class), scenario.settings)
    if scenario.counts == ("promoted",):
        return decision.promoted
    return any(check.rule in scenario.counts for check in decision.refusals)


def beats_a_constant(classes: int, images: int, right: float, draws: int, seed: int) -> float:
    """How often a first champion passes that is right on this share of each class, as many images in each."""
    generator = np.random.default_rng(seed)
    of_largest = -(-images // classes)
    only_challenger = generator.binomial(images - of_largest, right, draws)
    only_constant = generator.binomial(of_largest, 1 - right, draws)
    passed = (mcnemar(only_challenger, only_constant) < SIGNIFICANCE) & (only_challenger > only_constant)
    counted = Constant("class 0", images, int(only_challenger[0]), int(only_constant[0]))
    scores = Scores(("class 0",), "simulated", images, right, {}, 0.0, 0.0)
    if decide(Evidence(scores, constant=counted), ANY_NUMBER).promoted != bool(passed[0]):
        raise RuntimeError("the simulation decides otherwise than promotion.decide")
    return float(passed.mean())
