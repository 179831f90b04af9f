"""The device that training runs on, prepared once: memory growth, repeatability, several GPUs, XLA."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vggflow.environment import TRAINING_HOSTS
from vggflow.errors import SettingsError
from vggflow.processes import nvidia_smi
from vggflow.settings import TrainSettings
from vggflow.training import arithmetic, hosts, several_devices

COMPILED, COMPILED_LIMIT_BYTES = "compiled", 2**30
FULL_PRECISION, BFLOAT16, FLOAT16 = "float32", "mixed_bfloat16", "mixed_float16"
POLICIES = (FULL_PRECISION, BFLOAT16, FLOAT16)
# The first NVIDIA chips that compute with bfloat16 are Ampere.
BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Hardware:
    """What training runs on.

    Args:
        policy: Keras' dtype policy of the layers before the output.
        xla: Whether networks are compiled by XLA.
        deterministic: Whether the same computation ends in the same bytes each time.
        strategy: TensorFlow's, where there are several devices.
        mesh: JAX's, where there are several devices, of this process or of others too.
    """

    kind: str
    devices: tuple[str, ...]
    description: str
    policy: str
    xla: bool
    deterministic: bool
    strategy: Any = None
    mesh: Any = None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where models must be built, so that each device gets its copy of the weights."""
        if self.strategy is None:
            yield
            return
        with self.strategy.scope():
            yield

    def arithmetic(self) -> str:
        """What decides about the last digits of a result."""
        return arithmetic.written(self._decides(self.description) | arithmetic.parts(self.kind))

    def feature_arithmetic(self) -> str:
        """The same for frozen layers: on other ones, features are computed anew.

        Without the cores, as they give the same bytes on however many; so do the nodes of a cluster.
        """
        parts = arithmetic.parts(self.kind)
        del parts["cores"]
        return arithmetic.written(self._decides(self.description.removesuffix(_cores())) | parts)

    def _decides(self, device: str) -> dict[str, str]:
        here = {"device": device, "precision": self.policy, "xla": "on" if self.xla else "off"}
        # Named where it is off only: the processor's is the same either way.
        if not self.deterministic:
            here["order of sums"] = "any"
        return here

    def memory(self) -> dict[str, float]:
        """The most memory that the device held so far, in MB; nothing where it is the processor's own."""
        if self.kind == "CPU":
            return {}
        if keras.backend.backend() == "jax":
            import jax

            return {
                "device_memory_mb": round(
                    jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20, 1
                )
            }
        import tensorflow as tf

        used = tf.config.experimental.get_memory_info(self.devices[0])["peak"]
        return {"device_memory_mb": round(used / 2**20, 1)}

    def free_bytes(self) -> int | None:
        """Memory that the device has left; none where it is the processor's own, or several devices share a batch."""
        if self.kind == "CPU" or len(self.devices) > 1:
            return None
        if keras.backend.backend() == "jax":
            import jax

            found = jax.devices()[0].memory_stats()
            return int(found["bytes_limit"] - found["bytes_in_use"])
        return nvidia_smi.free_bytes()

    def facts(self) -> dict[str, str | int | float]:
        """For the tracking run."""
        return {
            "device": self.description,
            "devices": len(self.devices),
            "backend": keras.backend.backend(),
            "keras": keras.version(),
            "precision": self.policy,
            "xla": "on" if self.xla else "off",
            "deterministic": "yes" if self.deterministic else "no",
        }


def prepare(settings: TrainSettings, state_folder: Path) -> Hardware:
    """Takes the devices that the settings ask for and makes their arithmetic repeatable, or not.

    Where they say nothing these are all GPUs for TensorFlow, one GPU for JAX, else the processor.

    What JAX compiles is kept in the state folder: that saves half a minute in the next process, and a
    training that goes on there computes with the very same program.

    Raises:
        SettingsError: Keras runs on another backend than the settings name, there are too few devices, or they can't
            share the batch.
    """
    backend = keras.backend.backend()
    if backend != settings.backend:
        raise SettingsError(
            f"train.backend is {settings.backend}, but Keras runs on {backend}: "
            f"set KERAS_BACKEND={settings.backend} before Python starts, or change train.backend"
        )
    if backend == "jax":
        return _jax(settings, state_folder)
    return _tensorflow(settings)


def _refuse_uneven(settings: TrainSettings, devices: int) -> None:
    if settings.batch_size % devices:
        raise SettingsError(
            f"train.batch_size {settings.batch_size} can't be shared evenly by {devices} devices: "
            f"use {settings.batch_size + devices - settings.batch_size % devices}"
        )


def _refuse_too_few(wanted: int, present: int, where: str, instead: str) -> None:
    if wanted > present:
        raise SettingsError(
            f"train.devices is {wanted}, but there {'is' if present == 1 else 'are'} {present} {where}: "
            f"set train.devices to {present}{instead}"
        )


