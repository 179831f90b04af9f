"""Start weights into a network, layer by layer. Nothing in a weight file is ever run."""

from pathlib import Path

import h5py
import keras

from vggflow.errors import WeightsError
from vggflow.models import vgg16
from vggflow.settings import ModelSettings


def load(model: keras.Model, settings: ModelSettings, weights_folder: Path | None) -> frozenset[str]:
    """Fills the layers that the start weights hold; gives the names of those layers."""
    if settings.weights == "none":
        return frozenset()
    path = _find(settings.weights, weights_folder)
    loaded = set()
    with h5py.File(path) as file:
        for name in (*vgg16.CONVOLUTION_NAMES, *vgg16.FC_NAMES):
            if name in file and any(layer.name == name for layer in model.layers):
                group = file[name]
                values = [group[key][()] for key in group.attrs["weight_names"]]
                model.get_layer(name).set_weights(values)
                loaded.add(name)
    return frozenset(loaded)


def _find(weights: str, weights_folder: Path | None) -> Path:
    folder = weights_folder or Path("weights")
    for path in (folder / weights, folder.parent / weights):
        if path.is_file():
            return path
    raise WeightsError(
        f"no start weights {weights} in {folder}: put the file there and run `dvc add {folder.name}`"
    )
