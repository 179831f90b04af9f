"""The stages and verbs, each a short function. A stage reads and writes the files that `artifacts` names.

Heavy packages are imported inside the functions, so that the command line answers at once.
"""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vggflow import artifacts, console, data_versions, engine, files, publishing, reconcile, stage_inputs
from vggflow import workspace as workspaces
from vggflow.errors import DataError, DataRefused, UsageError, WeightsUnreachable
from vggflow.locks import alone_on_devices
from vggflow.process import Outcome, state_folder
from vggflow.settings import Settings
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.data.changes import Changes
    from vggflow.data.import_summary import ImportSummary
    from vggflow.data.importers import ImportOptions
    from vggflow.tracking.registry import Version
    from vggflow.training.job import TrainingJob
    from vggflow.training.rate_search import RateCurve

PASSED, REFUSED = "passed", "refused"
MODEL_CARD = "model_card.md"
DRAWN = (".png", ".svg", ".pdf")


def prepare(workspace: Workspace) -> list[str]:
    """Data and start weights are there and versioned, and the workspace follows this vggflow; says what it did.

    Raises:
        DataError: there is no data, here or on the DVC remote; or files are gone by nobody's word.
    """
    said = []
    with reconcile.alone_on_data(workspace):
        for tracked in data_versions.TRACKED:
            _require_tracked(workspace, tracked)
        _refuse_obstacles(workspace)
        if workspaces.follow_pipeline(workspace):
            said.append(
                f"{artifacts.PIPELINE} is this vggflow's now, in place of an earlier one's: commit it"
            )
        if differences := workspaces.follow_version(workspace):
            said.append(f"stages run again, since results depend on it: {differences}")
        said += reconcile.bring_together(workspace, "data")
        _refuse_empty_classes(workspace.path(artifacts.DATA))
        said += _prepare_weights(workspace)
    _require_splits(workspace)
    if waiting := publishing.waiting(workspace):
        said.append(waiting)
    return said


def _require_tracked(workspace: Workspace, tracked: str) -> None:
    remedy = {
        "data": "bring images in with `vggflow data import FOLDER`",
        "weights": "`vggflow init .` makes it",
    }
    there = os.path.lexists(workspace.root / tracked)
    if not there and data_versions.entry(workspace, tracked) is None:
        raise DataError(f"no {tracked}/ in {workspace.root}: {remedy[tracked]}")


def _prepare_weights(workspace: Workspace) -> list[str]:
    """Start weights as versioned, and ImageNet's among them where they are asked for."""
    said, differs = reconcile.update(workspace, "weights")
    if fetched := _fetch_imagenet(workspace):
        said.append(fetched)
    if differs or fetched:
        reconcile.add(workspace, "weights")
    return said


def _refuse_obstacles(workspace: Workspace) -> None:
    from vggflow.data import layout

    data_versions.refuse_link(workspace, "data")
    if workspace.path(artifacts.DATA).exists():
        layout.refuse_obstacles(workspace.path(artifacts.DATA))


def _require_splits(workspace: Workspace) -> None:
    """What train needs, before DVC misses it in words of its own.

    Raises:
        DataError: a split to learn from is missing.
    """
    for split in (artifacts.TRAIN_DATA, artifacts.VALID_DATA):
        if not workspace.path(split).is_dir():
            raise DataError(
                f"no {split}/ in {workspace.root}: expected {split}/<class>/ with images; "
                "`vggflow data import` divides what has no splits"
            )


def _refuse_empty_classes(data: Path) -> None:
    """DVC does not see empty folders: the stage that would refuse them would not run.

    Raises:
        DataRefused: there are such classes.
    """
    from vggflow.data import layout

    empty = [
        f"{folder.split}/{folder.class_name}"
        for folder in layout.class_folders(data)
        if folder.class_name != layout.UNLABELLED
        and not any(path.is_file() for path in (data / folder.split / folder.class_name).rglob("*"))
    ]
    if empty:
        raise DataRefused(
            f"data refused: no images in {', '.join(empty)}: bring some in, or remove the empty folder"
        )


def _fetch_imagenet(workspace: Workspace) -> str | None:
    """ImageNet's weights come into `weights/`, where DVC versions them: start weights are data too."""
    model = workspace.settings().model
    folder = workspace.path(artifacts.WEIGHTS)
    if model.weights != "imagenet":
        return None
    from vggflow.models import imagenet

    with_top = model.head == "fc"
    if imagenet.found(folder, with_top):
        return None
    console.tell("fetching ImageNet's weights, once")
    return f"ImageNet's weights fetched: {imagenet.fetch_imagenet(folder, with_top).name}"


