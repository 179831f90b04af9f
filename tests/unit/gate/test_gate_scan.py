"""The scan: one row per file, every file read at most once, and the data untouched."""

import hashlib
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_pictures import grow, jpeg

from vggflow.data import layout
from vggflow.data import manifest as manifests
from vggflow.data.changes import compare
from vggflow.data.places import Place
from vggflow.errors import DataError
from vggflow.gate import inspect_file, judge, scan_memory
from vggflow.gate.scan import scan
from vggflow.settings import ValidateSettings


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def read(monkeypatch):
    """The files that are opened to be decoded, in their order."""
    opened: list[str] = []
    honest = inspect_file.images.read

    def counted(place: Place) -> bytes:
        opened.append(Path(place.file).name)
        return honest(place)

    monkeypatch.setattr(inspect_file.images, "read", counted)
    return opened


def test_every_file_has_a_row_with_its_place_and_facts(data):
    manifest = scan(data)
    first = manifest.iloc[0]

    assert manifest["path"].tolist() == sorted(
        path.relative_to(data).as_posix() for path in data.rglob("*.jpg")
    )
    assert (first["path"], first["split"], first["class_name"]) == ("test/cats/0.jpg", "test", "cats")
    assert (first["width"], first["height"], first["format"], first["mode"]) == (160, 120, "JPEG", "RGB")
    assert first["bytes"] == (data / first["path"]).stat().st_size
    assert first["sha256"] == hashlib.sha256((data / first["path"]).read_bytes()).hexdigest()


def test_a_scan_changes_nothing_below_the_data_folder(data, tmp_path):
    before = state(data)
    scan(data, cache=tmp_path / "cache")

    assert state(data) == before


def test_the_sample_is_not_part_of_the_data(data):
    shutil.copytree(data / "train", data / "sample" / "train")

    assert len(scan(data)) == 12


def test_many_files_are_read_by_several_processes_with_the_same_result(tmp_path):
    data = grow(tmp_path / "data", per_class=1)
    for number in range(320):
        (data / "train" / "cats" / f"copy{number}.jpg").write_bytes(jpeg(number % 3) + bytes([number % 256]))
    here = [inspect_file.inspect(Place(str(path))) for path in sorted(data.rglob("*.jpg"))]
    manifest = scan(data)

    assert manifest["sha256"].tolist() == [facts["sha256"] for facts in here]
    assert manifest["perceptual_hash"].tolist() == [facts["perceptual_hash"] for facts in here]
    assert manifest["sharpness"].tolist() == [facts["sharpness"] for facts in here]


def test_a_second_scan_reads_nothing_and_finds_the_same(data, tmp_path, read):
    first = scan(data, cache=tmp_path / "cache")
    read.clear()
    second = scan(data, cache=tmp_path / "cache")

    assert read == []
    pd.testing.assert_frame_equal(first, second)


def test_only_new_and_changed_files_are_read_again(data, tmp_path, read):
    scan(data, cache=tmp_path / "cache")
    read.clear()
    (data / "train" / "cats" / "new.jpg").write_bytes(jpeg(90))
    (data / "train" / "dogs" / "0.jpg").write_bytes(jpeg(91))
    (data / "valid" / "dogs" / "0.jpg").unlink()
    manifest = scan(data, cache=tmp_path / "cache")

    assert read == ["new.jpg", "0.jpg"]
    pd.testing.assert_frame_equal(manifest, scan(data))


def test_a_file_of_the_same_size_and_time_but_other_bytes_is_read_again(data, tmp_path):
    path = data / "train" / "cats" / "0.jpg"
    content, times = path.read_bytes(), path.stat()
    scan(data, cache=tmp_path / "cache")
    path.write_bytes(content[:-1] + b"\0")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    pd.testing.assert_frame_equal(scan(data, cache=tmp_path / "cache"), scan(data))


def test_a_file_from_before_1970_is_scanned_like_any_other(data, tmp_path, read):
    path = data / "train" / "cats" / "0.jpg"
    os.utime(path, ns=(-5, -86_400_000_000_000))
    cache = tmp_path / "cache"
    assert len(scan(data, cache=cache)) == len(scan(data))
    read.clear()
    scan(data, cache=cache)
    assert read == []


def test_a_killed_scan_goes_on_where_it_was(data, tmp_path, monkeypatch, read):
    monkeypatch.setattr("vggflow.gate.scan.PART", 4)

    class Killed(BaseException):
        pass

    def kill(done: int, total: int) -> None:
        if done == 9:
            raise Killed

    with pytest.raises(Killed):
        scan(data, kill, tmp_path / "cache")
    read.clear()
    manifest = scan(data, cache=tmp_path / "cache")

    assert len(read) == 4
    pd.testing.assert_frame_equal(manifest, scan(data))


def test_what_was_remembered_by_another_decoder_is_forgotten(data, tmp_path, monkeypatch, read):
    scan(data, cache=tmp_path / "cache")
    monkeypatch.setattr(scan_memory.packages, "decoding", lambda: "pillow-0.0-00000000")
    read.clear()
    scan(data, cache=tmp_path / "cache")

    assert len(read) == 12
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_memory_costs_time_and_nothing_else(data, tmp_path):
    expected = scan(data, cache=tmp_path / "cache")
    for part in (tmp_path / "cache").rglob("*.parquet"):
        part.write_bytes(b"PAR1 and then rubbish")

    pd.testing.assert_frame_equal(scan(data, cache=tmp_path / "cache"), expected)


