"""News for Prefect: new data is pushed, answers have drifted. Automations and deployment triggers listen for it."""

import asyncio
from collections.abc import Mapping

from prefect.events import Event, Resource
from prefect.events.clients import get_events_client

from flows.identity import identity
from vggflow.tracking.registry import lineage
from vggflow.workspace import Workspace

NEW_DATA = "vggflow.data.new"
DRIFT = "vggflow.drift"


def announce_data(workspace: Workspace) -> str:
    """Tells the server which data the workspace has now; returns its DVC hash.

    Raises:
        Exception: the server did not take it; `check-data` finds the data within the hour.
    """
    data = lineage.data_hash(workspace)
    _announce(workspace, NEW_DATA, {"data": data})
    return data


def announce_drift(workspace: Workspace, model: str, message: str) -> None:
    """Tells the server that what a model is asked has moved away from what it was measured on.

    Raises:
        Exception: the server did not take it.
    """
    _announce(workspace, DRIFT, {"model": model, "message": message})


def _announce(workspace: Workspace, event: str, payload: Mapping[str, str]) -> None:
    asyncio.run(_emit(identity(workspace).resource, workspace.name, event, payload))


async def _emit(resource: str, name: str, event: str, payload: Mapping[str, str]) -> None:
    about = Resource({"prefect.resource.id": resource, "prefect.resource.name": name})
    # Acknowledged one by one, so that an error is seen here and not lost in a queue.
    async with get_events_client(checkpoint_every=1) as client:
        await client.emit(Event(event=event, resource=about, payload=dict(payload)))