def validate(workspace: Workspace) -> Outcome:
    """Looks at every file, writes manifest, result, Data Docs and report, and lets the data gate judge.

    Raises:
        DataError: there is no data.
        DataRefused: something critical was found; the report shows it.
    """
    from vggflow import champion_data

    if not champion_data.given_by_dvc(workspace):
        champion_data.fetch(workspace)
    with stage_inputs.unchanged(workspace, "validate"):
        return _validate(workspace)


def reference(workspace: Workspace) -> Outcome:
    """Asks the registry which data validate compares with; DVC does this every time, before validate.

    Raises:
        VggflowError: the tracking server does not answer.
    """
    from vggflow import champion_data

    return Outcome(0, champion_data.fetch(workspace))


def _validate(workspace: Workspace) -> Outcome:
    from vggflow import champion_data
    from vggflow.data import gate, report
    from vggflow.data import manifest as manifests

    data = workspace.path(artifacts.DATA)
    settings = workspace.settings().validate_
    reference, whose = champion_data.read(workspace)
    cache, docs = workspace.path(artifacts.STATE) / "scan", workspace.path(artifacts.DATA_DOCS)
    judged = gate.judge(data, settings, docs, cache=cache, reference=reference, bars=console.progress)
    verdict, manifest = judged.verdict, judged.manifest
    manifests.write(manifest, workspace.path(artifacts.MANIFEST))
    learned = manifests.training(manifest)
    manifests.write(learned, workspace.path(artifacts.TRAINING_IMAGES))
    for table, name in ((manifest, artifacts.MANIFEST_DIGEST), (learned, artifacts.TRAINING_DIGEST)):
        content = {"sha256": manifests.content_digest(table), "rows": len(table)}
        files.write_json(workspace.path(name), content)
    digests = {"manifest": manifests.digest(manifest), "training": manifests.digest(learned)}
    result = {"verdict": PASSED if verdict.passed else REFUSED, **digests}
    files.write_json(workspace.path(artifacts.VALIDATION_RESULT), result | judged.to_dict())
    changes = changed_data(reference, manifest) if reference is not None else None
    report.write_report(judged, data, workspace.path(artifacts.REPORT), changes, whose)
    console.err.print(judged.to_table())
    if not verdict.passed:
        raise DataRefused(f"{verdict.message}; mend it and run this again, pictures in {artifacts.REPORT}")
    paths = {"data_docs": str(artifacts.DATA_DOCS / "index.html"), "report": str(artifacts.REPORT)}
    return Outcome(0, f"{len(manifest)} files: {verdict.message}", PASSED, paths)


def data_diff(workspace: Workspace) -> "Changes":
    """What changed in `data/` since the champion's data.

    Raises:
        UsageError: there is no champion, and no candidate either.
    """
    from vggflow import champion_data
    from vggflow.data import gate

    champion_data.fetch(workspace)
    reference, _ = champion_data.read(workspace)
    if reference is None:
        raise UsageError("no champion and no candidate to compare with: `vggflow retrain` makes the first")
    data, cache = workspace.path(artifacts.DATA), workspace.path(artifacts.STATE) / "scan"
    now = gate.look(data, workspace.settings().validate_, cache=cache, bars=console.progress)
    return changed_data(reference, now.manifest)


def changed_data(before: Any, now: Any) -> "Changes":
    """What became of the files of one manifest in another."""
    from vggflow.data import changes

    return changes.compare(before, now)


def import_data(
    workspace: Workspace, source: Path, options: "ImportOptions", *, commit: bool = True
) -> "tuple[ImportSummary, bool]":
    """Copies images into `data/`, then versions them: `dvc add`, `dvc push`, a git commit, a git push.

    What an earlier call did not get to, such as a push, is done now. One import at a time is at work on a
    workspace.

    Returns:
        What was copied, and whether there is anything new for others to hear of.

    Raises:
        DataError: the source is of a shape nobody knows, or would overwrite a file.
    """
    if commit and not options.dry_run:
        publishing.refuse_unpublishable(workspace)
    with reconcile.alone_on_data(workspace):
        return _import_data(workspace, source, options, commit)


