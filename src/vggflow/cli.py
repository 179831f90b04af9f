"""The command line: one command per verb. It parses, calls and prints; what is done stands elsewhere."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vggflow import __version__, artifacts, repository
from vggflow.console import err, out, say, table, tell
from vggflow.credentials import hidden_from_output
from vggflow.errors import DataRefused, PromotionRefused, UsageError, VggflowError
from vggflow.process import leave
from vggflow.workspace import Workspace, check_version, find, init, recipes

app = typer.Typer(
    help="Retrains VGG16 image classifiers from folders of images, with evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Brings images in.", no_args_is_help=True)
app.add_typer(data_app, name="data")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
By = Annotated[str | None, typer.Option("--by", help="Who, where the tracking server knows no users.")]
Candidate = Annotated[bool, typer.Option("--candidate", help="A candidate; else a promoted model.")]
INTERRUPTED = 130
# Candidates in the table of `models`: a year's nights are more than anybody reads.
NEWEST = 50


def main() -> None:
    """The program."""
    leave(run())


def run() -> int:
    """Runs the command of `sys.argv`; errors are one line on stderr, and the exit code says what kind."""
    for name, level in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("MLFLOW_LOGGING_LEVEL", "WARNING")):
        os.environ.setdefault(name, level)
    with hidden_from_output():
        return _run()


def _run() -> int:
    try:
        # Outside of standalone mode `typer.Exit` does not end the program: its code comes back instead.
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except VggflowError as error:
        err.print(f"vggflow: {error}", markup=False)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("vggflow: interrupted; what was finished is kept, run the same command to go on")
        return INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        code = _shown_by_click(error)
        if code is None:
            raise
        return code


def _shown_by_click(error: Exception) -> int | None:
    """Lets click say what is wrong with the arguments; none for errors that are not about them."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if not callable(show) or not isinstance(code, int):
        return None
    show()
    return code


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--workspace", "-C", help="The workspace.")] = Path(),
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Retrains VGG16 image classifiers from folders of images, with evidence."""
    if version:
        say(f"vggflow {__version__}")
        raise typer.Exit
    context.obj = folder
    if context.invoked_subcommand != "up" and (folder / artifacts.STATE / "stack").is_dir():
        from vggflow.stack import environment

        environment.use(folder)


def _here(context: typer.Context) -> Workspace:
    return find(context.obj)


@app.command("init")
def init_(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")] = Path(),
    recipe: Annotated[str, typer.Option(help="What params.yaml starts from.")] = "two-phase",
    sample: Annotated[
        bool, typer.Option("--sample", help="With the embedded digits and start weights.")
    ] = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="A repository of its own also inside another one.")
    ] = False,
) -> None:
    """Makes a workspace: git, DVC, a DVC remote beside it, settings."""
    if recipe not in recipes():
        raise UsageError(f"unknown recipe {recipe!r}: choose one of {', '.join(recipes())}")
    if not nested:
        repository.refuse_nesting(folder, ask=typer.confirm if sys.stdin.isatty() else None)
    if sample:
        from vggflow.sample import workspace as digits

        tell("making start weights from the digits 0 to 4 (about 20 s)")
        workspace = digits.make(folder)
    else:
        workspace = init(folder, recipe)
    remote = workspace.dvc("remote", "list").split()
    say(f"workspace {workspace.root}")
    say(f"DVC remote {remote[1] if len(remote) > 1 else 'none'}")
    step = "vggflow retrain" if sample else "vggflow data import FOLDER"
    say(f"next: cd {folder} && {step}" if folder != Path() else f"next: {step}")


@data_app.command("import")
def data_import(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A folder, a zip or a tar with images.")],
    valid: Annotated[
        float, typer.Option(help="Share of images for valid, where the source has no splits.")
    ] = 0.1,
    test: Annotated[float, typer.Option(help="Share of images for test, likewise.")] = 0.1,
    group: Annotated[
        str | None, typer.Option(help="Regular expression: what it captures stays together.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV that names the class of each image.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Its column of images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column of classes.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="What names in an archive are written in, such as cp1252.")
    ] = None,
    class_folder: Annotated[
        Literal["first", "last"] | None,
        typer.Option(help="Which of the folders that lie in each other is the class."),
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Folders called unknown hold images without a label.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copies images into data/ and versions them with DVC and git."""
    from vggflow import pipeline, servers
    from vggflow.data.importers import ImportOptions, LabelFile
    from vggflow.data.splitting import Shares

    if labels is None and (image_column or label_column):
        raise UsageError("--image-column and --label-column say what a table holds: name it with --labels")
    options = ImportOptions(
        Shares(valid, test, group),
        dry_run=dry_run,
        labels=LabelFile(labels, image_column, label_column, encoding) if labels else None,
        encoding=encoding,
        class_folder=class_folder,
        unlabelled=unlabelled,
    )
    summary, news = pipeline.import_data(_here(context), source, options, commit=not no_commit)
    if news:
        servers.announce(_here(context))
    if as_json:
        _print_json(summary.to_dict())
    else:
        out.print(summary.to_table())


