"""Settings as MLflow parameters: `train.batch_size`, `train.phases.head.learning_rate`. Imports no MLflow."""

from collections.abc import Mapping

from vggflow.settings import Settings

# A parameter whose name begins so is a setting; others are facts that a training found out.
SECTIONS = ("model.", "train.")


def flat(settings: Settings) -> dict[str, str]:
    """`model` and `train`, each value by its full name; phases by theirs. What is not set is left out."""
    found: dict[str, str] = {}
    phases = {phase.name: phase.model_dump() for phase in settings.train.phases}
    sections = {
        "model": settings.model.model_dump(),
        "train": settings.train.model_dump(exclude={"phases"}) | {"phases": phases},
    }
    _flatten(sections, "", found)
    return found


def _flatten(content: Mapping[str, object], prefix: str, found: dict[str, str]) -> None:
    for key, value in content.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{key}.", found)
        elif value is not None:
            found[f"{prefix}{key}"] = str(value)
