"""The page of a search: what was best, by how much, how it went, and which settings made the difference."""

from pathlib import Path
from typing import Any

from vggflow import files
from vggflow.report import pictures, search_plots
from vggflow.report.write import environment
from vggflow.search import compared
from vggflow.search.run_search import Found
from vggflow.search.study import Study, Trial

TEMPLATE = "search.html.j2"
TRIALS_SHOWN = 15


def write(found: Found, diff: str, path: Path, *, title: str) -> None:
    """Writes the page, whole or not at all: one HTML document without scripts or outside addresses."""
    content = {
        "title": title,
        "found": found,
        "lines": compared.lines(found),
        "changes": found.changes,
        "diff": diff,
        "studies": [_study(study) for study in found.studies],
    }
    files.write_text(path, environment().get_template(TEMPLATE).render(content))


def _study(study: Study) -> dict[str, Any]:
    shares = study.importance()
    return {
        "name": study.name,
        "count": len(study.trials),
        "ended": sum(trial.state != "complete" for trial in study.trials),
        "history": pictures.figure(search_plots.history(study)),
        "importance": pictures.figure(search_plots.importance(shares, "which settings matter"))
        if shares
        else None,
        "names": list(study.space),
        "trials": _best_first(study)[:TRIALS_SHOWN],
    }


def _best_first(study: Study) -> list[Trial]:
    complete = [trial for trial in study.trials if trial.state == "complete" and trial.value is not None]
    worst_last = study.settings.metric.endswith("loss")
    return sorted(complete, key=lambda trial: trial.value or 0.0, reverse=not worst_last)
