"""How often the promotion gate decides rightly, simulated: `python -m benchmarks.promotion`.

Each draw takes per class a multinomial sample of "both right, challenger alone right, champion alone right,
neither" and asks the rules that promote in earnest, with 2 to 1,000 classes and 8 to 10,000 test images; then
the calibration temperature is fitted to calibrated and to overconfident models. A share of draws scatters: an
aim counts as missed only where chance does not explain the excess (binomial test, p < 0.001). A miss ends with
exit code 1. `min_test_images` is 1 here, so that small test sets show what the other rules do.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import promotion_calibration as calibration
from benchmarks.promotion_simulation import Scenario, Truth, beats_a_constant, share, wrong
from vggflow.settings import PromotionSettings

DRAWS, SEED = 10_000, 0
CLASSES = (2, 10, 100, 1000)
IMAGES = (8, 40, 200, 1000, 2000, 10_000)
CLASS_RULES = ("class_drop", "class_loss")
# From so many images of a class on its complete loss has to be found, and from so few in all nothing is promised.
FOUND_FROM, PROMISED_FROM = 10, 30


def scenarios() -> Iterator[Scenario]:
    """The promises about the gate, and then figures that are only reported."""
    yield from _equal()
    better = wrong(0.10, 0.07)
    yield Scenario("10 % against 7 % wrong, n = 2,000", (better,) * 2, 2000, least=0.95)
    yield Scenario("10 % against 7 % wrong, n = 2,000 in 10 classes", (better,) * 10, 2000, least=0.95)
    yield from _class_rule(better)
    yield from _many_classes()
    yield from _not_worse()
    yield Scenario("10 % against 7 % wrong, n = 200 (power, reported)", (better,) * 2, 200)


def _equal() -> Iterator[Scenario]:
    for images in (200, 2000):
        for wrong_on in (0.02, 0.1, 0.3):
            for shared in (0.0, 0.5, 0.9):
                name = f"equal, both wrong on {wrong_on:.0%}, {shared:.0%} of it shared, n = {images:,}"
                yield Scenario(name, (wrong(wrong_on, wrong_on, shared),) * 2, images, most=0.025)
    for classes in CLASSES:
        for images in IMAGES:
            name = f"equal, both wrong on 10 %, {classes:,} classes, n = {images:,}"
            yield Scenario(name, (wrong(0.1, 0.1),) * classes, images, most=0.025)


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
    name = "refused by the class rules, 10 classes × 200: "
    for what, truths in truly_better.items():
        yield Scenario(name + what, truths, 2000, CLASS_RULES, most=0.02)
    for what, truths in one_worse.items():
        yield Scenario(f"{name}{what} (reported)", truths, 2000, CLASS_RULES)


def _many_classes() -> Iterator[Scenario]:
    """A truly better model whose classes are not equally hard, and one that has lost a class entirely."""
    for classes in CLASSES:
        hard = max(1, classes // 10)
        rising = tuple(wrong(rate, 0.9 * rate) for rate in np.linspace(0.02, 0.5, classes))
        mixed = (wrong(0.4, 0.38, 0.4),) * hard + (wrong(0.05, 0.04),) * (classes - hard)
        lost = (Truth(0.05, 1.0, 0.05), *(wrong(0.10, 0.09),) * (classes - 1))
        for images in IMAGES:
            where = f"{classes:,} classes, n = {images:,}"
            promised = images >= PROMISED_FROM
            for what, truths in {"2 to 50 % wrong": rising, "a tenth of them hard": mixed}.items():
                name = (
                    f"refused by the class rules, better, {what}, {where}{'' if promised else ' (reported)'}"
                )
                yield Scenario(name, truths, images, CLASS_RULES, most=0.05 if promised else 1.0)
            found = images // classes >= FOUND_FROM
            name = f"refused by the class rules, one class lost entirely, {where}{'' if found else ' (reported)'}"
            yield Scenario(name, lost, images, CLASS_RULES, least=0.95 if found else 0.0)


def _not_worse() -> Iterator[Scenario]:
    rule = PromotionSettings(rule="not_worse", margin=0.02, min_test_images=1)
    for images in (200, 2000):
        worse = f"not_worse, margin 2 %: worse by just 2 %, n = {images:,}"
        yield Scenario(f"{worse} (reported)", (wrong(0.10, 0.12),) * 2, images, settings=rule)
        equal = f"not_worse, margin 2 %: equal, n = {images:,} (power, reported)"
        yield Scenario(equal, (wrong(0.10, 0.10),) * 2, images, settings=rule)


def run(draws: int, seed: int = SEED) -> Iterator[dict[str, Any]]:
    """A row per scenario: the share, the aim and whether it is met."""
    for scenario in scenarios():
        # A thousand classes take a thousand times as long, and a tenth of the draws says enough.
        taken = draws if len(scenario.truths) < 100 else max(1, draws // 10)
        found = share(scenario, taken, seed)
        row = {"scenario": scenario.name, "counts": "/".join(scenario.counts), "draws": taken, "share": found}
        yield row | {"aim": _aim(scenario.least, scenario.most), "met": met(scenario, found, taken)}
    yield from first_champions(draws, seed)


def first_champions(draws: int, seed: int) -> Iterator[dict[str, Any]]:
    """How often models that guess, and models that are right on nine of ten images, are a first champion."""
    for classes in CLASSES:
        for images in IMAGES:
            for what, right, least, most in (
                ("guesses", 1 / classes, 0.0, 0.025),
                ("90 % right", 0.9, 0.95, 1.0),
            ):
                promised = most < 1 or images >= PROMISED_FROM
                scenario = Scenario("", (), images, least=least if promised else 0.0, most=most)
                found = beats_a_constant(classes, images, right, draws, seed)
                name = f"first champion, {what}, {classes:,} classes, n = {images:,}{'' if promised else ' (reported)'}"
                row = {"scenario": name, "counts": "promoted", "draws": draws, "share": found}
                yield row | {"aim": _aim(scenario.least, most), "met": met(scenario, found, draws)}


def met(scenario: Scenario, found: float, draws: int) -> bool:
    """Whether the share meets the aim, or misses it by no more than chance explains."""
    times = round(found * draws)
    too_often = stats.binomtest(times, draws, scenario.most, "greater").pvalue < 0.001
    too_rarely = stats.binomtest(times, draws, scenario.least, "less").pvalue < 0.001
    return not (too_often or too_rarely)


def _aim(least: float, most: float) -> str:
    if least > 0:
        return f"≥ {least:.1%}"
    return f"≤ {most:.1%}" if most < 1 else ""


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.promotion", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    all_met = True
    for row in run(options.draws, options.seed):
        all_met &= row["met"]
        shown = f"{row['share']:7.2%}  {row['aim']:8} {'' if row['met'] else 'MISSED ':7}{row['scenario']}"
        print(json.dumps(row, ensure_ascii=False) if options.json else shown, flush=True)
    for row in calibration.run(options.seed):
        all_met &= row["met"]
        print(json.dumps(row, ensure_ascii=False) if options.json else calibration.told(row), flush=True)
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
