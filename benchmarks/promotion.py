"""How often the promotion gate decides rightly, on simulated joint counts: `python -m benchmarks.promotion`.

Each draw takes per class a multinomial sample of "both right, challenger alone right, champion alone right,
neither" and asks `promotion.decide`, the function that promotes in earnest. A share of draws scatters: an aim
counts as missed only where chance does not explain the excess (binomial test, p < 0.001). A miss ends with
exit code 1.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from vggflow.evaluation.evidence import Evidence, Joint, Scores
from vggflow.evaluation.promotion import decide
from vggflow.settings import PromotionSettings

DRAWS = 10_000
BETTER = PromotionSettings()


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
    """A truth per class, images per class, the settings, and the share of draws that is asked for.

    Attributes:
        counts: `promoted`, or the name of a rule whose refusals are counted.
        least: The least share that meets the aim; 0 if only `most` matters.
        most: The largest share that meets the aim.
    """

    name: str
    truths: tuple[Truth, ...]
    images_per_class: int
    counts: str = "promoted"
    least: float = 0.0
    most: float = 1.0
    settings: PromotionSettings = BETTER


def scenarios() -> Iterator[Scenario]:
    """The promises about the gate, and then figures that are only reported."""
    for images in (200, 2000):
        for wrong_on in (0.02, 0.1, 0.3):
            for shared in (0.0, 0.5, 0.9):
                name = f"equal, both wrong on {wrong_on:.0%}, {shared:.0%} of it shared, n = {images:,}"
                yield Scenario(name, (wrong(wrong_on, wrong_on, shared),) * 2, images // 2, most=0.025)
    better = wrong(0.10, 0.07)
    yield Scenario("10 % against 7 % wrong, n = 2,000", (better,) * 2, 1000, least=0.95)
    yield Scenario("10 % against 7 % wrong, n = 2,000 in 10 classes", (better,) * 10, 200, least=0.95)
    yield from _class_rule(better)
    yield from _not_worse()
    yield Scenario("10 % against 7 % wrong, n = 200 (power, reported)", (better,) * 2, 100)


def _class_rule(better: Truth) -> Iterator[Scenario]:
    equal = wrong(0.10, 0.10)
    truly_better = {
        "every class better, 10 % against 7 %": (better,) * 10,
        "every class a little better, 10 % against 9.5 %": (wrong(0.10, 0.095),) * 10,
        "one class better, nine equal": (better, *(equal,) * 9),
        "one class better, nine equal and 40 % wrong": (better, *(wrong(0.40, 0.40, 0.0),) * 9),
    }
    one_worse = {
        "nine better, one worse by 1 %": (*(better,) * 9, wrong(0.10, 0.11)),
        "nine better, one worse by 10 %": (*(better,) * 9, wrong(0.10, 0.20, 0.3)),
        "nine better, one worse by 20 %": (*(better,) * 9, wrong(0.10, 0.30, 0.2)),
    }
    name = "refused by the class rule, 10 classes × 200: "
    for what, truths in truly_better.items():
        yield Scenario(name + what, truths, 200, "class_drop", most=0.02)
    for what, truths in one_worse.items():
        yield Scenario(f"{name}{what} (reported)", truths, 200, "class_drop")


def _not_worse() -> Iterator[Scenario]:
    rule = PromotionSettings(rule="not_worse", margin=0.02)
    for images in (200, 2000):
        worse = f"not_worse, margin 2 %: worse by just 2 %, n = {images:,}"
        yield Scenario(f"{worse} (reported)", (wrong(0.10, 0.12),) * 2, images // 2, settings=rule)
        equal = f"not_worse, margin 2 %: equal, n = {images:,} (power, reported)"
        yield Scenario(equal, (wrong(0.10, 0.10),) * 2, images // 2, settings=rule)


def share(scenario: Scenario, draws: int, seed: int) -> float:
    """The share of draws in which the challenger is promoted, or refused by the rule that is counted."""
    generator = np.random.default_rng(seed)
    chances = [truth.chances for truth in scenario.truths]
    classes = [generator.multinomial(scenario.images_per_class, row, draws) for row in chances]
    return float(np.mean([_happened(scenario, draw) for draw in np.stack(classes, axis=1).tolist()]))


def _happened(scenario: Scenario, counts: list[list[int]]) -> bool:
    names = tuple(f"class {number}" for number in range(len(counts)))
    images = len(counts) * scenario.images_per_class
    scores = Scores(names, "simulated", images, 1.0, {}, 0.0, 0.0)
    per_class = {name: Joint(*row) for name, row in zip(names, counts, strict=True)}
    decision = decide(Evidence(scores, scores, per_class=per_class), scenario.settings)
    if scenario.counts == "promoted":
        return decision.promoted
    return any(check.rule == scenario.counts for check in decision.refusals)


def run(draws: int, seed: int = 0) -> list[dict[str, Any]]:
    """A row per scenario: the share, the aim and whether it is met."""
    rows = []
    for scenario in scenarios():
        found = share(scenario, draws, seed)
        row = {"scenario": scenario.name, "counts": scenario.counts, "draws": draws, "share": found}
        rows.append(row | {"aim": _aim(scenario), "met": met(scenario, found, draws)})
    return rows


def met(scenario: Scenario, found: float, draws: int) -> bool:
    """Whether the share meets the aim, or misses it by no more than chance explains."""
    times = round(found * draws)
    too_often = stats.binomtest(times, draws, scenario.most, "greater").pvalue < 0.001
    too_rarely = stats.binomtest(times, draws, scenario.least, "less").pvalue < 0.001
    return not (too_often or too_rarely)


def _aim(scenario: Scenario) -> str:
    if scenario.least > 0:
        return f"≥ {scenario.least:.1%}"
    return f"≤ {scenario.most:.1%}" if scenario.most < 1 else ""


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.promotion", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args()
    rows = run(options.draws)
    for row in rows:
        if options.json:
            print(json.dumps(row, ensure_ascii=False))
        else:
            print(f"{row['share']:7.2%}  {row['aim']:8} {'' if row['met'] else 'MISSED ':7}{row['scenario']}")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
