"""A reduced run of benchmarks/promotion.py: every promise about the gate, on fewer draws."""

import pytest

from benchmarks.promotion import first_champions, met, scenarios, share
from benchmarks.promotion_simulation import decided, said, tables

DRAWS = 400
SCENARIOS = list(scenarios())
PROMISES = [scenario for scenario in SCENARIOS if scenario.least > 0 or scenario.most < 1]


@pytest.mark.parametrize("scenario", PROMISES, ids=lambda scenario: scenario.name)
def test_the_gate_keeps_its_promise_on_simulated_decisions(scenario):
    draws = DRAWS if len(scenario.truths) < 1000 else DRAWS // 4
    assert met(scenario, share(scenario, draws, seed=1), draws)


def test_a_first_champion_is_one_that_knows_something():
    assert [row["scenario"] for row in first_champions(DRAWS, seed=1) if not row["met"]] == []


@pytest.mark.parametrize("scenario", SCENARIOS[::4], ids=lambda scenario: scenario.name)
def test_the_simulation_says_what_the_decision_says(scenario):
    drawn = next(tables(scenario, 3, seed=2))
    assert said(scenario, drawn).tolist() == [decided(scenario, counts) for counts in drawn]


def test_a_share_beyond_chance_misses_its_aim():
    equal = next(scenario for scenario in PROMISES if scenario.most == 0.025)
    better = next(scenario for scenario in PROMISES if scenario.least == 0.95)
    assert met(equal, 0.026, 10_000) and not met(equal, 0.032, 10_000)
    assert met(better, 0.949, 10_000) and not met(better, 0.94, 10_000)
