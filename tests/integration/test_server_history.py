"""What flows leave on a Prefect server, and what of it each workspace sees, tells and forgets: a real server."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest
from prefect import Flow, flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled

from flows import automations, check_data, work_pools
from flows.clean import clean
from flows.identity import Identity, identity
from flows.status import server_status
from vggflow.processes.work_place import WorkPlace
from vggflow.workspace import Workspace

PROMOTED = {
    "name": "promoted",
    "trigger": {
        "posture": "Reactive",
        "expect": ["prefect.flow-run.Promoted"],
        "for_each": ["prefect.resource.id"],
    },
    "notify": "Promoted",
}


@pytest.fixture
def server(prefect_api: str) -> Iterator[str]:
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        yield prefect_api


def _workspace(folder: Path) -> Workspace:
    subprocess.run(["git", "init", "--quiet", "-b", "main", folder], check=True)
    return Workspace(folder)


def _named(name: str) -> "Flow[[], None]":
    @flow(name=name)
    def nothing() -> None:
        """Stands for the flow of this name; only its runs matter here."""

    return nothing


def _run(workspace: Workspace, name: str, state: State[Any], **parameters: str) -> UUID:
    """A run as a deployment of the workspace makes it, in a state."""
    tags = ["vggflow", identity(workspace).tag]
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(_named(name), parameters=parameters, tags=tags, state=Running())
        client.set_flow_run_state(made.id, state, force=True)
    return made.id


def _artifact(server: str, run: UUID) -> None:
    content = {"key": "summary", "type": "markdown", "data": "# Promoted", "flow_run_id": str(run)}
    assert httpx.post(f"{server}/artifacts/", json=content, trust_env=False).is_success


def _is_there(server: str, run: UUID) -> bool:
    return httpx.get(f"{server}/flow_runs/{run}", trust_env=False).is_success


def _artifacts(server: str, *runs: UUID) -> int:
    asked = {"artifacts": {"flow_run_id": {"any_": [str(run) for run in runs]}}}
    found: list[Any] = httpx.post(f"{server}/artifacts/filter", json=asked, trust_env=False).json()
    return len(found)


@pytest.mark.parametrize("name", ["cleaned", "vggflow"])
def test_cleaning_forgets_old_runs_and_artifacts_of_this_workspace_only(
    server: str, tmp_path: Path, name: str
) -> None:
    here, other = _workspace(tmp_path / name), _workspace(tmp_path / f"other-than-{name}")
    ours = [_run(here, "retrain", Completed()) for _ in range(4)]
    theirs = [_run(other, "retrain", Completed()) for _ in range(4)]
    waits = _run(here, "retrain", Scheduled())
    for run in (*ours, *theirs):
        _artifact(server, run)
    assert clean(here, 1, dry_run=True)["flow_runs"] == 3
    assert all(_is_there(server, run) for run in ours)
    assert clean(here, 1, dry_run=False)["flow_runs"] == 3
    assert [_is_there(server, run) for run in ours] == [False, False, False, True]
    assert (_artifacts(server, *ours), _artifacts(server, *theirs)) == (1, 4)
    assert all(_is_there(server, run) for run in (*theirs, waits))


def test_hourly_checks_leave_the_night_s_retraining_on_the_screen(server: str, tmp_path: Path) -> None:
    here = _workspace(tmp_path / "watched")
    _run(here, "retrain", Completed(name="Promoted"))
    for _ in range(8):
        _run(here, "check-data", Completed(name="Nothing new"))
    shown = [run["state"] for run in server_status(here)["runs"]]
    assert shown == ["Promoted", "Nothing new"]


@pytest.mark.parametrize(
    ("state", "stands"),
    [
        (Scheduled(), True),
        (Running(), True),
        (Completed(name="Champion kept"), True),
        (Failed(name="Refused"), True),
        (Failed(), False),
        (Failed(name="TimedOut"), False),
        (Crashed(), False),
        (Cancelled(), False),
    ],
    ids=lambda value: value.name if isinstance(value, State) else "",
)
def test_a_request_that_was_lost_does_not_silence_the_check(
    server: str, tmp_path: Path, state: State[Any], stands: bool
) -> None:
    name = f"asked-{state.name}".replace(" ", "-")
    here = _workspace(tmp_path / name)
    _run(here, "retrain", state, requested_data="0a1b2c")
    assert bool(check_data._asked_for(identity(here).tag, "0a1b2c")) is stands
    assert not check_data._asked_for(identity(here).tag, "other data")


def test_a_request_is_found_behind_any_number_of_hourly_checks(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_data, "RUNS_LOOKED_AT", 3)
    here = _workspace(tmp_path / "often")
    _run(here, "retrain", Scheduled(), requested_data="0a1b2c")
    for _ in range(4):
        _run(here, "check-data", Completed(name="Nothing new"))
    assert check_data._asked_for(identity(here).tag, "0a1b2c")


def _apply(here: Identity) -> list[str]:
    async def ask() -> list[str]:
        async with get_client() as client:
            return await automations.apply(client, here, [PROMOTED])

    return asyncio.run(ask())


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/hooks/T0P-S3CRET", got
    made.shutdown()


def test_who_is_told_stays_until_somebody_says_otherwise(
    server: str, receiver: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = receiver
    here, other = Identity("told", "", "", "/told"), Identity("Told", "", "", "/Told")
    monkeypatch.delenv(automations.NOTIFY_URL, raising=False)
    assert _apply(here) == []  # nobody was ever named
    monkeypatch.setenv(automations.NOTIFY_URL, url)
    assert _apply(here) == ["promoted @told"]
    monkeypatch.setenv(automations.NOTIFY_URL, "http://127.0.0.1:9/of-another-team")
    assert _apply(other) == ["promoted @Told"]
    monkeypatch.delenv(automations.NOTIFY_URL)
    assert _apply(here) == ["promoted @told"]

    block = CustomWebhookNotificationBlock.load(automations.block_name(here), _sync=True)
    block.notify("there is a new champion", "told: Promoted", _sync=True)
    assert got == [{"subject": "told: Promoted", "text": "there is a new champion"}]
    shown = httpx.post(f"{server}/block_documents/filter", json={}, trust_env=False).text
    assert automations.block_name(here) in shown
    assert "T0P-S3CRET" not in shown

    monkeypatch.setenv(automations.NOTIFY_URL, "json://127.0.0.1:9/apprise")
    assert _apply(here) == ["promoted @told"]
    monkeypatch.delenv(automations.NOTIFY_URL)
    assert _apply(here) == ["promoted @told"]
    monkeypatch.setenv(automations.NOTIFY_URL, "")
    assert _apply(here) == []


def test_a_schedule_makes_the_server_plan_its_runs(server: str, tmp_path: Path) -> None:
    """With SQLAlchemy 2.1 Prefect 3.8's scheduler only writes an error into its log."""
    here = _workspace(tmp_path / "planned")
    with get_client(sync_client=True) as client:
        schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *", timezone="Europe/Berlin"))
        client.create_deployment(
            client.create_flow(_named("retrain")),
            "retrain-nightly@planned",
            schedules=[schedule],
            tags=["vggflow", identity(here).tag],
        )
    deadline = time.monotonic() + 90
    while not (planned := server_status(here)["next"]):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert [run["run"] for run in planned] == ["retrain-nightly@planned"]
    assert (
        "T02:00" in datetime.fromisoformat(planned[0]["at"]).astimezone(ZoneInfo("Europe/Berlin")).isoformat()
    )


