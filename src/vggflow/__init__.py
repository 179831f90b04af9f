"""Retrains VGG16 image classifiers from folders of images, with evidence."""


def __getattr__(name: str) -> str:
    """`__version__`, when somebody asks: a registered model carries modules of this package, but is no installation."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("vggflow")
