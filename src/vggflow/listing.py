"""What there is, as rows for a table or JSON."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from vggflow.tracking import connection, ledger, ownership, registry
from vggflow.tracking.ledger import Reign
from vggflow.tracking.registry import Version
from vggflow.workspace import Workspace


def model_rows(workspace: Workspace, most: int | None = None) -> list[dict[str, Any]]:
    """All champions and the `most` newest candidates (None: all), newest first.

    A row holds model, version, aliases, accuracy, log_loss, data, made, age, and champion: `since …` for the one in
    use, `until …` for the ones before; times are local.
    """
    names = workspace.settings().registry
    client = connection.connect(workspace)
    book = ledger.read(client, names)
    reigns = {reign.number: _reign(reign) for reign in book.reigns()}
    if most is None:
        candidates = registry.versions(client, names.candidates)[::-1]
    else:
        candidates = registry.newest(client, names.candidates, most)
    return [
        *(
            _row(version, reigns.get(version.number, ""))
            for version in reversed(book.versions)
            if version not in book.claims and version not in book.lost
        ),
        *(_row(version) for version in candidates),
    ]


def adopt_models(workspace: Workspace) -> str:
    """Takes the registered models of this workspace's name over, whosever they were; says so in a line."""
    client, name = connection.connect_unchecked(workspace), workspace.settings().registry.name
    with connection.answering():
        adopted = ownership.claim(client, workspace, adopt=True)
    if not adopted:
        return f"there are no models called {name!r} yet: the first candidate will be this workspace's"
    return f"the models called {name!r} are this workspace's now: {ownership.owner(workspace).place}"


def _row(version: Version, champion: str = "") -> dict[str, Any]:
    log_loss = version.tags.get("log_loss")
    return {
        "model": version.name,
        "version": version.number,
        "aliases": ", ".join(version.aliases),
        "accuracy": round(version.accuracy, 4) if version.accuracy is not None else None,
        "log_loss": float(log_loss) if log_loss else None,
        "data": version.tags.get("data.hash", "")[:6],
        "made": _local(version.created_ms / 1000),
        "age": _age(time.time() - version.created_ms / 1000),
        "champion": champion,
    }


def _reign(reign: Reign) -> str:
    """The last time that a version was champion, in few characters."""
    when = datetime.fromisoformat(reign.until or reign.since).astimezone()
    return f"{'until' if reign.until else 'since'} {when:%Y-%m-%d}"


def _age(seconds: float) -> str:
    """`4 min`, `7 h` or `12 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds / 60))} min"


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
