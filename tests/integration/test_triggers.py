"""New data starts a retraining; many requests for one workspace run one at a time."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import pytest
from team import FINAL, Team, team, wait
from tiny import COLOURS, draw

from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Servers, deployments and a worker; no data yet."""
    with team(tmp_path_factory.mktemp("listening")) as made:
        Workspace(made.root).git(
            "push", "--quiet", "--set-upstream", "origin", "HEAD"
        )  # for workers to clone
        made.vggflow("deploy")
        made.worker()
        yield made


def spans(team: Team, runs: list[str]) -> list[tuple[datetime, datetime]]:
    """From the first task's start to the last one's end, of each run that had any: when it was at work."""
    found = []
    for number in runs:
        tasks = team.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [number]}}})
        times = [(task["start_time"], task["end_time"]) for task in tasks if task["start_time"]]
        if times:
            starts, ends = zip(*times, strict=True)
            found.append((datetime.fromisoformat(min(starts)), datetime.fromisoformat(max(ends))))
    return found


def _deliver(team: Team, seed: int) -> None:
    """One more picture, imported."""
    folder = team.folder / f"delivery-{seed}"
    draw(folder / "train" / "red" / f"new-{seed}.png", COLOURS["red"], seed)
    team.vggflow("data", "import", str(folder))


def test_an_import_starts_a_retraining_and_the_champion_changes(listening: Team) -> None:
    listening.vggflow("data", "import", str(listening.folder / "delivery"))
    wait(listening.runs, 60, "the event starts a run")
    run = listening.ended(listening.runs()[0]["id"], 600)
    assert run["state"]["name"] == "Promoted", run["state"]
    assert run["name"].startswith("on new data · data ")
    assert len(run["parameters"]["requested_data"]) > 30
    assert ("tiny", 1, "champion") in listening.models()


def test_check_data_announces_only_what_nobody_knows_of(listening: Team) -> None:
    known = listening.ended(listening.request("check-data", "check-data"), 120)
    assert known["state"]["name"] == "Nothing new", known["state"]
    before = len(listening.runs())
    url = listening.prefect_url
    listening.prefect_url = "http://127.0.0.1:9"  # nobody there: the import is not lost, only its news
    folder = listening.folder / "unheard"
    draw(folder / "train" / "blue" / "unheard.png", COLOURS["blue"], 815)
    out = listening.vggflow("data", "import", str(folder))
    listening.prefect_url = url
    assert "was not told of the new data" in out
    found = listening.ended(listening.request("check-data", "check-data"), 120)
    assert found["state"]["name"] == "Announced", found["state"]
    wait(lambda: len(listening.runs()) == before + 1, 60, "the announcement starts a run")
    again = listening.ended(listening.request("check-data", "check-data"), 120)
    assert again["state"]["name"] == "Nothing new", again["state"]
    retrained = listening.ended(listening.runs()[-1]["id"], 600)
    assert retrained["state"]["name"] in ("Champion kept", "Promoted"), retrained["state"]


def test_ten_requests_within_a_minute_run_one_at_a_time_and_each_ends_in_a_named_state(
    listening: Team,
) -> None:
    before = {run["id"] for run in listening.runs()}
    _deliver(listening, 4711)  # by event
    began = time.monotonic()
    by_hand = [listening.start_vggflow("retrain", log=f"by-hand-{number}.log") for number in range(2)]
    for _ in range(4):
        listening.request("retrain-on-new-data")
    for _ in range(3):
        listening.request("retrain-nightly")
    assert time.monotonic() - began < 60

    def all_ended() -> bool:
        new = [run for run in listening.runs() if run["id"] not in before]
        return len(new) == 10 and all(run["state"]["type"] in FINAL for run in new)

    wait(all_ended, 1200, "ten runs end")
    new = [run for run in listening.runs() if run["id"] not in before]
    states = Counter((run["state"]["type"], run["state"]["name"]) for run in new)
    assert {kind for kind, _ in states} <= {"COMPLETED", "CANCELLED"}
    assert states["CANCELLED", "Cancelled"] <= 2, "only nightly runs are cancelled, and one of three runs"
    at_work = sorted(spans(listening, [run["id"] for run in new]))
    assert len(at_work) >= 2, "more than one of them came to its turn"
    assert all(end <= start for (_, end), (start, _) in pairwise(at_work)), at_work
    assert all(program.process and program.process.wait(60) == 0 for program in by_hand)
    computed = [run for run in new if run["state"]["name"] in ("Promoted", "Champion kept")]
    assert len(computed) == 1, "one of them computes; the others find it done"
    numbers = [number for name, number, _ in listening.models() if name == "tiny-candidates"]
    assert len(numbers) == len(set(numbers)) == 3
