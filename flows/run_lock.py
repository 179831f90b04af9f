"""One retraining of a workspace at a time, whoever asked for it and on whatever machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.context import ConcurrencyContext
from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_API_URL
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.identity import identity
from vggflow import artifacts, files
from vggflow.processes.locks import exclusive
from vggflow.workspace import Workspace

# How long a run that was killed together with its machine keeps the others waiting; on this machine the next run
# in the same folder gives back what a killed one held.
SECONDS_AFTER_DEATH = 300.0


@contextmanager
def run_lock(workspace: Workspace) -> Iterator[None]:
    """Waits until no other run works on this workspace, in this folder or anywhere known to the server."""
    state = workspace.path(artifacts.STATE)
    # The folder's lock before the server's: who holds it knows that a lease left here is a dead run's.
    with exclusive(state / "retrain.lock", workspace.name):
        if not PREFECT_API_URL.value():  # a server of this run's own, which nobody else asks
            yield
            return
        limit, lease = identity(workspace).limit, state / "retrain.lease"
        run_coro_as_sync(_give_back(lease))
        if taken := run_coro_as_sync(_ensure(limit)):
            get_run_logger().info("waiting: another run of this workspace is at work (%s of 1)", taken)
        with _holding(limit, lease):
            yield


@contextmanager
def _holding(limit: str, lease: Path) -> Iterator[None]:
    """Has the lock inside the block, and its lease written down for whoever comes after a kill.

    A server that is away for a while costs the reservation, not the run: registering and promoting can be repeated,
    and the device has a lock of its own. A lock that could not be given back comes free like that of a dead run.
    """
    # `strict`: else a limit that is not there would hold nobody back.
    held = concurrency(
        limit, strict=True, lease_duration=SECONDS_AFTER_DEATH, raise_on_lease_renewal_failure=False
    )
    # Not by `with`: what fails while the lock is given back is handled apart from the work's own errors.
    held.__enter__()
    context = ConcurrencyContext.get()
    if context and context.cleanup_lease_ids:
        files.write_text(lease, str(context.cleanup_lease_ids[-1]))
    try:
        yield
    finally:
        try:
            held.__exit__(None, None, None)
            lease.unlink(missing_ok=True)
        except httpx.HTTPError as error:
            get_run_logger().warning(
                "the run lock is free in five minutes only, the server is away: %s", error
            )


async def _give_back(lease: Path) -> None:
    """Gives back the lock of a run that was killed in this folder: the folder's is free, so it is dead."""
    if not lease.exists():
        return
    try:
        held = UUID(lease.read_text("utf-8"))
    except ValueError:  # not ours: the lease runs out by itself
        held = None
    if held:
        async with get_client() as client:
            await client.release_concurrency_slots_with_lease(held)
    lease.unlink(missing_ok=True)


async def _ensure(limit: str) -> Any:
    """Makes the limit where there is none; returns how many hold it."""
    async with get_client() as client:
        await client.upsert_global_concurrency_limit_by_name(limit, 1)
        return (await client.read_global_concurrency_limit_by_name(limit)).active_slots
