"""The evidence for a promotion: challenger and champion scored now, in clean processes, on the same images."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vggflow import artifacts
from vggflow.data import manifest as manifests
from vggflow.data.places import Place
from vggflow.errors import UnfitModel, UsageError, VggflowError
from vggflow.evaluation import heat
from vggflow.gate.near_copies import NearLimits
from vggflow.git_and_dvc.run import NoRepository
from vggflow.models.files import read_info
from vggflow.prediction import exported_graph, table
from vggflow.prediction.scoring import UNFIT
from vggflow.processes.stage import last_error_line, run_module
from vggflow.promotion import comparison
from vggflow.promotion.decision import Decision
from vggflow.promotion.evidence import Golden, Probe
from vggflow.promotion.rules import EDITION, GOLDEN_TOLERANCE, GOLDEN_TOLERANCE_TF32, decide
from vggflow.promotion.seen import Near
from vggflow.report import slices
from vggflow.report.page import Page
from vggflow.settings import Settings
from vggflow.tracking.registry import model_versions
from vggflow.tracking.registry.champion_alias import GRAPH_SHA256
from vggflow.tracking.registry.model_versions import Version
from vggflow.workspace import Workspace

# A graph of another network differs on the first of them, and registration looked at more.
GRAPH_IMAGES = 16


@dataclass(frozen=True)
class JudgeRequest:
    """What is to be judged.

    Attributes:
        candidate: Who wants to be champion.
        champion: Who is; None before the first promotion.
        asked_by: Who asks.
        asked_as: How that name is known: `authenticated`, `claimed` or `local`; None where nobody looked.
        accept_class_change: Whether a person accepts other classes than the champion's.
        for_another: Whether somebody else than who asks will act on the answer.
        replace_unfit: Whether a person asks to replace even a champion that nobody can compare with.
        earlier_decisions: How many decisions the same test images have served before.
    """

    candidate: Version
    champion: Version | None
    asked_by: str
    accept_class_change: bool = False
    earlier_decisions: int = 0
    for_another: bool = False
    replace_unfit: bool = False
    asked_as: str | None = None


@dataclass(frozen=True)
class Judged:
    """A decision, the page that shows what it rests on, and the predictions tables by side."""

    decision: Decision
    page: Page
    answers: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def judge(workspace: Workspace, settings: Settings, case: JudgeRequest) -> Judged:
    """Scores both models on the test images that this workspace's manifest names, and asks every rule.

    Raises:
        UnfitModel: the candidate's file is damaged or needs code, or its exported graph is another network's.
        VggflowError: the champion can't be scored, so there is nothing to compare with.
    """
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    images = test_images(manifest)
    split, backend = manifests.evaluation_split(manifest), settings.train.backend
    scoring = _Scoring(workspace, split, settings.evaluate.batch_size, backend)
    challenger = _side(scoring, case.candidate)
    _refuse_other_graph(workspace, case.candidate, challenger.predictions)
    champion, unfit = _champion(scoring, case)
    gate = settings.validate_
    limits = NearLimits(gate.near_hash_distance, gate.near_similarity, gate.near_min_detail)
    near = Near(manifest, workspace.path(artifacts.DATA), limits)
    compared = comparison.compare(challenger, champion, manifests.digest(manifest), images, near)
    evidence = replace(
        comparison.evidence(compared),
        dirty_tree=_dirty_tree(case.candidate),
        trained_by=case.candidate.tags.get("trained_by"),
        trained_as=case.candidate.tags.get("trained_by.kind"),
        asked_by=case.asked_by,
        asked_as=case.asked_as,
        accept_class_change=case.accept_class_change,
        earlier_decisions=case.earlier_decisions,
        for_another=case.for_another,
        champion_unfit=unfit,
        golden=golden(challenger.predictions, model_versions.recorded_predictions(case.candidate)),
        probe=probe(model_versions.measured(case.candidate)),
    )
    decision = decide(evidence, settings.promotion)
    page = Page(
        case.candidate.title,
        compared,
        slices.with_columns(images, workspace.path(artifacts.COLUMNS)),
        workspace.path(artifacts.DATA),
        decision,
        facts=rules(workspace, settings),
        heat_maps=_heat_maps(case.candidate, backend),
    )
    sides = {"challenger": challenger, "champion": champion}
    return Judged(decision, page, {name: side.predictions for name, side in sides.items() if side})


def _refuse_other_graph(workspace: Workspace, version: Version, predictions: pd.DataFrame) -> None:
    """What answers people is the graph: it has to be that of the model that is judged, whoever registered it."""
    if GRAPH_SHA256 not in version.tags:
        return
    with model_versions.graph_file(version) as graph:
        try:
            exported_graph.compare(graph, predictions, workspace.path(artifacts.DATA), GRAPH_IMAGES)
        except VggflowError as error:
            raise UnfitModel(f"{version.title}: {error}") from error


def _dirty_tree(candidate: Version) -> bool | None:
    """Whether code, settings or data were uncommitted when it was trained or measured; None where nobody knows."""
    # Dirty at either is dirty. Clean is what the training says: older evaluations say nothing.
    told = [candidate.tags.get(name) for name in ("git.dirty", "evaluation.git.dirty")]
    return True if "true" in told else {"false": False}.get(told[0] or "")


def rules(workspace: Workspace, settings: Settings) -> dict[str, str]:
    """Which rules were asked, and whether they are those that the team committed: who asks could have edited them."""
    try:
        changed = workspace.git("status", "--porcelain", "--", str(artifacts.PARAMS))
    except NoRepository:
        committed = "unknown"
    else:
        committed = "no, changed here" if changed.strip() else "yes"
    digest = hashlib.sha256(settings.promotion.model_dump_json().encode()).hexdigest()
    return {
        "sha256.promotion": digest,
        "rules.edition": str(EDITION),
        f"{artifacts.PARAMS.name} as committed": committed,
    }


def test_images(manifest: pd.DataFrame) -> pd.DataFrame:
    """The rows of the manifest that models are measured on."""
    return manifests.labelled(manifest, manifests.evaluation_split(manifest))


def test_digest(manifest: pd.DataFrame) -> str:
    """The SHA-256 over which images, in which classes, models are measured on."""
    # Sorted and without paths: pictures that only got other names are the same test.
    images = test_images(manifest)[["sha256", "class_name"]].sort_values(["sha256", "class_name"])
    return hashlib.sha256(images.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def golden(now: pd.DataFrame, then: pd.DataFrame) -> Golden:
    """Compares two predictions tables of one model on the images that both hold, found by their bytes."""
    # One of each content: a picture that is there twice would make four pairs with itself.
    both = now.drop_duplicates("sha256").merge(
        then.drop_duplicates("sha256"), on="sha256", suffixes=("", ".then")
    )
    names = table.class_names(now)
    # Before evaluations said so, they may have run on a GPU that computes float32 with 10 bits of fraction.
    exact = then.attrs.get(table.ARITHMETIC) == table.FULL_FLOAT32
    tolerance = GOLDEN_TOLERANCE if exact else GOLDEN_TOLERANCE_TF32
    if both.empty or set(names) != set(table.class_names(then)):
        return Golden(0, 1.0, tolerance)
    answers = table.probabilities(both, names)
    before = both[[f"{table.probability_column(name)}.then" for name in names]].to_numpy(dtype=np.float64)
    # What is no number agrees with nothing, not even with itself.
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(np.abs(answers - before), nan=1.0, posinf=1.0)
    return Golden(len(both), float(difference.max()), tolerance)


def probe(measured: Mapping[str, float]) -> Probe | None:
    """What training measured on valid, with and without it; None where it measured no linear probe."""
    found = [measured.get(name) for name in ("model_val_accuracy", "linear_probe_val_accuracy")]
    return None if None in found else Probe(*(float(value) for value in found if value is not None))


@dataclass(frozen=True)
class _Scoring:
    workspace: Workspace
    split: str
    batch_size: int
    backend: str


def _champion(scoring: _Scoring, case: JudgeRequest) -> tuple[comparison.Side | None, str | None]:
    """The champion's answers; or why there are none, where a person asks to replace it all the same."""
    if case.champion is None:
        return None, None
    try:
        return _side(scoring, case.champion), None
    except VggflowError as error:
        # The challenger was scored on the same images before, so they are not what fails.
        if case.replace_unfit:
            return None, str(error)
        if isinstance(error, UnfitModel):
            raise VggflowError(
                f"the champion can't be compared with: {error}. `vggflow rollback` goes back to the one before; "
                "`vggflow promote --override` replaces it"
            ) from error
        raise


