"""What decides about the last digits of a result besides settings, images and vggflow: libraries, switches, processor.

Features and checkpoints are named by it. Two machines that differ in one of these compute the same network a little
differently, and a training that goes on from the other's numbers is none that anybody can repeat.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

import keras

from vggflow import packages
from vggflow.data.parallel import usable_cores
from vggflow.models.switches import SWITCHES

PROCESSOR_DEVICES = "--xla_force_host_platform_device_count"
# What JAX really goes by, however it was set: in the environment or by a program.
JAX_SETTINGS = ("jax_default_matmul_precision", "jax_enable_x64", "jax_threefry_partitionable")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
# Separates the parts in a kind of features, so that it can be said in which one two kinds differ.
SEPARATOR = "; "


def parts(kind: str) -> dict[str, str]:
    """Names and values, sorted: of the libraries, of the switches that are set, and of the processor.

    Args:
        kind: `CPU` or `GPU`.
    """
    backend = keras.backend.backend()
    names = ("keras", "numpy", *packages.BACKENDS[backend])
    found = {name: packages.installed(name) for name in names} | _settings(backend) | packages.computing()
    # Sums are divided among threads: the same training bound to one core of two ended in other bytes.
    found["cores"] = str(usable_cores())
    found |= {name: flags for name in SWITCHES if (flags := _in_order(os.environ.get(name, "")))}
    if kind == "GPU":
        found |= _nvidia(backend)
    return dict(sorted(found.items()))


def written(found: Mapping[str, str]) -> str:
    """The parts as one line."""
    return SEPARATOR.join(f"{name} {value}" for name, value in found.items())


def difference(now: str, then: str) -> str:
    """In what two such lines differ, by name: what is so now, and what was so then."""
    ours, theirs = now.split(SEPARATOR), then.split(SEPARATOR)
    new = [part for part in ours if part not in theirs]
    old = [part for part in theirs if part not in ours]
    return f"now {', '.join(new) or 'nothing more'}; then {', '.join(old) or 'nothing more'}"


def _in_order(flags: str) -> str:
    """Flags mean the same in every order, but for the last of two with one name, which this keeps the last.

    Without the one that says how many devices are made of the processor: `train.devices` does.
    """
    words = [word for word in flags.split() if not word.startswith(PROCESSOR_DEVICES)]
    return " ".join(sorted(words, key=lambda word: word.partition("=")[0]))


def _settings(backend: str) -> dict[str, str]:
    """What a program may have set, which no variable shows."""
    config = keras.config
    found = {
        "floatx": config.floatx(),
        "epsilon": f"{config.epsilon():g}",
        "image_data_format": config.image_data_format(),
    }
    if backend == "jax":
        import jax

        return found | {name: str(getattr(jax.config, name)) for name in JAX_SETTINGS}
    import tensorflow as tf

    return found | {
        "tensor_float_32": str(tf.config.experimental.tensor_float_32_execution_enabled()),
        "intra_op_threads": str(tf.config.threading.get_intra_op_parallelism_threads()),
    }


def _nvidia(backend: str) -> dict[str, str]:
    """CUDA, cuDNN, cuBLAS and the others as packages bring them, those TensorFlow was built with, and the driver."""
    found = {
        name: package.version
        for package in distributions()
        if (name := str(package.metadata["Name"]).lower()).startswith(("nvidia-", "jax-cuda"))
    }
    if backend == "tensorflow":
        import tensorflow as tf

        built = tf.sysconfig.get_build_info()
        found |= {name: str(built[name]) for name in ("cuda_version", "cudnn_version") if name in built}
    with suppress(OSError):
        found["driver"] = NVIDIA_DRIVER.read_text().splitlines()[0]
    return found
