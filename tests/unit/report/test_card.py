import pytest

from vggflow.evaluation.metrics import measure
from vggflow.report import card

NAMES = ("cats", "dogs", "hens")


@pytest.fixture
def facts(make_predictions):
    evaluation = measure(make_predictions(NAMES), NAMES, replicates=50)
    return {
        "name": "pets",
        "version": 7,
        "class_names": NAMES,
        "image_size_px": 96,
        "evaluation": evaluation,
        "images": {"train": {"cats": 500, "dogs": 400, "hens": 300}, "test": {"cats": 100}},
        "phases": [{"name": "head", "epochs": 3}, {"name": "top", "epochs": 5}],
        "model": {"architecture": "VGG16"},
        "data": {"hash": "3f2a91"},
        "training": {"device": "one | two"},
        "lineage": {"git.commit": "abc123"},
    }


def test_the_card_holds_every_fact(facts):
    text = card.render(facts)
    for part in ("# pets, version 7", "models:/pets/7", "| cats | 500 | 100 |", "| hens | 300 | 0 |"):
        assert part in text, part
    for part in ("| head | 3 |", "| architecture | VGG16 |", "| hash | 3f2a91 |", "| git.commit | abc123 |"):
        assert part in text, part
    assert f"| accuracy | {facts['evaluation']['accuracy']:.4f} |" in text
    assert card.summary(facts) in text


def test_every_table_has_as_many_cells_in_each_row(facts):
    rows = []
    for line in [*card.render(facts).splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line.replace("\\|", "").count("|"))
        elif rows:
            assert len(rows) > 2 and len(set(rows)) == 1, line
            rows = []


def test_the_summary_is_one_line_with_the_numbers_that_matter(facts):
    text = card.summary(facts)
    assert "\n" not in text
    assert text.startswith("Tells cats, dogs and hens apart in images. Accuracy ")
    assert "95 % interval" in text and "300 test images" in text and "Trained on 1,200 images." in text
    worst = min(facts["evaluation"]["per_class"].items(), key=lambda item: item[1]["recall"])[0]
    assert f"Weakest class: {worst}" in text


def test_facts_that_are_missing_leave_their_part_out(facts):
    text = card.render({key: facts[key] for key in ("name", "class_names", "evaluation")})
    assert "models:/pets@champion" in text
    for heading in ("## Model", "## Data", "## Training", "## Lineage"):
        assert heading not in text
    assert "## Limits" in text and "\n\n\n" not in text.replace("\n\n\nTells", "")


def test_limits_follow_from_the_numbers(facts):
    assert not any("Few test images" in sentence for sentence in card.limits(facts))
    facts["evaluation"]["per_class"]["dogs"]["support"] = 12
    facts["evaluation"]["split"] = "valid"
    said = list(card.limits(facts))
    assert any("speak for dogs" in sentence for sentence in said)
    assert any("also chose its best epochs" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("temperature", "warned"), [(0.1, True), (10.0, True), (0.1059, False), (1.0, False)]
)
def test_a_temperature_at_its_bound_is_a_warning(facts, temperature, warned):
    facts["evaluation"]["calibration"]["temperature"] = temperature
    assert any("as far as it may go" in sentence for sentence in card.limits(facts)) is warned


def test_many_classes_are_not_all_named():
    names = [f"class{number:02}" for number in range(40)]
    assert card._listed(names).endswith("class09 and 30 more classes")


def test_settings_that_a_search_chose_are_said_to_be_with_what_stands_beside_them(facts):
    assert not any("trials" in sentence for sentence in card.limits(facts))
    facts["chosen"] = {
        "trials": 1066,
        "images": 200,
        "accuracy": 0.965,
        "default_accuracy": 0.945,
        "linear_probe": None,
        "settings": "0" * 16,
    }
    (said,) = [sentence for sentence in card.limits(facts) if "trials" in sentence]
    assert said == (
        "Its settings are the best of 1,066 trials on the 200 images of valid: accuracy 96.5 % there "
        "(the settings before 94.5 %), which is too high for having been chosen by."
    )
    assert said in card.render(facts)
