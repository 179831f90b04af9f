"""The model card: what a version is, what it was made from, how good it is and where not to trust it.

After M. Mitchell et al., "Model Cards for Model Reporting", arXiv:1810.03993.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader

from vggflow.models.probabilities import HIGHEST, LOWEST

Facts = Mapping[str, Any]

# Below this many test images a class's recall is hardly known: its 95 % interval is ± 10 % and more.
FEW_IMAGES = 50


def render(facts: Facts) -> str:
    """The card as Markdown.

    Args:
        facts: `name` (of the registered model), `class_names`, `evaluation` (from `metrics.measure`), and
            where known: `version`, `image_size_px`, `images` (split → class → count), `phases` (rows of equal
            keys), `chosen` (what `search.chosen` holds), and tables of names and values: `model`, `data`,
            `training`, `lineage`.
    """
    environment = Environment(
        loader=PackageLoader("vggflow.report"),
        autoescape=False,  # noqa: S701 (Markdown; the filter `cell` takes care of what would end a cell)
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    template = environment.get_template("card.md.j2")
    return template.render(facts=facts, summary=summary(facts), limits=list(limits(facts)), share=_share)


def summary(facts: Facts) -> str:
    """One paragraph: what the model does and how well; the description of the version."""
    evaluation = facts["evaluation"]
    said = [f"Tells {_listed(facts['class_names'])} apart in images."]
    between = evaluation.get("intervals", {}).get("accuracy")
    interval = f" (95 % interval {_share(between[0])} to {_share(between[1])})" if between else ""
    split = evaluation.get("split", "test")
    said.append(
        f"Accuracy {_share(evaluation['accuracy'])}{interval} on {evaluation['images']:,} {split} images."
    )
    worst = _weakest(evaluation)
    if worst is not None:
        said.append(f"Weakest class: {worst[0]}, recall {_share(worst[1])}.")
    trained = sum(facts.get("images", {}).get("train", {}).values())
    if trained:
        said.append(f"Trained on {trained:,} images.")
    return " ".join(said)


def limits(facts: Facts) -> Iterator[str]:
    """What the numbers say about where not to trust the model, a sentence each."""
    evaluation, names = facts["evaluation"], facts["class_names"]
    yield f"It knows {_listed(names)} only: whatever else is in a picture, it answers with one of them."
    if "image_size_px" in facts:
        size = facts["image_size_px"]
        yield f"It sees images at {size} × {size} pixels: what needs more to be told apart, it can't tell."
    few = [name for name, row in evaluation["per_class"].items() if row["support"] < FEW_IMAGES]
    if few:
        yield f"Few test images, below {FEW_IMAGES}, speak for {_listed(few)}: the recall is hardly known."
    if evaluation.get("split", "test") != "test":
        yield "It was measured on images that also chose its best epochs, so expect less on new ones."
    if facts.get("chosen"):
        yield _chosen(facts["chosen"])
    temperature = evaluation.get("calibration", {}).get("temperature", 1.0)
    if not LOWEST < temperature < HIGHEST:
        yield (
            f"Its calibration temperature, {temperature:g}, is as far as it may go: something else than the sharpness "
            "of its probabilities is wrong, so trust its answers, if at all, and not its confidence."
        )
    error = evaluation["calibration_error"]
    yield f"Its confidence misses its accuracy by {100 * error:.1f} percentage points on average."
    yield "The measures hold for images like the test images: another camera or season is a new question."


def _chosen(chosen: Facts) -> str:
    others = {
        "the settings before": chosen.get("default_accuracy"),
        "a linear probe": chosen.get("linear_probe"),
    }
    beside = ", ".join(f"{name} {_share(value)}" for name, value in others.items() if value is not None)
    return (
        f"Its settings are the best of {chosen['trials']:,} trials on the {chosen['images']:,} images of valid: "
        f"accuracy {_share(chosen['accuracy'])} there{f' ({beside})' if beside else ''}, "
        "which is too high for having been chosen by."
    )


def _weakest(evaluation: Facts) -> tuple[str, float] | None:
    known = [
        (row["recall"], name) for name, row in evaluation["per_class"].items() if row["recall"] is not None
    ]
    if not known:
        return None
    recall, name = min(known)
    return name, recall


def _listed(names: Sequence[str]) -> str:
    """`cats, dogs and hens`; of many names the first ones."""
    # From 13 on, so that at least three names are left out for the words that stand for them.
    if len(names) > 12:
        return f"{', '.join(names[:10])} and {len(names) - 10} more classes"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _cell(value: object) -> str:
    # Line ends and `|` would end the cell, `<` would begin an HTML tag.
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
