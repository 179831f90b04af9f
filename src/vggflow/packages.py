"""Which packages, and libraries inside them, can change a result, and in which versions they are here.

What only draws, stores or transports is left out: another pandas or pyarrow changes no verdict and no model.
"""

import hashlib
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Pillow's wheels bring these along, so one version of Pillow may decode differently on two machines.
DECODERS = {
    "libjpeg": "jpg",
    "libjpeg-turbo": "libjpeg_turbo",
    "openjpeg": "jpg_2000",
    "libtiff": "libtiff",
    "libwebp": "webp",
    "libavif": "avif",
    "zlib": "zlib",
    "zlib-ng": "zlib_ng",
}
ARITHMETIC = ("keras", "numpy", "scipy", "scikit-learn", "great-expectations")
# TensorFlow reads and writes around JAX too, and evaluates.
BACKENDS = {"tensorflow": ("tensorflow",), "jax": ("tensorflow", "jax", "jaxlib")}
# Of TensorFlow there are builds under other names.
OTHER_NAMES = {"tensorflow": ("tensorflow-cpu", "tensorflow-rocm", "tensorflow-macos")}

# Instructions by which kernels are chosen, as Linux calls them on x86 and on ARM.
INSTRUCTIONS = ("avx", "amx", "fma", "f16c", "sse4", "asimd", "sve", "sme", "bf16", "i8mm", "fphp")


def installed(name: str) -> str:
    """The version of a package, or of a library that Pillow decodes with; empty where it is not installed."""
    if name in DECODERS:
        return decoders().get(name, "")
    for each in (name, *OTHER_NAMES.get(name, ())):
        try:
            return version(each)
        except PackageNotFoundError:
            continue
    return ""


@cache
def decoders() -> dict[str, str]:
    """Pillow and the libraries that it decodes with, by name; those that it lacks are left out."""
    from PIL import features

    found = {name: features.version(of) for name, of in DECODERS.items() if features.check(of)}
    return {"pillow": version("pillow")} | {name: str(number) for name, number in found.items()}


def decoding() -> str:
    """What decides about pixels and what is measured in them, short enough for a file's name.

    Such as `pillow-12.1.0-3f2a91c0`: the digits stand for the libraries that it decodes with, and NumPy.
    """
    parts = {**decoders(), "numpy": installed("numpy")}
    content = "\n".join(f"{name} {number}" for name, number in sorted(parts.items()))
    return f"pillow-{parts['pillow']}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def of_results(backend: str = "tensorflow") -> dict[str, str]:
    """All that can change a result beside vggflow itself, sorted by name: `{"keras": "3.15.1", …}`.

    Args:
        backend: `train.backend` of the settings: what Keras computes with.
    """
    names = (*ARITHMETIC, *BACKENDS[backend])
    found = {name: installed(name) or "none" for name in names} | decoders()
    return dict(sorted(found.items()))


def computing() -> dict[str, str]:
    """What NumPy multiplies matrices with, and the instructions by which libraries choose how they add up."""
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    found = built.get("Build Dependencies", {}).get("blas", {}) if isinstance(built, dict) else {}
    blas = f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()
    return {"blas": blas, "instructions": _instructions()}


def _instructions() -> str:
    """A model's name does not tell which instructions its host lets a virtual machine use."""
    words: set[str] = set()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            # x86 says `flags`, ARM says `Features`.
            if line.partition(":")[0].strip() in ("flags", "Features"):
                words = {word for word in line.split() if word.startswith(INSTRUCTIONS)}
                break
    return " ".join(sorted(words)) or platform.machine()
