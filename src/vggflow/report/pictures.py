"""Pictures inside a page: heat maps and figures as `data:` addresses."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vggflow.data import thumbnails
from vggflow.evaluation.heat import HeatMap


def heat_map(looked: HeatMap) -> str:
    """An image below its heat map, inside a page."""
    return thumbnails.jpeg(below_heat(looked))


def below_heat(looked: HeatMap) -> Image.Image:
    """An image below its heat map."""
    picture = Image.fromarray(looked.picture)
    warmth = Image.fromarray((np.clip(looked.heat, 0, 1) * 255).astype(np.uint8))
    warmth = warmth.resize(picture.size, Image.Resampling.BICUBIC)
    colours = matplotlib.colormaps["inferno"](np.asarray(warmth) / 255)[..., :3]
    return Image.blend(picture, Image.fromarray((colours * 255).astype(np.uint8)), 0.55)


def png(path: Path) -> str:
    """A figure that is drawn already."""
    return thumbnails.address("image/png", path.read_bytes())


def figure(drawn: Figure) -> str:
    """A figure as PNG."""
    content = io.BytesIO()
    drawn.savefig(content, dpi=110, format="png")
    return thumbnails.address("image/png", content.getvalue())