def _import_data(
    workspace: Workspace, source: Path, options: "ImportOptions", commit: bool
) -> "tuple[ImportSummary, bool]":
    from vggflow.data.importers import import_images

    if not options.dry_run:
        _refuse_obstacles(workspace)
        if data_versions.entry(workspace, "data"):
            tell_all(reconcile.update(workspace, "data")[0])
    with console.progress("import") as advance:
        summary = import_images(source, workspace.path(artifacts.DATA), advance, options)
    if options.dry_run:
        return summary, False
    _refuse_obstacles(workspace)
    console.tell("versioning data with DVC")
    reconcile.add(workspace, "data")
    _version_weights(workspace)
    workspace.dvc("push", "data.dvc", "weights.dvc")
    if not commit:
        return summary, False
    message = f"Data: {summary.copied} files from {source.name}"
    committed = workspaces.commit(workspace, ["data.dvc", "weights.dvc"], message)
    return summary, publishing.publish(workspace) or committed


def tell_all(lines: Sequence[str]) -> None:
    """What was done, to a person."""
    for line in lines:
        console.tell(line)


def _version_weights(workspace: Workspace) -> None:
    """Start weights come into git with the data; where nobody can fetch them now, a retraining tries again."""
    said, differs = reconcile.update(workspace, "weights")
    tell_all(said)
    fetched = None
    try:
        fetched = _fetch_imagenet(workspace)
    except WeightsUnreachable as error:
        console.tell(f"start weights are left for later: {error}")
    if differs or fetched:
        reconcile.add(workspace, "weights")


def sample_data(workspace: Workspace, per_class: int) -> dict[str, dict[str, int]]:
    """Fills `data/sample/` with a small copy of the data; returns the images per split and class."""
    from vggflow.data.sample import take_sample

    return take_sample(workspace.path(artifacts.DATA), per_class)


def train(workspace: Workspace) -> Outcome:
    """Fine-tunes the network in its phases, in one MLflow run, alone on the device.

    Raises:
        DataRefused: the data gate has not passed this manifest.
    """
    with stage_inputs.unchanged(workspace, "train") as inputs:
        return _train(workspace, inputs)


def _train(workspace: Workspace, inputs: "stage_inputs.Inputs") -> Outcome:
    settings = workspace.settings()
    engine.start(settings.train.backend)
    from vggflow.models import files as models
    from vggflow.tracking import connection, lineage, people
    from vggflow.tracking.training_run import TrainingRun
    from vggflow.training.bar import Bar
    from vggflow.training.fitting import discard_checkpoint, fit

    job = _training_job(workspace, settings)
    snapshot = lineage.of_training(workspace, settings)
    began = time.monotonic()
    with alone_on_devices(), console.progress("train") as advance:
        client = connection.connect(workspace)
        trainer = people.asking(client)
        bar = Bar(advance, settings.train.phases, settings.train.batch_size)
        observer = TrainingRun(client, settings, run_name(workspace), bar)
        with observer.closing():
            trained = fit(job, observer)
            inputs.refuse_changes()  # here too, so that the run is not closed as finished
            for name in (artifacts.MODEL, artifacts.HISTORY, artifacts.RUN):
                files.remove_halves(workspace.path(name))
            models.save(trained.model, trained.info, workspace.path(artifacts.MODEL))
            files.write_json(workspace.path(artifacts.HISTORY), trained.history)
            files.write_json(
                workspace.path(artifacts.RUN),
                {
                    "run_id": observer.run_id,
                    "experiment": settings.registry.experiment,
                    "trained_by": trainer.name,
                    "trained_by_kind": trainer.kind,
                    "facts": trained.facts,
                    "results": trained.results,
                    lineage.FOLDER: snapshot.to_dict(),
                },
            )
        # Not before the run has every point: where the server stays away, the next try has only that left to do.
        discard_checkpoint(job, trained)
    message = (
        f"{len(trained.history)} epochs in {time.monotonic() - began:.0f} s: {_compared(trained.results)}"
    )
    facts = {"run_id": observer.run_id, "phases": _phases(trained.history), "results": trained.results}
    return Outcome(0, message, facts=facts)


