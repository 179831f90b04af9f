"""The deployments that the server has of a workspace, and where their runs are done."""

from collections.abc import Iterable

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort

from flows.identity import TAG, Identity
from vggflow.processes.work_place import WorkPlace

AT_MOST = 200  # in one answer of Prefect's server


async def of_workspace(client: PrefectClient, here: Identity) -> list[DeploymentResponse]:
    """The deployments that `prefect.yaml` makes, by name."""
    return await tagged(client, here.tag)


async def tagged(client: PrefectClient, tag: str) -> list[DeploymentResponse]:
    """vggflow's deployments with a tag, by name."""
    wanted = DeploymentFilter.model_validate({"tags": {"all_": [TAG, tag]}})
    return await client.read_deployments(
        deployment_filter=wanted, limit=AT_MOST, sort=DeploymentSort.NAME_ASC
    )


def place(deployment: DeploymentResponse) -> WorkPlace | None:
    """Where its runs are done; None where no work pool is named."""
    pool = deployment.work_pool_name
    return WorkPlace(pool, deployment.work_queue_name or "default") if pool else None


def places(deployments: Iterable[DeploymentResponse]) -> set[WorkPlace]:
    """Where deployments run that are not paused."""
    return {found for each in deployments if not each.paused and (found := place(each))}
