"""Who may do what in MLflow: readers look, trainers write runs and candidates, promoters change what is in use."""

from dataclasses import dataclass
from typing import Literal, get_args

from vggflow.settings import RegistrySettings
from vggflow.tracking import observed_answers
from vggflow.tracking.registry import decision_runs

Role = Literal["reader", "trainer", "promoter"]
ROLES: tuple[Role, ...] = get_args(Role)
MODEL, EXPERIMENT = "registered_model", "experiment"
SAMPLE = "-sample"


@dataclass(frozen=True)
class Grant:
    """What a role may do with one model or experiment: READ, EDIT (read and write), MANAGE (also delete and share)."""

    kind: str
    name: str
    level: Literal["READ", "EDIT", "MANAGE"]


@dataclass(frozen=True)
class ModelsAndExperiments:
    """The models and experiments of one workspace: its production model, and all that training writes."""

    production: str
    candidates: str
    experiments: tuple[str, ...]
    answers: str
    rehearsal_models: tuple[str, ...]
    rehearsal_experiments: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """All models. They are made beforehand: who makes one may do everything with it."""
        return (self.production, self.candidates, *self.rehearsal_models)


def models_and_experiments(registry: RegistrySettings) -> ModelsAndExperiments:
    """What belongs to a workspace by its settings, the rehearsals on its sample too."""
    rehearsal = registry.model_copy(
        update={"name": f"{registry.name}{SAMPLE}", "experiment": f"{registry.experiment}{SAMPLE}"}
    )
    return ModelsAndExperiments(
        registry.name,
        registry.candidates,
        (registry.experiment, decision_runs.experiment(registry)),
        observed_answers.experiment(registry),
        (rehearsal.name, rehearsal.candidates),
        (rehearsal.experiment, decision_runs.experiment(rehearsal)),
    )


def grants(role: Role, held: ModelsAndExperiments) -> list[Grant]:
    """What a role may do.

    A trainer edits, but deletes nothing: what a champion was made from stays. Decisions are recorded in an experiment
    that trainers write to, since their flows ask; the act itself stands in the production model, which they only read.
    Whoever may ask a model may write down what its answers were like: a service is a reader.
    """
    level: dict[Role, Literal["READ", "EDIT", "MANAGE"]] = {
        "reader": "READ",
        "trainer": "EDIT",
        "promoter": "MANAGE",
    }
    production: Literal["READ", "MANAGE"] = "MANAGE" if role == "promoter" else "READ"
    found = [Grant(MODEL, held.production, production), Grant(MODEL, held.candidates, level[role])]
    found += [Grant(EXPERIMENT, name, level[role]) for name in held.experiments]
    found += [Grant(EXPERIMENT, held.answers, "EDIT" if role == "reader" else level[role])]
    if role != "reader":
        found += [Grant(MODEL, name, level[role]) for name in held.rehearsal_models]
        found += [Grant(EXPERIMENT, name, level[role]) for name in held.rehearsal_experiments]
    return found


def role_name(registry: RegistrySettings, role: Role) -> str:
    """What MLflow calls a role."""
    return f"{registry.name}:{role}"