def test_a_file_that_could_not_be_read_is_tried_again(data, tmp_path, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise inspect_file.images.ImageError("Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(inspect_file.images, "read", refuse)
        assert scan(data, cache=tmp_path / "cache")["error"].eq("Input/output error").all()

    assert scan(data, cache=tmp_path / "cache")["error"].isna().all()


def test_progress_counts_up_to_all_files(data):
    seen: list[tuple[int, int]] = []
    scan(data, lambda done, total: seen.append((done, total)))

    assert seen == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no data folder"),
        (lambda folder: folder.mkdir(), "no images in"),
        (lambda folder: (folder / "cats").mkdir(parents=True), "expected data/{train,valid,test}/<class>/"),
        (lambda folder: (folder / "valid" / "cats").mkdir(parents=True), "no class folders in .*train"),
        (lambda folder: (folder / "train" / "cats").mkdir(parents=True), "no class folders in .*valid"),
    ],
)
def test_a_folder_without_the_splits_that_training_needs_is_a_data_error(tmp_path, make, message):
    make(tmp_path / "data")

    with pytest.raises(DataError, match=message) as raised:
        layout.class_folders(tmp_path / "data")
    assert "\n" not in str(raised.value)


def test_class_folders_are_found_when_they_are_empty(data):
    (data / "test" / "unknown").mkdir()

    assert [str(folder) for folder in layout.class_folders(data)][-2:] == ["test/dogs", "test/unknown"]


def test_a_manifest_is_the_same_bytes_when_written_twice(data, tmp_path):
    manifest = scan(data)
    manifests.write(manifest, tmp_path / "a.parquet")
    manifests.write(manifests.read(tmp_path / "a.parquet"), tmp_path / "b.parquet")

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(manifests.read(tmp_path / "b.parquet"), manifest)


def test_the_digest_follows_paths_bytes_and_exclusions_only(data):
    manifest = scan(data)
    digest = manifests.digest(manifest)
    excluded = manifest.assign(excluded=manifest["excluded"].mask(manifest.index == 0, "dark"))

    assert manifests.digest(manifest.assign(brightness=0.0)) == digest
    assert manifests.digest(excluded) != digest
    assert manifests.digest(manifest.assign(sha256=manifest["sha256"].shift(1))) != digest


def test_unlabelled_excluded_and_unreadable_rows_are_not_learned_from(data):
    (data / "test" / "unknown").mkdir()
    (data / "test" / "unknown" / "1.jpg").write_bytes(jpeg(90))
    (data / "train" / "cats" / "1.jpg").write_bytes(b"")
    manifest = scan(data)
    manifest.loc[manifest["path"] == "train/cats/0.jpg", "excluded"] = "dark"

    assert manifests.labelled(manifest, "train")["path"].tolist() == ["train/dogs/0.jpg", "train/dogs/1.jpg"]
    assert len(manifests.labelled(manifest, "test")) == 4
    assert manifests.class_names(manifest) == ("dogs",)


def test_what_is_no_manifest_is_a_data_error(tmp_path):
    (tmp_path / "text.parquet").write_text("no")
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "other.parquet")

    with pytest.raises(DataError, match="run `vggflow validate` first"):
        manifests.read(tmp_path / "nothing.parquet")
    with pytest.raises(DataError, match="is no manifest"):
        manifests.read(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="has no column split"):
        manifests.read(tmp_path / "other.parquet")


@pytest.fixture
def older(data, tmp_path) -> Path:
    """The manifest that a version before bits, doubts and oddities were told has written of these data."""
    path = tmp_path / "older.parquet"
    scan(data).drop(columns=["used_bits", "doubt", "oddity"]).to_parquet(path, index=False)
    return path


def test_a_manifest_of_an_earlier_version_is_read_with_nothing_in_the_columns_that_it_lacks(data, older):
    now, before = scan(data), manifests.read(older)

    assert before.dtypes.to_dict() == now.dtypes.to_dict()
    assert before[["used_bits", "doubt", "oddity"]].isna().all(axis=None)
    assert manifests.digest(before) == manifests.digest(now)


def test_data_of_an_earlier_version_s_manifest_have_not_changed_and_are_compared_with(data, older, tmp_path):
    before = manifests.read(older)
    assert not compare(before, scan(data))
    for split in ("train", "valid", "test"):
        shutil.rmtree(data / split / "dogs")
    judgement = judge.judge(data, ValidateSettings(), tmp_path / "docs", reference=before)

    assert "vanished_class" in {problem.expectation for problem in judgement.verdict.problems}
    assert len(compare(before, judgement.manifest).removed) == 6


def test_what_an_earlier_version_remembered_of_files_is_looked_at_again(data, tmp_path, read):
    expected = scan(data, cache=tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    remembered = pd.read_parquet(folder / "all.parquet").drop(columns=["used_bits", "doubt", "oddity"])
    remembered.to_parquet(folder / "all.parquet", index=False)
    folder.rename(folder.with_name(folder.name.replace("files-2-", "files-1-")))
    read.clear()

    pd.testing.assert_frame_equal(scan(data, cache=tmp_path / "cache"), expected)
    assert len(read) == 12
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
