"""A registered model whose champion changes, without anybody who judges."""

from vggflow.tracking import connection
from vggflow.workspace import Workspace


def another_champion(here: Workspace, *, graph: bool) -> None:
    """The alias moves to a second version; without a graph, as those that were registered before there were any."""
    registry = connection.connect(here)
    client, name = registry.client, registry.names.name
    first = client.get_model_version_by_alias(name, "champion")
    tags = {key: value for key, value in first.tags.items() if graph or key != "sha256.onnx"}
    client.create_model_version(name, first.source, run_id=first.run_id, model_id=first.model_id, tags=tags)
    client.set_registered_model_alias(name, "champion", "2")
