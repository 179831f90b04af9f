"""Small pictures inside a page, as `data:` addresses."""

import base64
import io
from pathlib import Path

from PIL import Image

from vggflow.data.images import ImageError, open_image
from vggflow.data.places import Place

QUALITY = 82


def thumbnail(place: Path | Place, side_px: int) -> str | None:
    """An image no wider or higher than `side_px`; None if it is gone or can't be read any more."""
    try:
        image = open_image(place)
    except ImageError:
        return None
    image.thumbnail((side_px, side_px))
    return jpeg(image)


def jpeg(image: Image.Image) -> str:
    """A picture as JPEG."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return address("image/jpeg", content.getvalue())


def address(kind: str, content: bytes) -> str:
    """Bytes of a kind such as `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
