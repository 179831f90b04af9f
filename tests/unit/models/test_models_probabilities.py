"""One probability per class."""

import numpy as np
import pytest

from vggflow.models.probabilities import class_probabilities


def test_a_sigmoid_is_the_probability_of_the_second_class():
    np.testing.assert_allclose(class_probabilities([[0.25], [1.0]]), [[0.75, 0.25], [0.0, 1.0]])


def test_softmax_outputs_in_float64_add_up_to_one():
    outputs = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], np.float32)
    assert (outputs.astype(np.float64).sum(axis=1) != 1.0).any()
    probabilities = class_probabilities(outputs)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, outputs, rtol=1e-6)
    np.testing.assert_array_equal(probabilities.sum(axis=1), [1.0, 1.0])


@pytest.mark.parametrize("shape", [(3,), (3, 0), (3, 2, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected outputs of shape"):
        class_probabilities(np.zeros(shape))
