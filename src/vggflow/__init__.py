"""Retrains VGG16 image classifiers from folders of images, with evidence."""

from importlib.metadata import version

__version__ = version("vggflow")
