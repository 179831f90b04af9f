"""Weight files of every Keras, read as arrays by layer name. No object in a file is ever made, no code run.

Three spellings lie in the world:

    block1_conv1/block1_conv1_W_1:0             Keras 1 and the published files, a group per layer
    block1_conv1/block1_conv1/kernel:0          Keras 2, also below `model_weights` or a nested model's name
    layers/conv2d/vars/0                        Keras 3, the layer's name in the attribute `name` of `vars`
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py

from vggflow.errors import WeightsError
from vggflow.models.vgg16 import CONVOLUTION_NAMES, FC_NAMES

LAYER_NAMES = (*CONVOLUTION_NAMES, *FC_NAMES, "predictions")
KERAS_WEIGHTS = "model.weights.h5"
VARIABLES = "/vars"
PREPROCESSING = "preprocessing"
# What HDF5, h5py and zipfile raise over changed bytes; `MemoryError` where a size in the file is a wild number.
UNREADABLE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError, OverflowError),
    *(EOFError, zipfile.BadZipFile, zlib.error),
)

# A layer's name to its `kernel` and `bias`, still on disk.
Layers = Mapping[str, Mapping[str, h5py.Dataset]]

_ROLES = {"kernel": "kernel", "W": "kernel", "0": "kernel", "bias": "bias", "b": "bias", "1": "bias"}
# `kernel:0`, `block1_conv1_W_1:0`, `bias`: what Keras 1 and 2 call them, the layer's name in front or not.
_CLASSIC = re.compile(r"(?:.*_)?(kernel|W|bias|b)(?:_\d+)?(?::0)?")


@contextmanager
def opened(path: Path) -> Iterator[Layers]:
    """The VGG16 layers of an `.h5`, `.weights.h5` or `.keras` file, readable while the block lasts.

    Raises:
        WeightsError: the file is damaged, of another kind, or holds no layer of VGG16.
    """
    with _explaining(path), h5py.File(_content(path), "r") as file:
        layers = _layers(file)
        if not layers:
            raise WeightsError(
                f"{path} holds no layer of VGG16, only {', '.join(list(file)[:3]) or 'nothing'}; "
                "expected layers named as in Keras, block1_conv1 to block5_conv3"
            )
        yield layers


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError:
        raise
    except UNREADABLE as error:
        raise WeightsError(
            f"{path} is damaged or no Keras weight file: {' '.join(str(error).split())}; fetch it again"
        ) from error


def preprocessing(path: Path) -> str | None:
    """What the weights were made for, where the file says so: `imagenet` or `rescale`. Files of Keras don't.

    Raises:
        WeightsError: the file is damaged or of another kind.
    """
    with _explaining(path), h5py.File(_content(path), "r") as file:
        said = file.attrs.get(PREPROCESSING)
        return said if isinstance(said, str) else None


def say_preprocessing(path: Path, kind: str) -> None:
    """Notes in an HDF5 file what its weights were made for."""
    with h5py.File(path, "r+") as file:
        file.attrs[PREPROCESSING] = kind


def _content(path: Path) -> Path | io.BytesIO:
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        if KERAS_WEIGHTS not in archive.namelist():
            raise zipfile.BadZipFile(f"a zip file without {KERAS_WEIGHTS}")
        # All of it in memory: HDF5 goes to and fro, and a zip's member begins anew for each step back.
        return io.BytesIO(archive.read(KERAS_WEIGHTS))


def _layers(file: h5py.File) -> dict[str, dict[str, h5py.Dataset]]:
    datasets = _datasets(file)
    names = _names_by_group(file, datasets)
    layers: dict[str, dict[str, h5py.Dataset]] = {}
    for path, dataset in datasets.items():
        layer, role = _address(path, names)
        # An optimizer keeps numbers of the same shapes under the names of the layers.
        if layer in LAYER_NAMES and role is not None and "optimizer" not in path:
            layers.setdefault(layer, {}).setdefault(role, dataset)
    return layers


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def visit(path: str, item: h5py.Dataset | h5py.Group) -> None:
        # `visititems` follows no link out of the file; a dataset stored in another file is left aside too.
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
            found[path] = item

    file.visititems(visit)
    return found


def _address(path: str, names: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The layer and the role, kernel or bias, of the dataset at `path`."""
    group, _, last = path.rpartition("/")
    if group.endswith(VARIABLES):
        return names.get(group), _ROLES.get(last)
    matched = _CLASSIC.fullmatch(last)
    layer = next((part for part in group.split("/") if part in LAYER_NAMES), None)
    return layer, _ROLES[matched[1]] if matched else None


def _names_by_group(file: h5py.File, paths: Iterable[str]) -> dict[str, str]:
    """Keras 3 groups and the layer of each: by attribute, or by position in files too old to have it."""
    groups = {path.rpartition("/")[0] for path in paths}
    named = {group: str(file[group].attrs["name"]) for group in groups if "name" in file[group].attrs}
    by_position = {
        **_in_order("conv2d", CONVOLUTION_NAMES, groups),
        **_in_order("dense", (*FC_NAMES, "predictions"), groups),
    }
    return named or by_position


def _in_order(kind: str, names: tuple[str, ...], groups: Iterable[str]) -> dict[str, str]:
    """Groups `conv2d`, `conv2d_1`, … and the names in the same order, if there are as many."""
    matches = {group: re.fullmatch(rf"(?:.*/)?{kind}(?:_(\d+))?{VARIABLES}", group) for group in groups}
    # By number: as text `conv2d_10` comes before `conv2d_2`.
    numbered = sorted((int(match[1] or 0), group) for group, match in matches.items() if match)
    # With more or fewer of them, the order says nothing.
    if len(numbered) != len(names):
        return {}
    return {group: name for (_, group), name in zip(numbered, names, strict=True)}
