"""What the last audit said of the labels that are there now: which of them are surely in doubt.

The gate computes nothing for it and reads no feature. An image that came, was changed or got another label since is
one that no audit saw.
"""

from dataclasses import dataclass, field

import pandas as pd

from vggflow.data import manifest as manifests
from vggflow.data.layout import SPLITS

NAME = "label_suspects"
IMAGE = ["sha256", "class_name"]
# Where an audit saw less of what is there now, its share of doubts would be that of other data.
LEAST_SEEN = 0.8


@dataclass(frozen=True)
class LabelDoubts:
    """Of labelled images in use: how many an audit saw, and why some are surely in doubt, by path, the worst first."""

    labelled: int = 0
    seen: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def checked(self) -> bool:
        """Whether an audit saw enough of what is there."""
        return 0 < self.labelled * LEAST_SEEN <= self.seen

    @property
    def note(self) -> str:
        """What a reader has to know besides: that nothing was checked, or of how much an audit knows."""
        if self.checked and self.seen == self.labelled:
            return ""
        saw = f"the last audit saw {self.seen:,} of {self.labelled:,} labelled images"
        if self.checked:
            return saw
        return f"not checked: {saw if self.seen else 'no audit saw these images'} (`vggflow audit`)"

    def beyond(self, most: float) -> dict[str, str]:
        """The reasons where more than this share of what was seen is in doubt; else none."""
        return self.reasons if self.checked and len(self.reasons) > most * self.seen else {}


def doubts(manifest: pd.DataFrame, audited: pd.DataFrame | None) -> LabelDoubts:
    """What an audit that is kept says of these images.

    Args:
        manifest: With copies marked and files left out.
        audited: A row for each image that an audit saw: sha256, class_name, suggested, probability, sure.
    """
    images = pd.concat([manifests.labelled(manifest, split) for split in SPLITS])[["path", *IMAGE]]
    if audited is None:
        return LabelDoubts(len(images))
    told = audited[[*IMAGE, "suggested", "probability", "sure"]].drop_duplicates(IMAGE)
    seen = images.merge(told, how="inner", on=IMAGE)
    # A class that is gone is no suggestion any more.
    sure = seen[seen["sure"] & seen["suggested"].isin(manifests.class_names(manifest))]
    sure = sure.sort_values("probability", ascending=False, kind="stable")
    reasons = {
        str(row.path): f"looks like {row.suggested} ({row.probability:.1%})" for row in sure.itertuples()
    }
    return LabelDoubts(len(images), len(seen), reasons)