@data_app.command("accept")
def data_accept(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: AsJson = False,
) -> None:
    """Says that data/ and weights/ are meant as they are, with what is gone from them."""
    from vggflow import accept, servers

    done, news = accept.accept(_here(context), dry_run=dry_run, commit=not no_commit)
    if news:
        servers.announce(_here(context))
    if as_json:
        _print_json([each.to_dict() for each in done])
        return
    for each in done:
        say(each.message)


@data_app.command("restore")
def data_restore(context: typer.Context) -> None:
    """Brings back what is gone from data/ and weights/, or was overwritten under a name that is free again."""
    from vggflow import accept

    for line in accept.restore(_here(context)):
        say(line)


@data_app.command("diff")
def data_diff(context: typer.Context, as_json: AsJson = False) -> None:
    """Says what changed in data/ since the champion's data."""
    from vggflow import pipeline

    changes = pipeline.data_diff(_here(context))
    if as_json:
        _print_json(changes.to_dict())
    else:
        out.print(changes.to_table())


@data_app.command("sample")
def data_sample(
    context: typer.Context,
    per_class: Annotated[int, typer.Option(help="Images of each class in each split.", min=1)] = 20,
) -> None:
    """Fills data/sample/ with a small copy, for `vggflow retrain --sample`."""
    from vggflow import pipeline

    counts = pipeline.sample_data(_here(context), per_class)
    splits = ", ".join(f"{split} {sum(of_split.values())}" for split, of_split in counts.items())
    say(f"data/sample: {splits}")


def _run_stage(workspace: Workspace, name: str) -> None:
    from vggflow import pipeline
    from vggflow.process import run_stage

    def work() -> Any:
        check_version(workspace)
        return getattr(pipeline, name)(workspace)

    say(run_stage(workspace, name, work).message)


def _stage(name: str, description: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        _run_stage(_here(context), name)

    command.__doc__ = description
    return app.command(name)(command)


@app.command()
def validate(context: typer.Context, as_json: AsJson = False) -> None:
    """Looks at every image and lets the data gate judge."""
    if not as_json:
        _run_stage(_here(context), "validate")
        return
    from vggflow import pipeline
    from vggflow.files import read_json
    from vggflow.process import run_stage

    workspace = _here(context)
    check_version(workspace)
    try:
        run_stage(workspace, "validate", lambda: pipeline.validate(workspace))
    except DataRefused:
        _print_json(read_json(workspace.path(artifacts.VALIDATION_RESULT)))
        raise
    _print_json(read_json(workspace.path(artifacts.VALIDATION_RESULT)))


reference = _stage(
    "reference", "Asks the registry which data validate compares with: the champion's, else a candidate's."
)
evaluate = _stage("evaluate", "Measures the trained model on the test images.")


@app.command()
def train(
    context: typer.Context,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Only try learning rates: draw the loss at each, suggest one.")
    ] = False,
    phase: Annotated[str | None, typer.Option(help="With --find-lr: the phase; else the first.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --find-lr: the PNG, SVG or PDF to draw into.")
    ] = None,
) -> None:
    """Fine-tunes the network in the phases of params.yaml."""
    if not find_lr:
        if phase or output:
            raise UsageError("--phase and --output belong to --find-lr: add it, or leave them out")
        _run_stage(_here(context), "train")
        return
    from vggflow import pipeline

    curve, path = pipeline.find_learning_rate(_here(context), phase, output)
    found = f"learning_rate {curve.suggestion:g} suggested, from the start weights on"
    say(f"phase {curve.phase}: {found}, curve in {path}")