def _heat_maps(version: Version, backend: str) -> heat.MakeHeatMaps:
    """Heat maps of a version, whose file is downloaded when they are drawn."""

    def look(answered: Sequence[tuple[Path | Place, str]]) -> list[heat.HeatMap]:
        # Downloaded once more: the file that was scored is gone by now.
        with model_versions.model_file(version) as model:
            return heat.heat_maps_in_process(model, backend)(answered)

    return look


def _side(scoring: _Scoring, version: Version) -> comparison.Side:
    """A version's answers to the test images, given now by a process that knows nothing but the file."""
    with (
        model_versions.model_file(version) as model,
        tempfile.TemporaryDirectory(prefix="vggflow-") as folder,
    ):
        answers = Path(folder) / "predictions.parquet"
        seconds = _score(scoring, version, model, answers)
        info = read_info(model)
        return comparison.Side(
            table.read(answers),
            info.class_names,
            model.stat().st_size / 1e6,
            model_versions.training_manifest(version),
            seconds,
            info.temperature,
        )


def _score(scoring: _Scoring, version: Version, model: Path, answers: Path) -> float:
    """Writes the answers of a model file; returns the seconds that loading the network and answering took."""
    workspace = scoring.workspace
    places = [model, workspace.path(artifacts.MANIFEST), workspace.path(artifacts.DATA), answers]
    options = ["--split", scoring.split, "--batch-size", str(scoring.batch_size)]
    options += ["--backend", scoring.backend]
    # Starting TensorFlow costs seconds on each side; nothing that this process holds can change the answers.
    done = run_module("vggflow.prediction.scoring", *places, *options)
    if done.returncode != 0:
        message = f"{version.name} version {version.number} could not be scored: {last_error_line(done)}"
        # Of an error only a line and the code come back: the code tells whose fault it is.
        kinds: dict[int, type[VggflowError]] = {UNFIT: UnfitModel, UsageError.exit_code: UsageError}
        raise kinds.get(done.returncode, VggflowError)(message)
    # The last line: libraries may print before it.
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])
