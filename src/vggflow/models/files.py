"""Model files: `.keras` without code and without dates, with what the model was made for inside."""

import json
import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggflow.errors import UsageError
from vggflow.files import replacing
from vggflow.models import start_keras

if TYPE_CHECKING:
    import keras

INFO_MEMBER = "vggflow.json"
WEIGHTS_MEMBER = "model.weights.h5"
FORMAT = 1
# The first date that a zip file can hold.
FIXED_DATE = (1980, 1, 1, 0, 0, 0)

# What the builders use. Everything else, above all Lambda and classes from elsewhere, is refused unread.
KNOWN_CLASSES = frozenset(
    {"Functional", "InputLayer", "Flip", "Rescaling", "__keras_tensor__", "DTypePolicy"}
    | {"ZeroPadding2D", "Conv2D", "MaxPooling2D", "Flatten", "GlobalAveragePooling2D", "Dense", "Dropout"}
    | {"Activation", "GlorotUniform", "Zeros"}
)

# What Python's `zipfile` raises for an archive that is cut, changed, or packed in a way it doesn't know.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class ModelFileError(UsageError):
    """A model file is missing, damaged, not from vggflow, or would need code to be run."""


@dataclass(frozen=True)
class ModelInfo:
    """What a user of the model has to know: the classes in output order, and how to make an image fit."""

    class_names: tuple[str, ...]
    image_size_px: int
    resize: str
    preprocessing: str
    temperature: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with the version of the format."""
        return {"format": FORMAT, **asdict(self), "class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, content: Any) -> "ModelInfo":
        """From what `to_dict` gave.

        Raises:
            ModelFileError: a newer format, or a key missing or unknown.
        """
        fields = dict(content) if isinstance(content, dict) else {}
        if (version := fields.pop("format", None)) != FORMAT:
            raise ModelFileError(f"{INFO_MEMBER} has format {version}, expected {FORMAT}: update vggflow")
        try:
            info = cls(**{**fields, "class_names": tuple(fields["class_names"])})
            _refuse_temperature(info)
        except (KeyError, TypeError) as error:
            raise ModelFileError(f"{INFO_MEMBER} is incomplete or foreign: {error}") from None
        return info


def _refuse_temperature(info: ModelInfo) -> None:
    # NaN fails this too.
    if not 0.0 < info.temperature < math.inf:
        raise ModelFileError(
            f"{INFO_MEMBER} has temperature {info.temperature}, expected a finite number above 0: train again"
        )


def save(model: "keras.Model", info: ModelInfo, path: Path) -> None:
    """Writes an uncompiled copy of the model, atomically: equal weights and info give equal bytes.

    Keras' own `save` records the date, and lays the weights out by another way when memory is short.

    Raises:
        ModelFileError: a weight or the temperature is not a finite number.
    """
    import keras

    _refuse_spoilt(model, f"the network for {path.name}")
    _refuse_temperature(info)
    # A new model is not compiled; Adam's numbers would make the file three times as large.
    plain = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    texts = {
        "metadata.json": {"keras_version": keras.__version__},
        "config.json": keras.saving.serialize_keras_object(plain),
        INFO_MEMBER: info.to_dict(),
    }
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS_MEMBER
        plain.save_weights(weights)
        with replacing(path) as beside, zipfile.ZipFile(beside, "w") as archive:
            for name, content in texts.items():
                archive.writestr(_member(name), json.dumps(content))
            with (
                weights.open("rb") as source,
                # Its size is not told beforehand, and a plain zip fails where it comes to 2 GiB.
                archive.open(_member(WEIGHTS_MEMBER), "w", force_zip64=True) as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, FIXED_DATE)
    member.create_system = 3  # Unix, also on Windows
    member.external_attr = 0o644 << 16
    return member


def read_info(path: Path) -> ModelInfo:
    """What the model was made for, without importing Keras.

    Raises:
        ModelFileError: the file is missing, damaged or was not written by `save`.
    """
    with _open(path) as archive:
        return ModelInfo.from_dict(json.loads(archive.read(INFO_MEMBER)))


def load(path: Path) -> tuple["keras.Model", ModelInfo]:
    """The uncompiled model and what it was made for; nothing in the file is run.

    Raises:
        ModelFileError: the file is missing, damaged, not written by `save`, has other layers than VGG16, or a
            weight that is not a finite number.
    """
    info = read_info(path)
    with _open(path) as archive:
        # Before Keras sees the file: `safe_mode` alone did not keep code from being run (CVE-2025-1550).
        _refuse_code(json.loads(archive.read("config.json")))

    start_keras.import_keras()
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, OSError, *_UNREADABLE) as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFileError(f"{path} is damaged or foreign: {first_line}") from error
    _refuse_spoilt(model, str(path))
    return model, info


def _refuse_spoilt(model: "keras.Model", what: str) -> None:
    from vggflow.models.finite import layers_not_finite

    if spoilt := layers_not_finite(model):
        raise ModelFileError(
            f"{what}: layer {spoilt[0]} holds numbers that are not finite; "
            "train again with a lower train.phases learning_rate"
        )


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise ModelFileError(f"no model file {path}: train one, or name another") from None
    except KeyError:
        raise ModelFileError(
            f"{path} was not written by vggflow: a `.keras` file with {INFO_MEMBER} expected"
        ) from None
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{path} can't be read ({error.strerror or error}): name another") from error
    # RuntimeError: the archive is encrypted, or its JSON is nested without end.
    except (*_UNREADABLE, RuntimeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged or no `.keras` file: {error}; make it again") from error


def _refuse_code(node: Any) -> None:
    if isinstance(node, dict):
        name = node.get("class_name")
        # A list or a table for a name could be no member of a set at all.
        if name is not None and (str(name) not in KNOWN_CLASSES or not _is_keras(node)):
            raise ModelFileError(
                f"a {name} of {node.get('module')} may run code: expected only the layers of VGG16; "
                "build the network with vggflow"
            )
        for value in node.values():
            _refuse_code(value)
    elif isinstance(node, list):
        for value in node:
            _refuse_code(value)


def _is_keras(node: dict[str, Any]) -> bool:
    module = node.get("module")
    return module is None or module == "keras" or str(module).startswith("keras.")
