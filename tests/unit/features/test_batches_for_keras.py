"""What Keras is given under TensorFlow: the same batches, in a dataset that no thread tunes."""

import keras
import ml_dtypes
import numpy as np
import pytest
from array_rows import ArrayRows

from vggflow.features.batches import Batches

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX is fed by Keras")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16, ml_dtypes.bfloat16])
def test_batches_come_in_their_order_with_targets_and_weights(dtype):
    rows = np.arange(14).reshape(7, 2).astype(dtype)
    order, weights = np.array([6, 0, 5, 1, 4]), np.linspace(1, 2, 7, dtype=np.float32)
    batches = Batches(
        ArrayRows(rows), 2, order, lambda chosen: chosen[:, np.newaxis].astype(np.float32), weights
    )
    dataset = batches.for_keras()
    assert int(dataset.cardinality()) == len(batches) == 3
    found = [tuple(part.numpy() for part in batch) for batch in dataset]
    for number, (given, targets, factors) in enumerate(found):
        chosen = order[2 * number : 2 * number + 2]
        np.testing.assert_array_equal(given, rows[chosen])
        assert given.dtype == dtype
        np.testing.assert_array_equal(targets[:, 0], chosen)
        np.testing.assert_array_equal(factors, weights[chosen])


def test_no_thread_tunes_them_since_an_epoch_would_wait_for_it_at_its_end():
    batches = Batches(ArrayRows(np.zeros((3, 2), np.float32)), 2)
    assert batches.for_keras().options().autotune.enabled is False


def test_what_fails_while_they_are_read_is_kept():
    class Broken(ArrayRows):
        def gather(self, indices):
            if 2 in indices:
                raise ValueError("damaged")
            return super().gather(indices)

    batches = Batches(Broken(np.zeros((3, 2), np.float32)), 2)
    with pytest.raises(Exception, match="damaged"):
        list(batches.for_keras())
    assert str(batches.error) == "damaged"