@app.command()
def register(context: typer.Context) -> None:
    """Makes the evaluated model a candidate version, with alias challenger."""
    from vggflow import pipeline

    version, new = pipeline.register(_here(context))
    say(f"{version.name} version {version.number} {'is the challenger' if new else 'was registered already'}")


@app.command()
def promote(
    context: typer.Context,
    reason: Reason,
    number: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="The candidate; else the challenger.")
    ] = None,
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, but change nothing.")] = False,
    accept_class_change: Annotated[
        bool, typer.Option("--accept-class-change", help="Compare on the classes that both models know.")
    ] = False,
    override: Annotated[
        bool, typer.Option("--override", help="Promote against the gate; recorded as such.")
    ] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Only lift the hold that a rollback put on the flow.")
    ] = False,
) -> None:
    """Lets a candidate become champion, if it is better on the same test images."""
    from vggflow import succession

    if release:
        held = succession.release(_here(context), reason, by)
        say(f"the flow may promote again (held since version {held.withdrew} was rolled back)")
        return
    request = succession.Request(
        reason,
        by,
        number,
        dry_run=dry_run,
        override=override,
        accept_class_change=accept_class_change,
    )
    try:
        result = succession.promote(_here(context), request)
    except PromotionRefused as refused:
        tell(refused.evidence)
        raise
    if result.evidence:
        say(result.evidence)
    say(f"{result.outcome}: {result.message}")


@app.command()
def rollback(context: typer.Context, reason: Reason, by: By = None) -> None:
    """Puts the previous champion into use again, and holds automatic promotion."""
    from vggflow.succession import rollback

    done = rollback(_here(context), reason, by)
    say(f"version {done.to} is champion again, version {done.withdrew} is withdrawn")
    say('the flow promotes nothing until `vggflow promote --release --reason "WHY"`')


