"""Work pools of a Prefect server: vggflow's own are made where they are missing."""

import asyncio
import json
from importlib.resources import files

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from vggflow.errors import UsageError

QUEUES = ("cpu", "gpu")


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
