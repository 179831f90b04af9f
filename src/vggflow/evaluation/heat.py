"""Where a model looked for the answer it gave: Grad-CAM over the image as the network sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import Resize, open_image, pixels

SHOWN_PX = 160


@dataclass(frozen=True)
class Looked:
    """An image, cut or stretched as for the network, uint8 (160, 160, 3), and its heat map (h, w), 0 to 1."""

    picture: NDArray[np.uint8]
    heat: NDArray[np.float64]


# From images and the class that was answered for each.
Looking = Callable[[Sequence[tuple[Path, str]]], list[Looked]]


def looking(model_path: Path) -> Looking:
    """A function that makes the heat maps of a model file; Keras is loaded at its first use."""

    def look(answered: Sequence[tuple[Path, str]]) -> list[Looked]:
        from vggflow.evaluation.explain import grad_cam
        from vggflow.models import files

        model, info = files.load(model_path)
        resize: Resize = info.resize  # type: ignore[assignment]
        looked = []
        for path, class_name in answered:
            image = open_image(path)
            seen = pixels(image, info.image_size_px, resize)
            heat = grad_cam(model, seen, info.class_names.index(class_name))
            looked.append(Looked(pixels(image, SHOWN_PX, resize), heat))
        return looked

    return look
