"""Starting Keras as vggflow means it: without TensorFlow's chatter, and without what a user set for other programs.

Keras reads a file in the user's home and variables of the environment at its import. None of them is in `params.yaml`,
and all change results: a floating-point type, an order of axes, an epsilon, a limit on epochs made for trying things.
"""

import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vggflow import environment
from vggflow.errors import UsageError

REPEATABLE = "xla_gpu_deterministic_ops"
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
BACKEND, HOME = "KERAS_BACKEND", "KERAS_HOME"
BACKENDS = ("tensorflow", "jax")
# What Keras reads of the environment besides: meant for debugging, and for an experiment with JAX.
NOT_READ = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")
# What Keras and TensorFlow import only if it is installed, for wrappers and converters that vggflow has no use for:
# nearly a third of the seconds that starting them takes.
NOT_NEEDED = {"tensorflow": ("jax", "sklearn"), "jax": ("sklearn", "tensorflow")}


def start(backend: str | None = None, *, deterministic: bool = True) -> None:
    """Imports Keras and its backend, holding back what native code writes to stderr before it can be told not to.

    `KERAS_BACKEND` of the environment goes before `backend`, and that before TensorFlow. `keras.json` in the user's
    home is not read. JAX is told here whether operations on a GPU repeat to the byte, TensorFlow later.

    Raises:
        UsageError: there is no such backend.
    """
    with _native_output_held(), _as_if_not_installed(NOT_NEEDED[_backend(backend)]), _no_garbage():
        import_keras(backend, deterministic=deterministic)
        _ask_once()
    _set_defaults()


@contextmanager
def _no_garbage() -> Iterator[None]:
    """What is imported stays until the process ends: Python looks for garbage among it neither now nor later.

    Now it would take a tenth of the seconds, and as much of those that follow. Only where something is imported: what
    came since may be garbage, and would be kept for ever.
    """
    if "keras" in sys.modules:
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def import_keras(backend: str | None = None, *, deterministic: bool = True) -> None:
    """Imports Keras if nobody did: in a program that is not vggflow's, whoever came first decides.

    Raises:
        UsageError: there is no such backend.
    """
    if "keras" in sys.modules:
        return
    name = _backend(backend)
    if backend:
        # For programs that this one starts; a default is not, as these may have settings of their own.
        os.environ[BACKEND] = name
    # TensorFlow's default takes the whole GPU, also from a training that is at work on it.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if name == "jax":
        _set_up_jax(deterministic=deterministic)
    else:
        _set_up_tensorflow()
    # Keras reads `keras.json` from its home, and writes one where there is none.
    # Nothing of it stays: programs that this one starts may be told another backend by their settings.
    with (
        tempfile.TemporaryDirectory(prefix="vggflow-keras-") as empty,
        environment.changed({HOME: empty, BACKEND: name}, NOT_READ),
    ):
        import keras  # noqa: F401


def keras_folder() -> Path:
    """Where Keras keeps what it downloaded: `KERAS_HOME`, else `.keras` in the user's home."""
    given = os.environ.get(HOME)
    if given:
        return Path(given)
    with suppress(RuntimeError):  # a user without a home
        return Path.home() / ".keras"
    return Path(tempfile.gettempdir()) / ".keras"


def _backend(wanted: str | None) -> str:
    given = os.environ.get(BACKEND)
    name = given or wanted or BACKENDS[0]
    what = BACKEND if given else "train.backend"
    if name not in BACKENDS:
        raise UsageError(f"{what} is {name}, expected {' or '.join(BACKENDS)}: set it to one of them")
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"{what} is {name}, which is not installed: pip install 'vggflow[{name}]'")
    return name


def _ask_once() -> None:
    """Lets Keras find out now what is installed: beside JAX it would import TensorFlow to seed its random numbers too.

    That took four seconds and 300 MB, and a second framework on the GPU.
    """
    import keras

    if keras.backend.backend() == "jax":
        keras.utils.set_random_seed(0)


def _set_defaults() -> None:
    """Keras' own defaults, also where somebody imported it before with other ones."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


@contextmanager
def _as_if_not_installed(packages: Iterable[str]) -> Iterator[None]:
    """Within the block, packages that nobody imported yet can't be; afterwards they can, as ever."""
    held = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(held))  # type: ignore[arg-type]  # None stands for "is not there", says Python
    try:
        yield
    finally:
        for name in held:
            del sys.modules[name]


def _set_up_tensorflow() -> None:
    """oneDNN's convolutions on every processor, unless somebody decided about them, or imported TensorFlow before.

    By itself it takes them only where there are instructions for neural networks; on other processors, with AVX2
    alone, a training step takes twice as long without them.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(ONEDNN, "1")


def _set_up_jax(*, deterministic: bool) -> None:
    """On a GPU: memory taken as needed, not three quarters at once, and operations that repeat to the byte, or do not.

    JAX reads this when it is imported and when it starts its devices.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags = os.environ.get("XLA_FLAGS", "")
    if deterministic and REPEATABLE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{REPEATABLE}=true".strip()


@contextmanager
def _native_output_held() -> Iterator[None]:
    """Sends file descriptor 2 to a temporary file, which is shown only if the block fails."""
    # What Python still holds would go into the file, where nobody sees it.
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
