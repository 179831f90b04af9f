import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from vggflow.promotion.statistics import (
    holm,
    images_for_a_drop,
    mcnemar,
    not_worse,
    smallest_gain,
    unlike_the_others,
)

COUNT = st.integers(0, 300)


@given(COUNT, COUNT)
def test_mcnemar_is_the_two_sided_binomial_test_of_the_images_that_differ(first, second):
    expected = stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_a_textbook_table():
    # Agresti, Categorical Data Analysis, approval of a prime minister: 150 changed to "no", 86 to "yes".
    assert mcnemar(86, 150) == pytest.approx(3.7e-5, rel=0.01)


@pytest.mark.parametrize("images", [200, 2000])
@pytest.mark.parametrize("differing", [0.004, 0.02, 0.1, 0.3, 0.6])
def test_equal_models_look_better_in_at_most_2_5_percent_of_all_tests_exactly(images, differing):
    total = np.arange(images + 1)
    chance = 0.0
    for number, weight in zip(total, stats.binom.pmf(total, images, differing), strict=True):
        better = np.arange(number + 1)
        wins = (mcnemar(better, number - better) < 0.05) & (better > number - better)
        chance += weight * stats.binom.pmf(better, number, 0.5)[wins].sum()
    assert 0 <= chance <= 0.025


def test_holm_multiplies_by_the_number_of_tests_left_and_never_falls():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]).tolist() == [0.8, 0.8]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_plain_and_bonferroni(p_values):
    corrected = holm(p_values)
    plain = np.array(p_values)
    assert (corrected >= plain).all() and (corrected <= np.minimum(1, plain * len(plain)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(plain, kind="stable")]) >= 0).all()


def likelihood_score(only_challenger, only_champion, images, difference):
    """Tango's score with the nuisance share found by maximising the likelihood, not by his formula."""

    def loss(share):
        chances = [share + difference, share, 1 - 2 * share - difference]
        counts = [only_challenger, only_champion, images - only_challenger - only_champion]
        return -sum(c * np.log(max(p, 1e-300)) for c, p in zip(counts, chances, strict=True))

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = images * (2 * share + difference - difference**2)
    return (only_challenger - only_champion - images * difference) / np.sqrt(variance)


@pytest.mark.parametrize("counts", [(10, 12, 200), (65, 60, 2000), (3, 1, 150), (40, 5, 400), (7, 30, 500)])
@pytest.mark.parametrize("margin", [0.005, 0.02, 0.1])
def test_not_worse_is_the_score_test_at_the_likeliest_share(counts, margin):
    expected = stats.norm.sf(likelihood_score(*counts, -margin))
    assert not_worse(*counts, margin) == pytest.approx(expected, rel=1e-4)


def test_a_loss_of_just_the_margin_is_as_likely_as_not():
    assert not_worse(10, 30, 1000, 0.02) == pytest.approx(0.5)


def test_models_that_never_differ_are_not_worse_given_enough_images():
    assert not_worse(0, 0, 1000, 0.01) < 0.025
    assert not_worse(0, 0, 100, 0.01) > 0.025


@pytest.mark.parametrize("classes", [1, 2, 10, 100, 1000])
def test_a_drop_can_be_found_in_just_as_many_images_as_are_said_to_be_needed(classes):
    needed = images_for_a_drop(classes, 0.05)
    for images, found in ((needed - 1, False), (needed, True)):
        p_values = np.append(mcnemar(0, images), np.ones(classes - 1))
        assert bool(holm(p_values)[0] < 0.05) is found


def test_a_class_is_judged_by_how_often_all_others_are_lost():
    # The others lose 5 % of their images, each the same part: as alike as they are ever taken to be.
    lost, images = np.array([8, 5, 5, 5, 5]), np.array([10, 100, 100, 100, 100])
    rate, alike = 21 / 402, 1 / 0.05 - 1
    expected = stats.betabinom.sf(7, 10, rate * alike, (1 - rate) * alike)
    asked = np.array([True, False, False, False, False])
    found = unlike_the_others(lost, images, asked)
    assert found.tolist() == [pytest.approx(expected), 1, 1, 1, 1] and expected < 0.001
    both = unlike_the_others(*(np.stack([row, row[::-1]]) for row in (lost, images, asked)))
    assert both[1, 4] == both[0, 0] == found[0]


def test_the_more_the_others_differ_the_less_a_lost_class_stands_out():
    images, asked = np.full(9, 10), np.arange(9) == 0
    alike = unlike_the_others(np.array([10, 2, 2, 2, 2, 2, 2, 2, 2]), images, asked)[0]
    unlike = unlike_the_others(np.array([10, 8, 8, 0, 0, 0, 0, 0, 0]), images, asked)[0]
    assert alike < 1e-4 < 0.01 < unlike


@pytest.mark.parametrize(("images", "differing"), [(40, 0.0), (100, 0.1), (500, 0.2)])
def test_the_smallest_gain_is_shown_in_four_of_five_draws(images, differing):
    gain = smallest_gain(images, differing, 0.05)
    share = max(differing, gain)
    chances = [(share + gain) / 2, (share - gain) / 2, 1 - share]
    drawn = np.random.default_rng(3).multinomial(images, chances, 20_000)
    shown = (mcnemar(drawn[:, 0], drawn[:, 1]) < 0.05) & (drawn[:, 0] > drawn[:, 1])
    assert shown.mean() == pytest.approx(0.8, abs=0.015)


def test_five_images_show_no_gain_and_six_hardly_any():
    assert smallest_gain(5, 0.0, 0.05) is None and smallest_gain(0, 0.0, 0.05) is None
    assert smallest_gain(6, 0.0, 0.05) == pytest.approx(0.8 ** (1 / 6), abs=0.001)
