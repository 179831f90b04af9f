"""News for Prefect: new data is pushed. Automations and deployment triggers listen for it."""

import asyncio

from prefect.events import Event, Resource
from prefect.events.clients import get_events_client

from flows.identity import identity
from vggflow.tracking.registry import lineage
from vggflow.workspace import Workspace

NEW_DATA = "vggflow.data.new"


def announce_data(workspace: Workspace) -> str:
    """Tells the server which data the workspace has now; returns its DVC hash.

    Raises:
        Exception: the server did not take it; `check-data` finds the data within the hour.
    """
    data = lineage.data_hash(workspace)
    asyncio.run(_emit(identity(workspace).resource, workspace.name, data))
    return data


async def _emit(resource: str, name: str, data: str) -> None:
    about = Resource({"prefect.resource.id": resource, "prefect.resource.name": name})
    # Acknowledged one by one, so that an error is seen here and not lost in a queue.
    async with get_events_client(checkpoint_every=1) as client:
        await client.emit(Event(event=NEW_DATA, resource=about, payload={"data": data}))
