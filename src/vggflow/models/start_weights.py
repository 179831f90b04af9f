"""Start weights into a network, layer by layer: all that fit, or an error that says which does not."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from vggflow.errors import WeightsError
from vggflow.models import files, imagenet_weights, vgg16, weight_files
from vggflow.settings import ModelSettings

ROLES = ("kernel", "bias")
BODY = (*vgg16.CONVOLUTION_NAMES, *vgg16.FC_NAMES)
FIRST = vgg16.CONVOLUTION_NAMES[0]

_log = logging.getLogger(__name__)


def load(
    model: keras.Model, settings: ModelSettings, class_names: Sequence[str], weights_folder: Path | None
) -> frozenset[str]:
    """Fills the layers that the start weights hold, and gives their names.

    `predictions` comes along only from a model of vggflow with the same classes.

    Raises:
        WeightsError: the file is missing, damaged, or a layer in it has another shape.
    """
    path = find(settings, weights_folder)
    if path is None:
        return frozenset()
    class_names_of_file = _class_names(path, settings)
    if class_names_of_file is None:
        ask_preprocessing(path, settings)
    same_classes = class_names_of_file == tuple(class_names)
    loaded = assign(model, path, BODY, optional=["predictions"] if same_classes else [])
    fresh = [name for name in vgg16.FC_NAMES if name not in loaded and _has(model, name)]
    if fresh:
        _log.warning(
            "%s has no %s: random values there, so let a phase train them", path, " and ".join(fresh)
        )
    return loaded


def find(settings: ModelSettings, weights_folder: Path | None) -> Path | None:
    """The file with the start weights, downloaded where they are ImageNet's; None for `none`.

    Raises:
        WeightsError: there is no such file, or ImageNet's can't be fetched or have another hash.
    """
    if settings.weights == "none":
        return None
    folder = weights_folder or Path("weights")
    if settings.weights == "imagenet":
        return imagenet_weights.find(folder, with_top=settings.head == "fc")
    for path in (folder.parent / settings.weights, folder / settings.weights):
        if path.is_file():
            return path
    raise WeightsError(
        f"no start weights {settings.weights} in {folder.parent}: put the file into {folder} and version it "
        f"with `dvc add {folder.name}`, or set model.weights to imagenet or none"
    )


def are_here(settings: ModelSettings, weights_folder: Path | None) -> bool:
    """Whether the start weights are on this machine, so that nothing would be downloaded; random ones are nowhere."""
    if settings.weights == "imagenet":
        return imagenet_weights.is_here(weights_folder or Path("weights"), with_top=settings.head == "fc")
    try:
        return find(settings, weights_folder) is not None
    except WeightsError:
        return False


def _class_names(path: Path, settings: ModelSettings) -> tuple[str, ...] | None:
    """The classes of a model of vggflow, None of other files. Refuses one with other preprocessing."""
    try:
        info = files.read_info(path)
    except files.ModelFileError:
        return None
    if info.preprocessing != settings.preprocessing:
        raise WeightsError(
            f"{path} was trained with preprocessing {info.preprocessing}, not {settings.preprocessing}: "
            "set model.preprocessing to the same"
        )
    return info.class_names


def ask_preprocessing(path: Path, settings: ModelSettings) -> None:
    """Weights see other pixels than those they learned with, and nothing but accuracy shows it.

    Raises:
        WeightsError: the file says that it was made for another preprocessing.
    """
    made_for = "imagenet" if settings.weights == "imagenet" else weight_files.preprocessing(path)
    if settings.preprocessing == made_for:
        return
    if settings.weights != "imagenet" and made_for is not None:
        raise WeightsError(
            f"{path} was made for preprocessing {made_for}, not {settings.preprocessing}: "
            "set model.preprocessing to the same"
        )
    if settings.preprocessing == "rescale":
        _log.warning(
            "model.preprocessing is rescale, but %s %s: try `imagenet`; the linear probe that a training prints tells "
            "which fits better",
            path,
            "learned with ImageNet's"
            if made_for
            else "may have learned with ImageNet's, as VGG16's weights do",
        )


def assign(
    model: keras.Model, path: Path, wanted: Collection[str], optional: Collection[str] = ()
) -> frozenset[str]:
    """Copies the layers that both the file and the model have; checks all before it changes one.

    A `wanted` layer has to fit, an `optional` one is left out if it doesn't. Gives the names of those copied.

    Raises:
        WeightsError: a convolution is missing, or a layer has another shape or values that are not finite.
    """
    with weight_files.opened(path) as layers:
        for name in vgg16.CONVOLUTION_NAMES:
            if name in wanted and name not in layers:
                raise WeightsError(f"{path} has no layer {name}, expected all 13 convolutions of VGG16")
        names = [name for name in layers if name in wanted and _has(model, name)]
        for name in names:
            _check_shapes(model.get_layer(name), layers[name], path)
        names += [name for name in optional if name in layers and _fits(model, name, layers[name])]
        for name in names:
            # Reads the weights once more than is needed: no layer changes while a later one may be refused.
            _check_values(layers[name], name, path)
        for name in names:
            for role in ROLES:
                getattr(model.get_layer(name), role).assign(layers[name][role][()])
    return frozenset(names)


def _has(model: keras.Model, name: str) -> bool:
    return any(layer.name == name for layer in model.layers)


def _fits(model: keras.Model, name: str, found: Mapping[str, h5py.Dataset]) -> bool:
    if not _has(model, name) or set(found) != set(ROLES):
        return False
    return all(found[role].shape == tuple(getattr(model.get_layer(name), role).shape) for role in ROLES)


def _check_shapes(layer: keras.layers.Layer, found: Mapping[str, h5py.Dataset], path: Path) -> None:
    for role in ROLES:
        expected = tuple(getattr(layer, role).shape)
        if role not in found:
            raise WeightsError(f"{path}: layer {layer.name} has no {role}, expected one of shape {expected}")
        if found[role].shape != expected:
            raise WeightsError(
                f"{path}: layer {layer.name} has a {role} of shape {found[role].shape}, expected {expected}"
                f"{_hint(layer.name, found[role].shape, expected)}"
            )


def _hint(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if sorted(found) == sorted(expected):
        return ": its axes are in another order; transpose to (height, width, in, out), or (in, out) if dense"
    if name == "fc1" and found[1:] == expected[1:]:
        return ": it was trained on another model.image_size_px"
    if name == FIRST and len(found) == len(expected):
        if found[2] != expected[2]:
            return (
                f": it learned with images of {found[2]} channels, not with the 3 of RGB; take another file"
            )
        if found[:3] == expected[:3] and found[3] <= vgg16.FILTERS[0]:
            return f": a network of another width; set model.width to {found[3] / vgg16.FILTERS[0]:g}"
    return ""


def _check_values(found: Mapping[str, h5py.Dataset], name: str, path: Path) -> None:
    for role in ROLES:
        if found[role].dtype.kind != "f":
            raise WeightsError(
                f"{path}: the {role} of layer {name} holds {found[role].dtype}, expected floating-point numbers"
            )
        if not np.isfinite(found[role][()]).all():
            raise WeightsError(f"{path}: the {role} of layer {name} holds values that are not finite numbers")
