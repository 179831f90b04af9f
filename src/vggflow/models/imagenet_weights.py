"""ImageNet's weights as Keras published them: found in the workspace or fetched, checked by their hash."""

import contextlib
import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from vggflow.errors import WeightsError, WeightsUnreachable
from vggflow.files import replacing
from vggflow.models import start_keras


@dataclass(frozen=True)
class Published:
    """A weight file on the web, as Keras names and checks it."""

    url: str
    md5: str

    @property
    def file_name(self) -> str:
        """The name under which it is looked for."""
        return self.url.rpartition("/")[2]


_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
WITH_TOP = Published(
    f"{_ADDRESS}vgg16_weights_tf_dim_ordering_tf_kernels.h5", "64373286793e3c8b2b4e3219cbf3544b"
)
WITHOUT_TOP = Published(
    f"{_ADDRESS}vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "6d6bbae143d832006294945121d1f1fc"
)


def fetch_imagenet(folder: Path, with_top: bool) -> Path:
    """Puts ImageNet's weights, with `fc1`, `fc2` and `predictions` or without, into `folder`, verified.

    Raises:
        WeightsError: they can't be fetched, or the file there has another hash.
    """
    return fetch(WITH_TOP if with_top else WITHOUT_TOP, folder)


def fetch(published: Published, folder: Path) -> Path:
    """A published file into `folder`, whole or not at all, through Keras' own download and cache."""
    target = folder / published.file_name
    if not target.exists():
        source = _download(published, folder)
        with replacing(target) as beside:
            shutil.copyfile(source, beside)
    return _verified(target, published)


def find(folder: Path, with_top: bool) -> Path:
    """ImageNet's weights from `folder`, else from Keras' cache or the web.

    Raises:
        WeightsError: they can't be fetched, or the file in `folder` has another hash.
    """
    there = found(folder, with_top)
    if there is not None:
        return _verified(there, WITH_TOP if there.name == WITH_TOP.file_name else WITHOUT_TOP)
    return _download(WITH_TOP if with_top else WITHOUT_TOP, folder)


def is_here(folder: Path, with_top: bool) -> bool:
    """Whether `find` needs no network."""
    name = (WITH_TOP if with_top else WITHOUT_TOP).file_name
    return found(folder, with_top) is not None or (start_keras.keras_folder() / "models" / name).is_file()


def found(folder: Path, with_top: bool) -> Path | None:
    """The file in `folder` that fits, unchecked; weights with top also serve a network without."""
    wanted = [WITH_TOP] if with_top else [WITHOUT_TOP, WITH_TOP]
    paths = (folder / published.file_name for published in wanted)
    return next((path for path in paths if path.exists()), None)


def _download(published: Published, folder: Path) -> Path:
    """Into Keras' cache, not into the workspace: a stage does not change what it depends on."""
    start_keras.start()
    import keras

    cache = start_keras.keras_folder()
    with contextlib.suppress(OSError):  # where it can't be, Keras takes a temporary folder
        cache.mkdir(parents=True, exist_ok=True)
    name, url, md5 = published.file_name, published.url, published.md5
    try:
        # Keras draws its bar on stdout, which belongs to the result.
        with contextlib.redirect_stdout(sys.stderr):
            return Path(
                keras.utils.get_file(name, url, cache_dir=str(cache), cache_subdir="models", file_hash=md5)
            )
    except Exception as error:  # Keras raises a plain Exception when there is no network
        # Of Keras' message, which names the address as well, the reason alone.
        reason = " ".join(str(error).rpartition(" -- ")[2].split())
        raise WeightsUnreachable(
            f"can't fetch ImageNet's weights ({reason}): put {name} from {url} "
            f"into {folder} (md5 {md5}) and version it with `dvc add {folder.name}`"
        ) from error


def _verified(path: Path, published: Published) -> Path:
    with path.open("rb") as file:
        # MD5 is what Keras published; where FIPS holds Python has it for such uses only.
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != published.md5:
        raise WeightsError(
            f"{path} has md5 {found}, expected {published.md5}: it is damaged or incomplete; "
            "remove it and fetch it again"
        )
    return path
