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

from rich.rule import Rule

from vggflow import artifacts, files
from vggflow.console import out, say, table
from vggflow.errors import UsageError, VggflowError
from vggflow.listing import model_rows
from vggflow.sample import digits
from vggflow.servers import free_ports, prefect, running
from vggflow.workspace import Workspace, default_remote, find

REFUSED = 3
MARK = "A demo of vggflow: `vggflow demo` removes this folder and makes it anew.\n"
PICTURES = 5


@dataclass(frozen=True)
class Journey:
    """A demo on its way: seconds per step, and accuracy on valid per phase of each training."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    phases: list[list[str]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announces a step and takes its time."""
        out.print()
        out.print(Rule(title, align="left", style="cyan"))
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
        history = files.read_json(self.folder / artifacts.HISTORY)
        for name in dict.fromkeys(row["phase"] for row in history):
            rows = [row for row in history if row["phase"] == name]
            best = max(row["val_accuracy"] for row in rows)
            self.phases.append([training, name, str(len(rows)), f"{best:.1%}"])


def run(folder: Path) -> None:
    """Makes a workspace in `folder` and goes the whole way.

    Raises:
        UsageError: there is something in `folder` that is no earlier demo.
    """
    _make_room(folder)
    journey = Journey(folder)
    with journey.step("A workspace with the handwritten digits 5 to 9"):
        journey.vggflow("init", str(folder), "--sample")
        files.write_text(folder / artifacts.STATE / "demo", MARK)
    with _prefect_for_all_flows(find(folder)):
        _go(journey)
    _close(journey, find(folder))


def _go(journey: Journey) -> None:
    here = ("-C", str(journey.folder))
    with journey.step("The first champion"):
        journey.vggflow(*here, "retrain")
        journey.note_phases("first")
    with journey.step("Predictions"):
        pictures = [str(journey.folder / f"data/test/unknown/{n}.png") for n in range(1, PICTURES + 1)]
        journey.vggflow(*here, "predict", *pictures)
    delivery = journey.folder.with_name(f"{journey.folder.name}.delivery")
    with journey.step("New data, with a test picture among the training pictures"):
        digits.write_delivery(delivery, digits.SECOND)
        leak = _plant(journey.folder, delivery)
        journey.vggflow(*here, "data", "import", str(delivery))
        journey.vggflow(*here, "retrain", expect=REFUSED)
    with journey.step("The mended delivery"):
        (journey.folder / artifacts.DATA / leak).unlink()
        say(f"$ rm {journey.folder / artifacts.DATA / leak}")
        journey.vggflow(*here, "retrain")
        journey.note_phases("second")
    shutil.rmtree(delivery)


def _plant(folder: Path, delivery: Path) -> Path:
    """Puts a picture of the test split into the delivery's training split; returns where, below `data/`."""
    source = min((folder / artifacts.DATA / "test" / "7").iterdir())
    leak = Path("train") / "7" / "planted.png"
    shutil.copyfile(source, delivery / leak)
    return leak


@contextmanager
def _prefect_for_all_flows(workspace: Workspace) -> Iterator[None]:
    """One server for the whole demo; without it each flow starts, and waits for, one of its own."""
    with running(workspace, prefect(free_ports(1)[0])) as server:
        os.environ["PREFECT_API_URL"] = f"{server.url}/api"
        yield
        del os.environ["PREFECT_API_URL"]


def _close(journey: Journey, workspace: Workspace) -> None:
    out.print()
    out.print(Rule("What happened", align="left", style="green"))
    out.print(table("Phases", ["training", "phase", "epochs", "best on valid"], journey.phases))
    out.print()
    columns = ["model", "version", "aliases", "accuracy"]
    rows = [[str(row[column] or "–") for column in columns] for row in model_rows(workspace)]
    out.print(table("Models", columns, rows))
    out.print()
    times = [[title, f"{seconds:.0f}"] for title, seconds in journey.seconds.items()]
    out.print(table("Seconds", ["step", "s"], [*times, ["all", f"{sum(journey.seconds.values()):.0f}"]]))
    out.print()
    say(f"Next: `make ui` opens MLflow and Prefect on {journey.folder}; `vggflow --help` lists the commands.")


def _make_room(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / artifacts.STATE / "demo").exists():
        raise UsageError(f"{folder} is not empty and no earlier demo: name another folder, or empty this one")
    for old in (folder, default_remote(folder.absolute()), folder.with_name(f"{folder.name}.delivery")):
        shutil.rmtree(old, ignore_errors=True)
