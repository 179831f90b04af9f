"""What a user would otherwise write: VGG16 of keras.applications, frozen, fitted, unfrozen, fitted again."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import keras


@dataclass(frozen=True)
class Plan:
    """Epochs with only the head learning, then epochs with everything after `block3_conv3` learning."""

    head_epochs: int
    top_epochs: int
    size_px: int = 64
    batch_size: int = 32


@dataclass
class Timed:
    """Seconds from images to a trained model; of each epoch the losses on train and valid, its phase and seconds."""

    seconds: float
    losses: list[float] = field(default_factory=list)
    epochs: list[tuple[str, float]] = field(default_factory=list)

    def steady(self, phase: str) -> float | None:
        """Seconds of a phase's quickest epoch after its first one, which compiles and may fill a cache."""
        later = [seconds for name, seconds in self.epochs if name == phase][1:]
        return min(later) if later else None


def train(data: Path, plan: Plan, policy: str) -> Timed:
    """Trains on `data/train`, measures on `data/valid` after every epoch, as `fit` does by itself.

    `policy` is Keras' for the whole network but its output.
    """
    keras.config.set_dtype_policy(policy)
    try:
        return _train(data, plan)
    finally:
        keras.config.set_dtype_policy("float32")


def _train(data: Path, plan: Plan) -> Timed:
    started = time.perf_counter()
    side = (plan.size_px, plan.size_px)
    train_images, valid_images = (
        keras.utils.image_dataset_from_directory(
            data / split,
            label_mode="binary",
            image_size=side,
            batch_size=plan.batch_size,
            verbose=False,
            seed=0,
        )
        for split in ("train", "valid")
    )
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(*side, 3))
    model = _with_head(base)
    losses: list[float] = []
    watch = _Epochs()
    base.trainable = False
    losses += _fit(model, train_images, valid_images, 1e-3, plan.head_epochs, watch)
    if plan.top_epochs:
        base.trainable = True
        for layer in base.layers:
            layer.trainable = layer.name >= "block4"
        watch.phase = "top"
        losses += _fit(model, train_images, valid_images, 1e-5, plan.top_epochs, watch)
    return Timed(time.perf_counter() - started, losses, watch.found)


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.phase = "head"
        self.found: list[tuple[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self.found.append((self.phase, time.perf_counter() - self._started))


def _with_head(base: keras.Model) -> keras.Model:
    images = keras.Input(base.input_shape[1:])
    features = base(keras.applications.vgg16.preprocess_input(images))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(pooled))


def _fit(
    model: keras.Model, train_images: object, valid_images: object, rate: float, epochs: int, watch: _Epochs
) -> list[float]:
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(
        train_images, validation_data=valid_images, epochs=epochs, verbose=0, callbacks=[watch]
    ).history
    return [float(loss) for loss in history["loss"] + history["val_loss"]]
