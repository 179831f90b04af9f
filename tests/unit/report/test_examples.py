import numpy as np

from vggflow.promotion.comparison import Side, compare, right
from vggflow.report.examples import disagreements, worst_mistakes

NAMES = ("cats", "dogs")


def test_the_worst_mistake_gives_the_truth_the_least_probability(make_predictions):
    predictions = make_predictions(NAMES, skill=0.5)
    found = worst_mistakes(predictions, 10)
    truth = np.where(predictions["truth"] == "cats", predictions["p:cats"], predictions["p:dogs"])
    expected = predictions["path"].to_numpy()[np.argsort(truth)][:10]
    assert [example.path for example in found] == list(expected)
    assert all(example.answer != example.truth and example.confidence > 0.5 for example in found)
    assert found[0].other_answer is None


def test_there_are_no_more_mistakes_than_were_made(make_predictions):
    predictions = make_predictions(NAMES, images=30)
    assert len(worst_mistakes(predictions, 24)) == min(24, int((~right(predictions)).sum()))
    assert worst_mistakes(predictions[right(predictions)]) == ()


def test_disagreements_show_both_answers_and_fall_into_two_parts(make_predictions):
    first, second = make_predictions(NAMES, skill=1.0), make_predictions(NAMES, skill=1.0, seed=1)
    comparison = compare(Side(first, NAMES, 1.0), Side(second, NAMES, 1.0), "digest")
    won, lost = disagreements(comparison, 1000)
    ours, theirs = right(first), right(second)
    assert {example.path for example in won} == set(first["path"][ours & ~theirs])
    assert {example.path for example in lost} == set(first["path"][~ours & theirs])
    assert all(example.answer == example.truth != example.other_answer for example in won)
    assert all(example.answer != example.truth == example.other_answer for example in lost)
    gaps = [example.confidence + example.other_confidence for example in won]
    assert gaps == sorted(gaps, reverse=True)


def test_there_is_nothing_to_disagree_about_without_a_champion_or_on_other_images(make_predictions):
    first, second = make_predictions(NAMES, skill=1.0), make_predictions(NAMES, skill=1.0, seed=1)
    assert disagreements(compare(Side(first, NAMES, 1.0), None, "digest")) == ((), ())
    other = compare(Side(first, NAMES, 1.0), Side(second[::-1].reset_index(drop=True), NAMES, 1.0), "digest")
    assert disagreements(other) == ((), ())


def test_a_class_that_the_model_does_not_know_is_its_worst_mistake(make_predictions):
    predictions = make_predictions(NAMES)
    predictions.loc[7, "truth"] = "hens"
    assert worst_mistakes(predictions)[0].path == predictions["path"][7]
