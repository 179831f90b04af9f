from pathlib import Path

import pytest

from vggflow import files


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    for name in ("model.keras", ".model.keras.x1.keras", ".model.keras.y2.keras", ".other.json.z3.json"):
        (tmp_path / name).touch()
    files.remove_halves(path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"model.keras", ".other.json.z3.json"}


def test_json_comes_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "deep" / "a.json", {"ü": [1, None, 2.5]})
    assert files.read_json(tmp_path / "deep" / "a.json") == {"ü": [1, None, 2.5]}


def test_json_refuses_what_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_text("abc")
    assert files.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
