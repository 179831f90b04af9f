"""What `vggflow retrain` would do and why, without computing anything."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import yaml

from vggflow import artifacts, files, version
from vggflow import workspace as workspaces
from vggflow.errors import DataError
from vggflow.processes import stage_inputs
from vggflow.settings import Settings
from vggflow.versioning import reconcile
from vggflow.workspace import Workspace

STAGES = ("validate", "train", "evaluate")
UP_TO_DATE = "up to date"


@dataclass(frozen=True)
class Step:
    """A step of the flow: what would happen, and why."""

    step: str
    would: str
    why: str

    @property
    def acts(self) -> bool:
        """Whether it would do anything at all."""
        return self.would not in (UP_TO_DATE, "nothing")


def plan_retrain(workspace: Workspace) -> list[Step]:
    """The steps of the flow in their order.

    Raises:
        DataError: there is no data, here or on the DVC remote.
    """
    settings = workspace.settings()
    steps = [_data(workspace), *_stages(workspace)]
    return [*steps, *_registry(workspace, settings, computes=any(step.acts for step in steps[1:]))]


def _data(workspace: Workspace) -> Step:
    states = {tracked: workspaces.status(workspace, tracked) for tracked in ("data", "weights")}
    if states["data"] == "missing" and not (workspace.root / "data.dvc").exists():
        raise DataError(f"no data/ in {workspace.root}: bring images in with `vggflow data import FOLDER`")
    missing = [name for name, state in states.items() if state == "missing"]
    changed = [name for name, state in states.items() if state in ("changed", "untracked")]
    if missing:
        return Step("data", "pull", f"{' and '.join(missing)} from the DVC remote")
    if changed:
        would = [_brought_together(workspace, name, states[name]) for name in changed]
        return Step("data", would[0][0], "; ".join(why for _, why in would))
    return Step("data", UP_TO_DATE, "as versioned")


def _brought_together(workspace: Workspace, tracked: str, state: str) -> tuple[str, str]:
    """What would happen to a folder that is not what its `.dvc` file says.

    Raises:
        DataError: nothing would, before a person says something.
    """
    if state == "untracked":
        return "add", f"{tracked}/ is not versioned yet"
    sides = reconcile.look(workspace, tracked)
    reconcile.refuse_clashes(sides)
    reconcile.refuse_gone(sides)
    plan, differs = sides.plan, sides.result != sides.theirs.files
    why = f"{tracked}/ differs from {tracked}.dvc"
    if not plan.bring and not plan.drop:
        return "add", f"{why}: it is versioned as it is now"
    came = f"{len(plan.bring)} files come, {len(plan.drop)} go, as it says"
    return (
        ("put together", f"{why}: {came}, {len(plan.own)} are added")
        if differs
        else ("update", f"{why}: {came}")
    )


def _stages(workspace: Workspace) -> list[Step]:
    """Each stage, from what DVC says about it; a stage whose input would change may run as well."""
    said: dict[str, Any] = json.loads(workspace.dvc("status", "--json", *STAGES) or "{}")
    stale = _another_version(workspace)
    steps: list[Step] = []
    above = ""
    for stage in STAGES:
        reasons = [stale] if stale else []
        reasons += [reason for reason in _reasons(said.get(stage, [])) if reason not in reasons]
        if stage == "validate":
            # DVC looks at what was asked last time; a retraining asks again.
            reasons = [reason for reason in reasons if not reason.startswith(str(artifacts.REFERENCE))]
            reasons += _other_reference(workspace)
        if reasons:
            steps.append(Step(stage, "run, or restore", "; ".join(reasons)))
        elif above:
            steps.append(Step(stage, "run if needed", f"if {above} comes out differently"))
        else:
            steps.append(Step(stage, UP_TO_DATE, "same data, code and settings"))
        # The first one is named to all that follow.
        above = above or (stage if reasons else "")
    return steps


def _other_reference(workspace: Workspace) -> list[str]:
    """Whether validate would compare with other data than when it ran last."""
    from vggflow.commands import reference

    name, lock = str(artifacts.REFERENCE), workspace.path(artifacts.PIPELINE_LOCK)
    if not lock.exists() or not stage_inputs.depends_on(workspace, "validate", name):
        return []
    stages = (yaml.safe_load(lock.read_text("utf-8")) or {}).get("stages", {})
    recorded = [dep.get("md5") for dep in stages.get("validate", {}).get("deps", []) if dep["path"] == name]
    # The text that `reference` would write: DVC knows the file by the MD5 of its bytes.
    now = files.json_text(reference.look(workspace)).encode()
    if not recorded or recorded == [hashlib.md5(now, usedforsecurity=False).hexdigest()]:
        return []
    return ["the champion, thus the data to compare with, is another than last time"]


def _another_version(workspace: Workspace) -> str:
    """What is another than last time, vggflow or a package, by name; empty where nothing is."""
    path = workspace.path(artifacts.VERSION)
    if not path.exists():
        return ""
    here = version.text(workspace.settings().train.backend)
    return ", ".join(version.differences(path.read_text("utf-8"), here))


def _reasons(said: list[Any]) -> list[str]:
    """DVC's words, shorter: `data modified`, `train.seed modified`, `model/model.keras deleted`."""
    found: list[str] = []
    for entry in said:
        if isinstance(entry, str):  # such as "changed command"
            found.append(entry)
            continue
        for changes in entry.values():
            found += _flat(changes)
    return found


def _flat(changes: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name, how in changes.items():
        if isinstance(how, dict):  # parameters come by file
            found += [f"{key} {what}" for key, what in how.items()]
        else:
            found.append(f"{name} {how}")
    return found


def _registry(workspace: Workspace, settings: Settings, *, computes: bool) -> list[Step]:
    from vggflow.tracking import connection
    from vggflow.tracking.registry import champions, model_versions

    registry = connection.connect(workspace, settings.registry)
    history = champions.read(registry)
    challenger = model_versions.with_alias(
        registry.client, registry.names.candidates, model_versions.CHALLENGER
    )
    champion = f"champion version {history.champion.number}" if history.champion else "no champion yet"
    if computes or challenger is None:
        candidate = Step("register", "a candidate", "if the model is another than those that are registered")
    else:
        candidate = Step("register", UP_TO_DATE, f"candidate {challenger.number} is the challenger")
    judged = _promotion(settings, champion, history.hold is not None)
    return [_push(), candidate, judged, Step("publish", "add", "the gate's pages to the run in MLflow")]


def _promotion(settings: Settings, champion: str, held: bool) -> Step:
    rule = f"rule {settings.promotion.rule}, against {champion}"
    if held:
        return Step("promote", "judge only", f"{rule}; automatic promotion is on hold since a rollback")
    if not settings.promotion.by_itself:
        return Step("promote", "judge only", f"{rule}; a person approves")
    return Step("promote", "judge", f"{rule}; once for the same models, images and rules")


def _push() -> Step:
    return Step("push", "push", "what the DVC remote does not have yet")
