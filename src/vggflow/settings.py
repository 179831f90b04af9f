"""`params.yaml`, read once into frozen sections that reject unknown keys."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vggflow.errors import SettingsError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Within the 250 characters of MLflow's keys and names, with what stands before and behind it there.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=200)]


class Section(BaseModel):
    """A part of `params.yaml`: frozen, and strict about keys and types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSettings(Section):
    """What the network is, and how an image becomes its input.

    Attributes:
        image_size_px: height and width of the input.
        resize: how an image becomes a square: `stretch` ignores its proportions, `crop` keeps the middle,
            `pad` adds black bars.
        preprocessing: `imagenet` is BGR minus ImageNet's mean, `rescale` is 1/255; part of the model.
        weights: what training starts from: `imagenet` (downloaded once), `none` (random), or a file below the
            workspace: `.h5` or `.weights.h5` with or without top, or a `.keras` model.
        width: share of VGG16's filters and units. 0.25 needs a sixteenth of the computation.
        head: what stands on the convolutions: `flatten` (one layer), `fc` (VGG16's own fc1 and fc2, then one
            layer) or `pooling` (global average, then one layer).
        dropout: share of the features before the last layer that are left out in training.
        two_class_output: one sigmoid unit or two softmax outputs; more classes always have softmax.
        builder: `keras` takes the convolutions from keras.applications, `sequential` from our block table.
        padding: `explicit` has ZeroPadding2D layers; it computes the same as `same`.
    """

    # Five poolings halve it: of 32 one pixel is left.
    image_size_px: int = Field(default=224, ge=32)
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    preprocessing: Literal["imagenet", "rescale"] = "imagenet"
    weights: str = "imagenet"
    width: float = Field(default=1.0, gt=0.0, le=1.0)
    head: Literal["flatten", "fc", "pooling"] = "pooling"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    two_class_output: Literal["sigmoid", "softmax"] = "sigmoid"
    builder: Literal["keras", "sequential"] = "keras"
    padding: Literal["same", "explicit"] = "same"

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        """The published network has one width, and its fc layers one input size."""
        if self.builder == "keras" and self.width != 1.0:
            raise ValueError(f"builder 'keras' has width 1.0, not {self.width}; use builder: sequential")
        if self.builder == "keras" and self.padding != "same":
            raise ValueError("builder 'keras' has padding 'same'; use builder: sequential")
        if self.weights == "imagenet" and self.width != 1.0:
            raise ValueError(
                f"weights 'imagenet' fit width 1.0, not {self.width}; use weights: none or a file"
            )
        if self.weights == "imagenet" and self.head == "fc" and self.image_size_px != 224:
            raise ValueError(
                f"head 'fc' with weights 'imagenet' needs image_size_px 224, not {self.image_size_px}: "
                "fc1 was trained on 7×7×512 features; use head: pooling or flatten"
            )
        return self


Expectation = Literal[
    "links", "unreadable", "exact_duplicates", "leakage", "near_leakage", "label_conflicts", "too_small",
    "missing_class", "vanished_class", "different_classes", "case_collisions", "too_few_classes", "too_few_images",
    "imbalance", "label_shift", "shrunk", "relabelled", "near_duplicates", "known_unlabelled", "odd_shapes",
    "odd_sizes", "dark", "blank", "blurred", "name_collisions", "extension_mismatch", "foreign_files", "stray_files",
    "doubtful", "unused_bits", "odd_metadata", "label_suspects",
]  # fmt: skip
Excludable = Literal[
    "unreadable", "exact_duplicates", "leakage", "near_leakage", "label_conflicts", "too_small",
    "near_duplicates", "known_unlabelled", "odd_shapes", "odd_sizes", "dark", "blank", "blurred",
    "extension_mismatch", "doubtful", "unused_bits", "odd_metadata",
]  # fmt: skip


