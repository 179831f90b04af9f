"""An exported network held against the Keras model on images: may it be used in its place?"""

import math
from typing import Any

from vggflow.evaluation.compare_models import Comparison

# In float32 rounding in another order moves probabilities by about 1e-6.
FLOAT32_DIFFERENCE = 1e-5
# INT8: LiteRT's of one champion lost 4 points of accuracy, which nobody should find out in production.
INT8_ACCURACY_LOST = 0.01
INT8_DISAGREEMENT = 0.025


def refusal(found: Comparison, *, int8: bool) -> str:
    """Why the second network of the comparison can't be used in the first one's place; empty where it can."""
    # To `argmax` a NaN is a class like any other, so labels would not tell.
    if not math.isfinite(found.largest_difference):
        return f"probabilities differ by {found.largest_difference:.2g}: not all of them are numbers"
    if int8:
        keras, exported = found.accuracy or (0.0, 0.0)
        if keras - exported > INT8_ACCURACY_LOST + 1e-9:
            return f"it loses {keras - exported:.1%} of accuracy, at most {INT8_ACCURACY_LOST:.0%} is allowed"
        share = found.labels_differ / found.images
        if share > INT8_DISAGREEMENT:
            return (
                f"it answers {share:.1%} of the images otherwise, at most {INT8_DISAGREEMENT:.1%} is allowed"
            )
        return ""
    if found.largest_difference > FLOAT32_DIFFERENCE:
        return f"probabilities differ by {found.largest_difference:.2g}, at most {FLOAT32_DIFFERENCE:g} is allowed"
    return f"{found.labels_differ} labels differ, none may" if found.labels_differ else ""


def report(found: Comparison) -> dict[str, Any]:
    """As plain JSON values: what is kept beside an exported file."""
    keras, exported = found.accuracy or (None, None)
    return {
        "images": found.images,
        "largest_difference": found.largest_difference,
        "labels_differ": found.labels_differ,
        "labelled": found.labelled,
        "keras_accuracy": keras,
        "accuracy": exported,
        "times_as_fast": times_as_fast(found),
    }


def times_as_fast(found: Comparison) -> float:
    """How many times as fast the second network is, of the networks alone."""
    keras, exported = found.seconds
    return keras / max(exported, 1e-9)
