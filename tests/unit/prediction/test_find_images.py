import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggflow.errors import DataError
from vggflow.prediction.find_images import find_images, natural_key


def test_images_below_folders_come_in_natural_order(tmp_path):
    for name in ("10.jpg", "2.JPG", "1.png", "b/3.webp", "b/20.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])]
    assert found == ["1.png", "2.JPG", "10.jpg", "b/3.webp", "b/20.jpeg"]


def test_hidden_files_and_other_kinds_are_passed_over_in_folders(tmp_path):
    for name in ("a.jpg", ".b.jpg", ".git/c.jpg", "Thumbs.db", "notes.txt", "movie.mpg", "paper.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_images([tmp_path])] == ["a.jpg"]


def test_a_folder_below_a_hidden_one_is_read_when_named(tmp_path):
    folder = tmp_path / ".cache" / "images"
    folder.mkdir(parents=True)
    (folder / "a.jpg").touch()
    assert find_images([folder]) == [folder / "a.jpg"]


def test_a_named_file_is_taken_whatever_its_name_and_each_file_once(tmp_path):
    odd = tmp_path / "photo"
    odd.touch()
    (tmp_path / "a.jpg").touch()
    assert find_images([odd, tmp_path, tmp_path / "a.jpg"]) == [odd, tmp_path / "a.jpg"]


def test_a_place_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        find_images([tmp_path / "nowhere"])


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no images in"):
        find_images([tmp_path])


@given(st.lists(st.text(alphabet="01²٣ab.", max_size=6), unique=True))
def test_any_names_can_be_sorted_and_none_is_lost(names):
    ordered = sorted(names, key=natural_key)
    assert sorted(ordered) == sorted(names)
    names.reverse()
    assert ordered == sorted(names, key=natural_key)