def _tensorflow(settings: TrainSettings) -> Hardware:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Once TensorFlow has started its devices this can't change any more.
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    else:
        # An earlier training of this process may have switched it on; there is no public way back.
        from tensorflow.python.framework import config

        config.disable_op_determinism()
    # Each phase has functions of its own, which TensorFlow takes for one that is traced again and again.
    tf.get_logger().setLevel("ERROR")
    count = settings.devices or max(1, len(gpus))
    _refuse_uneven(settings, count)
    kind, present = ("GPU", len(gpus)) if gpus else ("CPU", _parts_of_the_processor(count))
    _refuse_too_few(count, present, "for TensorFlow on this host", "")
    chosen = tuple(f"{kind}:{number}" for number in range(count))
    strategy = tf.distribute.MirroredStrategy(list(chosen)) if len(chosen) > 1 else None
    # XLA is off: TensorFlow does not promise repeatable results under it, nor does it under MirroredStrategy.
    if not chosen[0].startswith("GPU"):
        policy = _policy(settings, bfloat16=True)
        return Hardware("CPU", chosen, _processor(), policy, False, settings.deterministic, strategy)
    details = tf.config.experimental.get_device_details(gpus[0])
    bfloat16 = details.get("compute_capability", (0, 0)) >= BFLOAT16_CAPABILITY
    name = str(details.get("device_name", "GPU"))
    policy = _policy(settings, bfloat16)
    return Hardware("GPU", chosen, name, policy, False, settings.deterministic, strategy)


def _parts_of_the_processor(wanted: int) -> int:
    """How many devices TensorFlow makes of the processor: as many as are wanted, where it has not started yet."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    if wanted > 1:
        part = tf.config.LogicalDeviceConfiguration()
        with suppress(RuntimeError):
            tf.config.set_logical_device_configuration(processor, [part] * wanted)
    return len(tf.config.get_logical_device_configuration(processor) or [processor])


def _jax(settings: TrainSettings, state_folder: Path) -> Hardware:
    import jax

    # Left alone where the user, or an earlier training of this process, chose one.
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(state_folder / COMPILED))
        jax.config.update("jax_compilation_cache_max_size", COMPILED_LIMIT_BYTES)
        # JAX keeps nothing that compiled in less than a second: a resumed training would compile that anew.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    count = settings.devices or 1
    _refuse_uneven(settings, count)
    if count > 1:
        hosts.use_processors(count)
    mesh = _mesh(settings)
    device = jax.local_devices()[0]
    # JAX is XLA: without it each operation would be compiled on its own.
    if device.platform == "cpu":
        names = tuple(f"CPU:{number}" for number in range(count))
        policy = _policy(settings, bfloat16=True)
        return Hardware("CPU", names, _processor(), policy, True, settings.deterministic, mesh=mesh)
    names = tuple(f"GPU:{number}" for number in range(count))
    capability = tuple(int(part) for part in str(getattr(device, "compute_capability", "0.0")).split("."))
    policy = _policy(settings, bfloat16=capability >= BFLOAT16_CAPABILITY)
    return Hardware("GPU", names, str(device.device_kind), policy, True, settings.deterministic, mesh=mesh)


def _mesh(settings: TrainSettings) -> Any:
    """The devices in the order of their processes; none where there is one.

    In several processes these are all that they have: which ones to leave out is said where they are started.
    """
    import jax

    count, processes = settings.devices or 1, jax.process_count()
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    where = f"for JAX in {processes} processes" if processes > 1 else "for JAX on this host"
    _refuse_too_few(count, len(found), where, f", or train on more hosts, named in {TRAINING_HOSTS}")
    if count == 1:
        return None
    each = dict.fromkeys(range(processes), 0)
    for device in found:
        each[device.process_index] += 1
    if processes > 1 and set(each.values()) != {count // processes}:
        raise SettingsError(
            f"train.devices is {count}, expected {count // processes} in each of {processes} processes, got "
            f"{', '.join(map(str, each.values()))}: set train.devices to all of them, or name those to use in "
            "CUDA_VISIBLE_DEVICES"
        )
    return jax.sharding.Mesh(np.array(found[:count]), (several_devices.AXIS,))


def _policy(settings: TrainSettings, bfloat16: bool) -> str:
    if settings.precision == "float32":
        return FULL_PRECISION
    return BFLOAT16 if bfloat16 else FLOAT16


def _processor() -> str:
    return f"{_processor_model()}{_cores()}"


def _cores() -> str:
    return f", {os.cpu_count()} cores"


def _processor_model() -> str:
    """What the processor calls itself, where the system tells; models of one kind round differently."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return f"{platform.machine()} processor"


@contextmanager
def explaining_lack_of_memory(setting: str, batch_size: int, device: str) -> Iterator[None]:
    """Turns the frameworks' pages about exhausted memory into one line with a batch size to try.

    Raises:
        SettingsError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_lack_of_memory(error):
            raise
        advice = f"try {batch_size // 2}" if batch_size > 1 else "use smaller images or a smaller width"
        raise SettingsError(f"{device} ran out of memory with {setting} {batch_size}: {advice}") from error


def is_lack_of_memory(error: Exception) -> bool:
    """Whether this is how a framework, or the system, says so."""
    signs = ("RESOURCE_EXHAUSTED", "OOM when allocating", "Out of memory")
    # TensorFlow's by its name: a look at an error need not import it.
    known = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
    return known or any(sign in str(error) for sign in signs)
