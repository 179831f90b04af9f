"""Images unlike all others are those far from the ones most like them."""

import numpy as np
import pytest

from vggflow.audit import outliers
from vggflow.audit.outliers import distances, unlike


def test_the_one_that_points_elsewhere_is_the_farthest() -> None:
    random = np.random.default_rng(0)
    features = (np.array([5.0, 5, 0, 0]) + random.normal(0, 0.1, (50, 4))).astype(np.float32)
    features[17] = [0, 0, 5, -5]
    found = distances(features)
    assert found.argmax() == 17
    assert np.flatnonzero(unlike(found)).tolist() == [17]
    assert found[17] == pytest.approx(1.0, abs=0.05)


def test_an_image_is_no_neighbour_of_its_own_but_its_copy_is() -> None:
    features = np.eye(8, dtype=np.float32)
    assert distances(features) == pytest.approx(1.0)
    copies = np.concatenate([features, np.repeat(features[:1], 5, axis=0)])
    assert distances(copies)[0] == pytest.approx(0.0, abs=1e-6)


def test_of_many_images_some_are_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "MOST_COMPARED", 20)
    random = np.random.default_rng(0)
    features = (np.array([5.0, 5, 0, 0]) + random.normal(0, 0.1, (200, 4))).astype(np.float32)
    features[3] = [0, 0, 5, -5]
    assert distances(features).argmax() == 3


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_images_are_no_error(count: int) -> None:
    found = distances(np.ones((count, 3), np.float32))
    assert found == pytest.approx(np.zeros(count), abs=1e-6)
    assert not unlike(found).any()
