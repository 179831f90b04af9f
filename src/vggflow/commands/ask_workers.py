"""What the workers that serve a workspace reach: each is asked by a run of the flow `check-worker`, all at once."""

from collections.abc import Iterable, Sequence
from typing import Any

from vggflow.commands.findings import Finding
from vggflow.commands.worker_checks import DVC, GIT, MLFLOW, RAY
from vggflow.console import tell
from vggflow.errors import VggflowError
from vggflow.processes import servers
from vggflow.processes.work_place import WorkPlace
from vggflow.workspace import Workspace

# A worker that takes nothing for two of its rounds is at work on something else, or gone.
SECONDS_TO_TAKE = 30.0
SECONDS_TO_ANSWER = 90.0
REACHED = {GIT: "git", DVC: "the DVC remote", MLFLOW: "MLflow", RAY: "Ray"}


def ask(workspace: Workspace, served: Iterable[dict[str, str]]) -> list[Finding]:
    """A row for each thing that is not well at a place, and one for all places where all is.

    Args:
        workspace: Whose.
        served: The pools and queues that workers serve, as the flows print them; no other is asked.
    """
    places = [WorkPlace(**each) for each in served]
    if not places:
        return []
    tell(f"asking {_workers(places)} what a run would reach, {SECONDS_TO_ANSWER:.0f} s at most")
    try:
        answers = servers.ask_flows(workspace, "workers")["workers"]
    except VggflowError as error:
        return [Finding(_workers(places), "warning", f"nobody could be asked: {error}")]
    return rows([_answer(each) for each in answers])


def rows(answers: Iterable[tuple[WorkPlace, Sequence[Finding]]]) -> list[Finding]:
    """What places answered, as one list: places where all is well share a row where they reach the same."""
    unwell: list[Finding] = []
    well: dict[str, list[WorkPlace]] = {}
    for place, found in answers:
        troubles = [each for each in found if each.health != "ok"]
        for each in troubles:
            told = f"{each.check}: {each.found}"
            unwell.append(Finding(_workers([place]), each.health, told, each.advice))
        if not troubles:
            well.setdefault(_reached(found), []).append(place)
    return unwell + [
        Finding(_workers(places), "ok", f"reach{'es' if len(places) == 1 else ''} {what}")
        for what, places in well.items()
    ]


def as_line(row: Finding) -> str:
    """A row as a sentence: `worker of vggflow / gpu: DVC remote: none: …`."""
    if row.health == "ok":
        return f"{row.check} {row.found}"
    return ": ".join(filter(None, [row.check, row.found, row.advice]))


def _answer(answer: dict[str, Any]) -> tuple[WorkPlace, list[Finding]]:
    found = [Finding(**each) for each in answer["findings"]]
    return WorkPlace(answer["pool"], answer["queue"]), found


def _reached(found: Iterable[Finding]) -> str:
    return _listed([f"{REACHED[each.check]} ({each.found})" for each in found if each.check in REACHED])


def _workers(places: Sequence[WorkPlace]) -> str:
    return f"worker{'s' if len(places) > 1 else ''} of {_listed([str(place) for place in places])}"


def _listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
