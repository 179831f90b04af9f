"""What people see on the page of a run: a summary, links, a table per stage."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State

from vggflow import artifacts
from vggflow.credentials import hide_in
from vggflow.files import read_json
from vggflow.processes.stage import Outcome
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.audit.suspects import Audit
    from vggflow.commands.drift import Look
    from vggflow.commands.promotion_acts import Promotion
    from vggflow.prediction.answer_counts import AnswerCounts
    from vggflow.tracking.gate_pages import Pages

UP_TO_DATE = "up to date"
SUSPECTS_SHOWN, PAIRS_SHOWN = 20, 10
Rows = list[dict[str, Any]]


def key(workspace: Workspace, what: str) -> str:
    """The key of an artifact, under which Prefect keeps its history: lower case letters, digits and dashes."""
    return plain(f"{workspace.name}-{what}")


def plain(name: str) -> str:
    """A name as the key of an artifact."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def show_table(workspace: Workspace, stage: str) -> None:
    """Shows what a stage found, whether it ran now or its results were restored."""
    rows = {"validate": _problems, "train": _epochs, "evaluate": _classes}[stage](workspace)
    if rows:
        _create(create_table_artifact, rows, workspace, stage)


def show_decision(workspace: Workspace, promotion: "Promotion") -> None:
    """Shows every rule of the promotion gate and what it said."""
    if promotion.decision:
        rows = [
            {"rule": check.rule, "passed": check.passed, "severity": check.severity, "says": check.says}
            for check in promotion.decision.checks
        ]
        _create(create_table_artifact, rows, workspace, "promote")


def show_answers(workspace: Workspace, counts: "AnswerCounts") -> None:
    """Shows how many images of each class a model saw, and the first that it could not read."""
    rows = [
        {"class": name, "images": count, "share": _short(count / counts.images)}
        for name, count in counts.labels.most_common()
    ]
    unread = [{"class": f"unreadable: {path}", "images": 1, "share": why} for path, why in counts.examples]
    _create(create_table_artifact, [*rows, *unread], workspace, "predict")


def show_drift(workspace: Workspace, found: "Look") -> None:
    """Shows every test of a look for drift."""
    if found.drift:
        rows = [
            {
                "test": shift.name,
                "distance": _short(shift.distance),
                "p value": _short(shift.p_value),
                "says": "moved" if shift.moved else "as before",
                "most": shift.about,
            }
            for shift in found.drift.shifts
        ]
        _create(create_table_artifact, rows, workspace, "drift")


def show_search(workspace: Workspace, found: Mapping[str, Any]) -> None:
    """Shows what the best settings are worth beside those of now, and which they are."""
    rows = [
        {
            "what": line["what"],
            "accuracy on valid": _short(line["accuracy"]),
            "95 % interval": f"{line['low']:.3f} to {line['high']:.3f}",
            "loss": _short(line["loss"]),
        }
        for line in found["compared"]
    ]
    changes = [
        {"what": name, "accuracy on valid": f"better: {value}"} for name, value in found["changes"].items()
    ]
    _create(create_table_artifact, [*rows, *changes], workspace, "search")


def show_suspects(workspace: Workspace, found: "Audit") -> None:
    """Shows the labels that are most in doubt."""
    rows = [
        {
            "image": row["path"],
            "label": row["class_name"],
            "looks like": row["suggested"],
            "probability": _short(row["probability"]),
            "surely": bool(row["sure"]),
        }
        for row in found.suspects.head(SUSPECTS_SHOWN).to_dict("records")
    ]
    _create(create_table_artifact, rows or [{"image": "none", "label": "in doubt"}], workspace, "audit")


def confused(found: "Audit") -> str:
    """A table of the classes that are taken for each other."""
    rows = [
        f"| {_cell(pair.labelled)} | {_cell(pair.suggested)} | {pair.images} | {pair.sure} |"
        for pair in found.pairs[:PAIRS_SHOWN]
    ]
    head = ["| labelled | looks like | images | surely |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""


def _cell(name: str) -> str:
    """A name of any characters within a table of Markdown."""
    return "".join(f"&#{ord(each)};" if each in "|<>&`*_[]\\\n\r" else each for each in name)


def decision(promotion: "Promotion") -> str:
    """The rules and what they found, where the record is, and what a person runs, where one is waited for."""
    found = [promotion.decision.to_markdown()] if promotion.decision else []
    if promotion.record:
        at = f"<{promotion.record}>" if promotion.record.startswith("http") else promotion.record
        found.append(f"Evidence: {at}")
    if promotion.command:
        found.append(f"A person decides, in the workspace:\n\n```\n{promotion.command}\n```")
    return "\n\n".join(found)


def show_summary(workspace: Workspace, state: State[Any], parts: Sequence[str]) -> None:
    """Shows how the run ended, why, and what else is worth knowing."""
    text = "\n\n".join([f"# {state.name}", state.message or "", *filter(None, parts)])
    _create(create_markdown_artifact, text + "\n", workspace, "summary")


def stages(ran: dict[str, Outcome | None]) -> str:
    """A table of the stages: what each said, or that it was up to date."""
    rows = [f"| {stage} | {outcome.message if outcome else UP_TO_DATE} |" for stage, outcome in ran.items()]
    return "\n".join(["| stage | |", "|---|---|", *rows])


def addresses(named: Mapping[str, str]) -> str:
    """Links by what they are called."""
    return " · ".join(f"[{text}]({address})" for text, address in named.items() if address)


def links(pages: "Pages") -> str:
    """The pages in MLflow, as far as there are any."""
    named = {
        "MLflow run": pages.run,
        "evaluation report": pages.evaluation,
        "data report": pages.data_report,
        "Data Docs": pages.data_docs,
    }
    return addresses(named)


def _create(create: Any, content: Any, workspace: Workspace, what: str) -> None:
    """An artifact that the server does not take costs a line in the log, not the run."""
    try:
        create(hide_in(content), key=key(workspace, what))
    except httpx.HTTPError as error:
        get_run_logger().warning("the page of this run lacks %r: %s", what, error)


def _problems(workspace: Workspace) -> Rows:
    path = workspace.path(artifacts.VALIDATION_RESULT)
    if not path.exists():
        return []
    result = read_json(path)
    found = [
        {
            "severity": problem["severity"],
            "expectation": problem["expectation"],
            "files": len(problem["paths"]),
            "what": problem["message"],
        }
        for problem in result["problems"]
    ]
    # Else Prefect would show nothing, as if nothing had been looked at.
    return found or [{"severity": "none", "expectation": "all", "files": 0, "what": result["verdict"]}]


def _epochs(workspace: Workspace) -> Rows:
    path = workspace.path(artifacts.HISTORY)
    shown = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
    rows = read_json(path) if path.exists() else []
    return [{name: _short(row[name]) for name in shown if name in row} for row in rows]


def _classes(workspace: Workspace) -> Rows:
    path = workspace.path(artifacts.METRICS)
    metrics = read_json(path) if path.exists() else {"per_class": {}}
    return [
        {"class": name, **{what: _short(value) for what, value in scores.items()}}
        for name, scores in metrics["per_class"].items()
    ]


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
