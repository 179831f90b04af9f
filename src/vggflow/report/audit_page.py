"""The page of an audit: images whose labels are in doubt, classes taken for each other, images unlike all others."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow import files
from vggflow.audit.suspects import Audit
from vggflow.data.contents import Contents
from vggflow.data.thumbnails import thumbnail
from vggflow.report.write import environment

TEMPLATE, SUGGESTIONS_TEMPLATE = "audit.html.j2", "suggest.html.j2"
SUGGESTIONS_SHOWN = 200
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


def write_suggestions(
    suggestions: pd.DataFrame, folder: Path, path: Path, *, title: str, summary: str
) -> None:
    """Writes the page of images to label next, whole or not at all; their names are shown relative to `folder`."""
    root = folder.resolve()
    shown = [
        {
            **row,
            "picture": thumbnail(Path(row["image"]), THUMBNAIL_PX),
            "name": os.path.relpath(row["image"], root),
        }
        for row in suggestions.head(SUGGESTIONS_SHOWN).to_dict("records")
    ]
    content = {"title": title, "summary": summary, "count": len(suggestions), "suggestions": shown}
    files.write_text(path, environment().get_template(SUGGESTIONS_TEMPLATE).render(content))


def _shown(rows: pd.DataFrame, data_folder: Path, count: int) -> list[dict[Any, Any]]:
    contents = Contents(data_folder)
    return [
        {**row, "picture": thumbnail(contents.place(row["path"]), THUMBNAIL_PX)}
        for row in rows.head(count).to_dict("records")
    ]
