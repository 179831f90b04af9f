"""Two trainings side by side: found by their names, read from MLflow, and shown."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vggflow.commands import named_model
from vggflow.errors import EvidenceLost, UsageError
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from vggflow.data.changes import Changes
    from vggflow.report.run_differences import Differences
    from vggflow.report.run_outcomes import Outcome, Paired
    from vggflow.tracking.past_runs import PastRun
    from vggflow.tracking.registry.registry import Registry

# A number may be a version or the beginning of a run's id: a shorter one is never taken for an id.
LEAST_DIGITS_OF_AN_ID = 4


@dataclass(frozen=True)
class RunComparison:
    """Two trainings: what they were made from and what came of them; `images` where both tables are there."""

    first: "PastRun"
    second: "PastRun"
    made: "Differences"
    images: "Changes | None"
    outcomes: "tuple[Outcome, Outcome]"
    paired: "Paired | str"

    @property
    def verdict(self) -> str:
        """What to think of it."""
        from vggflow.report.run_verdict import verdict

        return verdict(self.made, *self.outcomes, self.paired)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        from vggflow.report import run_outcomes

        paired = {"why_not": self.paired} if isinstance(self.paired, str) else self.paired.to_dict()
        return {
            "a": _described(self.first),
            "b": _described(self.second),
            **self.made.to_dict(),
            "images": None if self.images is None else self.images.to_dict(),  # false where nothing changed
            "measures": [row.to_dict() for row in run_outcomes.measures(*self.outcomes)],
            "recall": [row.to_dict() for row in run_outcomes.recalls(*self.outcomes)],
            "paired": paired,
            "verdict": self.verdict,
        }


def compare(workspace: Workspace, first: str, second: str) -> RunComparison:
    """Reads both trainings from MLflow and puts them side by side.

    Raises:
        UsageError: one of them is none of this workspace's, more than one is meant, or both are the same.
    """
    from vggflow.report import run_differences, run_outcomes
    from vggflow.tracking import connection

    registry = connection.connect(workspace)
    one, other = (_named(workspace, registry, name) for name in (first, second))
    if one.run_id == other.run_id:
        raise UsageError(f"{first} and {second} are the same run, {one.short}: name two, see `vggflow runs`")
    outcomes = _outcome(one), _outcome(other)
    images = _changes(*outcomes)
    made = run_differences.differences({**one.tags, **one.params}, {**other.tags, **other.params})
    if images is not None:
        made = run_differences.with_images(made, differ=bool(images))
    return RunComparison(one, other, made, images, outcomes, run_outcomes.pair(*outcomes))


def _named(workspace: Workspace, registry: "Registry", name: str) -> "PastRun":
    from vggflow.tracking import past_runs
    from vggflow.tracking.registry import model_versions
    from vggflow.tracking.registry.champion_alias import CHAMPION

    is_number = name.isascii() and name.isdigit()
    if is_number and len(name) >= LEAST_DIGITS_OF_AN_ID:
        there = model_versions.numbered(registry.client, registry.names.name, int(name)) is not None
        is_number = there or not past_runs.is_one(registry, name)
    names = (CHAMPION, model_versions.CHALLENGER)
    if is_number or name in names or name.startswith(named_model.CANDIDATE):
        return past_runs.of_version(registry, named_model.registered(workspace.root, name))
    return past_runs.find(registry, name)


def _outcome(run: "PastRun") -> "Outcome":
    from vggflow.report.run_outcomes import Outcome
    from vggflow.tracking import past_run_files

    numbers, valid = run.metrics, run.params.get("valid_images")
    images = int(valid) if valid else None
    try:
        measured, answers = past_run_files.measured(run), past_run_files.predictions(run)
        trained_on = past_run_files.trained_on(run)
    except EvidenceLost as error:
        return Outcome(numbers, images, missing=str(error))
    found = Outcome(numbers, images, measured, answers, trained_on)
    # That it was evaluated its numbers say.
    return (
        replace(found, missing="its answers are not in MLflow") if found.split and answers is None else found
    )


def _changes(first: "Outcome", second: "Outcome") -> "Changes | None":
    """What became of the images: those that were learned from and, where both were asked about some, those of test."""
    from vggflow.data import changes

    if first.trained_on is None or second.trained_on is None:
        return None
    tested = first.split == second.split == "test"
    before, now = (_images(side, tested=tested) for side in (first, second))
    return changes.compare(before, now)


def _images(side: "Outcome", *, tested: bool) -> "pd.DataFrame":
    import pandas as pd

    columns = ["path", "split", "class_name", "sha256"]
    parts = [] if side.trained_on is None else [side.trained_on[columns]]
    if tested and side.predictions is not None:
        asked = side.predictions.rename(columns={"truth": "class_name"}).assign(split="test")
        parts.append(asked[columns])
    return pd.concat(parts).assign(error=None, excluded=None)


def learned_images(run: "PastRun") -> int | None:
    """How many images it learned from or was chosen by: train and valid."""
    counts = [run.params.get(f"{split}_images") for split in ("train", "valid")]
    return sum(int(count) for count in counts if count) or None


def accuracies(run: "PastRun") -> dict[str, Any]:
    """The accuracy on valid, and that of the evaluation with its interval."""
    from vggflow.report.run_outcomes import VALID, Outcome, measures

    side = Outcome(run.metrics)
    rows = measures(side, side)
    evaluated = next((row.first for row in rows if row.name == f"accuracy on {side.split}"), None)
    return {
        "valid": run.metrics.get(VALID),
        "split": side.split,
        "accuracy": evaluated.value if evaluated else None,
        "interval": evaluated.interval if evaluated else None,
    }


def became(run: "PastRun") -> str | None:
    """The version that it is known by: `champion 3`, `version 2` of a former one, `candidate:5`; None where none."""
    if not run.versions:
        return None
    first = run.versions[0]
    if "champion" in first.aliases:
        return f"champion {first.number}"
    is_candidate = first.name.endswith("-candidates")
    return f"{named_model.CANDIDATE}{first.number}" if is_candidate else f"version {first.number}"


def _described(run: "PastRun") -> dict[str, Any]:
    from vggflow.tracking.registry.champions import time_of

    return {
        "run": run.run_id,
        "status": run.status.lower(),
        "started": time_of(run.started_ms),
        "epochs": run.epochs,
        "versions": [version.uri for version in run.versions],
        "commit": run.tags.get("git.commit"),
        "data": run.tags.get("data.hash"),
    }
