"""Retrains VGG16 image classifiers from folders of images, with evidence."""

import importlib.metadata

__version__ = importlib.metadata.version("vggflow")