def find_learning_rate(
    workspace: Workspace, phase: str | None, output: Path | None
) -> "tuple[RateCurve, Path]":
    """Tries rates on a phase and draws the loss at each; changes no result and no registry.

    Raises:
        SettingsError: there is no such phase.
        UsageError: the file to draw into is of a kind that is not drawn.
    """
    if output and output.suffix not in DRAWN:
        raise UsageError(f"{output} can't be drawn: expected a name ending in {', '.join(DRAWN)}")
    settings = workspace.settings()
    engine.start(settings.train.backend)
    from vggflow.training import rate_search

    job = _training_job(workspace, settings)
    with alone_on_devices(), console.progress("find rate") as advance:
        curve = rate_search.find_learning_rate(job, phase, advance)
    path = output or workspace.path(artifacts.STATE) / f"learning-rate-{curve.phase}.png"
    with files.replacing(path) as beside:
        rate_search.draw(curve).savefig(beside)
    return curve, path


def _training_job(workspace: Workspace, settings: Settings) -> "TrainingJob":
    """What the data gate let through, to be trained with these settings."""
    from vggflow.data import manifest as manifests
    from vggflow.training import feature_cache
    from vggflow.training.job import TrainingJob

    images = manifests.read(workspace.path(artifacts.TRAINING_IMAGES))
    _refuse_other_table(workspace, "train", images, artifacts.TRAINING_DIGEST)
    _ask_gate(workspace, manifests.digest(images))
    return TrainingJob(
        settings,
        images,
        workspace.path(artifacts.DATA),
        workspace.path(artifacts.WEIGHTS),
        state_folder(),
        feature_limit_bytes=feature_cache.limit_bytes(),
    )


def _compared(results: Mapping[str, float]) -> str:
    """How the model does on valid, beside what its frozen layers are worth without training."""
    said = f"valid {results['model_val_accuracy']:.1%}"
    if "linear_probe_val_accuracy" not in results:  # the first phase has no cached features
        return said
    seconds, accuracy = results["linear_probe_seconds"], results["linear_probe_val_accuracy"]
    return f"{said} (no training, {seconds:.{0 if seconds >= 10 else 1}f} s: {accuracy:.1%})"


def evaluate(workspace: Workspace) -> Outcome:
    """Measures the trained model on test, or on valid where no test image has a label: into files and the run."""
    with stage_inputs.unchanged(workspace, "evaluate"):
        return _evaluate(workspace)


def _evaluate(workspace: Workspace) -> Outcome:
    engine.start()
    from vggflow.data import manifest as manifests
    from vggflow.evaluation import metrics, plots
    from vggflow.prediction import scoring, table
    from vggflow.prediction.predictor import Predictor
    from vggflow.tracking import connection, lineage, runs

    settings = workspace.settings()
    snapshot = lineage.of_evaluation(workspace)
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    _refuse_other_table(workspace, "evaluate", manifest, artifacts.MANIFEST_DIGEST)
    images = manifests.labelled(manifest, evaluation_split(manifest))
    predictor = Predictor(workspace.path(artifacts.MODEL))
    with console.progress("evaluate") as advance:
        data = workspace.path(artifacts.DATA)
        predictions = scoring.score(predictor, images, data, settings.evaluate.batch_size, advance)
    table.write(predictions, workspace.path(artifacts.PREDICTIONS))
    info, history = predictor.info, files.read_json(workspace.path(artifacts.HISTORY))
    numbers = {"split": evaluation_split(manifest)}
    numbers |= metrics.measure(predictions, info.class_names, info.temperature)
    files.write_json(workspace.path(artifacts.METRICS), numbers)
    files.write_json(
        workspace.path(artifacts.EVALUATION_RUN),
        {"evaluated": lineage.evaluated(workspace), lineage.FOLDER: snapshot.to_dict()},
    )
    plots.draw_all(predictions, info.class_names, history, workspace.path(artifacts.PLOTS), info.temperature)
    _write_page(workspace, manifest, predictions, info)
    run_id = files.read_json(workspace.path(artifacts.RUN))["run_id"]
    client = connection.connect(workspace)
    if runs.exists(client, run_id):
        runs.log_evaluation(client, run_id, workspace)
    where = {"test": "of test", "valid": "of valid (no labelled test images: promotion is up to a person)"}
    message = f"accuracy {numbers['accuracy']:.1%} on {len(predictions)} images {where[numbers['split']]}"
    return Outcome(0, message, paths={"report": str(artifacts.EVALUATION_REPORT)})


