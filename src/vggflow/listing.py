"""What there is, as rows for a table or JSON."""

import time
from pathlib import Path
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
        "made": _local(version.created_ms / 1000),
    }


def feature_rows(state: Path) -> list[dict[str, Any]]:
    """What the feature cache holds, the last used first: layer, images, MB, type, shape, used."""
    from vggflow.training import feature_cache

    return [
        {
            "layer": entry.kind.cut,
            "images": entry.images,
            "MB": round(entry.size_bytes / 1e6, 1),
            "type": entry.kind.dtype,
            "shape": "×".join(map(str, entry.kind.shape)),
            "used": _local(entry.last_used),
        }
        for entry in feature_cache.contents(state)
    ]


def clear_features(state: Path) -> int:
    """Empties the feature cache; returns the bytes freed."""
    from vggflow.training import feature_cache

    return feature_cache.clear(state)


def _local(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
