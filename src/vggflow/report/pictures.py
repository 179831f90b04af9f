"""Pictures inside a page: thumbnails, heat maps and figures as `data:` addresses."""

import base64
import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vggflow.data.images import ImageError, open_image
from vggflow.evaluation.heat import HeatMap

THUMBNAIL_PX = 160


def thumbnail(path: Path) -> str | None:
    """A small JPEG of an image file; None if the file is gone or can't be read any more."""
    try:
        image = open_image(path)
    except ImageError:
        return None
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _jpeg(image)


def heat_map(looked: HeatMap) -> str:
    """An image below its heat map."""
    picture = Image.fromarray(looked.picture)
    warmth = Image.fromarray((np.clip(looked.heat, 0, 1) * 255).astype(np.uint8))
    warmth = warmth.resize(picture.size, Image.Resampling.BICUBIC)
    colours = matplotlib.colormaps["inferno"](np.asarray(warmth) / 255)[..., :3]
    return _jpeg(Image.blend(picture, Image.fromarray((colours * 255).astype(np.uint8)), 0.55))


def png(path: Path) -> str:
    """A figure that is drawn already."""
    return _address("image/png", path.read_bytes())


def figure(drawn: Figure) -> str:
    """A figure as PNG."""
    content = io.BytesIO()
    drawn.savefig(content, dpi=110, format="png")
    return _address("image/png", content.getvalue())


def _jpeg(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=82)
    return _address("image/jpeg", content.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
