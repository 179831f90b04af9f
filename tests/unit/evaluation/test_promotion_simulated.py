"""A reduced run of benchmarks/promotion.py: every promise about the gate, on fewer draws."""

import pytest

from benchmarks.promotion import met, scenarios, share

DRAWS = 400
PROMISES = [scenario for scenario in scenarios() if scenario.least > 0 or scenario.most < 1]


@pytest.mark.parametrize("scenario", PROMISES, ids=lambda scenario: scenario.name)
def test_the_gate_keeps_its_promise_on_simulated_decisions(scenario):
    assert met(scenario, share(scenario, DRAWS, seed=1), DRAWS)


def test_a_share_beyond_chance_misses_its_aim():
    equal = next(scenario for scenario in PROMISES if scenario.most == 0.025)
    better = next(scenario for scenario in PROMISES if scenario.least == 0.95)
    assert met(equal, 0.026, 10_000) and not met(equal, 0.032, 10_000)
    assert met(better, 0.949, 10_000) and not met(better, 0.94, 10_000)
