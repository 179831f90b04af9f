"""On one machine, from nothing, with the commands of the guide: up, deploy, a schedule, an import, a champion."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from team import one_machine, schedule_within, stack_of, vggflow_in, wait
from tiny import COLOURS, draw, draw_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SECONDS_FOR_ALL = 600


@pytest.fixture
def root() -> Iterator[Path]:
    # Each model that is not clearly worse replaces the last one, so that each retraining changes the champion.
    with one_machine(promotion={"rule": "not_worse", "margin": 0.9}) as made, stack_of(made):
        yield made


def _last(root: Path, why: str) -> dict[str, Any] | None:
    found = json.loads(vggflow_in(root, "status", "--json"))["server"]["runs"]
    return next((run for run in found if run["run"].startswith(why)), None)


def _champion(root: Path) -> int | None:
    found = json.loads(vggflow_in(root, "status", "--json"))["models"]["champion"]
    return found and found["version"]


def test_a_schedule_and_an_import_change_the_champion(root: Path) -> None:
    began = time.monotonic()
    vggflow_in(root, "data", "import", str(draw_data(root.parent / "delivery")))
    at = datetime.now(UTC) + timedelta(minutes=2)  # deploying takes up to a minute on a busy machine
    schedule_within(root, "retrain-nightly", f"{at.minute} {at.hour} * * *")
    table = vggflow_in(root, "deploy")
    assert "nobody is told of" in table
    run = wait(lambda: _last(root, "nightly"), 420, "the schedule fires and the run ends")
    assert run["state"] == "Promoted", run
    # Prefect rounds what is left to wait to whole seconds, so that a run may begin half a second early.
    earliest = at.replace(second=0, microsecond=0) - timedelta(seconds=1)
    assert datetime.fromisoformat(run["at"]) >= earliest
    assert _champion(root) == 1
    status = vggflow_in(root, "status")
    assert "champion    version 1" in status
    assert run["run"] in status
    assert "1 worker online" in status

    more = root.parent / "more"
    draw(more / "train" / "red" / "more.png", COLOURS["red"], 4711)
    vggflow_in(root, "data", "import", str(more))
    run = wait(lambda: _last(root, "on new data"), 420, "the event starts a run and it ends")
    assert run["state"] == "Promoted", run
    assert _champion(root) == 2
    assert "champion    version 2" in vggflow_in(root, "status")
    assert time.monotonic() - began < SECONDS_FOR_ALL
