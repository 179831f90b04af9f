"""Keeps what a version's answers were like where `vggflow drift` finds it: in MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from vggflow.commands.named_model import ModelFile
from vggflow.workspace import find

if TYPE_CHECKING:
    from vggflow.prediction.observations import Observations


def is_kept(file: ModelFile) -> bool:
    """Whether a model's answers are: those of registered versions, of which a champion is one."""
    return file.number is not None


def keep(folder: Path, title: str, found: "Observations") -> None:
    """Writes them to the tracking server of the workspace at `folder`.

    Raises:
        VggflowError: it does not answer, or does not let this user write.
    """
    from vggflow.tracking import connection, observed_answers

    observed_answers.write(connection.connect(find(folder)), title, found)
