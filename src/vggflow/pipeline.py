"""The stages and verbs, each a short function. A stage reads and writes the files that `artifacts` names.

Heavy packages are imported inside the functions, so that the command line answers at once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggflow import artifacts, console, engine, files
from vggflow import workspace as workspaces
from vggflow.errors import DataError, DataRefused
from vggflow.process import Outcome, device_lock, exclusive, state_folder
from vggflow.settings import Settings
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.data.importers import ImportSummary
    from vggflow.tracking.registry import Version

PASSED, REFUSED = "passed", "refused"


def prepare(workspace: Workspace) -> list[str]:
    """Data and start weights are there and versioned, and the workspace follows this vggflow; says what it did.

    Raises:
        DataError: there is no data, here or on the DVC remote.
    """
    said = []
    if workspaces.follow_version(workspace):
        said.append("vggflow is another one than last time: stages run again where results depend on it")
    for tracked in ("data", "weights"):
        state = workspaces.status(workspace, tracked)
        if state == "missing" and not (workspace.root / f"{tracked}.dvc").exists():
            raise DataError(
                f"no {tracked}/ in {workspace.root}: bring images in with `vggflow data import FOLDER`"
            )
        if state == "missing":
            workspace.dvc("pull", f"{tracked}.dvc")
            said.append(f"{tracked}/ pulled from the DVC remote")
        elif state in ("changed", "untracked"):
            workspace.dvc("add", "--quiet", tracked)
            said.append(f"{tracked}/ differs from {tracked}.dvc: added as it is now")
    return said


def validate(workspace: Workspace) -> Outcome:
    """Looks at every image, writes the manifest, and lets the data gate judge.

    Raises:
        DataError: there is no data.
        DataRefused: something critical was found; result and Data Docs say what.
    """
    from vggflow.data import expectations, layout
    from vggflow.data import manifest as manifests

    settings = workspace.settings()
    data = workspace.path(artifacts.DATA)
    with console.progress("scan") as advance:
        cache = workspace.path(artifacts.STATE) / "scan"
        manifest = manifests.scan(data, progress=advance, cache=cache)
    manifests.write(manifest, workspace.path(artifacts.MANIFEST))
    folders = layout.class_folders(data)
    verdict = expectations.check(manifest, settings.validate_, workspace.path(artifacts.DATA_DOCS), folders)
    result = {"verdict": PASSED if verdict.passed else REFUSED, "manifest": manifests.digest(manifest)}
    files.write_json(workspace.path(artifacts.VALIDATION_RESULT), result | verdict.to_dict())
    for problem in verdict.problems:
        console.tell(f"{problem.severity}: {problem.message}")
    if not verdict.passed:
        critical = [problem for problem in verdict.problems if problem.severity == "critical"]
        raise DataRefused(_refusal(critical, workspace.path(artifacts.DATA_DOCS)))
    return Outcome(0, f"{len(manifest)} files pass", PASSED, {"data_docs": str(artifacts.DATA_DOCS)})


def import_data(workspace: Workspace, source: Path, *, commit: bool = True) -> "ImportSummary":
    """Copies images into `data/`, then versions them: `dvc add`, `dvc push`, a git commit, a git push.

    Raises:
        DataError: the source is of another shape, or would overwrite a file.
    """
    from vggflow.data.importers import import_images

    if workspaces.status(workspace, "data") == "missing" and (workspace.root / "data.dvc").exists():
        workspace.dvc("pull", "data.dvc")
    with console.progress("import") as advance:
        summary = import_images(source, workspace.path(artifacts.DATA), advance)
    console.tell("versioning data with DVC")
    workspace.dvc("add", "--quiet", "data")
    workspace.dvc("push", "--quiet", "data.dvc", "weights.dvc")
    if commit and workspaces.commit(
        workspace, ["data.dvc"], f"Data: {summary.copied} files from {source.name}"
    ):
        workspaces.publish_commit(workspace)
    return summary


def sample_data(workspace: Workspace, per_class: int) -> dict[str, dict[str, int]]:
    """Fills `data/sample/` with a small copy of the data; returns the images per split and class."""
    from vggflow.data.sample import take_sample

    return take_sample(workspace.path(artifacts.DATA), per_class)


def train(workspace: Workspace) -> Outcome:
    """Fine-tunes the network in its phases, in one MLflow run, alone on the device.

    Raises:
        DataRefused: the data gate has not passed this manifest.
    """
    engine.start()
    from vggflow.data import manifest as manifests
    from vggflow.models import files as models
    from vggflow.tracking import connection
    from vggflow.tracking.training_run import TrainingRun
    from vggflow.training.fitting import discard_checkpoint, fit
    from vggflow.training.job import TrainingJob

    settings = workspace.settings()
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    _ask_gate(workspace, manifests.digest(manifest))
    job = TrainingJob(
        settings, manifest, workspace.path(artifacts.DATA), workspace.path(artifacts.WEIGHTS), state_folder()
    )
    began = time.monotonic()
    with exclusive(device_lock(), "this device"), console.progress("train") as advance:
        observer = TrainingRun(connection.connect(workspace), settings, run_name(workspace), advance)
        with observer.closing():
            trained = fit(job, observer)
            models.save(trained.model, trained.info, workspace.path(artifacts.MODEL))
            files.write_json(workspace.path(artifacts.HISTORY), trained.history)
            files.write_json(
                workspace.path(artifacts.RUN),
                {
                    "run_id": observer.run_id,
                    "experiment": settings.registry.experiment,
                    "facts": dict(trained.facts),
                },
            )
    last = trained.history[-1]
    message = (
        f"{len(trained.history)} epochs in {time.monotonic() - began:.0f} s, valid {last['val_accuracy']:.1%}"
    )
    return Outcome(0, message, facts={"run_id": observer.run_id, "phases": _phases(trained.history)})


def evaluate(workspace: Workspace) -> Outcome:
    """Measures the trained model on test (on valid where there is no labelled test), into files and the MLflow run."""
    engine.start()
    from vggflow.data import manifest as manifests
    from vggflow.evaluation import metrics, plots
    from vggflow.prediction import scoring, table
    from vggflow.prediction.predictor import Predictor
    from vggflow.tracking import connection, runs

    settings = workspace.settings()
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    split = evaluation_split(manifest)
    predictor = Predictor(workspace.path(artifacts.MODEL))
    with console.progress("evaluate") as advance:
        images = manifests.labelled(manifest, split)
        data = workspace.path(artifacts.DATA)
        predictions = scoring.score(predictor, images, data, settings.evaluate.batch_size, advance)
    table.write(predictions, workspace.path(artifacts.PREDICTIONS))
    numbers = {"split": split} | metrics.measure(predictions, predictor.info.class_names)
    files.write_json(workspace.path(artifacts.METRICS), numbers)
    folder = workspace.path(artifacts.PLOTS)
    plots.draw_all(
        predictions, predictor.info.class_names, files.read_json(workspace.path(artifacts.HISTORY)), folder
    )
    run_id = files.read_json(workspace.path(artifacts.RUN))["run_id"]
    client = connection.connect(workspace)
    if runs.exists(client, run_id):
        runs.log_evaluation(client, run_id, workspace)
    said = (
        ""
        if split == "test"
        else " (no labelled test images: measured on valid, so promotion is up to a person)"
    )
    return Outcome(0, f"accuracy {numbers['accuracy']:.1%} on {len(predictions)} images of {split}{said}")


def register(workspace: Workspace, *, alias: bool = True) -> "tuple[Version, bool]":
    """Makes the evaluated model a candidate version, once; tells whether it is new.

    Where this server lacks the training's run, as after a restore on another machine, the run is rebuilt from files.
    """
    from vggflow.data import manifest as manifests
    from vggflow.tracking import connection, lineage, registry, runs

    settings = workspace.settings()
    model = workspace.path(artifacts.MODEL)
    if not model.exists() or not workspace.path(artifacts.METRICS).exists():
        raise DataError(f"no evaluated model in {workspace.root}: run `vggflow retrain` first")
    client = connection.connect(workspace)
    digest = manifests.digest(manifests.read(workspace.path(artifacts.MANIFEST)))
    key = f"{files.sha256(model)[:32]}-{digest[:32]}"
    version = registry.find_candidate(client, settings.registry, key)
    new = version is None
    if version is None:
        run_id = _run_on_this_server(workspace, client, settings)
        runs.log_files(client, run_id, lineage.lineage_files(workspace), lineage.FOLDER)
        tags = lineage.tags(workspace, settings) | {registry.KEY: key, "manifest.digest": digest}
        version = registry.create_candidate(client, settings.registry, run_id, model, tags)
    if alias:
        version = registry.challenge(client, version)
    return version, new


def predict(
    workspace: Workspace, places: Sequence[Path], number: int | None = None, candidate: bool = False
) -> "Predictions":
    """What the champion (or another version) says about images.

    Raises:
        UsageError: there is no such version.
        DataError: there is no image, or one can't be read.
    """
    engine.start()
    from vggflow.prediction import batch
    from vggflow.prediction.predictor import Predictor
    from vggflow.tracking import connection, registry

    settings = workspace.settings().registry
    client = connection.connect(workspace)
    name, alias = (
        (settings.candidates, registry.CHALLENGER) if candidate else (settings.name, registry.CHAMPION)
    )
    version = registry.version_of(client, name, number, alias)
    paths = batch.find_images(list(places))
    with registry.model_file(version) as model, console.progress("predict") as advance:
        predictor = Predictor(model)
        probabilities = predictor.predict(paths, progress=advance)
        return Predictions(
            f"{name} version {version.number}", paths, predictor.info.class_names, probabilities
        )


@dataclass(frozen=True)
class Predictions:
    """The probabilities (N, K) of the classes for N images, and the model that gave them."""

    model: str
    paths: Sequence[Path]
    class_names: tuple[str, ...]
    probabilities: Any

    def rows(self) -> list[dict[str, str | float]]:
        """A row per image: path, label and the label's probability."""
        best = self.probabilities.argmax(axis=1)
        return [
            {"path": str(path), "label": self.class_names[column], "probability": float(row[column])}
            for path, column, row in zip(self.paths, best, self.probabilities, strict=True)
        ]


