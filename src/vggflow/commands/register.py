"""`vggflow register`: makes the evaluated model a candidate version, with its evidence."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vggflow import artifacts, console, files
from vggflow.commands import options
from vggflow.console import say
from vggflow.errors import DataError, VggflowError
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.tracking.registry.model_versions import Version
    from vggflow.tracking.registry.registry import Registry

MODEL_CARD = "model_card.md"


def command(context: typer.Context) -> None:
    """Makes the evaluated model a candidate version, with alias challenger."""
    version, new = register(options.workspace(context))
    say(f"{version.name} version {version.number} {'is the challenger' if new else 'was registered already'}")


def register(workspace: Workspace, *, alias: bool = True) -> "tuple[Version, bool]":
    """Makes the evaluated model a candidate version, once; tells whether it is new.

    Where this server lacks the training's run, as after a restore on another machine, the run is rebuilt from files.
    """
    from vggflow.data import layout
    from vggflow.data import manifest as manifests
    from vggflow.report import card, card_facts
    from vggflow.tracking import connection, runs
    from vggflow.tracking.registry import lineage, model_versions, ownership

    settings = workspace.settings()
    model = workspace.path(artifacts.MODEL)
    if not model.exists() or not workspace.path(artifacts.METRICS).exists():
        raise DataError(f"no evaluated model in {workspace.root}: run `vggflow retrain` first")
    # Before anything is written: it refuses measures of another model.
    recorded = lineage.read(workspace)
    registry = connection.connect(workspace, settings.registry)
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    # Unlabelled images make no other candidate of a model, other test images do.
    measured = manifests.digest(manifest[manifest["class_name"] != layout.UNLABELLED])
    # Half of each digest is enough, and the key names a folder too.
    key = f"{files.sha256(model)[:32]}-{measured[:32]}"
    version = model_versions.find_candidate(registry, key)
    new = version is None
    if version is None:
        if not recorded.training.tags:
            console.tell(
                f"{artifacts.RUN} does not say what this model was trained from (a vggflow of before did not keep "
                "that): its version carries no commit, data or settings; `vggflow retrain` trains one that does"
            )
        run_id = _run_on_this_server(workspace, registry)
        tags = lineage.tags(workspace, recorded)
        if missing := tags.get("git.missing"):
            console.tell(f"this version carries no git commit, so nobody can rebuild it: {missing}")
        tags |= {model_versions.KEY: key, model_versions.EVIDENCE: f"versions/{key}"}
        facts = card_facts.gather(
            workspace, settings, tags, recorded.training.files.get(artifacts.PARAMS.name)
        )
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            lineage.write_files(workspace, recorded, Path(folder) / lineage.FOLDER)
            files.write_text(Path(folder) / MODEL_CARD, card.render(facts))
            tags |= _export(workspace, Path(folder))
            runs.log_evidence(registry.client, run_id, workspace, Path(folder), tags[model_versions.EVIDENCE])
        described = model_versions.Described(tags, card.summary(facts))
        # Last, so that a version that exists has all its evidence, wherever a kill came.
        version = model_versions.create_candidate(registry, run_id, model, described)
    with connection.mlflow_errors_as_one_line():
        if ownership.claim(registry, workspace) and version.number > 1:
            console.tell(f"{version.name} had no workspace yet: it is this one's now")
    # Also what was registered before: the challenger is the model that was evaluated last.
    if alias:
        version = model_versions.challenge(registry.client, version)
    return version, new


def _export(workspace: Workspace, folder: Path) -> dict[str, str]:
    """Puts the exported graph among the evidence of a version; the tags that name it.

    A model without one answers through Keras, only later, so nothing is held up for it.
    """
    from vggflow.prediction import exported_graph, table
    from vggflow.tracking.registry import champion_alias, model_versions

    predictions = table.read(workspace.path(artifacts.PREDICTIONS))
    try:
        made = exported_graph.kept(workspace.path(artifacts.MODEL), workspace.path(artifacts.GRAPHS))
        agreement = exported_graph.compare(made, predictions, workspace.path(artifacts.DATA))
    except VggflowError as error:
        console.tell(f"{error}; predictions with this version start Keras")
        return {}
    graph = folder / model_versions.GRAPH
    graph.parent.mkdir()
    shutil.copyfile(made, graph)
    return {
        champion_alias.GRAPH_SHA256: files.sha256(graph),
        "onnx.difference": f"{agreement.difference:.1e}",
        "onnx.images": str(agreement.images),
    }


def _run_on_this_server(workspace: Workspace, registry: "Registry") -> str:
    """The run of the training; rebuilt from files where this server does not have it."""
    from vggflow.tracking import connection, runs

    recorded = files.read_json(workspace.path(artifacts.RUN))
    if runs.exists(registry.client, recorded["run_id"]):
        return str(recorded["run_id"])
    place = connection.experiment_id(registry.client, registry.names.experiment)
    return runs.rebuild(registry.client, place, workspace, recorded)
