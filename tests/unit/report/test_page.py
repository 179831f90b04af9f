from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vggflow.audit.suspects import Audit, Pair
from vggflow.evaluation.heat import HeatMap
from vggflow.promotion.comparison import Side, compare, evidence
from vggflow.promotion.rules import decide
from vggflow.report import pictures, plots, write
from vggflow.report.page import Doubts, _mistakes, content
from vggflow.report.wording import _round_up
from vggflow.report.write import Page
from vggflow.settings import PromotionSettings

NAMES = ("cats", "dogs")
VOID = {"meta", "img", "br", "line", "rect", "circle"}


class Outline(HTMLParser):
    """Collects headings, pictures and addresses, and notices tags that are not closed."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open, self.headings, self.pictures, self.addresses = [], [], [], []
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attributes)
        self.addresses += [values[key] for key in ("src", "href") if key in values]
        if tag == "img":
            self.pictures.append(values["alt"])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def page(make_predictions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    first, second = make_predictions(NAMES, skill=2.5), make_predictions(NAMES, skill=0.7, seed=4)
    images = pd.DataFrame({"path": first["path"], "sha256": first["sha256"], "split": "test"})
    images["class_name"] = first["truth"]
    images["brightness"] = np.linspace(0, 200, len(images))
    images = images.assign(
        error=None, excluded=None, width=100, height=80, camera="<script>alert(1)</script>"
    )
    images.loc[:50, "camera"] = "old"
    for path in first["path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80), "teal").save(folder / path)
    sides = Side(first, NAMES, 60.0, seconds=3.0, temperature=1.4), Side(second, NAMES, 60.0, seconds=2.0)
    comparison = compare(*sides, "digest", images)
    decision = decide(evidence(comparison), PromotionSettings())
    history = [
        {"phase": "head", "epoch": epoch, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
        for epoch in (1, 2)
    ]
    return Page("pets 7 & 4", comparison, images, folder, decision, history, {"asked by": "ann"})


@pytest.fixture(scope="module")
def document(page):
    path = page.data_folder / "report.html"
    write.write(page, path)
    return path.read_text(encoding="utf-8")


def test_the_page_holds_every_part_and_needs_nothing_from_elsewhere(page, document):
    outline = Outline(document)
    assert outline.headings[0] == "pets 7 & 4"
    for heading in ("Decision", "Measures", "By class", "Figures", "Slices"):
        assert heading in outline.headings
    assert any("worst mistakes" in heading for heading in outline.headings)
    assert any("Only the champion is right" in heading for heading in outline.headings)
    assert outline.addresses and all(address.startswith("data:image/") for address in outline.addresses)
    assert "<script" not in document and "&lt;script&gt;alert(1)" in document
    assert page.decision.promoted and page.decision.refusals == ()
    assert "ann" in document and "3.0 s, 10 ms an image" in document


def test_every_rule_with_its_finding_stands_on_the_page_and_in_the_piece(page, document):
    piece = write.decision_html(page.decision)
    Outline(piece)
    for check in page.decision.checks:
        for text in (document, piece):
            assert f"<code>{check.rule}</code>" in text
    assert "Promote" in piece and "McNemar" in piece


def test_a_refusal_says_so(page):
    strict = decide(page.decision.evidence, PromotionSettings(min_gain=0.9))
    piece = write.decision_html(strict)
    assert "Keep what is in use" in piece and "below min_gain 0.9" in piece and "✗" in piece


def test_figures_that_are_drawn_already_are_not_drawn_again(page, tmp_path, monkeypatch):
    drawn = plots.draw_all(page.comparison.challenger.predictions, NAMES, page.history, tmp_path)
    alone = compare(page.comparison.challenger, None, "digest")
    for name in drawn:
        monkeypatch.setattr(plots, name, None)
    given = Page("pets", alone, page.images, page.data_folder, history=page.history, figures=drawn)
    shown = {row["picture"] for row in content(given)["figures"]}
    assert shown == {pictures.png(path) for path in drawn.values()}


def test_a_model_alone_has_a_page_without_decision_and_champion(page):
    alone = compare(page.comparison.challenger, None, "digest")
    document = write.render(Page("pets", alone, page.images, page.data_folder))
    outline = Outline(document)
    assert "Decision" not in outline.headings and "champion" not in document
    assert any("worst mistakes" in heading for heading in outline.headings)


def test_an_image_that_is_gone_is_shown_by_its_path(page, document, tmp_path):
    gone = content(replace(page, data_folder=tmp_path))
    assert gone["mistakes"] and not any(shown.pictures for shown in gone["mistakes"])
    assert "not here any more" not in document
    assert "not here any more" in write.environment().get_template("report.html.j2").render(gone)


def test_a_page_is_made_even_where_every_image_was_seen_in_training(page):
    side = replace(page.comparison.challenger, trained_on=page.images.assign(split="train"))
    nothing = compare(side, page.comparison.champion, "digest", page.images)
    decision = decide(evidence(nothing), PromotionSettings())
    document = write.render(Page("pets", nothing, page.images, page.data_folder, decision))
    outline = Outline(document)
    assert "Decision" in outline.headings and "Measures" not in outline.headings
    assert f"0 test images count, {len(page.images)} were left out" in document


def test_heat_maps_stand_beside_the_mistakes_and_are_asked_for_the_answer_given(page):
    asked = []

    def look(answered):
        asked.extend(answered)
        return [HeatMap(np.full((160, 160, 3), 90, np.uint8), np.eye(4)) for _ in answered]

    plain, with_heat = _mistakes(page), _mistakes(replace(page, heat_maps=look))
    assert asked and [len(shown.pictures) for shown in with_heat] == [2] * len(asked)
    assert [len(shown.pictures) for shown in plain] == [1] * len(asked)
    for place, answer in asked:
        assert place.is_there() and answer != Path(place.file).parent.name


def test_ticks_are_round_numbers():
    assert [_round_up(value) for value in (0.0033, 0.02, 0.021, 0.09)] == pytest.approx(
        [0.005, 0.02, 0.05, 0.1]
    )


def doubts(paths, pairs=()):
    rows = pd.DataFrame(
        {
            "path": paths,
            "split": "test",
            "class_name": "<b>cats",
            "sha256": [f"{number:064x}" for number in range(len(paths))],
            "suggested": "ünï 'dogs'",
            "probability": np.linspace(0.99, 0.5, len(paths)),
            "suspicion": np.linspace(0.99, 0.5, len(paths)),
            "sure": np.arange(len(paths)) < 2,
        }
    )
    far = rows[["path", "split", "class_name", "sha256"]].assign(
        distance=0.5, unlike=np.arange(len(paths)) < 3
    )
    return Doubts("train and valid", Audit(4321, rows, far, tuple(pairs), {"<b>cats": 5, "dogs": 2}))


def test_suspected_label_errors_come_with_pictures_pairs_and_counts(page):
    paths = [*page.images["path"][:12], "train/cats/gone.jpg", "train/cats/beyond.jpg"]
    pairs = [Pair(f"c{number}", "d", 20 - number, 1) for number in range(1_000)]
    found = write.render(replace(page, doubts=doubts([paths[12], *paths[:12], paths[13]], pairs)))
    outline = Outline(found)

    assert "Suspected label errors" in outline.headings
    section = found[found.index("Suspected label errors") :].partition("</section>")[0]
    assert section.count("data:image/jpeg") == 11
    assert section.count("not here any more") == 1
    assert paths[12] in section
    assert paths[13] not in section
    assert (
        "&lt;b&gt;cats</strong>, looks like <strong>ünï &#39;dogs&#39;</strong> (99.0 %), surely" in section
    )
    assert "Of train and valid" in section
    counts = " ".join(section.split())
    assert (
        "4,321 images: 14 labels in doubt, 2 of them surely; 3 images unlike all others; 7 copies" in counts
    )
    assert "<code>vggflow audit -o suspects.csv</code>" in section
    assert "<td>c7</td>" in section
    assert "<td>c8</td>" not in section


def test_no_doubt_and_nothing_looked_at_are_told_apart(page):
    none = write.render(replace(page, doubts=doubts([])))
    unknown = write.render(replace(page, doubts=Doubts("", None)))

    assert "0 labels in doubt" in none
    assert "<code>vggflow audit</code> shows which labels may be wrong" in unknown
    assert "labels in doubt" not in unknown
    assert "Suspected label errors" not in write.render(page)
    for text in (none, unknown):
        Outline(text)
