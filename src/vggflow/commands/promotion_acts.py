"""Who is champion next: promote through the gate, roll back, release the hold of a rollback."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vggflow import artifacts
from vggflow.data import manifest as manifests
from vggflow.errors import PromotionRefused, UnfitModel, UsageError, VggflowError
from vggflow.settings import Settings
from vggflow.tracking import connection, limits
from vggflow.tracking.registry import champions, decision_runs, model_versions
from vggflow.tracking.registry.champions import Champions, Rollback
from vggflow.tracking.registry.model_versions import Version
from vggflow.tracking.registry.registry import Registry
from vggflow.tracking.users import who as people
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.commands.promotion_evidence import Judged, JudgeRequest
    from vggflow.promotion.decision import Decision

Outcome = Literal[
    "promoted", "kept", "already champion", "awaiting approval", "on hold", "would promote", "would keep"
]
Judge = Callable[[Workspace, Settings, "JudgeRequest"], "Judged"]
WAITING: tuple[Outcome, ...] = ("awaiting approval", "on hold")


@dataclass(frozen=True)
class Request:
    """Who asks for a promotion, and why.

    Attributes:
        reason: Why, for the record.
        by: Who, as claimed, where the tracking server knows no users; nothing means whoever runs this.
        number: The candidate's version; nothing means the challenger.
        automatic: Whether the flow asks, which obeys `promotion.approval` and may be told no without an error.
        for_another: Whether somebody else will act on the answer, as with every automatic request.
        dry_run: Judge and tell, but write nothing.
        override: Promote against the gate, on this person's account.
        accept_class_change: Compare on the common classes where the candidate knows others than the champion.
    """

    reason: str
    by: str | None = None
    number: int | None = None
    automatic: bool = False
    for_another: bool = False
    dry_run: bool = False
    override: bool = False
    accept_class_change: bool = False


@dataclass(frozen=True)
class Promotion:
    """How a request ended: what was asked, what is in use now, why, and where that is recorded.

    It `lasts` where the same request ends the same later, as a refusal does not that a mended machine may take back.
    """

    outcome: Outcome
    message: str
    candidate: Version
    champion: Version | None
    decision: "Decision | None" = None
    record: str | None = None
    lasts: bool = True

    @property
    def evidence(self) -> str:
        """Every rule and what it found, and where the record with its pictures is; empty where nobody judged."""
        shown = [self.decision.to_text()] if self.decision else []
        return "\n".join([*shown, *([f"evidence: {self.record}"] if self.record else [])])

    @property
    def command(self) -> str | None:
        """What a person runs to promote, where one is waited for."""
        waits = self.outcome in WAITING
        return f'vggflow promote {self.candidate.number} --reason "WHY"' if waits else None


def promote(workspace: Workspace, request: Request, judge: Judge | None = None) -> Promotion:
    """Lets a candidate become champion if the gate says that it is better on the same images, scored now.

    Args:
        workspace: Whose models, test images and rules.
        request: Who asks, and for what.
        judge: What gathers evidence and decides; `promotion_evidence.judge` unless given.

    Raises:
        PromotionRefused: a person asked, and the gate said no. It is recorded all the same.
        UsageError: there is no such candidate, or what was asked for is switched off.
    """
    _check_words(request.reason, request.by)
    settings = workspace.settings()
    if request.override and not settings.promotion.allow_override:
        raise UsageError("--override is switched off here: promotion.allow_override is false in params.yaml")
    registry = connection.connect(workspace, settings.registry)
    # A dry run completes nothing of others: whoever may only read uses it too.
    history = champions.read(registry) if request.dry_run else _finish_killed(registry)[0]
    candidate = model_versions.chosen(registry, request.number, candidate=True)
    champion = history.champion
    # Told by model and test images: the copy that a promotion makes has another number.
    key = candidate.tags.get(model_versions.KEY)
    if champion and key is not None and champion.tags.get(model_versions.KEY) == key:
        message = f"candidate {candidate.number} is the champion already (version {champion.number})"
        return Promotion("already champion", message, candidate, champion)
    who = people.asking(registry.client, request.by)
    # A flow asks again every night; a person is answered anew each time.
    question = _question(workspace, settings, candidate, history, who) if request.automatic else None
    known = decision_runs.answered(registry, question) if question else None
    if known and (promotion := _earlier_answer(registry, known, candidate, champion)):
        return promotion
    return _judge_and_record(
        _PendingRequest(workspace, settings, registry, request, history, candidate, who, question), judge
    )


def rollback(workspace: Workspace, reason: str, by: str | None = None) -> Rollback:
    """Puts the previous champion into use again, and holds automatic promotion.

    A rollback that was killed halfway is completed, not done twice.

    Raises:
        UsageError: there is no previous champion.
        PromotionRefused: another promotion or rollback was first, so the champion is another than was looked at.
    """
    _check_words(reason, by)
    registry = connection.connect(workspace)
    who = people.asking(registry.client, by)
    history, concluded = _finish_killed(registry)
    last = history.rollbacks[-1] if history.rollbacks else None
    # Its record was open until this very call: a killed command had been asked for the same.
    if last and concluded.get(last.facts.get("run", "")) == decision_runs.ROLLED_BACK:
        return last
    if len(history.stack) < 2:
        there = (
            f"version {history.champion.number} is the only one"
            if history.champion
            else "there is no champion"
        )
        raise UsageError(
            f"{registry.names.name} can't be rolled back: {there}; see `vggflow models`, or promote another candidate"
        )
    previous, champion = history.stack[-2:]
    why = _who_and_why(who, reason)
    about = {"from": str(champion.number), decision_runs.TO: str(previous.number)} | why
    # Before the act, so that whoever comes after a kill can tell what was meant.
    run_id = decision_runs.record(registry, f"rollback {champion.number} → {previous.number}", about)
    tags = {f"rollback.{key}": value for key, value in why.items()} | {decision_runs.ROLLBACK_RUN: run_id}
    with _concluding(registry, run_id):
        done = champions.roll_back(registry, history, tags)
    if done is None:
        now = champions.read(registry).champion
        decision_runs.conclude(registry, run_id, "overtaken")
        raise PromotionRefused(
            f"nothing was rolled back: another promotion or rollback was first, and "
            f"{f'version {now.number}' if now else 'none'} is champion now; see `vggflow models`, then ask again"
        )
    decision_runs.conclude(registry, run_id, decision_runs.ROLLED_BACK)
    return done


def release(workspace: Workspace, reason: str, by: str | None = None) -> Rollback:
    """Lets the flow promote again after a rollback; returns the rollback that had held it.

    Raises:
        UsageError: nothing is on hold.
    """
    _check_words(reason, by)
    registry = connection.connect(workspace)
    why = _who_and_why(people.asking(registry.client, by), reason)
    history, concluded = _finish_killed(registry)
    held = history.hold
    if held is None:
        for each in reversed(history.rollbacks):
            if each.release and concluded.get(each.release.get("run", "")) == decision_runs.RELEASED:
                return each  # killed after the act: only the record was open
        # It raises: nothing is on hold.
        return champions.release(registry, why)
    run_id = decision_runs.record(registry, "release", {"from": str(held.taken_back)} | why)
    with _concluding(registry, run_id):
        champions.release(registry, why | {"run": run_id})
    decision_runs.conclude(registry, run_id, decision_runs.RELEASED)
    return held


def _check_words(reason: str, by: str | None) -> None:
    """Before anything is written, so that no act ends halfway for the length of a text."""
    limits.said(reason, "--reason", limits.REASON)
    if by is not None:
        limits.said(by, "--by", limits.PERSON)


def _finish_killed(registry: Registry) -> tuple[Champions, dict[str, str]]:
    """Completes what killed commands began, and their records; returns the history and what was concluded."""
    history = champions.settle(registry)
    return history, decision_runs.conclude_open(registry, history)


@contextmanager
def _concluding(registry: Registry, run_id: str) -> Iterator[None]:
    """A record whose act fails, as of one who may not, says so."""
    try:
        yield
    except VggflowError as error:
        with suppress(VggflowError):  # the server may be away: whoever comes next concludes it
            decision_runs.conclude(
                registry, run_id, "failed", "FAILED", {decision_runs.ERROR: str(error)[:500]}
            )
        raise


@dataclass(frozen=True)
class _PendingRequest:
    """A request on its way to an outcome."""

    workspace: Workspace
    settings: Settings
    registry: Registry
    request: Request
    history: Champions
    candidate: Version
    who: people.Person
    question: str | None

    def ended(self, outcome: Outcome, message: str, decision: "Decision | None" = None) -> Promotion:
        return Promotion(outcome, message, self.candidate, self.history.champion, decision)


def _judge_and_record(pending: _PendingRequest, judge: Judge | None) -> Promotion:
    """Judges, records, and promotes where the gate, or a person who overrides it, says so."""
    from vggflow.commands import promotion_evidence
    from vggflow.promotion.rules import lasts

    tests = promotion_evidence.test_digest(manifests.read(pending.workspace.path(artifacts.MANIFEST)))
    served = decision_runs.served(pending.registry, tests)
    request = pending.request
    asked = promotion_evidence.JudgeRequest(
        pending.candidate,
        pending.history.champion,
        pending.who.name,
        accept_class_change=request.accept_class_change,
        earlier_decisions=served,
        for_another=request.for_another or request.automatic,
        replace_unfit=request.override,
        asked_as=pending.who.kind,
    )
    try:
        judged = (judge or promotion_evidence.judge)(pending.workspace, pending.settings, asked)
    except UnfitModel as error:
        return _unfit(pending, tests, error)
    if pending.request.dry_run:
        decision = judged.decision
        return pending.ended("would promote" if decision.promoted else "would keep", _why(decision), decision)
    lasting = lasts(judged.decision)
    # Without its question a record answers none that is asked later.
    asked_once = pending if lasting else replace(pending, question=None)
    # Drawing the page takes seconds: a process of its own makes the heat maps.
    with _documents(judged) as documents:
        run_id = _record(asked_once, tests, judged.decision.verdict, documents, _numbers(judged.decision))
    with _concluding(pending.registry, run_id):
        promotion = _carry_out(pending, judged.decision, run_id)
    new = promotion.champion if promotion.outcome == "promoted" else None
    # The record outlives the version, which somebody may delete.
    facts = decision_runs.promotion_facts(new.number, new.created_ms) if new else {}
    decision_runs.conclude(pending.registry, run_id, promotion.outcome, facts=facts)
    record = decision_runs.place(pending.registry, run_id)
    return _raise_if_refused(pending, replace(promotion, record=record, lasts=lasting))


def _carry_out(pending: _PendingRequest, decision: "Decision", run_id: str) -> Promotion:
    """Claims the promotion where nothing stands in the way."""
    from vggflow.promotion.rules import overridable

    request = pending.request
    # Where the gate says yes there is nothing to override: the version is not marked as one against it.
    overrides = request.override and not decision.promoted and overridable(decision)
    if not decision.promoted and not overrides:
        return pending.ended("kept", _why(decision), decision)
    # A person who asks is the approval that a flow waits for.
    if request.automatic and (waits := _waiting(pending)):
        return pending.ended(waits[0], f"{_why(decision)}; {waits[1]}", decision)
    tags = {f"promotion.{key}": value for key, value in _who_and_why(pending.who, request.reason).items()}
    tags |= {decision_runs.RUN: run_id} | ({"promotion.override": "true"} if overrides else {})
    # Against the state that was judged: if somebody acted since, it is another and this claim is lost.
    won = champions.claim(pending.registry, pending.candidate, pending.history.state, tags)
    if won is None:
        message = "another promotion or rollback was first; judge again against the champion of now"
        return replace(
            pending.ended("kept", message, decision), champion=champions.read(pending.registry).champion
        )
    message = f"against the gate, by {pending.who.name}: {_why(decision)}" if overrides else _why(decision)
    return replace(pending.ended("promoted", message, decision), champion=won)


def _waiting(pending: _PendingRequest) -> tuple[Outcome, str] | None:
    """Why a flow does not promote by itself, if it doesn't."""
    command = f'`vggflow promote {pending.candidate.number} --reason "WHY"`'
    if held := pending.history.hold:
        since = f"since version {held.taken_back} was rolled back ({held.facts.get('reason', 'no reason')})"
        lift = '`vggflow promote --release --reason "WHY"` lifts the hold'
        return "on hold", f"automatic promotion is on hold {since}: {command} promotes, {lift}"
    if pending.settings.promotion.approval == "required":
        return "awaiting approval", f"a person decides: {command}"
    if pending.settings.promotion.two_person:
        return "awaiting approval", f"a second person decides: {command}"
    if _measured_on_valid(pending.workspace):
        return "awaiting approval", f"measured on valid, which chose the best epochs: {command} if you agree"
    return None


