"""From batch predictions to the event to a retraining, on real servers."""

from collections.abc import Iterator

import pytest
import yaml
from team import Team, team, wait
from tiny import COLOURS, draw, draw_data

from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A team with a champion, where drift is to start a retraining."""
    with team(tmp_path_factory.mktemp("drift")) as made:
        path = made.root / "prefect.yaml"
        content = yaml.safe_load(path.read_text())
        (on_drift,) = (each for each in content["deployments"] if each["name"].startswith("retrain-on-drift"))
        on_drift["triggers"][0]["enabled"] = True
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        here = Workspace(made.root)
        here.git("commit", "--quiet", "--all", "--message", "Retrain on drift")
        here.git("push", "--quiet", "--set-upstream", "origin", "HEAD")
        draw_data(made.folder / "more", train=8, valid=30, test=30)
        made.vggflow("data", "import", str(made.folder / "more"))
        made.vggflow("retrain")
        made.vggflow("deploy")
        made.worker()
        yield made


def test_answers_that_drift_start_a_retraining(listening: Team) -> None:
    as_before, dark = listening.folder / "as-before", listening.folder / "dark"
    for number in range(60):
        colour = COLOURS[("blue", "red")[number % 2]]
        draw(as_before / f"{number}.png", colour, 7_000 + number)
        draw(dark / f"{number}.png", tuple(value // 4 for value in colour), 8_000 + number)

    nothing = listening.ended(listening.request("check-drift", "check-drift"), 300)
    assert nothing["state"]["name"] == "Too few answers", nothing["state"]

    listening.vggflow("predict", str(as_before), "-o", str(listening.folder / "as-before.parquet"))
    same = listening.ended(listening.request("check-drift", "check-drift"), 300)
    assert same["state"]["name"] == "No drift", same["state"]
    before = [run["id"] for run in listening.runs()]

    url = listening.prefect_url
    listening.prefect_url = (
        "http://127.0.0.1:9"  # nobody there: these images start no retraining by themselves
    )
    draw(listening.folder / "delivery-2" / "train" / "red" / "dark.png", (50, 15, 10), 9_000)
    listening.vggflow("data", "import", str(listening.folder / "delivery-2"))
    listening.prefect_url = url
    listening.vggflow("predict", str(dark), "-o", str(listening.folder / "dark.parquet"))
    found = listening.ended(listening.request("check-drift", "check-drift"), 300)
    assert found["state"]["name"] == "Drift", found["state"]
    assert "tests moved" in found["state"]["message"]
    assert "tiny-drift" in listening.artifacts(found["id"])

    def started() -> list[dict[str, object]]:
        return [run for run in listening.runs() if run["id"] not in before]

    (run,) = wait(started, 60, "the event starts a retraining")
    ended = listening.ended(str(run["id"]), 600)
    assert ended["name"].startswith("on drift · data ")  # called so once it began
    assert ended["state"]["name"] in ("Promoted", "Champion kept"), ended["state"]
