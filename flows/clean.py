"""Prefect forgets old runs of a workspace and their artifacts: what is over, beyond the newest of each flow."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows.checkout import is_at_work, shared_cache
from flows.identity import Identity, identity
from vggflow.workspace import Workspace

# The most that Prefect's server gives at once, unless it is set up otherwise.
PAGE = 200
OVER = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


def clean(workspace: Workspace, keep: int, *, dry_run: bool) -> dict[str, int]:
    """Deletes flow runs with their task runs, logs and artifacts, and what workers on this machine cached of data.

    Returns how many `flow_runs` and `cached_files`, and the `cached_bytes` that were freed.
    """
    here = identity(workspace)
    freed = clean_shared_cache(workspace, here.name, dry_run=dry_run)
    return {"flow_runs": asyncio.run(_clean(here, keep, dry_run)), **freed}


def clean_shared_cache(workspace: Workspace, name: str, *, dry_run: bool) -> dict[str, int]:
    """Removes from the cache of this machine's workers what the workspace does not use, unless one is at work.

    Runs push what they computed before they end, so that only a run under way has something in it that is nowhere else.
    """
    cache = shared_cache(name)
    before = _sizes(cache)
    if before and not dry_run and not is_at_work(name):
        with _caching_in(cache):
            workspace.dvc("gc", "--workspace", "--force")
    after = _sizes(cache)
    return {
        "cached_files": len(before) - len(after),
        "cached_bytes": sum(before.values()) - sum(after.values()),
    }


@contextmanager
def _caching_in(cache: Path) -> Iterator[None]:
    """DVC uses another cache inside the block, by a configuration that every other one overrides."""
    name = "DVC_SYSTEM_CONFIG_DIR"
    given = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config").write_text(f"[cache]\n    dir = {cache}\n")
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name)
            if given is not None:
                os.environ[name] = given


def _sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


async def _clean(here: Identity, keep: int, dry_run: bool) -> int:
    async with get_client() as client:
        seen: dict[Any, int] = {}
        old = []
        # All pages are read before anything is deleted: else what moves up would be passed over.
        for run in await _over(client, here):
            seen[run.flow_id] = seen.get(run.flow_id, 0) + 1
            if seen[run.flow_id] > keep:
                old.append(run)
        if not dry_run:
            for run in old:
                # First: without its run nobody would find them again.
                await _forget_artifacts(client, run)
                await client.delete_flow_run(run.id)
        return len(old)


async def _forget_artifacts(client: PrefectClient, run: FlowRun) -> None:
    """Prefect keeps the artifacts of a run that is deleted."""
    wanted = ArtifactFilter.model_validate({"flow_run_id": {"any_": [str(run.id)]}})
    # Always the first page, since what was on it is deleted.
    while found := await client.read_artifacts(artifact_filter=wanted, limit=PAGE):
        for artifact in found:
            await client.delete_artifact(artifact.id)


async def _over(client: PrefectClient, here: Identity) -> list[FlowRun]:
    """All runs of the workspace that are over, newest first, and all checks of its workers."""
    tags = {"any_": [here.tag, here.check_tag]}
    wanted = FlowRunFilter.model_validate({"tags": tags, "state": {"type": {"any_": OVER}}})
    found: list[FlowRun] = []
    for page in count():
        runs = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=PAGE, offset=page * PAGE
        )
        found += runs
        if len(runs) < PAGE:
            return found
    return found