def run_name(workspace: Workspace) -> str:
    """What a run is called: the workspace, the data and the day, such as `pets · data 3f2a91 · 2026-11-21`."""
    from vggflow.tracking import lineage

    data = lineage.data_version(workspace)
    return f"{workspace.name} · data {data} · {time.strftime('%Y-%m-%d')}"


def evaluation_split(manifest: Any) -> str:
    """Where a model is measured: `test`, or `valid` where no test image has a label."""
    from vggflow.data import manifest as manifests

    return "test" if len(manifests.labelled(manifest, "test")) else "valid"


def _ask_gate(workspace: Workspace, digest: str) -> None:
    """Training is the gate's business too when somebody runs it by hand."""
    path = workspace.path(artifacts.VALIDATION_RESULT)
    result = files.read_json(path) if path.exists() else {}
    if result.get("manifest") != digest:
        raise DataError(f"{path} does not belong to this manifest: run `vggflow validate` first")
    if result["verdict"] != PASSED:
        raise DataRefused(
            f"the data gate refused this data: see {path}, mend the data, run `vggflow validate` again"
        )


def _refusal(critical: Sequence[Any], docs: Path) -> str:
    """One line that names the first problem and says where the others are."""
    more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
    return f"data refused: {critical[0].message}{more}; mend the data, then run this again; report: {docs}/index.html"


def _phases(history: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Per phase: how many epochs, and the best accuracy on valid."""
    names = dict.fromkeys(row["phase"] for row in history)
    rows = {name: [row for row in history if row["phase"] == name] for name in names}
    return {
        name: {"epochs": len(of_phase), "val_accuracy": max(row["val_accuracy"] for row in of_phase)}
        for name, of_phase in rows.items()
    }


def _run_on_this_server(workspace: Workspace, client: Any, settings: Settings) -> str:
    """The run of the training; rebuilt from files where this server does not have it."""
    from vggflow.tracking import connection, runs

    recorded = files.read_json(workspace.path(artifacts.RUN))
    if runs.exists(client, recorded["run_id"]):
        return str(recorded["run_id"])
    place = connection.experiment_id(client, settings.registry.experiment)
    return runs.rebuild(client, place, workspace, recorded)
