"""The whole way on the embedded digits, as a person would go it, with one table at the end."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule

from vggflow import artifacts, files
from vggflow.commands.models import model_rows
from vggflow.console import out, say, table
from vggflow.environment import DRIVER
from vggflow.errors import UsageError, VggflowError
from vggflow.processes.servers import free_ports, prefect, running, unwinding
from vggflow.training.phase_results import phase_results
from vggflow.workspace import Workspace, default_remote, find

# How `vggflow` ends where a gate said no.
REFUSED = 3
MARK = "A demo of vggflow: `vggflow demo` removes this folder and makes it anew.\n"
REMOTE_MARK = "vggflow-demo"
ELSEWHERE = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE")
PICTURES = 5


def command(
    folder: Annotated[
        Path, typer.Argument(help="The workspace to make; an earlier demo there is replaced.")
    ] = Path("demo/digits"),
) -> None:
    """Goes the whole way on the embedded digits and shows what each step does."""
    run(folder)


@dataclass(frozen=True)
class DemoRun:
    """A demo on its way: seconds per step, and accuracy on valid per phase of each training."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    phases: list[list[str]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announces a step and takes its time."""
        out.print()
        out.print(Rule(title, align="left", style="cyan"), width=80)
        began = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - began

    def vggflow(self, *arguments: str, expect: int = 0) -> None:
        """Runs a command as a person would type it; its output is shown."""
        say(f"$ vggflow {' '.join(arguments)}")
        code = subprocess.run([sys.executable, "-m", "vggflow.cli", *arguments], check=False).returncode
        if code != expect:
            raise VggflowError(
                f"the demo stopped: `vggflow {' '.join(arguments)}` ended with {code}, expected {expect}"
            )

    def note_phases(self, training: str) -> None:
        """Remembers what each phase of the last training reached."""
        for phase in phase_results(files.read_json(self.folder / artifacts.HISTORY)):
            self.phases.append([training, phase.name, str(phase.epochs), f"{phase.accuracy:.1%}"])


def run(folder: Path) -> None:
    """Makes a workspace in `folder` and goes the whole way.

    Raises:
        UsageError: there is something in `folder`, or in the folder of its DVC remote, that is no earlier demo.
    """
    _make_room(folder)
    for name in ELSEWHERE:  # a team's servers are not for trying things
        os.environ.pop(name, None)
    # What is started below watches the processes up to this one, and ends with it.
    os.environ[DRIVER] = str(os.getpid())
    demo_run = DemoRun(folder)
    with unwinding():
        with demo_run.step("A workspace with the handwritten digits 5 to 9"):
            demo_run.vggflow("init", str(folder), "--sample")
        with _prefect_for_all_flows(find(folder)):
            _go(demo_run)
        _close(demo_run, find(folder))


def _go(demo_run: DemoRun) -> None:
    from vggflow.sample import digits

    here = ("-C", str(demo_run.folder))
    with demo_run.step("The first champion"):
        demo_run.vggflow(*here, "retrain")
        demo_run.note_phases("first")
    with demo_run.step("Predictions"):
        pictures = [str(demo_run.folder / f"data/test/unknown/{n}.png") for n in range(1, PICTURES + 1)]
        demo_run.vggflow(*here, "predict", *pictures)
    delivery = demo_run.folder / artifacts.STATE / "delivery"
    with demo_run.step("New data, with a test picture among the training pictures"):
        digits.write_delivery(delivery, digits.SECOND)
        leak = _plant(demo_run.folder, delivery)
        demo_run.vggflow(*here, "data", "import", str(delivery))
        demo_run.vggflow(*here, "retrain", expect=REFUSED)
    with demo_run.step("The mended delivery"):
        (demo_run.folder / artifacts.DATA / leak).unlink()
        say(f"$ rm {demo_run.folder / artifacts.DATA / leak}")
        demo_run.vggflow(*here, "retrain")
        demo_run.note_phases("second")


def _plant(folder: Path, delivery: Path) -> Path:
    """Puts a picture of the test split into the delivery's training split; returns where, below `data/`."""

    # The first by name: folders list their files in any order, and each demo is to show the same.
    source = min((folder / artifacts.DATA / "test" / "7").iterdir())
    leak = Path("train") / "7" / "planted.png"
    shutil.copyfile(source, delivery / leak)
    return leak


@contextmanager
def _prefect_for_all_flows(workspace: Workspace) -> Iterator[None]:
    """One server for the whole demo; without it each flow starts, and waits for, one of its own."""
    with running(workspace, prefect(free_ports(1)[0])) as server:
        os.environ["PREFECT_API_URL"] = f"{server.url}/api"
        try:
            yield
        finally:
            del os.environ["PREFECT_API_URL"]


def _close(demo_run: DemoRun, workspace: Workspace) -> None:
    out.print()
    out.print(Rule("What happened", align="left", style="green"), width=80)
    out.print(table("Phases", ["training", "phase", "epochs", "best on valid"], demo_run.phases))
    out.print()
    columns = ["model", "version", "aliases", "accuracy"]
    rows = [[str(row[column] or "–") for column in columns] for row in model_rows(workspace)]
    out.print(table("Models", columns, rows))
    out.print()
    times = [[title, f"{seconds:.0f}"] for title, seconds in demo_run.seconds.items()]
    out.print(table("Seconds", ["step", "s"], [*times, ["all", f"{sum(demo_run.seconds.values()):.0f}"]]))
    out.print()
    say(
        f"Next: `make ui` opens MLflow and Prefect on {demo_run.folder}; `vggflow --help` lists the commands."
    )


def _make_room(folder: Path) -> None:
    """Removes an earlier demo, and marks what is made now as one before there is anything in it."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected a folder: name another one")
    mark, remote = folder / artifacts.STATE / "demo", default_remote(folder.resolve())
    # Both are looked at before either is emptied: a refusal leaves all as it was.
    for place, marked in ((folder, mark), (remote, remote / REMOTE_MARK)):
        if place.is_dir() and any(place.iterdir()) and not (marked.exists() or mark.exists()):
            raise UsageError(
                f"{place} is not empty and no earlier demo's: name another folder, or empty this one"
            )
    for place, marked in ((remote, remote / REMOTE_MARK), (folder, mark)):
        _empty(place, marked)
        files.write_text(marked, MARK)


def _empty(folder: Path, mark: Path) -> None:
    """Removes what is in a folder, but neither the folder, since somebody may stand in it, nor its mark."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry in mark.parents:
            _empty(entry, mark)
        # Of a link only the link goes, not what it leads to.
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != mark:
            entry.unlink()
