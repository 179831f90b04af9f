from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vggflow.errors import DataError
from vggflow.prediction.submission import submission, write

PATHS = [Path("test/unknown/10.jpg"), Path("test/unknown/9.jpg"), Path("test/unknown/1.png")]


def test_the_label_is_the_probability_of_the_second_class_and_ids_count_upwards(tmp_path):
    destination = tmp_path / "out" / "submission.csv"
    write(PATHS, np.array([[0.9, 0.1], [0.2, 0.8], [1 - 1e-8, 1e-8]]), ("cats", "dogs"), destination)
    assert destination.read_text() == "id,label\n1,1e-08\n9,0.8\n10,0.1\n"


def test_more_classes_have_a_column_each():
    table = submission(PATHS[:1], np.array([[0.2, 0.3, 0.5]]), ("cats", "dogs", "hens"))
    assert table.to_dict("records") == [{"id": "10", "cats": 0.2, "dogs": 0.3, "hens": 0.5}]


def test_two_images_with_one_id_are_refused(tmp_path):
    destination = tmp_path / "submission.csv"
    with pytest.raises(DataError, match="two images have the id 1"):
        write([Path("a/1.jpg"), Path("b/1.jpg")], np.full((2, 2), 0.5), ("cats", "dogs"), destination)
    assert not destination.exists()


def test_the_file_can_be_read_back_with_the_same_numbers(tmp_path):
    second = np.random.default_rng(0).random(3)
    write(PATHS, np.stack([1 - second, second], axis=1), ("cats", "dogs"), tmp_path / "s.csv")
    read = pd.read_csv(tmp_path / "s.csv").set_index("id")["label"]
    np.testing.assert_allclose(read.loc[[10, 9, 1]], second, rtol=1e-8)


def test_a_class_called_id_is_refused_until_the_other_column_has_another_name(tmp_path):
    probabilities = np.array([[0.2, 0.3, 0.5]])
    with pytest.raises(
        DataError, match="a class is called id too: name the column of images with --id-column"
    ):
        write(PATHS[:1], probabilities, ("cats", "dogs", "id"), tmp_path / "s.csv")
    write(PATHS[:1], probabilities, ("cats", "dogs", "id"), tmp_path / "s.csv", "image")
    assert (tmp_path / "s.csv").read_text() == "image,cats,dogs,id\n10,0.2,0.3,0.5\n"


def test_two_classes_of_which_one_is_called_id_or_label_have_the_usual_columns():
    table = submission(PATHS[:1], np.array([[0.2, 0.8]]), ("id", "label"))
    assert table.to_dict("records") == [{"id": "10", "label": 0.8}]
