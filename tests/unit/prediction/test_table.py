"""The predictions table with very many classes."""

import warnings

import numpy as np
import pandas as pd
import pytest

from vggflow.prediction import table


@pytest.mark.parametrize("count", [2, 150, 1000])
def test_a_table_of_many_classes_is_made_without_warnings(count):
    names = [f"class {number}" for number in range(count)]
    images = pd.DataFrame({"path": ["a", "b"], "sha256": ["A", "B"], "class_name": names[:2]})
    answers = np.random.default_rng(0).random((2, count))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = table.make(images, answers, names)

    assert table.class_names(made) == tuple(names)
    assert list(made.columns[:3]) == ["path", "sha256", "truth"]
    assert np.array_equal(table.probabilities(made, names), answers)
