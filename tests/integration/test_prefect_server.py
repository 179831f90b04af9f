"""The locked packages fit each other: a real Prefect server takes what Prefect's own client sends."""

import asyncio

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings


def test_the_server_answers_a_client_that_gives_no_limit(prefect_api: str) -> None:
    """As `prefect deploy` asks for a pool's workers; FastAPI from 0.151 on refuses the nulls in it."""

    async def workers() -> list[object]:
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name="set", type="process"))
            return list(await client.read_workers_for_work_pool("set"))

    with temporary_settings({PREFECT_API_URL: prefect_api}):
        assert asyncio.run(workers()) == []
