"""Whether all numbers of a network are numbers: NaN or infinity in one weight spoils answers, and ReLU hides it.

A loss does not show it: `max(0, NaN)` is 0 on some devices, and an answer of 0 or 1 has a finite loss.
"""

from collections.abc import Iterable

import keras
import numpy as np


def layers_not_finite(model: keras.Model) -> list[str]:
    """The names of the layers with a weight, trainable or not, that is NaN or infinite; none where all is well."""
    return [layer.name for layer in model.layers if not are_finite(layer.variables)]


def are_finite(variables: Iterable[keras.Variable]) -> bool:
    """Whether every floating-point number of the variables is finite. Computed where the variables are.

    One number comes back from the device, so that it waits once; whole numbers, as of random state, are passed over.
    """
    ops = keras.ops
    found = [ops.all(ops.isfinite(variable)) for variable in variables if "float" in str(variable.dtype)]
    return bool(np.asarray(ops.convert_to_numpy(ops.all(ops.stack(found))))) if found else True