def _off(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class ValidateSettings(Section):
    """What the data gate asks for.

    Attributes:
        min_brightness: mean grey of a picture, 0–255. Likewise `min_contrast`, its standard deviation, and
            `min_sharpness`, that of its Laplacian; all of them measured at 128×128 pixels.
        max_aspect_ratio: of the longer side to the shorter one.
        max_size_ratio: of the longer side to the median of all pictures, or the other way round.
        max_imbalance: how many times more images the largest class of train may have than another.
        max_label_shift: how far the share of a class in its split may move from the data of the champion.
        max_shrinkage: the part of its images that a class in a split may lose against the data of the champion.
        max_label_suspects: the share of the labelled images that the last `vggflow audit` saw whose labels may surely
            be in doubt.
        near_similarity: correlation of the pixels from which on two pictures are near copies.
        near_hash_distance: bits of 64 in which perceptual hashes of near copies may differ.
        near_min_detail: pictures with less to see than this are compared by their bytes only.
        severity: per expectation `critical` (refuses the data), `warning` or `note` (report) or `off`;
            `label_suspects` is never critical.
        exclude: expectations whose offending files are left out of training; the files stay where they are.
        exclude_images: images that are left out too, by the SHA-256 of their bytes; `vggflow data relabel` lists them.
    """

    min_images_per_class: int = Field(default=2, ge=1)
    min_image_size_px: int = Field(default=8, ge=1)
    min_brightness: float = Field(default=20.0, ge=0.0, le=255.0)
    min_contrast: float = Field(default=4.0, ge=0.0)
    min_sharpness: float = Field(default=5.0, ge=0.0)
    max_aspect_ratio: float = Field(default=4.0, ge=1.0)
    max_size_ratio: float = Field(default=10.0, ge=1.0)
    max_imbalance: float = Field(default=10.0, ge=1.0)
    max_label_shift: Fraction = 0.1
    max_shrinkage: Fraction = 0.2
    max_label_suspects: Fraction = 0.02
    near_similarity: Fraction = 0.9
    near_hash_distance: int = Field(default=8, ge=4, le=16)
    near_min_detail: float = Field(default=1.0, ge=0.0)
    severity: dict[
        Expectation, Annotated[Literal["critical", "warning", "note", "off"], BeforeValidator(_off)]
    ] = {}
    # YAML knows lists only, which strict mode does not take for a tuple.
    exclude: tuple[Excludable, ...] = Field(default=(), strict=False)
    exclude_images: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = Field(
        default=(), strict=False
    )

    @model_validator(mode="after")
    def no_refusal_depends_on_an_audit(self) -> Self:
        """Equal data are refused or not wherever they are judged, and an audit is one machine's."""
        if self.severity.get("label_suspects") == "critical":
            raise ValueError(
                "label_suspects can't be critical: it knows what the last audit on this machine saw, and equal data "
                "would be refused on one machine only; use warning, note or off"
            )
        return self


class EarlyStopping(Section):
    """A phase ends when `monitor` has not improved by more than `min_delta` for `patience` epochs."""

    monitor: Literal["val_loss", "val_accuracy", "loss", "accuracy"] = "val_loss"
    patience: int = Field(default=2, ge=1)
    min_delta: float = Field(default=0.0, ge=0.0)


class Phase(Section):
    """One step of fine-tuning: everything up to `freeze_through` is frozen; `none` freezes nothing.

    The weights of the epoch that is best by `early_stopping.monitor` (else `val_loss`) are what the phase
    leaves. `schedule: cosine` lets the rate fall from `learning_rate` to 0 over the phase's epochs.
    `augmentation: false` leaves the pixels of this phase as they are, whatever `train.augmentation` says.
    """

    name: Name
    freeze_through: str = "none"
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = Field(default=0.001, gt=0.0)
    schedule: Literal["constant", "cosine"] = "constant"
    epochs: int = Field(default=1, ge=1)
    early_stopping: EarlyStopping | None = None
    augmentation: bool = True

    @property
    def monitor(self) -> str:
        """What decides which epoch of the phase was the best one."""
        return self.early_stopping.monitor if self.early_stopping else "val_loss"


class FeatureSettings(Section):
    """What becomes of frozen layers' outputs: computed once and kept (`auto`), or in every epoch (`off`).

    `dtype: auto` keeps them as they are computed: in float32, or in the 16 bits of `train.precision: mixed`.
    `float16` halves the disk space at the cost of the last digits. `batch_size` is that of the computation.
    """

    # YAML reads a bare `off` as false.
    cache: Annotated[
        Literal["auto", "off"], BeforeValidator(lambda value: "off" if value is False else value)
    ] = "auto"
    dtype: Literal["auto", "float32", "float16"] = "auto"
    batch_size: int = Field(default=32, ge=1)


class AugmentationSettings(Section):
    """Random changes of the pixels, drawn anew in every epoch, on the device.

    `horizontal_flip` mirrors every second image. The others are the largest change: `shear` and `zoom` as a
    part of the width, `rotation` as a part of a full turn (0.05 is 18° either way), `brightness` as a part of
    white.
    """

    horizontal_flip: bool = False
    shear: Fraction = 0.0
    zoom: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    rotation: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    brightness: Fraction = 0.0

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self.horizontal_flip or max(self.shear, self.zoom, self.rotation, self.brightness) > 0.0


class TrainSettings(Section):
    """How the network learns.

    `class_weights: balanced` lets each class weigh the same in the loss, however many images it has.
    `precision: mixed` computes the layers before the output with 16 bits (bfloat16, or float16 on older GPUs)
    and keeps weights in 32. `backend` is what Keras computes with, in training and wherever its model is used.
    `deterministic: false` lets a GPU add up in any order, which takes less time: the same training then ends in
    slightly other weights each time, and one that was interrupted as well. `mirrored` trains on each image and on
    its mirror image: an epoch has twice as many, and unlike `augmentation` their features can be cached. `devices`
    share each batch evenly; on which hosts they lie changes no result.
    """

    seed: int = Field(default=0, ge=0)
    batch_size: int = Field(default=32, ge=1)
    devices: int | None = Field(default=None, ge=1)
    class_weights: Literal["none", "balanced"] = "none"
    precision: Literal["float32", "mixed"] = "float32"
    backend: Literal["tensorflow", "jax"] = "tensorflow"
    deterministic: bool = True
    mirrored: bool = False
    features: FeatureSettings = FeatureSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    # YAML knows lists only, which strict mode does not take for a tuple.
    phases: tuple[Phase, ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def phase_names_differ(self) -> Self:
        """A phase is addressed by its name in metrics and checkpoints."""
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"phases need different names, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def nothing_random_before_a_cached_cut(self) -> Self:
        """Cached features come from the pixels as they are."""
        cached = [
            phase.name for phase in self.phases if self.augments(phase) and phase.freeze_through != "none"
        ]
        if cached and self.features.cache == "auto":
            raise ValueError(
                f"augmentation changes the pixels of phase {cached[0]}, whose frozen layers are cached; "
                "set augmentation: false in that phase, or features: {cache: off}"
            )
        return self

    def augments(self, phase: Phase) -> bool:
        """Whether the pixels of the phase are changed at random."""
        return self.augmentation.active and phase.augmentation


class EvaluateSettings(Section):
    """How a model is measured."""

    batch_size: int = Field(default=32, ge=1)


class RegistrySettings(Section):
    """Where models and runs are kept: `name` holds champions, `name`-candidates the candidates."""

    name: Name = "image-classifier"
    experiment: str = Field(min_length=1, max_length=250)

    @property
    def candidates(self) -> str:
        """The registered model that holds the candidates."""
        return f"{self.name}-candidates"


class PromotionSettings(Section):
    """When a challenger may replace the champion. The floors hold for a first champion too.

    Attributes:
        rule: `better` asks for a real gain (McNemar's exact test, p < 0.05) and keeps the champion on a tie;
            `not_worse` asks that a loss of `margin` is ruled out: a fresh model replaces an equal one.
        min_gain: The least gain in accuracy that `better` takes, besides being real. 0: any real gain.
        margin: The loss in accuracy that `not_worse` must rule out. With 2,000 test images 0.02 is easily
            shown, with 200 hardly ever.
        max_class_drop: A class may lose this much recall; more refuses if the loss is real.
        max_class_loss: A class that loses more of its recall than this refuses, also where its images are too few
            for that test, if the other classes show that it is no chance. 1: off.
        min_test_images: So many test images have to count. 30 can just show a gain of a quarter; below 6 nothing
            can be shown at all.
        linear_probe: What happens where the model does worse on valid than a linear classifier on its frozen
            layers: `warn` says so, `refuse` keeps the champion, also where training measured no linear probe.
        min_accuracy: Floor of the accuracy. 0: none.
        min_class_recall: Floor of the recall of every class. 0: none.
        max_calibration_error: Ceiling of the expected calibration error. null: none.
        max_model_megabytes: Ceiling of the model file, in units of 1,000,000 bytes. null: none.
        allow_dirty_tree: Whether a model from uncommitted code or settings may be promoted.
        two_person: Whether the one who promotes must be another than the one who trained. Needs an MLflow that
            knows users, else nobody is promoted.
        allow_override: Whether a person may promote against the gate with `--override`; false: nobody may.
        approval: `automatic` promotes at the end of the flow; `required` waits for a person.
    """

    rule: Literal["better", "not_worse"] = "better"
    min_gain: Fraction = 0.0
    margin: float = Field(default=0.02, gt=0.0, lt=1.0)
    max_class_drop: Fraction = 0.02
    max_class_loss: Fraction = 0.5
    min_test_images: int = Field(default=30, ge=1)
    linear_probe: Literal["warn", "refuse"] = "warn"
    min_accuracy: Fraction = 0.0
    min_class_recall: Fraction = 0.0
    max_calibration_error: Fraction | None = None
    max_model_megabytes: float | None = Field(default=None, gt=0.0)
    allow_dirty_tree: bool = True
    two_person: bool = False
    allow_override: bool = True
    approval: Literal["automatic", "required"] = "automatic"

    @property
    def by_itself(self) -> bool:
        """Whether a retraining changes what is in use, or leaves that to a person."""
        return self.approval == "automatic" and not self.two_person


Plain = bool | int | float | str


class Range(Section):
    """What a search draws from: numbers from `low` to `high`, whole ones for settings that are whole.

    `scale: log` draws each power of ten as often, for rates.
    """

    low: float = Field(strict=False)
    high: float = Field(strict=False)
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def goes_up(self) -> Self:
        """A logarithm needs numbers above 0."""
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.scale == "log" and self.low <= 0.0:
            raise ValueError(f"scale log needs low above 0, got {self.low:g}")
        return self


class Chosen(Section):
    """What `vggflow search --apply` writes down: by how much trying the settings were found.

    Attributes:
        trials: How many trainings were compared on valid.
        images: How many images of valid they were compared on.
        accuracy: What the best one reached there; likewise `default_accuracy`, the settings as they were before, and
            `linear_probe`, a linear classifier on the frozen layers. Chosen as the best of many, it is too high.
        settings: The digest of `model` and `train` that were chosen: for others this does not hold.
    """

    trials: int = Field(ge=1)
    images: int = Field(ge=1)
    accuracy: Fraction
    default_accuracy: Fraction | None = None
    linear_probe: Fraction | None = None
    settings: str = Field(pattern="^[0-9a-f]{16}$")


class SearchSettings(Section):
    """What `vggflow search` tries. It changes no result: settings change only where a person applies what it found.

    Attributes:
        seed: The same seed tries the same settings.
        metric: Of valid, what the best trial has the best of.
        space: Settings by their names, such as `train.phases.head.learning_rate`, each with a list of values or a
            range. Nothing: see docs/training.md.
        chosen: Written by `vggflow search --apply`.
    """

    seed: int = Field(default=0, ge=0)
    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    space: dict[str, Range | Annotated[tuple[Plain, ...], Field(min_length=1, strict=False)]] | None = Field(
        default=None, min_length=1
    )
    chosen: Chosen | None = None


class Settings(Section):
    """All of `params.yaml`. What `dvc.yaml` names must be there, or DVC stops."""

    model: ModelSettings
    validate_: ValidateSettings = Field(alias="validate")
    train: TrainSettings
    evaluate: EvaluateSettings
    registry: RegistrySettings
    promotion: PromotionSettings = PromotionSettings()
    search: SearchSettings = SearchSettings()

    def digest_of_choice(self) -> str:
        """What a search chooses, in 16 hexadecimal digits: `model` and `train`."""
        # What was chosen before there was this setting still holds.
        unset = {"devices"} if self.train.devices is None else None
        parts = [self.model.model_dump_json(), self.train.model_dump_json(exclude=unset)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def load(path: Path) -> Settings:
    """Reads `params.yaml`.

    Raises:
        SettingsError: the file is missing, is no YAML, or has an unknown key or a wrong value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"no {path.name} in {path.parent}: run `vggflow init` there first") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse(content, str(path))


def parse(content: Any, source: str = "params.yaml") -> Settings:
    """Checks the content of `params.yaml`, naming the first key that is wrong."""
    if not isinstance(content, dict):
        raise SettingsError(f"{source} holds {type(content).__name__}, expected sections such as `train:`")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise SettingsError(_one_line(error, source)) from error


def _one_line(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{source}: unknown key `{key}`{more}; remove it, or see the settings in docs/settings.md"
    if first["type"] == "missing":
        return f"{source}: `{key}` is missing{more}; add it"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    # A whole section in the place of a value would fill the line.
    got = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
    return f"{source}: `{key}`: {message}{got}{more}"
