"""Which packages, and libraries inside them, can change a result, and in which versions they are here.

What only draws, stores or transports is left out: another pandas or pyarrow changes no verdict and no model.
"""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version

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
