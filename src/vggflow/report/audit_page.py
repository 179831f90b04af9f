"""The page of an audit: images whose labels are in doubt, classes taken for each other, images unlike all others."""

from pathlib import Path
from typing import Any

import pandas as pd

from vggflow import files
from vggflow.audit.suspects import Audit
from vggflow.data.thumbnails import thumbnail
from vggflow.report.write import environment

TEMPLATE = "audit.html.j2"
SUSPECTS_SHOWN, OUTLIERS_SHOWN, PAIRS_SHOWN = 60, 24, 20
THUMBNAIL_PX = 160


def write(audit: Audit, data_folder: Path, path: Path, *, title: str, summary: str) -> None:
    """Writes the page, whole or not at all: one HTML document without scripts or outside addresses."""
    content = {
        "title": title,
        "summary": summary,
        "audit": audit,
        "suspects": _shown(audit.suspects, data_folder, SUSPECTS_SHOWN),
        "outliers": _shown(audit.outliers, data_folder, OUTLIERS_SHOWN),
        "pairs": audit.pairs[:PAIRS_SHOWN],
    }
    files.write_text(path, environment().get_template(TEMPLATE).render(content))


def _shown(rows: pd.DataFrame, data_folder: Path, count: int) -> list[dict[Any, Any]]:
    return [
        {**row, "picture": thumbnail(data_folder / row["path"], THUMBNAIL_PX)}
        for row in rows.head(count).to_dict("records")
    ]