def _unfit(pending: _PendingRequest, tests: str, error: UnfitModel) -> Promotion:
    """A candidate that can't be scored is refused, for the record too."""
    if not pending.request.dry_run:
        # Restored files may answer otherwise, so this answers no later question.
        unanswered = replace(pending, question=None)
        run_id = _record(unanswered, tests, "keep", {"decision.txt": f"keep: {error}\n"}, {})
        decision_runs.conclude(pending.registry, run_id, "kept")
        record = decision_runs.place(pending.registry, run_id)
        return _raise_if_refused(
            pending, replace(pending.ended("kept", str(error)), record=record, lasts=False)
        )
    return pending.ended("would keep", str(error))


def _raise_if_refused(pending: _PendingRequest, promotion: Promotion) -> Promotion:
    """A person who is told no gets an error; a flow has done its work."""
    if promotion.outcome == "kept" and not pending.request.automatic:
        why = promotion.message
        message = f"candidate {pending.candidate.number} stays a candidate: {why}"
        raise PromotionRefused(message, promotion.evidence)
    return promotion


def _record(
    pending: _PendingRequest,
    tests: str,
    verdict: str,
    documents: Mapping[str, Any],
    numbers: Mapping[str, float],
) -> str:
    """Writes the whole decision down before anything is done about it."""
    from vggflow.commands import promotion_evidence

    champion, candidate = pending.history.champion, pending.candidate
    traced = ("git.commit", "git.dirty", "data.hash", "sha256.model", "sha256.manifest", "trained_by")
    about = {
        **_who_and_why(pending.who, pending.request.reason),
        "from": str(champion.number if champion else "none"),
        "candidate": str(candidate.number),
        "override": str(pending.request.override).lower(),
        **{key: candidate.tags[key] for key in traced if key in candidate.tags},
        **({decision_runs.QUESTION: pending.question} if pending.question else {}),
        **promotion_evidence.rules(pending.workspace, pending.settings),
        decision_runs.TESTS: tests,
        decision_runs.VERDICT: verdict,
    }
    return decision_runs.record(pending.registry, f"candidate {candidate.number}", about, documents, numbers)


