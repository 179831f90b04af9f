"""Where a node reads an image from: its own path only where it is the same file, else the remote, else what is sent."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vggflow import cluster
from vggflow.data import spread
from vggflow.data.places import Place
from vggflow.data.spread import ImageNode, Lacking, Needs, Piece, Work
from vggflow.data.tracked import Version
from vggflow.git_and_dvc.remote_contents import md5

WORK = Work("test_spread:content", None)


def content(place: Any) -> str:
    return Place(*place).read().decode()


def _version(path: Path) -> Version:
    status = path.stat()
    return Version(status.st_size, status.st_mtime_ns, md5(path.read_bytes()))


def _piece(path: Path, version: Version, remote: Path | None = None) -> Piece:
    return Piece([Place(str(path))], Needs({str(path): version}, {"url": str(remote)} if remote else None))


def _answer(piece: Piece) -> Any:
    with closing(ImageNode(WORK)) as node:
        return node.work(piece)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    path.write_text("right")
    return path


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    digest = md5(b"right")
    path = tmp_path / "remote" / "files" / "md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"right")
    return tmp_path / "remote"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent)])
    )


def test_the_file_of_the_path_is_read_where_it_is_the_same(image: Path) -> None:
    assert _answer(_piece(image, _version(image))) == ["right"]


def test_another_copy_of_it_is_read_too(image: Path) -> None:
    version = _version(image)
    os.utime(image, (1, 1))
    assert _answer(_piece(image, version)) == ["right"]


@pytest.mark.parametrize("there", ["wrong", "of another size", None])
def test_another_file_there_is_not_taken_for_it(image: Path, remote: Path, there: str | None) -> None:
    version = _version(image)
    if there is None:
        image.unlink()
    else:
        image.write_text(there)
        os.utime(image, (1, 1))
    assert _answer(_piece(image, version, remote)) == ["right"]


def test_what_no_remote_has_is_asked_for_and_sent(image: Path) -> None:
    version = _version(image)._replace(md5="")
    piece = _piece(image, version)
    os.utime(image, (1, 1))
    found = _answer(piece)
    assert found == Lacking((Place(str(image)),))
    again = spread.settle(WORK, piece, found)
    assert isinstance(again, cluster.Again)
    assert _answer(again.piece) == ["right"]


def test_what_can_not_be_read_here_either_is_told_as_without_a_cluster(image: Path) -> None:
    gone = Version(-1, 0, "")
    image.unlink()
    piece = _piece(image, gone)
    found = spread.settle(Work("vggflow.gate.inspect_file:inspect", None), piece, _answer(piece))
    assert found == [{"kind": "image", "error": "No such file or directory"}]


def test_a_member_of_a_shard_is_read_from_the_remote(tmp_path: Path) -> None:
    shard = b"header" + b"first" + b"second"
    digest = md5(shard)
    path = tmp_path / "remote" / "files" / "md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(shard)
    file = str(tmp_path / "train.tar")
    members = [Place(file, "train/a/1.jpg", 6, 5), Place(file, "train/a/2.jpg", 11, 6)]
    needs = Needs({file: Version(len(shard), 0, digest)}, {"url": str(tmp_path / "remote")})
    assert _answer(Piece(members, needs)) == ["first", "second"]


def test_items_may_name_several_images_anywhere() -> None:
    one, two = Place("a"), Place("b", "c", 1, 2)
    assert list(spread.places([[one, "x"], (two, [1, one])])) == [one, two, one]
