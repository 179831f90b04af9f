"""Where a model looked for the answer it gave: Grad-CAM over the image as the network sees it.

    python -m vggflow.evaluation.heat MODEL.keras OUT.npz [BACKEND] < ANSWERED.json

is the process that `heat_maps_in_process` starts; it reads pairs of path and class.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import Resize, open_image, pixels
from vggflow.data.places import Place
from vggflow.errors import VggflowError
from vggflow.models import start_keras
from vggflow.processes.stage import ending_with_parents, exit_fast, last_error_line, run_module

# As large as the thumbnails that heat maps stand beside.
SHOWN_PX = 160


@dataclass(frozen=True)
class HeatMap:
    """An image, cut or stretched as for the network, uint8 (160, 160, 3), and its heat map (h, w), 0 to 1."""

    picture: NDArray[np.uint8]
    heat: NDArray[np.float64]


# From images and the class that was answered for each.
MakeHeatMaps = Callable[[Sequence[tuple[Path | Place, str]]], list[HeatMap]]


def heat_maps(model_path: Path) -> MakeHeatMaps:
    """A function that makes the heat maps of a model file; Keras and the model are loaded at its first use."""
    loaded: list[Any] = []

    def look(answered: Sequence[tuple[Path | Place, str]]) -> list[HeatMap]:
        from vggflow.evaluation.explain import grad_cam
        from vggflow.models import files

        if not loaded:
            loaded.append(files.load(model_path))
        model, info = loaded[0]
        resize: Resize = info.resize
        looked = []
        for place, class_name in answered:
            image = open_image(place)
            seen = pixels(image, info.image_size_px, resize)
            heat = grad_cam(model, seen, info.class_names.index(class_name))
            looked.append(HeatMap(pixels(image, SHOWN_PX, resize), heat))
        return looked

    return look


def heat_maps_in_process(model_path: Path, backend: str | None = None) -> MakeHeatMaps:
    """As `heat_maps`, in a process of its own, which gives memory and device back when it ends.

    Args:
        model_path: The `.keras` file.
        backend: What Keras computes with there, unless the environment says so; by default TensorFlow.
    """

    def look(answered: Sequence[tuple[Path | Place, str]]) -> list[HeatMap]:
        asked = json.dumps([(_absolute(place), class_name) for place, class_name in answered])
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            out = Path(folder) / "looked.npz"
            chosen = [backend] if backend else []
            done = run_module("vggflow.evaluation.heat", model_path, out, *chosen, given=asked)
            if done.returncode != 0:
                raise VggflowError(f"no heat maps of {model_path}: {last_error_line(done)}")
            # No pickle, which would be code to run.
            with np.load(out, allow_pickle=False) as found:
                return [HeatMap(found[f"picture {n}"], found[f"heat {n}"]) for n in range(len(answered))]

    return look


def _absolute(place: Path | Place) -> Place:
    where = place if isinstance(place, Place) else Place(str(place))
    return where._replace(file=str(Path(where.file).absolute()))


def main(arguments: list[str]) -> int:
    """The program; returns its exit code."""
    model_path, out = map(Path, arguments[:2])
    start_keras.start(*arguments[2:])
    answered = [(Place(*place), str(class_name)) for place, class_name in json.load(sys.stdin)]
    looked = heat_maps(model_path)(answered)
    arrays: dict[str, Any] = {f"picture {number}": seen.picture for number, seen in enumerate(looked)}
    arrays |= {f"heat {number}": seen.heat for number, seen in enumerate(looked)}
    np.savez(out, **arrays)
    return 0


if __name__ == "__main__":
    with ending_with_parents():
        exit_fast(main(sys.argv[1:]))
