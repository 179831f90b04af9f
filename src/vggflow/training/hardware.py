"""The device that training runs on, prepared once: memory growth, determinism, several GPUs, XLA."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Hardware:
    """What training runs on. `strategy` is TensorFlow's, where there are several devices."""

    kind: str
    devices: tuple[str, ...]
    description: str
    xla: bool
    strategy: Any = None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where models must be built, so that each device gets its copy of the weights."""
        if self.strategy is None:
            yield
            return
        with self.strategy.scope():
            yield

    def arithmetic(self) -> str:
        """What decides about the last digits of a result: on another one, features are computed anew."""
        return f"{keras.backend.backend()} {keras.version()}, {self.kind}, float32"

    def facts(self) -> dict[str, str | int | float]:
        """For the tracking run."""
        return {
            "device": self.description,
            "devices": len(self.devices),
            "backend": keras.backend.backend(),
            "keras": keras.version(),
            "xla": "on" if self.xla else "off",
        }


def prepare(devices: Sequence[str] = ()) -> Hardware:
    """Takes the devices named (none: all GPUs, else the processor) and makes their arithmetic repeatable."""
    if keras.backend.backend() == "jax":
        return _jax()
    return _tensorflow(devices)


def _tensorflow(names: Sequence[str]) -> Hardware:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Once TensorFlow has started its devices this can't change any more.
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()
    chosen = tuple(names) or tuple(f"GPU:{number}" for number in range(len(gpus))) or ("CPU:0",)
    kind = "GPU" if chosen[0].startswith("GPU") else "CPU"
    strategy = tf.distribute.MirroredStrategy(list(chosen)) if len(chosen) > 1 else None
    # XLA is off: TensorFlow does not promise equal results under it, and on the processor it gains nothing.
    name = _processor() if kind == "CPU" else _gpu_name(tf.config.experimental.get_device_details(gpus[0]))
    return Hardware(kind, chosen, name, xla=False, strategy=strategy)


def _gpu_name(details: dict[str, Any]) -> str:
    return str(details.get("device_name", "GPU"))


def _jax() -> Hardware:
    import jax

    devices = jax.devices()
    if devices[0].platform == "cpu":
        return Hardware("CPU", ("CPU:0",), _processor(), xla=True)
    return Hardware("GPU", ("GPU:0",), str(devices[0].device_kind), xla=True)


def _processor() -> str:
    import os
    import platform

    return f"{platform.machine()} processor, {os.cpu_count()} cores"
