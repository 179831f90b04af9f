"""What is kept of answers: counts of all, confidence and features of some."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from vggflow.errors import DataError
from vggflow.prediction import observations

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ("cats", "dogs", "hens")


def some(count, seed=0, when=NOON, features=4, chosen=None):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(3), count)
    found = random.normal(size=(count, features)).astype(np.float32) if features else None
    return observations.of(NAMES, probabilities, found, when, chosen)


def equal(first, second):
    assert (first.class_names, first.since, first.until) == (second.class_names, second.since, second.until)
    assert np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.classes, second.classes)
    assert np.allclose(first.confidence, second.confidence, atol=1e-7)
    assert (first.features is None) == (second.features is None)
    assert first.features is None or np.array_equal(first.features, second.features)
    return True


def test_an_answer_counts_for_its_class_and_an_image_without_one_for_none():
    probabilities = np.array([[0.2, 0.5, 0.3], [np.nan] * 3, [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    found = observations.of(NAMES, probabilities, features, NOON, np.array([True, True, True, False]))
    assert found.counts.tolist() == [1, 2, 0]
    assert (found.images, found.chosen) == (3, 2)
    assert found.classes.tolist() == [1, 0]
    assert found.confidence.tolist() == [0.5, 0.7]
    assert found.features.tolist() == [[0, 1], [4, 5]]


@pytest.mark.parametrize("features", [4, 0])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_what_is_written_is_read_again(tmp_path, count, features):
    found = some(count, features=features)
    observations.write(found, tmp_path / "a.parquet")
    read = observations.read(tmp_path / "a.parquet")
    assert equal(read, found)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nonsense" * 100])
def test_a_damaged_file_is_said_in_one_line(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet holds no observations"):
        observations.read(tmp_path / "a.parquet")


def test_the_file_of_a_newer_vggflow_is_named_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(observations, "FORMAT", 2)
    observations.write(some(3), tmp_path / "a.parquet")
    monkeypatch.undo()
    with pytest.raises(DataError, match="format 2, expected 1"):
        observations.read(tmp_path / "a.parquet")


def test_neither_a_picture_nor_a_name_of_one_is_in_the_file(tmp_path):
    import pyarrow.parquet as pq

    observations.write(some(5), tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["class", "confidence", "features"]


def test_parts_become_one_with_all_counts_and_the_whole_time():
    parts = [some(20, seed, NOON + timedelta(hours=seed)) for seed in range(3)]
    found = observations.merge(parts)
    assert found.images == 60
    assert found.chosen == 60
    assert (found.since, found.until) == (NOON, NOON + timedelta(hours=2))
    assert np.array_equal(found.features, np.concatenate([part.features for part in parts]))


def test_of_a_part_that_stands_for_more_images_more_are_chosen():
    many = some(4_000, chosen=np.arange(4_000) < 400)
    few = some(400, seed=1)
    few.confidence[:] = 2.0  # a mark
    found = observations.merge([many, few], most=220)
    assert found.chosen == 220
    of_few = int((found.confidence == 2.0).sum())
    # 400 of 4,400 images: about 20 of 220.
    assert of_few == 20
    assert found.images == 4_400


def test_parts_of_which_one_has_no_features_have_none_and_an_empty_one_does_no_harm():
    assert observations.merge([some(5), some(5, features=0)]).features is None
    assert observations.merge([some(5), some(5, features=7)]).features is None
    nothing = observations.of(NAMES, np.full((2, 3), np.nan), None, NOON)
    found = observations.merge([some(5), nothing])
    assert found.features is not None
    assert found.images == 5


def test_parts_of_other_classes_are_a_mistake():
    other = observations.of(("a", "b"), np.full((2, 2), 0.5), None, NOON)
    with pytest.raises(ValueError, match="same classes"):
        observations.merge([some(5), other])


def test_a_part_of_which_little_was_kept_is_not_outweighed_by_a_small_one():
    hour = some(100_000, chosen=np.arange(100_000) % 250 == 0)
    batch = some(1_000, seed=1)
    batch.confidence[:] = 2.0  # a mark
    found = observations.merge([batch, hour])
    assert hour.chosen == 400
    assert found.chosen == pytest.approx(400, abs=5)
    assert (found.confidence == 2.0).sum() in (3, 4)


def test_a_feature_too_large_for_16_bits_is_the_largest_and_not_infinite():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = observations.of(NAMES, probabilities, np.array([[1e9, 1.0], [-np.inf, 2.0]], np.float32), NOON)
    assert found.features.tolist() == [[65504.0, 1.0], [-65504.0, 2.0]]
