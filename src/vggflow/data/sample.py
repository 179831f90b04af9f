"""A small copy of the data, of the same shape, for trying the whole way before launching it."""

import heapq
import shutil
from pathlib import Path

from vggflow.data import layout
from vggflow.data.contents import Contents
from vggflow.data.images import EXTENSIONS
from vggflow.errors import DataError


def take_sample(data_folder: Path, per_class: int) -> dict[str, dict[str, int]]:
    """Fills `data/sample/{train,valid,test}` with up to `per_class` images of each class folder.

    Images are taken in the order of their content's hash: the same data give the same sample, and new images
    change little of it.

    Returns:
        The number of images per split and class.

    Raises:
        DataError: there is no data, or `per_class` is not positive.
    """
    if per_class < 1:
        raise DataError(f"{per_class} images per class make no sample: ask for 1 or more")
    folders = layout.class_folders(data_folder)
    target = data_folder / layout.SAMPLE
    if target.exists():
        shutil.rmtree(target)
    counts: dict[str, dict[str, int]] = {}
    contents = Contents(data_folder)
    paths = [path for path in contents.sizes() if Path(path).suffix.lower() in EXTENSIONS]
    for folder in folders:
        chosen = _choose(contents, [path for path in paths if path.startswith(f"{folder}/")], per_class)
        for path in chosen:
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(contents.place(path).read())
        counts.setdefault(folder.split, {})[folder.class_name] = len(chosen)
    return counts


def _choose(contents: Contents, paths: list[str], count: int) -> list[str]:
    # Reads every image of the class: its bytes decide, whatever it is called.
    ordered = sorted(paths)
    found = zip(ordered, contents.digests(ordered), strict=True)
    # What can't be read is for the gate to tell.
    hashes = {path: digest for path, digest in found if digest is not None}
    return heapq.nsmallest(count, hashes, key=lambda path: hashes[path])
