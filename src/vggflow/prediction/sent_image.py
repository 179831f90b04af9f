"""An image as a program sends it to a server: its bytes, these in base64, or its pixels."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggflow.prediction.predictor import Source

# What TensorFlow's server calls base64 text.
BASE64_KEY = "b64"
# No image file consists of these alone.
BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}\s*")
ENCODED = "neither an encoded image nor base64 text: send the bytes of the file"
PIXELS = "no pixels: expected (height, width, 3) whole numbers from 0 to 255"


def sent_image(value: Any) -> Source | str:
    """What the network is asked about: bytes, base64 text as well, `{"b64": …}`, or pixels; or why it can't be."""
    if isinstance(value, np.ndarray) and value.ndim == 0:  # as MLflow's server wraps what lies in a record
        value = value.item()
    if isinstance(value, Mapping):  # {"b64": …}, as TensorFlow's server takes it
        value = value.get(BASE64_KEY)
    if isinstance(value, list | tuple | np.ndarray):
        return _pixels(value)
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        # MLflow's server hands base64 text over as bytes where it is sent as `inputs` or `instances`.
        if not BASE64.fullmatch(content):
            return content
        value = content
    try:
        # Without `validate` it skips what is no base64, and a path given by mistake would become some bytes.
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return ENCODED


def _pixels(value: Any) -> NDArray[np.uint8] | str:
    try:
        pixels = np.asarray(value)
    except ValueError:  # lists of several lengths
        return PIXELS
    right_shape = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
    if not right_shape or not np.issubdtype(pixels.dtype, np.number) or np.iscomplexobj(pixels):
        return PIXELS
    whole = np.issubdtype(pixels.dtype, np.integer) or bool((pixels == np.floor(pixels)).all())
    return pixels.astype(np.uint8) if whole and pixels.min() >= 0 and pixels.max() <= 255 else PIXELS
