"""`vggflow cache`: what the cache of frozen features holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vggflow.commands import options
from vggflow.console import local_time, out, say, table


def command(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all features; they are computed again.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Shows what the cache of frozen features holds, or clears it."""
    from vggflow.environment import state_folder
    from vggflow.features import limit

    if clear:
        say(f"{limit.clear(state_folder()) / 1e6:.1f} MB freed")
        return
    rows = feature_rows(state_folder())
    if as_json:
        options.print_json(rows)
        return
    columns = ["layer", "images", "MB", "type", "shape", "used"]
    out.print(table("", columns, [[str(row[column]) for column in columns] for row in rows]))
    say(f"{sum(row['MB'] for row in rows):.1f} of {limit.limit_bytes() / 1e6:.0f} MB in {state_folder()}")


def feature_rows(state: Path) -> list[dict[str, Any]]:
    """What the feature cache holds, the last used first: layer, images, MB, type, shape, used."""
    from vggflow.features import limit

    return [
        {
            "layer": entry.kind.cut,
            "images": entry.images,
            "MB": round(entry.size_bytes / 1e6, 1),
            "type": entry.kind.dtype,
            "shape": "×".join(map(str, entry.kind.shape)),
            "used": local_time(entry.last_used),
        }
        for entry in limit.contents(state)
    ]
