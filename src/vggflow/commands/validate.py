"""`vggflow validate`: looks at every file and lets the data gate judge."""

import typer

from vggflow import artifacts, console, files
from vggflow.commands import options
from vggflow.environment import state_place
from vggflow.errors import DataError, DataRefused
from vggflow.processes import stage_inputs
from vggflow.processes.stage import Outcome, run_stage
from vggflow.versioning import label_changes
from vggflow.workspace import Workspace, check_version

PASSED, REFUSED = "passed", "refused"


def command(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Looks at every image and lets the data gate judge."""
    if not as_json:
        options.run_stage(options.workspace(context), "validate", validate)
        return
    workspace = options.workspace(context)
    check_version(workspace)
    try:
        run_stage(workspace, "validate", lambda: validate(workspace))
    # A refusal is printed too, as what was found is what programs ask for; the exit code stays.
    except DataRefused:
        options.print_json(files.read_json(workspace.path(artifacts.VALIDATION_RESULT)))
        raise
    options.print_json(files.read_json(workspace.path(artifacts.VALIDATION_RESULT)))


def validate(workspace: Workspace) -> Outcome:
    """Looks at every file, writes manifest, result, Data Docs and report, and lets the data gate judge.

    Raises:
        DataError: there is no data.
        DataRefused: something critical was found; the report shows it.
    """
    from vggflow.commands import reference

    # Under DVC a stage of its own has asked; by hand nobody has.
    if not reference.given_by_dvc(workspace):
        reference.fetch(workspace)
    if (cut_off := label_changes.unfinished(workspace)) and not cut_off.done:
        raise DataError(
            "some images of a relabelling have moved and some not: `vggflow data relabel` finishes it"
        )
    with stage_inputs.unchanged(workspace, "validate"):
        return _validate(workspace)


def _validate(workspace: Workspace) -> Outcome:
    from vggflow.audit import record
    from vggflow.commands import reference
    from vggflow.data import changes
    from vggflow.data import manifest as manifests
    from vggflow.gate import judge, report

    data = workspace.path(artifacts.DATA)
    whole = workspace.settings()
    settings = whole.validate_
    before, whose = reference.read(workspace)
    cache, docs = workspace.path(artifacts.STATE) / "scan", workspace.path(artifacts.DATA_DOCS)
    # DVC does not know of it: so it may warn, and never refuses nor changes a table.
    audited = record.read(record.place(state_place(), whole.registry.name))
    judged = judge.judge(
        data, settings, docs, cache=cache, reference=before, audited=audited, bars=console.progress
    )
    verdict, manifest = judged.verdict, judged.manifest
    manifests.write(manifest, workspace.path(artifacts.MANIFEST))
    learned = manifests.training(manifest)
    manifests.write(learned, workspace.path(artifacts.TRAINING_IMAGES))
    for table, name in ((manifest, artifacts.MANIFEST_DIGEST), (learned, artifacts.TRAINING_DIGEST)):
        content = {"sha256": manifests.content_digest(table), "rows": len(table)}
        files.write_json(workspace.path(name), content)
    digests = {"manifest": manifests.digest(manifest), "training": manifests.digest(learned)}
    result = {"verdict": PASSED if verdict.passed else REFUSED, **digests}
    # After the tables that it speaks of: a kill in between leaves an old result that fits no new table.
    files.write_json(workspace.path(artifacts.VALIDATION_RESULT), result | judged.to_dict())
    changed = changes.compare(before, manifest) if before is not None else None
    report.write_report(judged, data, workspace.path(artifacts.REPORT), changed, whose)
    console.err.print(judged.to_table())
    if not verdict.passed:
        raise DataRefused(f"{verdict.message}; mend it and run this again, pictures in {artifacts.REPORT}")
    paths = {"data_docs": str(artifacts.DATA_DOCS / "index.html"), "report": str(artifacts.REPORT)}
    return Outcome(0, f"{len(manifest)} files: {verdict.message}", PASSED, paths)
