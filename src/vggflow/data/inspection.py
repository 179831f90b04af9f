"""One file looked at: read once, decoded, measured. Imported by every scanning process, so it stays light."""

import hashlib
from pathlib import Path

from vggflow.data import images


def inspect(path: Path) -> dict[str, object]:
    """The facts of one file, or the reason why there are none in `error`; raises nothing for a bad file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return {"kind": "image", "bytes": 0, "error": error.strerror or str(error)}
    facts: dict[str, object] = {
        "kind": "image",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        decoded = images.decode(content)
    except images.ImageError as error:
        return facts | {"error": str(error)}
    return facts | {
        "width": decoded.image.width,
        "height": decoded.image.height,
        "mode": decoded.mode,
        "format": decoded.format,
        "orientation": decoded.orientation,
        "frames": decoded.frames,
    }
