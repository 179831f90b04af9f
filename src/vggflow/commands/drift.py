"""`vggflow drift`: does what the champion is asked lately look like what it was measured on?"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow import artifacts, console, files
from vggflow.commands import named_model, options
from vggflow.console import out, say, table
from vggflow.environment import state_folder
from vggflow.errors import UsageError
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.drift.compare import Drift
    from vggflow.prediction.observations import Observations
    from vggflow.tracking.registry.model_versions import Version

PAGE = artifacts.STATE / "drift" / "report.html"
SINCE = "7d"


def command(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="How far back, such as 12h or 30d.")] = SINCE,
    as_json: options.AsJson = False,
) -> None:
    """Compares what the champion answered lately with its answers on held-out images."""
    workspace = options.workspace(context)
    found = look(workspace, duration(since))
    if as_json:
        options.print_json(found.to_dict())
        return
    if found.drift is not None:
        out.print(table("", ["test", "distance", "p value", "says"], _cells(found.drift)))
    say(found.message)
    if found.page is not None:
        say(f"page: {found.page}")


@dataclass(frozen=True)
class Look:
    """What a look for drift found.

    Attributes:
        model: Whose answers, such as `pets version 3`.
        answers: How many there were.
        drift: The comparison; None where there were too few.
        message: In one line.
        page: What people read; None without a comparison.
    """

    model: str
    answers: int
    drift: "Drift | None"
    message: str
    page: Path | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        compared = self.drift.to_dict() if self.drift else {"drift": None}
        page = str(self.page) if self.page else None
        return {
            "model": self.model,
            "answers": self.answers,
            **compared,
            "message": self.message,
            "page": page,
        }


def duration(text: str) -> timedelta:
    """A time span such as `7d`, `12h` or `90min`.

    Raises:
        UsageError: it is none, or not above zero.
    """
    import pandas as pd

    try:
        # What is empty or "nan" becomes none that is above anything.
        found = pd.Timedelta(text)
    except ValueError:
        found = pd.Timedelta(0)
    if not found > pd.Timedelta(0):
        raise UsageError(f"--since {text!r} is no time span: expected one such as 7d, 12h or 90min")
    return found.to_pytimedelta()


def look(workspace: Workspace, since: timedelta) -> Look:
    """Compares the champion's answers since then with those on held-out images; writes it down in MLflow.

    Raises:
        UsageError: there is no champion.
        DataError: too few of its held-out images are here.
    """
    from vggflow.drift.compare import FEWEST_IMAGES
    from vggflow.prediction import observations
    from vggflow.tracking import connection, observed_answers
    from vggflow.tracking.registry import model_versions

    registry = connection.connect(workspace)
    champion = model_versions.chosen(registry, None)
    title = champion.title
    parts = observed_answers.read(registry, title, datetime.now(UTC) - since)
    now = observations.merge(parts) if parts else None
    if now is None or now.chosen < FEWEST_IMAGES:
        count = now.images if now else 0
        told = (
            f"{title} gave {count:,} answers that were kept in this time, at least {FEWEST_IMAGES} are needed: "
            "`vggflow predict -o` and `vggflow serve` keep them"
        )
        return Look(title, count, None, told, None)
    found, page = _compare(workspace, champion, now)
    measured = {"drift.found": float(found.found), "drift.answers": float(now.images)}
    measured |= {f"drift.p.{shift.name}": shift.p_value for shift in found.shifts}
    observed_answers.write_look(registry, title, measured, page)
    from vggflow.report import drift_page

    verdict = drift_page.verdict(found)
    return Look(title, now.images, found, f"{'drift' if found.found else 'no drift'}: {verdict}", page)


def _compare(workspace: Workspace, champion: "Version", now: "Observations") -> "tuple[Drift, Path]":
    from vggflow.drift import compare, held_out
    from vggflow.prediction.onnx_predictor import ready
    from vggflow.report import drift_page
    from vggflow.tracking.registry import model_versions

    data_folder = workspace.path(artifacts.DATA)
    images = held_out.images(model_versions.training_manifest(champion), data_folder)
    with (
        named_model.answering(workspace.root, str(champion.number)) as file,
        console.progress("held out") as advance,
    ):
        predictor = ready(file.path, partial(named_model.backend, workspace.root))
        folder = state_folder() / "drift"
        before = held_out.kept(predictor, files.sha256(file.path), images, advance, folder)
    found = compare.compare(before, now)
    page = workspace.path(PAGE)
    facts = {
        "answers": f"{now.images:,}",
        "from": f"{now.since:%Y-%m-%d %H:%M} UTC",
        "until": f"{now.until:%Y-%m-%d %H:%M} UTC",
        "confidence": f"{found.confidence[1]:.3f}, held out {found.confidence[0]:.3f}",
    }
    title = f"{champion.title}: does it still fit?"
    drift_page.write(drift_page.DriftPage(title, found, before, images.places, data_folder, now, facts), page)
    return found, page


def _cells(drift: "Drift") -> list[list[str]]:
    return [
        [
            f"{shift.name}{f' ({shift.about})' if shift.about else ''}",
            f"{shift.distance:.3f}",
            f"{shift.p_value:.2g}",
            "moved" if shift.moved else "as before",
        ]
        for shift in drift.shifts
    ]