@pytest.mark.usefixtures("server")
def test_the_server_answers_a_client_that_gives_no_limit() -> None:
    """As `prefect deploy` asks for a pool's workers; FastAPI from 0.151 on refuses the nulls in it."""

    async def workers() -> list[object]:
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name="set", type="process"))
            return list(await client.read_workers_for_work_pool("set"))

    assert asyncio.run(workers()) == []


@pytest.mark.usefixtures("server")
def test_places_are_served_or_not_and_what_somebody_paused_is_neither() -> None:
    places = {name: WorkPlace("halved", name) for name in ("asked", "paused", "alone")}
    gone = WorkPlace("taken-away", "cpu")

    async def who_serves() -> list[tuple[list[WorkPlace], list[WorkPlace]]]:
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name="halved", type="process"))
            for name in places:
                await client.create_work_queue(name, work_pool_name="halved", is_paused=name == "paused")
            before = await work_pools.who_serves(client, [gone, *places.values()])
            # As a worker does.
            await client.get_scheduled_flow_runs_for_work_pool("halved", ["asked"])
            return [before, await work_pools.who_serves(client, [gone, *places.values()])]

    before, after = asyncio.run(who_serves())
    assert before == ([], [places["alone"], places["asked"], gone])
    assert after == ([places["asked"]], [places["alone"], gone])
