"""Workers of a workspace are asked what they reach: a deployment of `check-worker` for each place, and a run of it."""

import asyncio
import json
import platform
import time
from dataclasses import asdict
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.states import Cancelled

from flows import deployments, work_pools
from flows.check_worker import check_worker
from flows.identity import TAG, Identity, identity
from vggflow.commands.ask_workers import SECONDS_TO_ANSWER, SECONDS_TO_TAKE
from vggflow.commands.findings import Finding
from vggflow.processes.work_place import WorkPlace
from vggflow.workspace import Workspace

ENTRYPOINT, RETRAIN = "flows.check_worker.check_worker", "flows.retrain.retrain"
DESCRIPTION = "Made by `vggflow deploy` and `doctor`, which ask a worker here what it reaches."
SECONDS_BETWEEN_LOOKS = 1.0
AGAIN = "`vggflow doctor` asks again"


def ask(workspace: Workspace) -> list[dict[str, Any]]:
    """What each place that a worker serves answers, ready for JSON: `pool`, `queue`, `findings`."""
    answers = asyncio.run(_ask(identity(workspace)))
    return [
        {**asdict(place), "findings": [each.to_dict() for each in found]} for place, found in answers.items()
    ]


async def _ask(here: Identity) -> dict[WorkPlace, list[Finding]]:
    async with get_client() as client:
        deployed = await deployments.of_workspace(client, here)
        used = deployments.places(deployed)
        for each in await deployments.tagged(client, here.check_tag):
            if deployments.place(each) not in used:
                await client.delete_deployment(each.id)
        served, _ = await work_pools.who_serves(client, used)
        asked = [await _deployment(client, here, place, deployed) for place in served]
        answers = await asyncio.gather(*(_answer(client, each) for each in asked))
        return dict(zip(served, answers, strict=True))


async def _deployment(
    client: PrefectClient, here: Identity, place: WorkPlace, deployed: list[DeploymentResponse]
) -> UUID:
    """The deployment by which workers of a place are asked: its runs are made as those of the others there."""
    others = [each for each in deployed if deployments.place(each) == place and not each.paused]
    like = next((each for each in others if each.pull_steps), others[0])
    retrains = any(each.entrypoint == RETRAIN for each in others)
    return await client.create_deployment(
        await client.create_flow(check_worker),
        # No pool or queue has a colon in its name that some other place could be mistaken for.
        f"check-worker-{place.pool}:{place.queue}@{here.name}",
        description=DESCRIPTION,
        work_pool_name=place.pool,
        work_queue_name=place.queue,
        job_variables=like.job_variables,
        tags=[TAG, here.check_tag],
        entrypoint=ENTRYPOINT,
        pull_steps=[{"flows.checkout.stay": {}}],
        parameters={"steps": like.pull_steps or [], "retrains": retrains},
        parameter_openapi_schema=check_worker.parameters.model_dump_for_openapi(),
    )


async def _answer(client: PrefectClient, deployment: UUID) -> list[Finding]:
    asked = await client.create_flow_run_from_deployment(deployment, parameters={"asker": platform.node()})
    run, state = await _ended(client, asked)
    if state.is_completed():
        return await _findings(client, run)
    if state.is_scheduled():
        await client.set_flow_run_state(run.id, Cancelled(message="nobody took it in time"))
        told = f"took no run within {SECONDS_TO_TAKE:.0f} s, so it is at work on another, or gone"
        return [Finding("answer", "warning", told, AGAIN)]
    if not state.is_final():
        told = f"none within {SECONDS_TO_ANSWER:.0f} s"
        return [
            Finding("answer", "warning", told, f"{AGAIN}; the log of run {run.name!r} says how far it is")
        ]
    said = (state.message or "no message").strip().splitlines()[-1]
    told = f"its run ended as {state.name}: {said}"
    advice = f"look at the log of run {run.name!r} in Prefect; is vggflow there as new as here?"
    return [Finding("answer", "wrong", told, advice)]


async def _ended(client: PrefectClient, run: FlowRun) -> tuple[FlowRun, State[Any]]:
    """The run when it is over, or when nobody waits for it any longer."""
    began = time.monotonic()
    while True:
        run = await client.read_flow_run(run.id)
        state = run.state or State(type="SCHEDULED")
        limit = SECONDS_TO_TAKE if state.is_scheduled() else SECONDS_TO_ANSWER
        if state.is_final() or time.monotonic() - began > limit:
            return run, state
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


async def _findings(client: PrefectClient, run: FlowRun) -> list[Finding]:
    """What the run left: its result stays on the worker's disk, its table is on the server."""
    wanted = ArtifactFilter.model_validate({"flow_run_id": {"any_": [str(run.id)]}})
    (table,) = await client.read_artifacts(artifact_filter=wanted)
    return [Finding(**row) for row in json.loads(str(table.data))]
