"""Starting TensorFlow without its chatter."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

REPEATABLE = "xla_gpu_deterministic_ops"


def start(backend: str | None = None) -> None:
    """Imports Keras and its backend, holding back what native code writes to stderr before it can be told not to.

    `KERAS_BACKEND` of the environment goes before `backend`, and that before Keras' own settings.
    """
    if backend:
        os.environ.setdefault("KERAS_BACKEND", backend)
    # TensorFlow's default takes the whole GPU, also from a training that is at work on it.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if os.environ.get("KERAS_BACKEND") == "jax":
        _set_up_jax()
    with _native_output_held():
        import keras  # noqa: F401


def _set_up_jax() -> None:
    """On a GPU: memory taken as needed, not three quarters at once, and operations that repeat to the byte.

    JAX reads this when it is imported and when it starts its devices.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags = os.environ.get("XLA_FLAGS", "")
    if REPEATABLE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{REPEATABLE}=true".strip()


@contextmanager
def _native_output_held() -> Iterator[None]:
    """Sends file descriptor 2 to a temporary file, which is shown only if the block fails."""
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
