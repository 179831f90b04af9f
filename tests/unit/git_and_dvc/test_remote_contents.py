"""Bytes from a DVC remote by their hash: a folder here, an S3 store in test_cluster_nodes.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggflow import workspace as workspaces
from vggflow.errors import UsageError, VggflowError
from vggflow.git_and_dvc import remote_contents
from vggflow.git_and_dvc.remote_contents import Reader, Wanted


@pytest.fixture
def remote(tmp_path: Path) -> dict[str, str]:
    return {"url": str(tmp_path / "remote")}


def _store(remote: dict[str, str], content: bytes, name: str = "") -> str:
    md5 = name or remote_contents.md5(content)
    path = Path(remote["url"]) / "files" / "md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def test_files_come_in_the_order_asked_for_and_what_is_missing_is_none(remote: dict[str, str]) -> None:
    one, two = _store(remote, b"one"), _store(remote, b"two")
    assert Reader(remote).read([Wanted(two), Wanted("f" * 32), Wanted(one), Wanted(two)]) == [
        b"two",
        None,
        b"one",
        b"two",
    ]


def test_other_bytes_under_a_hash_are_refused(remote: dict[str, str]) -> None:
    md5 = _store(remote, b"spoilt", remote_contents.md5(b"right"))
    with pytest.raises(VggflowError, match=f"has other bytes under {md5}"):
        Reader(remote).read([Wanted(md5)])


def test_a_remote_that_refuses_is_told_in_a_line(remote: dict[str, str]) -> None:
    md5 = _store(remote, b"a file")
    path = Path(remote["url"]) / "files" / "md5" / md5[:2] / md5[2:]
    path.unlink()
    path.mkdir()  # what can't be read as a file, whoever reads
    with pytest.raises(VggflowError, match=r"remote .* can't be read \(.*directory"):
        Reader(remote).read([Wanted(md5)])


CONTENT = bytes(range(256)) * 1200


@given(pieces=st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 9_000)), min_size=1, max_size=12))
def test_parts_of_a_file_are_its_parts_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]]
) -> None:
    remote = {"url": str(tmp_path_factory.getbasetemp() / "parts")}
    md5 = _store(remote, CONTENT)
    fitting = [(offset, size) for offset, size in pieces if offset + size <= len(CONTENT)]
    found = Reader(remote).read([Wanted(md5, *piece) for piece in fitting])
    assert found == [CONTENT[offset : offset + size] for offset, size in fitting]


def test_a_part_beyond_the_end_of_a_file_is_none(remote: dict[str, str]) -> None:
    md5 = _store(remote, b"short")
    assert Reader(remote).read([Wanted(md5, 3, 10), Wanted(md5, 0, 2)]) == [None, b"sh"]


def test_parts_that_lie_together_are_read_at_once(
    remote: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = _store(remote, CONTENT)
    reader = Reader(remote)
    asked: list[int] = []
    read: Callable[..., list[bytes]] = reader._files.fs.cat_ranges

    def counting(paths: list[str], *ranges: object, **options: object) -> list[bytes]:
        asked.append(len(paths))
        return read(paths, *ranges, **options)

    monkeypatch.setattr(reader._files.fs, "cat_ranges", counting)
    near = [Wanted(md5, number * 1000, 1000) for number in range(32)]
    assert reader.read([*near, Wanted(md5, 300_000, 10)])[0] == CONTENT[:1000]
    assert asked == [2]


def test_nodes_are_told_no_secret(workspace: Path) -> None:
    made = workspaces.find(workspace)
    for key, value in (
        ("url", "s3://bucket/x"),
        ("endpointurl", "http://127.0.0.1:1"),
        ("access_key_id", "me"),
    ):
        made.dvc("remote", "modify", "local", key, value)
    made.dvc("remote", "modify", "--local", "local", "secret_access_key", "hush")
    assert remote_contents.remote(workspace) == {"url": "s3://bucket/x", "endpointurl": "http://127.0.0.1:1"}


def test_a_remote_that_does_not_go_by_hashes_is_none(workspace: Path) -> None:
    made = workspaces.find(workspace)
    made.dvc("remote", "modify", "local", "url", "s3://bucket/x")
    made.dvc("remote", "modify", "local", "version_aware", "true")
    assert remote_contents.remote(workspace) is None


def test_a_password_in_the_address_is_not_told(workspace: Path) -> None:
    made = workspaces.find(workspace)
    made.dvc("remote", "modify", "local", "url", "https://me:hush@127.0.0.1:1/x")
    told = remote_contents.remote(workspace)
    assert told is not None and "hush" not in told["url"] and "127.0.0.1:1/x" in told["url"]


def test_a_default_remote_that_is_not_there_is_told_in_a_line(workspace: Path) -> None:
    config = workspace / ".dvc" / "config"
    config.write_text("[core]\n    remote = gone\n")
    with pytest.raises(UsageError, match="remote 'gone' doesn't exist"):
        remote_contents.remote(workspace)
