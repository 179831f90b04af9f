"""One retraining of a workspace at a time, whoever asked for it and on whatever machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_API_URL
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.identity import identity
from vggflow import artifacts
from vggflow.locks import exclusive
from vggflow.workspace import Workspace

# How long a run that was killed together with its machine keeps the others waiting.
SECONDS_AFTER_DEATH = 300.0


@contextmanager
def turn(workspace: Workspace) -> Iterator[None]:
    """Waits until no other run works on this workspace, in this folder or anywhere known to the server."""
    lock = workspace.path(artifacts.STATE) / "retrain.lock"
    with exclusive(lock, workspace.name):
        if not PREFECT_API_URL.value():  # a server of this run's own, which nobody else asks
            yield
            return
        limit = identity(workspace).limit
        if taken := run_coro_as_sync(_ensure(limit)):
            get_run_logger().info("waiting: another run of this workspace is at work (%s of 1 turns)", taken)
        with _holding(limit):
            yield


@contextmanager
def _holding(limit: str) -> Iterator[None]:
    """Has the turn inside the block.

    A server that is away for a while costs the reservation, not the run: registering and promoting can be repeated,
    and the device has a lock of its own. A turn that could not be given back comes free like that of a dead run.
    """
    held = concurrency(
        limit, strict=True, lease_duration=SECONDS_AFTER_DEATH, raise_on_lease_renewal_failure=False
    )
    held.__enter__()
    try:
        yield
    finally:
        try:
            held.__exit__(None, None, None)
        except httpx.HTTPError as error:
            get_run_logger().warning("the turn is free in five minutes only, the server is away: %s", error)


async def _ensure(limit: str) -> Any:
    """Makes the limit where there is none; returns how many turns are taken."""
    async with get_client() as client:
        await client.upsert_global_concurrency_limit_by_name(limit, 1)
        return (await client.read_global_concurrency_limit_by_name(limit)).active_slots
