"""Work pools of a Prefect server: vggflow's own are made where they are missing, and who works for them is asked."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.resources import files

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkQueue, WorkQueueStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from vggflow.errors import UsageError

QUEUES = ("cpu", "gpu")
# A worker asks its queues every 10 or 15 seconds, so of one that was just made nothing is known.
SECONDS_TO_ASK = 20


def make(pool: str) -> None:
    """A pool on the server that `PREFECT_API_URL` names, and its queues.

    Raises:
        UsageError: it is not there, and none of those that vggflow can make.
    """

    async def ask() -> None:
        async with get_client() as client:
            await ensure(client, pool)

    asyncio.run(ask())


async def ensure(client: PrefectClient, pool: str) -> None:
    """A pool of vggflow's, unless somebody made one of this name; what an operator changed in it stays.

    Raises:
        UsageError: it is not there, and none of those that vggflow can make.
    """
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        template = files("vggflow") / "template" / "pools" / f"{pool}.json"
        if not template.is_file():
            raise UsageError(
                f"prefect.yaml names the work pool {pool!r}, which this server does not have: make it with "
                f"`prefect work-pool create {pool}`, or name vggflow, vggflow-docker or vggflow-kubernetes"
            ) from None
        # `vggflow-docker` runs containers; `vggflow` alone runs processes.
        kind = pool.removeprefix("vggflow").removeprefix("-") or "process"
        made = WorkPoolCreate(name=pool, type=kind, base_job_template=json.loads(template.read_text("utf-8")))
        await client.create_work_pool(made)
    for queue in QUEUES:
        try:
            await client.create_work_queue(queue, work_pool_name=pool)
        except ObjectAlreadyExists:
            continue


def places(deployments: Iterable[DeploymentResponse]) -> set[tuple[str, str]]:
    """Where deployments run that are not paused: pools and queues, by name."""
    return {
        (each.work_pool_name, each.work_queue_name or "default")
        for each in deployments
        if each.work_pool_name and not each.paused
    }


async def online(client: PrefectClient, pool: str) -> int:
    """How many workers of a pool are online."""
    try:
        workers = await client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return 0
    return sum(worker.status == "ONLINE" for worker in workers)


async def unserved(client: PrefectClient, used: Iterable[tuple[str, str]]) -> list[str]:
    """Queues that no worker asks for work, as `POOL / QUEUE`: a run that is due there waits, as Late, without an end.

    Args:
        client: The server.
        used: Pools and queues, by name.
    """
    found = []
    for pool, queue in sorted(set(used)):
        if not await _starts_runs_itself(client, pool) and not await _is_served(client, pool, queue):
            found.append(f"{pool} / {queue}")
    return found


async def _starts_runs_itself(client: PrefectClient, pool: str) -> bool:
    try:
        found = await client.read_work_pool(pool)
    except ObjectNotFound:  # taken away since
        return False
    return found.is_push_pool or found.is_managed_pool


async def _is_served(client: PrefectClient, pool: str, queue: str) -> bool:
    while (found := await _queue(client, pool, queue)) is not None:
        if found.status != WorkQueueStatus.NOT_READY:  # nobody is missed at a queue that somebody paused
            return True
        age = datetime.now(UTC) - (found.created or datetime.min.replace(tzinfo=UTC))
        if age > timedelta(seconds=SECONDS_TO_ASK) or not await online(client, pool):
            return False
        await asyncio.sleep(1)
    return False


async def _queue(client: PrefectClient, pool: str, name: str) -> WorkQueue | None:
    try:
        queues = await client.read_work_queues(work_pool_name=pool)
    except ObjectNotFound:
        return None
    return next((queue for queue in queues if queue.name == name), None)