@app.command()
def models(
    context: typer.Context,
    history: Annotated[
        bool, typer.Option("--history", help="Who was champion from when until when.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help=f"Every candidate, not only the {NEWEST} newest.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Models that are said to be another workspace's are this one's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Lists champions and candidates with aliases and accuracy, or the history of champions."""
    from vggflow.listing import adopt_models, model_rows

    if adopt:
        say(adopt_models(_here(context)))
        return
    if history:
        _print_history(_here(context), as_json)
        return
    rows = model_rows(_here(context), None if every else NEWEST)
    if as_json:
        _print_json(rows)
    elif not rows:
        say("no models yet: `vggflow retrain` makes the first")
    else:
        columns = ["model", "version", "aliases", "accuracy", "data", "age", "champion"]
        out.print(table("", columns, [[str(row[column] or "–") for column in columns] for row in rows]))
        if not every and sum(not row["champion"] for row in rows) >= NEWEST:
            tell(f"of the candidates the {NEWEST} newest: --all shows the others too")


def _print_history(workspace: Workspace, as_json: bool) -> None:
    from vggflow import tracing

    rows = tracing.history(workspace)
    if as_json:
        _print_json(rows)
    elif not rows:
        say("no champion yet: `vggflow retrain` makes the first")
    else:
        out.print(table("", list(rows[0]), [tracing.as_cells(row) for row in rows]))


@app.command("lineage")
def lineage_(
    context: typer.Context,
    number: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="The version; else the champion.")
    ] = None,
    candidate: Candidate = False,
    as_json: AsJson = False,
) -> None:
    """Prints where a version came from: code, data, settings, packages, who and why."""
    from vggflow import tracing

    groups = tracing.trace(tracing.find_version(_here(context), number, candidate))
    if as_json:
        _print_json(groups)
        return
    for group, rows in groups.items():
        out.print(table(group, ["", ""], [[name, value] for name, value in rows.items()]))


@app.command()
def reproduce(
    context: typer.Context,
    number: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="The version; else the champion.")
    ] = None,
    candidate: Candidate = False,
    folder: Annotated[
        Path | None, typer.Option("--into", help="Leave the rebuilt workspace in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trains a version again from its recorded commit, settings and data, and compares."""
    from vggflow import tracing

    workspace = _here(context)
    found = tracing.reproduce(workspace, tracing.find_version(workspace, number, candidate), folder)
    if as_json:
        _print_json(found.to_dict())
    else:
        say(
            f"{found.model}: {'byte-identical' if found.identical else 'another model'}, {found.seconds:.0f} s"
        )
        differing = [[name, *map(str, pair)] for name, pair in {**found.metrics, **found.packages}.items()]
        if differing:
            out.print(table("", ["what differs", "then", "now"], differing))
    raise typer.Exit(0 if found.identical else 1)


@app.command()
def predict(
    context: typer.Context,
    places: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of images.")],
    number: Annotated[
        int | None, typer.Option("--version", help="Another version than the champion.")
    ] = None,
    candidate: Candidate = False,
    as_json: AsJson = False,
) -> None:
    """Says what the champion sees in images."""
    from vggflow import pipeline

    predictions = pipeline.predict(_here(context), places, number, candidate)
    rows = predictions.rows()
    if as_json:
        _print_json(rows)
        return
    tell(predictions.model)
    cells = [[str(row["path"]), str(row["label"]), f"{row['probability']:.3f}"] for row in rows]
    out.print(table("", ["image", "label", "probability"], cells))


@app.command()
def submit(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="The images; else data/test/unknown.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV file to write.")] = Path(
        "submission.csv"
    ),
    id_column: Annotated[
        str, typer.Option(help="What the column of images is called, where a class is called id.")
    ] = "id",
) -> None:
    """Writes a CSV with the champion's probabilities, as competitions take it."""
    from vggflow import pipeline
    from vggflow.prediction import submission

    workspace = _here(context)
    predictions = pipeline.predict(workspace, [folder or workspace.root / "data" / "test" / "unknown"])
    submission.write(predictions.paths, predictions.probabilities, predictions.class_names, output, id_column)
    say(f"{output}: {len(predictions.paths)} rows from {predictions.model}")


@app.command()
def retrain(
    context: typer.Context,
    sample: Annotated[bool, typer.Option("--sample", help="Try every step on data/sample.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Runs the whole flow, now: data, validate, train, evaluate, push, register, promote, publish."""
    if dry_run:
        _print_plan(_here(context), as_json)
        return
    if as_json:
        raise UsageError("--json belongs to --dry-run: add it, or leave --json out")
    from vggflow import servers

    command = ["retrain", str(_here(context).root), *(["--sample"] if sample else [])]
    raise typer.Exit(servers.run_flow(_here(context), command))


def _print_plan(workspace: Workspace, as_json: bool) -> None:
    from dataclasses import asdict

    from vggflow.foresight import foresee

    steps = foresee(workspace)
    if as_json:
        _print_json([asdict(step) for step in steps])
        return
    out.print(table("", ["step", "would", "why"], [[step.step, step.would, step.why] for step in steps]))


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Shows champion, challenger, data, last runs, next runs and who waits, on one screen."""
    from vggflow.status import overview, render

    found = overview(_here(context))
    if as_json:
        _print_json(found)
        return
    for line in render(found, whole=not out.file.isatty()):
        say(line)


@app.command()
def deploy(context: typer.Context, as_json: AsJson = False) -> None:
    """Applies prefect.yaml to the Prefect server and says what will run when and where."""
    from vggflow import servers

    found = servers.ask_flows(_here(context), "deploy")
    if as_json:
        _print_json(found)
        return
    columns = ["deployment", "when", "where", "at once"]
    out.print(table("", columns, [[str(row[column]) for column in columns] for row in found["deployments"]]))
    say(f"workspace {found['workspace']}: {found['place']}")
    say(f"automations: {', '.join(found['automations'])}")
    if found["note"]:
        say(found["note"])
    if found["silent"]:
        say(f"nobody is told of {', '.join(found['silent'])}: set VGGFLOW_NOTIFY_URL and deploy again")


@app.command()
def summary(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Option(help="A recipe; else this workspace's settings.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A .keras file, champion, challenger, or a version.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows the network: layers, shapes, counts, and what learns in each phase."""
    from vggflow import network

    found = network.summary(context.obj, recipe, model)
    if as_json:
        _print_json(found.to_dict())
        return
    from vggflow.models.summary import render

    out.print(render(found))


@app.command()
def compare(
    context: typer.Context,
    first: Annotated[
        str, typer.Argument(metavar="A", help="A .keras file, champion, 3, candidate:3, builder:keras …")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    data: Annotated[Path | None, typer.Option(help="A folder of images; else data/test.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sends the same images through two models and says how they differ."""
    from vggflow import network

    found = network.compare(context.obj, first, second, data)
    if as_json:
        _print_json(found.to_dict())
        return
    from vggflow.models.compare import render

    out.print(render(found))


@app.command()
def explain(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="The image.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path(
        "explanation.png"
    ),
    model: Annotated[
        str, typer.Option(help="A .keras file, champion, challenger, or a version.")
    ] = "champion",
) -> None:
    """Draws what a model sees in an image: feature maps of each block and a Grad-CAM heat map."""
    from vggflow import network

    label, probability = network.explain(context.obj, image, model, output)
    say(f"{output}: {label}, {probability:.1%}")


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all features; they are computed again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Shows what the cache of frozen features holds, or clears it."""
    from vggflow import listing
    from vggflow.process import state_folder
    from vggflow.training.feature_cache import limit_bytes

    if clear:
        say(f"{listing.clear_features(state_folder()) / 1e6:.1f} MB freed")
        return
    rows = listing.feature_rows(state_folder())
    if as_json:
        _print_json(rows)
        return
    columns = ["layer", "images", "MB", "type", "shape", "used"]
    out.print(table("", columns, [[str(row[column]) for column in columns] for row in rows]))
    say(f"{sum(row['MB'] for row in rows):.1f} of {limit_bytes() / 1e6:.0f} MB in {state_folder()}")


@app.command()
def up(
    context: typer.Context,
    show_passwords: Annotated[
        bool, typer.Option("--show-passwords", help="Print log-ins with their passwords.")
    ] = False,
) -> None:
    """Runs the servers of a team on this machine: PostgreSQL, MLflow with users, Prefect, a worker."""
    from vggflow.stack.up import up

    raise typer.Exit(up(_here(context), show_passwords=show_passwords))


@app.command()
def ui(context: typer.Context) -> None:
    """Opens the user interfaces of MLflow and Prefect on this workspace."""
    from vggflow import servers

    raise typer.Exit(servers.show(_here(context)))


@app.command()
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Says what is wrong on this machine and in this workspace, and what to do about it."""
    from vggflow import doctor

    try:
        workspace = _here(context)
    except UsageError:
        workspace = None
    findings = doctor.examine(workspace)
    if as_json:
        _print_json([finding.to_dict() for finding in findings])
    else:
        out.print(table("", ["", "what", "found"], doctor.as_cells(findings)))
        if workspace is None:
            tell("no workspace here: its settings, servers and remotes were not looked at")
    raise typer.Exit(1 if any(finding.health == "wrong" for finding in findings) else 0)


@app.command()
def clean(
    context: typer.Context,
    keep: Annotated[int, typer.Option(help="How many candidates and runs stay, the newest.", min=1)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Removes old candidates, runs, features and cached data; never what a champion or a rollback needs."""
    from vggflow import cleaning

    removed = cleaning.clean(_here(context), keep, dry_run=dry_run)
    if as_json:
        _print_json([removal.to_dict() for removal in removed])
        return
    cells = [
        [r.what, str(r.count), "–" if r.megabytes is None else f"{r.megabytes:.1f}", r.stays] for r in removed
    ]
    out.print(table("", ["would go" if dry_run else "gone", "count", "MB", "what stays"], cells))


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="The workspace to make; an earlier demo there is replaced.")
    ] = Path("demo/digits"),
) -> None:
    """Goes the whole way on the embedded digits and shows what each step does."""
    from vggflow.sample import demo

    demo.run(folder)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))  # noqa: T201


if __name__ == "__main__":
    main()
