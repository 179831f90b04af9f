"""What there is, as rows for a table or JSON."""

import time
from typing import Any

from vggflow.tracking import connection, registry
from vggflow.tracking.registry import Version
from vggflow.workspace import Workspace


def model_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """All champions and candidates, newest first: model, version, aliases, accuracy, data, made."""
    names = workspace.settings().registry
    client = connection.connect(workspace)
    found = [
        version
        for name in (names.name, names.candidates)
        for version in reversed(registry.versions(client, name))
    ]
    return [_row(version) for version in found]


def _row(version: Version) -> dict[str, Any]:
    return {
        "model": version.name,
        "version": version.number,
        "aliases": ", ".join(version.aliases),
        "accuracy": round(version.accuracy, 4) if version.accuracy is not None else None,
        "data": version.tags.get("data.hash", "")[:6],
        "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created_ms / 1000)),
    }