@contextmanager
def _documents(judged: "Judged") -> Iterator[dict[str, Any]]:
    """The decision as JSON, text and page, and the answers that both models gave."""
    from vggflow.prediction import table
    from vggflow.report import write

    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        page = Path(folder) / "report.html"
        write.write(judged.page, page)
        decision = judged.decision
        tables = {f"{side}.parquet": Path(folder) / f"{side}.parquet" for side in judged.answers}
        for path, answers in zip(tables.values(), judged.answers.values(), strict=True):
            table.write(answers, path)
        texts = {decision_runs.DECISION: decision.to_json(), "decision.txt": decision.to_text()}
        yield {**texts, page.name: page, **tables}


def _numbers(decision: "Decision") -> dict[str, float]:
    """What the checks computed, as metrics: `better/p`, `min_accuracy/value`."""
    return {
        f"{check.rule}/{key}".replace(":", "/"): float(value)
        for check in decision.checks
        for key, value in check.numbers.items()
        # To Python a bool is an int.
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _earlier_answer(
    registry: Registry,
    known: tuple[str, str],
    candidate: Version,
    champion: Version | None,
) -> Promotion | None:
    """The answer to a question that a flow asked before, with the evidence of then, if it lasts."""
    from vggflow.promotion.decision import Decision
    from vggflow.promotion.rules import lasts

    outcome, run_id = known
    # An old answer promotes nothing: what does not wait was kept.
    again: Outcome = next((waiting for waiting in WAITING if waiting == outcome), "kept")
    decision = Decision.from_dict(decision_runs.decision(registry, run_id))
    if not lasts(decision):
        return None
    message = f"{outcome} already decided for the same models, images and rules: {_why(decision)}"
    record = decision_runs.place(registry, run_id)
    return Promotion(again, message, candidate, champion, decision, record)


def _who_and_why(who: people.Person, reason: str) -> dict[str, str]:
    return {"by": who.name, "by.kind": who.kind, "reason": reason}


def _why(decision: "Decision") -> str:
    """The summary without its verdict, which the outcome says already."""
    return decision.summary.partition(": ")[2]


def _measured_on_valid(workspace: Workspace) -> bool:
    """Valid has chosen the best epochs already, so it can't speak for a promotion without a person."""
    return manifests.evaluation_split(manifests.read(workspace.path(artifacts.MANIFEST))) != "test"


def _question(
    workspace: Workspace, settings: Settings, candidate: Version, history: Champions, who: people.Person
) -> str:
    """The digest of all that a flow's answer depends on: both models, the images, the rules, a hold.

    Whether the server knows users is part of it, since `two_person` depends on that.
    """
    from vggflow.promotion.rules import EDITION

    gate = settings.validate_
    parts = [
        # Whoever makes a candidate by hand gives it no key; an address it has.
        candidate.tags.get(model_versions.KEY, candidate.uri),
        f"{history.state} {'held' if history.hold else ''}",
        manifests.digest(manifests.read(workspace.path(artifacts.MANIFEST))),
        f"{EDITION} {settings.promotion.model_dump_json()} {who.kind}",
        # These decide which test images count as seen in training.
        f"{gate.near_hash_distance} {gate.near_similarity} {gate.near_min_detail}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
