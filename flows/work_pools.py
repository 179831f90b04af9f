"""Work pools of a Prefect server: vggflow's own are made where they are missing, and who works for them is asked."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import groupby

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkQueue, WorkQueueStatus
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from vggflow.errors import UsageError
from vggflow.processes.work_place import WorkPlace

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


async def online(client: PrefectClient, pool: str) -> int:
    """How many workers of a pool are online."""
    try:
        workers = await client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return 0
    return sum(worker.status == "ONLINE" for worker in workers)


async def who_serves(
    client: PrefectClient, used: Iterable[WorkPlace]
) -> tuple[list[WorkPlace], list[WorkPlace]]:
    """Places where workers ask for work, and those where none does: what is due there waits, as Late, without end.

    What somebody paused is neither: nobody is missed there, and nothing starts there.
    """
    served: list[WorkPlace] = []
    unserved: list[WorkPlace] = []
    for pool, places in groupby(sorted(set(used)), key=lambda place: place.pool):
        states = await _states(client, pool, {place.queue: place for place in places})
        served += [place for place, state in states.items() if state == WorkQueueStatus.READY]
        unserved += [place for place, state in states.items() if state == WorkQueueStatus.NOT_READY]
    return served, unserved


async def _states(
    client: PrefectClient, pool: str, wanted: dict[str, WorkPlace]
) -> dict[WorkPlace, WorkQueueStatus]:
    """Whether queues of one pool are asked for work."""
    try:
        found = await client.read_work_pool(pool)
    except ObjectNotFound:  # taken away since
        return dict.fromkeys(wanted.values(), WorkQueueStatus.NOT_READY)
    if found.is_paused:
        return dict.fromkeys(wanted.values(), WorkQueueStatus.PAUSED)
    if found.is_push_pool or found.is_managed_pool:  # starts runs itself
        return dict.fromkeys(wanted.values(), WorkQueueStatus.READY)
    while True:
        queues = [each for each in await client.read_work_queues(work_pool_name=pool) if each.name in wanted]
        # Of a queue that is newer than a worker's rounds nothing is known yet.
        if not any(map(_is_new, queues)) or not await online(client, pool):
            states = {wanted[each.name]: _state(each) for each in queues}
            return dict.fromkeys(wanted.values(), WorkQueueStatus.NOT_READY) | states
        await asyncio.sleep(1)


def _state(queue: WorkQueue) -> WorkQueueStatus:
    # One that was made paused has the status of any other that nobody asked yet.
    return WorkQueueStatus.PAUSED if queue.is_paused else queue.status or WorkQueueStatus.READY


def _is_new(queue: WorkQueue) -> bool:
    """Whether nobody has asked it for work, and nobody had the time to."""
    age = datetime.now(UTC) - (queue.created or datetime.min.replace(tzinfo=UTC))
    return _state(queue) == WorkQueueStatus.NOT_READY and age <= timedelta(seconds=SECONDS_TO_ASK)
