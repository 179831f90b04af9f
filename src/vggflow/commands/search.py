"""`vggflow search`: tries settings, on cached features first, and says which are better and by how much."""

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow import artifacts, console, params_file
from vggflow.commands import options
from vggflow.commands.train import training_job
from vggflow.console import out, say, table
from vggflow.errors import SettingsError, UsageError
from vggflow.files import read_text, write_text
from vggflow.models import start_keras
from vggflow.processes.locks import alone_on_devices
from vggflow.settings import Chosen, Settings
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.search.run_search import Budget, Found
    from vggflow.search.study import Study, Trial
    from vggflow.tracking.search_runs import SearchRuns

PAGE = artifacts.STATE / "search" / "report.html"
TRIALS, NETWORK_TRIALS = 60, 6

Trials = Annotated[
    int, typer.Option("--trials", min=1, help="Trials of the first phase, on cached features.")
]
NetworkTrials = Annotated[
    int, typer.Option("--network-trials", min=0, help="Whole trainings that try the later phases.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0, help="Begin no trial after so many minutes.")
]


def command(
    context: typer.Context,
    trials: Trials = TRIALS,
    network_trials: NetworkTrials = NETWORK_TRIALS,
    minutes: Minutes = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best ones into params.yaml.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Tries settings and shows what is better; keeps no model, and changes nothing without --apply."""
    workspace = options.workspace(context)
    before = read_text(workspace.path(artifacts.PARAMS))
    found, page, run = look(workspace, trials, network_trials, minutes)
    if apply:
        apply_to_params(workspace, found, before)
    if as_json:
        options.print_json(to_dict(found, run))
        return
    _show(found)
    say(f"page: {page}")
    if found.changes and not apply:
        say("`vggflow search --apply` writes these settings into params.yaml")
    elif apply:
        say(
            "params.yaml has them now: `vggflow retrain` trains with them"
            if found.changes
            else "nothing to apply"
        )


def look(
    workspace: Workspace, trials: int, network_trials: int, minutes: float | None
) -> "tuple[Found, Path, str]":
    """Searches and writes the page; returns what was found, the page, and the id of the MLflow run.

    Raises:
        DataRefused: the data gate has not passed this manifest.
        SettingsError: `search.space` names what can't be varied.
    """
    settings = workspace.settings()
    start_keras.start(settings.train.backend, deterministic=settings.train.deterministic)
    from vggflow.report import search_page
    from vggflow.search.run_search import Budget, search

    budget = Budget(trials, network_trials, minutes)
    job = training_job(workspace, settings)
    with alone_on_devices(), console.progress("search") as advance:
        observer = _Observer(workspace, settings, budget, advance)
        try:
            found = search(job, budget, observer)
            page = workspace.path(PAGE)
            diff = difference(workspace, found)
            search_page.write(found, diff, page, title=f"Search for settings of {workspace.name}")
            run = observer.close(found, page)
        except BaseException:
            observer.give_up()
            raise
    return found, page, run


class _Observer:
    """Moves the bar and writes trials into MLflow."""

    def __init__(
        self, workspace: Workspace, settings: Settings, budget: "Budget", advance: console.Advance
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._total = budget.trials + budget.network_trials
        self._advance = advance
        self._done = 0
        self._runs: SearchRuns | None = None

    def on_start(self, key: str) -> None:
        """Opens the run."""
        from vggflow.tracking import connection
        from vggflow.tracking.registry import lineage
        from vggflow.tracking.search_runs import SearchRuns

        client = connection.connect(self._workspace, self._settings.registry).client
        self._runs = SearchRuns(client, self._settings, key, lineage.run_name(self._workspace))

    def on_features(self, done: int, total: int) -> None:
        """Moves the bar."""
        self._advance(done, total, "features")

    def on_trial(self, study: "Study", trial: "Trial", settings: Settings) -> None:
        """Writes it and moves the bar."""
        self._done += 1
        best = study.best()
        note = (
            f"{study.name}, best {study.settings.metric} {best.value:.4f}"
            if best and best.value
            else study.name
        )
        self._advance(self._done, max(self._done, self._total), note)
        if self._runs:
            self._runs.trial(study, trial, settings)

    def close(self, found: "Found", page: Path) -> str:
        """Waits for MLflow."""
        if self._runs is None:
            raise AssertionError("a search begins with on_start")
        numbers: dict[str, float] = {"trials": found.trials}
        for name, trial in (("best", found.best), ("default", found.default)):
            if trial and trial.loss is not None and trial.accuracy is not None:
                numbers |= {f"{name}/val_loss": trial.loss, f"{name}/val_accuracy": trial.accuracy}
        if found.linear_probe is not None:
            numbers["linear_probe_val_accuracy"] = found.linear_probe
        self._runs.close(numbers, [page])
        return self._runs.run_id

    def give_up(self) -> None:
        """Ends the run without the rest."""
        if self._runs:
            self._runs.give_up()


def chosen(found: "Found") -> Chosen | None:
    """What is to stand beside settings that a search chose; none where it found nothing better."""
    if found.best is None or found.best.accuracy is None or not found.changes:
        return None
    return Chosen(
        trials=found.trials,
        images=found.images,
        accuracy=found.best.accuracy,
        default_accuracy=found.default.accuracy if found.default else None,
        linear_probe=found.linear_probe,
        settings=found.best_settings.digest_of_choice(),
    )


def new_params(workspace: Workspace, found: "Found") -> str | None:
    """The text of params.yaml with the best settings; none where they are those that are there."""
    choice = chosen(found)
    if choice is None:
        return None
    return params_file.with_settings(
        workspace.path(artifacts.PARAMS), found.changes, {"chosen": choice.model_dump(exclude_none=True)}
    )


def difference(workspace: Workspace, found: "Found") -> str:
    """What `--apply` would change, as a unified diff; empty where it is nothing."""
    after = new_params(workspace, found)
    if after is None:
        return ""
    name = str(artifacts.PARAMS)
    before = read_text(workspace.path(artifacts.PARAMS))
    return "".join(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}", n=1)
    )


def apply_to_params(workspace: Workspace, found: "Found", before: str) -> None:
    """Writes the best settings into params.yaml, whole or not at all.

    Raises:
        UsageError: somebody edited it since the search began.
    """
    path = workspace.path(artifacts.PARAMS)
    if read_text(path) != before:
        raise UsageError(f"{path} was edited while settings were tried: run `vggflow search --apply` again")
    after = new_params(workspace, found)
    if after is None:
        return
    import yaml

    from vggflow.settings import parse

    # What is written is what was tried, or nothing is.
    if parse(yaml.safe_load(after), str(path)).digest_of_choice() != found.best_settings.digest_of_choice():
        raise SettingsError(
            f"{path} can't be edited as it is written: copy the settings from the diff by hand"
        )
    write_text(path, after)


def to_dict(found: "Found", run: str) -> dict[str, Any]:
    """For JSON."""
    from vggflow.search import compared

    return {
        "run_id": run,
        "trials": found.trials,
        "complete": found.complete,
        "metric": found.settings.search.metric,
        "valid_images": found.images,
        "changes": found.changes,
        "compared": [asdict(line) for line in compared.lines(found)],
        "importance": {study.name: study.importance() for study in found.studies},
    }


def _show(found: "Found") -> None:
    from vggflow.search import compared

    rows = [
        [
            line.what,
            f"{line.accuracy:.1%}",
            f"{line.low:.1%} to {line.high:.1%}",
            "–" if line.loss is None else f"{line.loss:.4f}",
        ]
        for line in compared.lines(found)
    ]
    out.print(table(f"on {found.images} images of valid", ["", "accuracy", "95 % interval", "loss"], rows))
    if found.first_phase_alone_is_better:
        say(
            "the first phase alone was better than any whole training: see whether the later phases are worth it"
        )
    if not found.changes:
        say(f"nothing better than the settings as they are in {found.trials} trials")
        return
    from vggflow.search import space

    out.print(
        table(
            "",
            ["setting", "is", "better"],
            [
                [name, str(space.value(found.settings, name)), str(value)]
                for name, value in found.changes.items()
            ],
        )
    )
