"""What a user would otherwise write: VGG16 of keras.applications, frozen, fitted, unfrozen, fitted again.

TensorFlow's repeatable operations, which ours switches on for the whole process and which cost time, are off here.
"""

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
    """Seconds from images to a trained model, and the losses on train and valid of its epochs."""

    seconds: float
    losses: list[float] = field(default_factory=list)


def train(data: Path, plan: Plan, policy: str) -> Timed:
    """Trains on `data/train`, measures on `data/valid` after every epoch, as `fit` does by itself.

    `policy` is Keras' for the whole network but its output.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework import config

        config.disable_op_determinism()
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
    base.trainable = False
    losses += _fit(model, train_images, valid_images, 1e-3, plan.head_epochs)
    if plan.top_epochs:
        base.trainable = True
        for layer in base.layers:
            layer.trainable = layer.name >= "block4"
        losses += _fit(model, train_images, valid_images, 1e-5, plan.top_epochs)
    return Timed(time.perf_counter() - started, losses)


def _with_head(base: keras.Model) -> keras.Model:
    images = keras.Input(base.input_shape[1:])
    features = base(keras.applications.vgg16.preprocess_input(images))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(pooled))


def _fit(
    model: keras.Model, train_images: object, valid_images: object, rate: float, epochs: int
) -> list[float]:
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(train_images, validation_data=valid_images, epochs=epochs, verbose=0).history
    return [float(loss) for loss in history["loss"] + history["val_loss"]]
