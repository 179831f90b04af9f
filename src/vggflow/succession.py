"""Who is champion next: judge the challenger, promote it through the gate, roll back."""

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from vggflow import artifacts
from vggflow.data import manifest as manifests
from vggflow.errors import PromotionRefused, VggflowError
from vggflow.evaluation import comparison
from vggflow.evaluation.decision import Decision
from vggflow.evaluation.promotion import decide
from vggflow.models.files import read_info
from vggflow.pipeline import evaluation_split
from vggflow.prediction import table
from vggflow.settings import Settings
from vggflow.tracking import connection, decisions, ledger, lineage, registry
from vggflow.tracking.registry import Version
from vggflow.workspace import Workspace

Outcome = Literal["promoted", "kept", "already champion", "awaiting approval", "would promote", "would keep"]


@dataclass(frozen=True)
class Request:
    """Who asks for a promotion, and why.

    Attributes:
        reason: Why, for the record.
        by: Who, as claimed; nothing means whoever runs this.
        number: The candidate's version; nothing means the challenger.
        automatic: Whether the flow asks, which obeys `promotion.approval` and may be told no without an error.
        dry_run: Judge and tell, but record and change nothing.
    """

    reason: str
    by: str | None = None
    number: int | None = None
    automatic: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Promotion:
    """How a request ended: what was asked, what is in use now, and why."""

    outcome: Outcome
    message: str
    candidate: Version
    champion: Version | None
    decision: Decision | None = None


def promote(workspace: Workspace, request: Request) -> Promotion:
    """Lets a candidate become champion if the gate says that it is better on the same images, scored now.

    Raises:
        PromotionRefused: a person asked, and the gate said no. It is recorded all the same.
        UsageError: there is no such candidate.
    """
    settings = workspace.settings()
    client = connection.connect(workspace)
    book = ledger.settle(client, settings.registry)
    names = settings.registry
    candidate = registry.version_of(client, names.candidates, request.number, registry.CHALLENGER)
    champion = book.champion
    if champion and champion.tags.get(registry.KEY) == candidate.tags.get(registry.KEY):
        message = f"candidate {candidate.number} is the champion already (version {champion.number})"
        return Promotion("already champion", message, candidate, champion)
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    question = _question(candidate, book.state, manifest, settings)
    if request.automatic and (known := decisions.answered(client, names, question)):
        outcome, run_id = known
        message = f"{outcome} already decided for the same models, images and rules (MLflow run {run_id[:8]})"
        return Promotion(
            "awaiting approval" if outcome == "awaiting approval" else "kept", message, candidate, champion
        )
    decision = judge(workspace, settings, candidate, champion)
    if request.dry_run:
        return Promotion(
            "would promote" if decision.promoted else "would keep",
            decision.summary,
            candidate,
            champion,
            decision,
        )
    return _act(
        workspace, client, settings, request, _Case(candidate, champion, book.state, question, decision)
    )


def rollback(workspace: Workspace, reason: str, by: str | None = None) -> tuple[Version, Version]:
    """Puts the previous champion into use again; returns the one that was and the one that is.

    Raises:
        UsageError: there is no previous champion.
    """
    names = workspace.settings().registry
    client = connection.connect(workspace)
    who = by or lineage.person()
    champion, previous = ledger.withdraw(client, names, {"rollback.by": who, "rollback.reason": reason})
    run_id = decisions.record(
        client, names, f"rollback {champion.number} → {previous.number}", {"by": who, "reason": reason}
    )
    decisions.conclude(client, run_id, "rolled back", {}, {})
    return champion, previous


def judge(workspace: Workspace, settings: Settings, candidate: Version, champion: Version | None) -> Decision:
    """Scores both models now, in clean processes, on the images that this workspace's manifest names."""
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    split = evaluation_split(manifest)
    sides = [_side(workspace, settings, version, split) for version in (candidate, champion) if version]
    images = manifests.labelled(manifest, split)
    evidence = comparison.gather(sides[0], sides[1] if champion else None, manifests.digest(manifest), images)
    return decide(evidence, settings.promotion)


@dataclass(frozen=True)
class _Case:
    candidate: Version
    champion: Version | None
    state: str
    question: str
    decision: Decision


def _act(
    workspace: Workspace, client: connection.Client, settings: Settings, request: Request, case: _Case
) -> Promotion:
    """Records the decision and, where the gate says yes and nobody has to be asked, carries it out."""
    names, candidate = settings.registry, case.candidate
    waits = request.automatic and (settings.promotion.approval == "required" or _measured_on_valid(workspace))
    who = request.by or lineage.person()
    tags = {
        decisions.QUESTION: case.question,
        "by": who,
        "reason": request.reason,
        "from": str(case.champion.number if case.champion else "none"),
        "candidate": str(candidate.number),
    }
    run_id = decisions.record(client, names, f"candidate {candidate.number}", tags)
    outcome: Outcome = "kept"
    champion, message = case.champion, case.decision.summary
    if case.decision.promoted and waits:
        outcome, message = "awaiting approval", f"{message}; a person decides: `vggflow promote --reason WHY`"
    elif case.decision.promoted:
        tags = {"promotion.by": who, "promotion.reason": request.reason, "promotion.run": run_id}
        won = ledger.claim(client, names, candidate, case.state, tags)
        outcome, champion = ("promoted", won) if won else ("kept", ledger.read(client, names).champion)
        message = (
            message if won else "kept: another promotion was first; judge again against the new champion"
        )
    documents = {"decision.json": case.decision.to_json(), "decision.txt": case.decision.to_text()}
    decisions.conclude(client, run_id, outcome, {}, documents)
    if outcome == "kept" and not request.automatic:
        raise PromotionRefused(f"candidate {candidate.number} stays a candidate, {message}")
    return Promotion(outcome, message, candidate, champion, case.decision)


def _side(workspace: Workspace, settings: Settings, version: Version, split: str) -> comparison.Side:
    """A version's answers to the test images, given now by a process that knows nothing but the file."""
    data, manifest = workspace.path(artifacts.DATA), workspace.path(artifacts.MANIFEST)
    with registry.model_file(version) as model, tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        answers = Path(folder) / "predictions.parquet"
        command = [
            sys.executable,
            "-m",
            "vggflow.prediction.scoring",
            str(model),
            str(manifest),
            str(data),
            str(answers),
        ]
        options = ["--split", split, "--batch-size", str(settings.evaluate.batch_size)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise VggflowError(f"{version.name} version {version.number} could not be scored: {said[0]}")
        names, megabytes = read_info(model).class_names, model.stat().st_size / 1e6
        return comparison.Side(table.read(answers), names, megabytes, registry.training_manifest(version))


def _measured_on_valid(workspace: Workspace) -> bool:
    """Valid has chosen the best epochs already, so it can't speak for a promotion without a person."""
    return evaluation_split(manifests.read(workspace.path(artifacts.MANIFEST))) != "test"


def _question(candidate: Version, state: str, manifest: pd.DataFrame, settings: Settings) -> str:
    """The digest of all that an answer depends on: both models, the images, the rules."""
    parts = [
        candidate.tags[registry.KEY],
        state,
        manifests.digest(manifest),
        settings.promotion.model_dump_json(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
