"""`vggflow evaluate`: measures the trained model on the test images."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vggflow import artifacts, console, files
from vggflow.commands import options
from vggflow.models import start_keras
from vggflow.processes import stage_inputs
from vggflow.processes.stage import Outcome
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.prediction.predictor import Predictor
    from vggflow.report.page import Doubts


def command(context: typer.Context) -> None:
    """Measures the trained model on the test images."""
    options.run_stage(options.workspace(context), "evaluate", evaluate)


def evaluate(workspace: Workspace) -> Outcome:
    """Measures the trained model on test, or on valid where no test image has a label: into files and the run."""
    with stage_inputs.unchanged(workspace, "evaluate"):
        return _evaluate(workspace)


def _evaluate(workspace: Workspace) -> Outcome:
    settings = workspace.settings()
    start_keras.start(settings.train.backend)
    from vggflow.data import manifest as manifests
    from vggflow.evaluation import metrics
    from vggflow.prediction import scoring, table
    from vggflow.prediction.predictor import Predictor
    from vggflow.report import plots
    from vggflow.tracking import connection, runs
    from vggflow.tracking.registry import lineage

    # At the start: what is committed while it computes is not what it was computed from.
    snapshot = lineage.of_evaluation(workspace)
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    manifests.refuse_other(
        workspace.path(artifacts.MANIFEST_DIGEST),
        manifest,
        known=stage_inputs.depends_on(workspace, "evaluate", str(artifacts.MANIFEST_DIGEST)),
    )
    images = manifests.labelled(manifest, manifests.evaluation_split(manifest))
    predictor = Predictor(workspace.path(artifacts.MODEL))
    with console.progress("evaluate") as advance:
        data = workspace.path(artifacts.DATA)
        predictions = scoring.score(predictor, images, data, settings.evaluate.batch_size, advance)
    table.write(predictions, workspace.path(artifacts.PREDICTIONS))
    info, history = predictor.info, files.read_json(workspace.path(artifacts.HISTORY))
    numbers = {"split": manifests.evaluation_split(manifest)}
    numbers |= metrics.measure(predictions, info.class_names, info.temperature)
    # Before the run's file, which holds their digest.
    files.write_json(workspace.path(artifacts.METRICS), numbers)
    files.write_json(
        workspace.path(artifacts.EVALUATION_RUN),
        {"evaluated": lineage.evaluated(workspace), lineage.FOLDER: snapshot.to_dict()},
    )
    folder = workspace.path(artifacts.PLOTS)
    figures = plots.draw_all(predictions, info.class_names, history, folder, info.temperature)
    doubts = _doubts(workspace, manifest)
    _write_page(workspace, manifest, predictions, info, figures, doubts)
    _keep_graph(workspace, predictor)
    run_id = files.read_json(workspace.path(artifacts.RUN))["run_id"]
    client = connection.connect(workspace, settings.registry).client
    # Where a server lacks the run, as after a restore, `register` rebuilds it with what is left out here.
    if runs.exists(client, run_id):
        runs.log_evaluation(client, run_id, workspace)
    where = {"test": "of test", "valid": "of valid (no labelled test images: promotion is up to a person)"}
    message = f"accuracy {numbers['accuracy']:.1%} on {len(predictions)} images {where[numbers['split']]}"
    return Outcome(0, message, paths={"report": str(artifacts.EVALUATION_REPORT)})


def _keep_graph(workspace: Workspace, predictor: "Predictor") -> None:
    """The exported graph, for `register`: here TensorFlow is at work already, there it would have to start."""
    import keras

    from vggflow.prediction import exported_graph

    if keras.backend.backend() == "tensorflow":
        # Whatever went wrong, `register` tries again, and says so.
        with suppress(Exception):
            exported_graph.keep(predictor, workspace.path(artifacts.MODEL), workspace.path(artifacts.GRAPHS))


def _doubts(workspace: Workspace, manifest: Any) -> "Doubts | None":
    """Labels that may be wrong, where that is known already."""
    from vggflow.commands import suspects_at_hand

    try:
        return suspects_at_hand.doubts(workspace, workspace.settings(), manifest)
    except Exception as error:  # noqa: BLE001 (no part of a page may fail the evaluation, whose numbers are there)
        console.tell(f"the report tells of no label in doubt: {' '.join(str(error).split())}")
        return None


def _write_page(
    workspace: Workspace,
    manifest: Any,
    predictions: Any,
    info: Any,
    figures: dict[str, Path],
    doubts: "Doubts | None",
) -> None:
    """The page that a person reads: measures, figures, and the worst mistakes with what the model looked at."""
    from vggflow.data import manifest as manifests
    from vggflow.evaluation import heat
    from vggflow.promotion import comparison
    from vggflow.report import page
    from vggflow.report import write as report
    from vggflow.tracking.registry import lineage

    model = workspace.path(artifacts.MODEL)
    images = manifests.labelled(manifest, manifests.evaluation_split(manifest))
    megabytes = model.stat().st_size / 1e6
    side = comparison.Side(predictions, info.class_names, megabytes, temperature=info.temperature)
    compared = comparison.compare(side, None, manifests.digest(manifest), images)
    history = files.read_json(workspace.path(artifacts.HISTORY))
    content = page.Page(
        lineage.run_name(workspace),
        compared,
        images,
        workspace.path(artifacts.DATA),
        history=history,
        figures=figures,
        # Not in a process of its own: Keras, which takes seconds to import, is here already.
        heat_maps=heat.heat_maps(model),
        doubts=doubts,
    )
    report.write(content, workspace.path(artifacts.EVALUATION_REPORT))
