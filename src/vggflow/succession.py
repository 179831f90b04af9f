"""Who is champion next: judge the challenger, promote it through the gate, roll back."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from vggflow import artifacts
from vggflow.data import manifest as manifests
from vggflow.data.duplicates import NearLimits
from vggflow.errors import PromotionRefused, VggflowError
from vggflow.evaluation import comparison, report
from vggflow.evaluation.decision import Decision
from vggflow.evaluation.page import Page
from vggflow.evaluation.promotion import decide
from vggflow.evaluation.seen import Near
from vggflow.models.files import read_info
from vggflow.pipeline import evaluation_split
from vggflow.prediction import table
from vggflow.process import DRIVER
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
    judged = judge(workspace, settings, request, candidate, champion)
    if request.dry_run:
        decision = judged.decision
        foreseen: Outcome = "would promote" if decision.promoted else "would keep"
        return Promotion(foreseen, _why(decision), candidate, champion, decision)
    case = _Case(candidate, champion, book.state, question, judged)
    return _act(workspace, client, settings, request, case)


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


@dataclass(frozen=True)
class Judged:
    """A decision, and the page that shows what it rests on."""

    decision: Decision
    page: Page


def judge(
    workspace: Workspace, settings: Settings, request: Request, candidate: Version, champion: Version | None
) -> Judged:
    """Scores both models now, in clean processes, on the images that this workspace's manifest names."""
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    split = evaluation_split(manifest)
    sides = [_side(workspace, settings, version, split) for version in (candidate, champion) if version]
    images = manifests.labelled(manifest, split)
    gate = settings.validate_
    limits = NearLimits(gate.near_hash_distance, gate.near_similarity, gate.near_min_detail)
    near = Near(manifest, workspace.path(artifacts.DATA), limits)
    against = sides[1] if champion else None
    compared = comparison.compare(sides[0], against, manifests.digest(manifest), images, near)
    evidence = replace(
        comparison.evidence(compared),
        dirty_tree=candidate.tags.get("git.dirty") == "true",
        trained_by=candidate.tags.get("trained_by"),
        asked_by=request.by or lineage.person(),
    )
    decision = decide(evidence, settings.promotion)
    title = f"{candidate.name} version {candidate.number}"
    return Judged(decision, Page(title, compared, images, workspace.path(artifacts.DATA), decision))


@dataclass(frozen=True)
class _Case:
    candidate: Version
    champion: Version | None
    state: str
    question: str
    judged: Judged


def _act(
    workspace: Workspace, client: connection.Client, settings: Settings, request: Request, case: _Case
) -> Promotion:
    """Records the decision and, where the gate says yes and nobody has to be asked, carries it out."""
    names, candidate, decision = settings.registry, case.candidate, case.judged.decision
    waits = request.automatic and (settings.promotion.approval == "required" or _measured_on_valid(workspace))
    who = request.by or lineage.person()
    asked = {
        decisions.QUESTION: case.question,
        "by": who,
        "reason": request.reason,
        "from": str(case.champion.number if case.champion else "none"),
        "candidate": str(candidate.number),
    }
    run_id = decisions.record(client, names, f"candidate {candidate.number}", asked)
    outcome: Outcome = "kept"
    champion, message = case.champion, _why(decision)
    if decision.promoted and waits:
        outcome, message = "awaiting approval", f"{message}; a person decides: `vggflow promote --reason WHY`"
    elif decision.promoted:
        tags = {"promotion.by": who, "promotion.reason": request.reason, "promotion.run": run_id}
        won = ledger.claim(client, names, candidate, case.state, tags)
        outcome, champion = ("promoted", won) if won else ("kept", ledger.read(client, names).champion)
        message = message if won else "another promotion was first; judge again against the new champion"
    _conclude(client, run_id, outcome, case.judged)
    if outcome == "kept" and not request.automatic:
        raise PromotionRefused(f"candidate {candidate.number} stays a candidate: {message}")
    return Promotion(outcome, message, candidate, champion, decision)


def _conclude(client: connection.Client, run_id: str, outcome: Outcome, judged: Judged) -> None:
    """Writes the decision as JSON, text and page into its run."""
    decision = judged.decision
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        page = Path(folder) / "report.html"
        report.write(judged.page, page)
        documents = {
            "decision.json": decision.to_json(),
            "decision.txt": decision.to_text(),
            "report.html": page,
        }
        decisions.conclude(client, run_id, outcome, _numbers(decision), documents)


def _numbers(decision: Decision) -> dict[str, float]:
    """What the checks computed, as metrics: `better/p`, `min_accuracy/value`."""
    return {
        f"{check.rule}/{key}".replace(":", "/"): float(value)
        for check in decision.checks
        for key, value in check.numbers.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _why(decision: Decision) -> str:
    """The summary without its verdict, which the outcome says already."""
    return decision.summary.partition(": ")[2]


def _side(workspace: Workspace, settings: Settings, version: Version, split: str) -> comparison.Side:
    """A version's answers to the test images, given now by a process that knows nothing but the file."""
    data, manifest = workspace.path(artifacts.DATA), workspace.path(artifacts.MANIFEST)
    with registry.model_file(version) as model, tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        answers = Path(folder) / "predictions.parquet"
        options = ["--split", split, "--batch-size", str(settings.evaluate.batch_size)]
        done = subprocess.run(
            [sys.executable, "-m", "vggflow.prediction.scoring", model, manifest, data, answers, *options],
            env=os.environ | {DRIVER: str(os.getpid())},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise VggflowError(f"{version.name} version {version.number} could not be scored: {said[0]}")
        info, seconds = read_info(model), json.loads(done.stdout.splitlines()[-1])["seconds"]
        return comparison.Side(
            table.read(answers),
            info.class_names,
            model.stat().st_size / 1e6,
            registry.training_manifest(version),
            seconds,
            info.temperature,
        )


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