def _write_page(workspace: Workspace, manifest: Any, predictions: Any, info: Any) -> None:
    """The page that a person reads: measures, figures, and the worst mistakes with what the model looked at."""
    from vggflow.data import manifest as manifests
    from vggflow.evaluation import comparison, heat, page, report

    model = workspace.path(artifacts.MODEL)
    images = manifests.labelled(manifest, evaluation_split(manifest))
    megabytes = model.stat().st_size / 1e6
    side = comparison.Side(predictions, info.class_names, megabytes, temperature=info.temperature)
    compared = comparison.compare(side, None, manifests.digest(manifest), images)
    history = files.read_json(workspace.path(artifacts.HISTORY))
    content = page.Page(
        run_name(workspace),
        compared,
        images,
        workspace.path(artifacts.DATA),
        history=history,
        looking=heat.looking(model),
    )
    report.write(content, workspace.path(artifacts.EVALUATION_REPORT))


def register(workspace: Workspace, *, alias: bool = True) -> "tuple[Version, bool]":
    """Makes the evaluated model a candidate version, once; tells whether it is new.

    Where this server lacks the training's run, as after a restore on another machine, the run is rebuilt from files.
    """
    from vggflow.data import layout
    from vggflow.data import manifest as manifests
    from vggflow.evaluation import card, card_facts
    from vggflow.tracking import connection, lineage, ownership, registry, runs

    settings = workspace.settings()
    model = workspace.path(artifacts.MODEL)
    if not model.exists() or not workspace.path(artifacts.METRICS).exists():
        raise DataError(f"no evaluated model in {workspace.root}: run `vggflow retrain` first")
    recorded = lineage.read(workspace)
    client = connection.connect(workspace)
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    # Unlabelled images make no other candidate of a model, other test images do.
    measured = manifests.digest(manifest[manifest["class_name"] != layout.UNLABELLED])
    key = f"{files.sha256(model)[:32]}-{measured[:32]}"
    version = registry.find_candidate(client, settings.registry, key)
    new = version is None
    if version is None:
        if not recorded.training.tags:
            console.tell(
                f"{artifacts.RUN} does not say what this model was trained from (a vggflow of before did not keep "
                "that): its version carries no commit, data or settings; `vggflow retrain` trains one that does"
            )
        run_id = _run_on_this_server(workspace, client, settings)
        tags = lineage.tags(workspace, recorded)
        if missing := tags.get("git.missing"):
            console.tell(f"this version carries no git commit, so nobody can rebuild it: {missing}")
        tags |= {registry.KEY: key, registry.EVIDENCE: f"versions/{key}"}
        facts = card_facts.gather(workspace, tags, recorded.training.files.get(artifacts.PARAMS.name))
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            lineage.write_files(workspace, recorded, Path(folder) / lineage.FOLDER)
            files.write_text(Path(folder) / MODEL_CARD, card.render(facts))
            runs.log_evidence(client, run_id, workspace, Path(folder), tags[registry.EVIDENCE])
        described = registry.Described(tags, card.summary(facts))
        version = registry.create_candidate(client, settings.registry, run_id, model, described)
    with connection.answering():
        if ownership.claim(client, workspace) and version.number > 1:
            console.tell(f"{version.name} had no workspace yet: it is this one's now")
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


def _refuse_other_table(workspace: Workspace, stage: str, table: Any, name: PurePosixPath) -> None:
    """DVC knows of the digest only, so the table itself is held to it.

    Raises:
        DataError: it is another one.
    """
    from vggflow.data import manifest as manifests

    # A dvc.yaml of before does not name the digest: then DVC has digested the table.
    if not stage_inputs.depends_on(workspace, stage, str(name)):
        return
    path = workspace.path(name)
    if not path.exists() or files.read_json(path)["sha256"] != manifests.content_digest(table):
        raise DataError(
            f"{name} does not belong to {name.with_suffix('.parquet')}: run `vggflow validate` first"
        )


def _ask_gate(workspace: Workspace, digest: str) -> None:
    """Training is the gate's business too when somebody runs it by hand."""
    path = workspace.path(artifacts.VALIDATION_RESULT)
    result = files.read_json(path) if path.exists() else {}
    if result.get("training") != digest:
        raise DataError(f"{path} does not belong to these images: run `vggflow validate` first")
    if result["verdict"] != PASSED:
        raise DataRefused(
            f"the data gate refused this data: see {path}, mend the data, run `vggflow validate` again"
        )


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
