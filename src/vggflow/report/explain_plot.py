"""The picture of `vggflow explain`, as a matplotlib `Figure` drawn without pyplot."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from numpy.typing import NDArray
from PIL import Image

from vggflow.evaluation.explain import MAPS_PER_BLOCK, Explanation, Map

ANSWERS = 4
WHITE_PERCENTILE = 99.5
_MARGINS: dict[str, Any] = {"left": 0.02, "right": 0.985, "top": 0.895, "bottom": 0.015}


def draw(explanation: Explanation) -> Figure:
    """One picture: the answer, the image, the evidence for it, and the strongest maps of each block."""
    figure = Figure(figsize=(13.0, 7.4), facecolor="white")
    # A `$` in the name of a class is no formula.
    style = {"fontsize": 15, "fontweight": "bold", "parse_math": False}
    figure.suptitle(_answer(explanation), x=0.02, y=0.975, ha="left", **style)
    parts = figure.add_gridspec(1, 2, width_ratios=(3.1, 9.4), wspace=0.06, **_MARGINS)
    _draw_evidence(figure, parts[0], explanation)
    _draw_maps(figure, parts[1], explanation)
    return figure


def _answer(explanation: Explanation) -> str:
    order = np.argsort(-explanation.probabilities, kind="stable")[:ANSWERS]
    return "   ".join(f"{explanation.class_names[k]} {explanation.probabilities[k]:.1%}" for k in order)


def _draw_evidence(figure: Figure, place: SubplotSpec, explanation: Explanation) -> None:
    parts = place.subgridspec(2, 1, hspace=0.12)
    image, evidence = figure.add_subplot(parts[0]), figure.add_subplot(parts[1])
    for axes in (image, evidence):
        axes.imshow(explanation.picture)
        axes.set_axis_off()
    evidence.imshow(glow(explanation.heat, len(explanation.picture)))
    image.set_title("the image", loc="left", fontsize=10)
    evidence.set_title(_evidence_title(explanation), loc="left", fontsize=10, parse_math=False)


def _evidence_title(explanation: Explanation) -> str:
    name = explanation.class_names[explanation.predicted]
    found = "evidence" if explanation.heat.any() else "no evidence"
    return f"{found} for {name} (Grad-CAM)"


def glow(heat: Map, size: int) -> NDArray[np.floating]:
    """The heat as colours (size, size, 4), clear where there is none, so the image stays in sight."""
    small = Image.fromarray(heat.astype(np.float32))
    # Bicubic curves go below 0 and above 1 between their points.
    large = np.clip(np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)), 0.0, 1.0)
    # The scale begins with black, which would darken weak evidence.
    colours = matplotlib.colormaps["inferno"](0.25 + 0.75 * large)
    colours[..., 3] = 0.8 * np.sqrt(large)
    return np.asarray(colours)


def white(maps: Map) -> float:
    """The value shown brightest: one for all maps of a block, or a map that is nearly dead would look strong.

    Few places, often at the border, are far above all others; they don't set the scale.
    """
    return float(np.percentile(maps, WHITE_PERCENTILE) or maps.max() or 1.0)


def _draw_maps(figure: Figure, place: SubplotSpec, explanation: Explanation) -> None:
    rows = place.subgridspec(len(explanation.blocks), MAPS_PER_BLOCK, hspace=0.24, wspace=0.06)
    for row, (name, block) in enumerate(explanation.blocks.items()):
        brightest = white(block.strongest)
        for column, values in enumerate(block.strongest):
            axes = figure.add_subplot(rows[row, column])
            axes.imshow(values, cmap="magma", vmin=0, vmax=brightest)
            axes.set_axis_off()
            if column == 0:
                height, width = values.shape
                title = f"{name}, the strongest of {block.map_count} maps, {width} × {height}"
                axes.set_title(title, loc="left", fontsize=9)
