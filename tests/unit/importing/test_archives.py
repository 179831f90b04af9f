"""Archives that would fill memory or disk, names that don't say how they are written, and deliveries that get lost."""

import bz2
import copy
import gzip
import io
import lzma
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggflow.errors import DataError
from vggflow.importing import archives, zips
from vggflow.importing.import_images import ImportOptions, Limits, import_images

MIB = 1024**2
# What an import may take besides the archive's own size; a bomb takes 1,000 MiB and more.
FLAT_MIB = 150


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def classes(root: Path) -> set[str]:
    return {path.split("/")[1] for path in tree(root)}


def header(kind: bytes, size: int, name: str = "cats/1.jpg") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def zeros(mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield b"a" * MIB


IMAGE = header(tarfile.REGTYPE, 1) + b"x" + bytes(511)
END = bytes(1024)


def one_pax_header() -> Iterator[bytes]:
    record = b"%d comment=" % (400 * MIB)
    yield header(tarfile.XHDTYPE, 400 * MIB) + record + b"a" * (512 - len(record))
    yield from zeros(399)
    yield b"a" * (MIB - 513) + b"\n" + IMAGE + END


def one_long_name() -> Iterator[bytes]:
    yield header(tarfile.GNUTYPE_LONGNAME, 400 * MIB)
    yield from zeros(400)
    yield IMAGE + END


def global_headers_that_every_member_keeps() -> Iterator[bytes]:
    record = b"65500 comment=" + b"a" * (65500 - 15) + b"\n"
    yield header(tarfile.XGLTYPE, 65500) + record + bytes(36)
    for number in range(3_000):
        short = b"17 mtime=1234567\n"
        yield header(tarfile.XHDTYPE, len(short)) + short + bytes(512 - len(short))
        yield header(tarfile.REGTYPE, 0, f"notes/{number}.txt")
    yield IMAGE + END


def pax_headers_of_many_members() -> Iterator[bytes]:
    record = b"65500 comment=" + b"a" * (65500 - 15) + b"\n"
    for number in range(3_000):
        yield (
            header(tarfile.XHDTYPE, 65500)
            + record
            + bytes(36)
            + header(tarfile.REGTYPE, 0, f"cats/{number}.jpg")
        )
    yield IMAGE + END


def one_header_of_digits() -> Iterator[bytes]:
    record = b"900000 comment=" + b"1" * (900_000 - 16) + b"\n"
    yield header(tarfile.XHDTYPE, 900_000) + record + bytes(-900_000 % 512) + IMAGE + END


def many_headers_of_one_member() -> Iterator[bytes]:
    record = b"14 comment=00\n"
    for _ in range(2000):
        yield header(tarfile.XHDTYPE, len(record)) + record + bytes(512 - len(record))
    yield IMAGE + END


def many_members_that_are_skipped() -> Iterator[bytes]:
    yield IMAGE
    notes = b"".join(header(tarfile.REGTYPE, 0, f"{'notes/' * 15}{number}.txt") for number in range(1000))
    yield from (notes for _ in range(300))
    yield END


def one_skipped_member_that_is_large() -> Iterator[bytes]:
    yield IMAGE + header(tarfile.REGTYPE, 600 * MIB, "notes.txt")
    yield from zeros(600)
    yield END


def a_map_of_holes() -> Iterator[bytes]:
    sparse = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    sparse[386:482] = b"00000000001\x00" * 8
    sparse[482], sparse[483:495] = 1, b"00000001000\x00"
    sparse[148:156] = b"        "
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    yield bytes(sparse)
    block = b"00000000001\x00" * 42 + b"\1" + bytes(7)
    for _ in range(400):
        yield block * 2048
    yield END


def nothing_after_the_end() -> Iterator[bytes]:
    yield IMAGE + END
    yield from (bytes(MIB) for _ in range(600))


BOMBS = [
    one_pax_header, one_long_name, global_headers_that_every_member_keeps,
    one_header_of_digits, many_headers_of_one_member,
    pytest.param(pax_headers_of_many_members, marks=pytest.mark.slow),
    pytest.param(many_members_that_are_skipped, marks=pytest.mark.slow),
    one_skipped_member_that_is_large, a_map_of_holes, nothing_after_the_end,
]  # fmt: skip


def imported_elsewhere(archive: Path, target: Path) -> tuple[str, int]:
    """What a dry run says in a process of its own, and by how many MiB it grew at most."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from vggflow.importing.import_images import ImportOptions, import_images\n"
        "from vggflow.errors import VggflowError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    said = import_images(Path(sys.argv[1]), Path(sys.argv[2]), options=ImportOptions(dry_run=True)).copied\n"
        "except VggflowError as error:\n"
        "    said = error\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, said)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive), str(target)], capture_output=True, text=True, check=True
    )
    grown, said = done.stdout.split(" ", 1)
    return said, int(grown)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_tar_takes_little_memory_whatever_it_announces(
    tmp_path: Path, bomb: Callable[[], Iterator[bytes]]
) -> None:
    archive = tmp_path / "small.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as packed:
        for part in bomb():
            packed.write(part)
    said, grown = imported_elsewhere(archive, tmp_path / "data")

    assert grown < FLAT_MIB
    if bomb in (global_headers_that_every_member_keeps, pax_headers_of_many_members):
        assert int(said) in (1, 3001)
    else:
        assert "if that is right, unpack it and import the folder" in said
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("opened", [gzip.open, bz2.open, lzma.open])
def test_every_compression_has_the_same_limits(
    tmp_path: Path, opened: Callable[..., io.BufferedIOBase]
) -> None:
    with opened(tmp_path / "large.tar.xz", "wb") as packed:
        packed.write(IMAGE + header(tarfile.REGTYPE, 5 * MIB, "notes.txt") + bytes(5 * MIB) + END)

    with pytest.raises(DataError, match=r"unpacks to more than 0\.00391 GiB, too much for its size"):
        import_images(
            tmp_path / "large.tar.xz",
            tmp_path / "data",
            options=ImportOptions(limits=Limits(total_bytes=4 * MIB)),
        )


def test_a_tar_of_photographs_with_the_headers_that_a_mac_writes_comes_whole(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "mac.tar", "w", format=tarfile.PAX_FORMAT) as taped:
        for number in range(3):
            info = tarfile.TarInfo(f"photos/cats/{'a long name ' * 15}{number}.jpg")
            info.pax_headers = {
                "LIBARCHIVE.xattr.com.apple.FinderInfo": "A" * 50_000,
                "mtime": "1764150000.5",
            }
            info.size = 1
            taped.addfile(info, io.BytesIO(bytes([number])))

    assert import_images(tmp_path / "mac.tar", tmp_path / "data").copied == 3


def test_a_tar_whose_last_member_is_a_zip_is_read_as_a_tar(tmp_path: Path) -> None:
    """A zip is known by its end, and that is the end of the tar too."""
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.jpg").write_bytes(b"a picture")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as inner:
        inner.writestr("dogs/2.jpg", b"another")
    with tarfile.open(tmp_path / "all.tar", "w") as outer:
        for name in ("cats/1.jpg", "more.zip"):
            outer.add(tmp_path / name, name)
    whole = (tmp_path / "all.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "all.tar").write_bytes(whole + b"\0" * (-len(whole) % 512 + 1024))
    assert zipfile.is_zipfile(tmp_path / "all.tar")
    with archives.opened(tmp_path / "all.tar", Limits()) as found:
        assert [str(item.path) for item in found.items] == ["cats/1.jpg"]
        assert [skip.path for skip in found.skipped] == ["more.zip"]


def test_a_zip_whose_members_lie_over_each_other_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("cats/0.jpg", bytes(10 * MIB))
        for number in range(1, 30):
            twin = copy.copy(zipped.infolist()[0])
            twin.filename = f"cats/{number}.jpg"
            zipped.filelist.append(twin)

    with pytest.raises(DataError, match=r"bomb\.zip holds members that lie over each other"):
        import_images(tmp_path / "bomb.zip", tmp_path / "data")


class Named(zipfile.ZipInfo):
    """A member whose name is these bytes, without a word on how they are written."""

    def __init__(self, raw: bytes, extra: bytes = b"") -> None:
        super().__init__(raw.decode("cp437"))
        self.extra, self.raw = extra, raw

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's own
        return self.raw, 0


def unmarked_zip(archive: Path, *members: Named) -> Path:
    with zipfile.ZipFile(archive, "w") as zipped:
        for number, member in enumerate(members):
            zipped.writestr(member, bytes([number]) * 9)
    return archive


def unicode_path(raw: bytes, name: str) -> bytes:
    """Info-ZIP's extra field of a name in UTF-8, with the checksum of the other one."""
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("cp1252", "Kätzchen"),
        ("shift_jis", "子猫"),
        ("cp866", "котёнок"),
        ("big5", "小貓"),
        ("cp850", "chat à côté"),
    ],
)
def test_names_of_a_code_page_come_as_they_were_when_it_is_named(
    tmp_path: Path, encoding: str, name: str
) -> None:
    path = f"{name}/1.jpg"
    archive = unmarked_zip(tmp_path / "w.zip", Named(path.encode(encoding)), Named(b"dogs/1.jpg"))
    summary = import_images(archive, tmp_path / "data", options=ImportOptions(encoding=encoding))

    assert classes(tmp_path / "data") == {name, "dogs"}
    assert summary.notes == ()


def test_names_that_are_guessed_are_told_with_an_example(tmp_path: Path) -> None:
    path = "Kätzchen/1.jpg"
    archive = unmarked_zip(tmp_path / "w.zip", Named(path.encode("cp1252")))
    (note,) = import_images(archive, tmp_path / "data").notes

    assert note.startswith(
        "1 names don't say how they are written: taken for cp437, such as KΣtzchen/1.jpg; `--enc"
    )


def test_names_that_are_utf8_without_saying_so_are_read_as_that_and_told(tmp_path: Path) -> None:
    path = "café/1.jpg"
    summary = import_images(unmarked_zip(tmp_path / "w.zip", Named(path.encode())), tmp_path / "data")

    assert classes(tmp_path / "data") == {"café"}
    assert "taken for utf-8, such as café/1.jpg" in summary.notes[0]


@pytest.mark.parametrize("fits", [True, False])
def test_the_unicode_path_of_a_zip_counts_while_its_checksum_fits(tmp_path: Path, fits: bool) -> None:
    raw, path = b"K?tzchen/1.jpg", "Kätzchen/1.jpg"
    extra = unicode_path(raw if fits else b"renamed since", path)
    summary = import_images(unmarked_zip(tmp_path / "w.zip", Named(raw, extra)), tmp_path / "data")

    assert classes(tmp_path / "data") == {"Kätzchen" if fits else "K?tzchen"}
    assert summary.notes == ()


def test_a_name_that_is_not_of_the_encoding_is_a_data_error(tmp_path: Path) -> None:
    archive = unmarked_zip(tmp_path / "w.zip", Named(b"caf\x81/1.jpg"))

    with pytest.raises(DataError, match=r"the name caf\\x81/1\.jpg is not cp1252: try another `--encoding`"):
        import_images(archive, tmp_path / "data", options=ImportOptions(encoding="cp1252"))
    with pytest.raises(DataError, match="--encoding klingon is none"):
        ImportOptions(encoding="klingon")


@pytest.mark.parametrize("packing", ["tar", "folder"])
def test_bytes_of_names_that_are_not_utf8_are_read_as_they_are_said_to_be(
    tmp_path: Path, packing: str
) -> None:
    name = "café/1.jpg".encode("cp1252")
    folder = tmp_path / "source"
    (folder / "dogs").mkdir(parents=True)
    (folder / "dogs" / "1.jpg").write_bytes(b"dog")
    (folder / Path(name.decode(errors="surrogateescape"))).parent.mkdir()
    (folder / Path(name.decode(errors="surrogateescape"))).write_bytes(b"cat")
    source = folder
    if packing == "tar":
        source = tmp_path / "a.tar"
        with tarfile.open(source, "w", format=tarfile.GNU_FORMAT) as taped:
            taped.add(folder, ".")
    (skip,) = import_images(source, tmp_path / "one").skipped
    import_images(source, tmp_path / "two", options=ImportOptions(encoding="cp1252"))

    assert skip.reason == "the name is not valid UTF-8: `--encoding` says what it is"
    assert classes(tmp_path / "two") == {"café", "dogs"}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1))
def test_names_in_any_script_are_read_back_however_a_zip_marks_them(names: list[str]) -> None:
    marked = [zipfile.ZipInfo(name) for name in names]
    unmarked = [zipfile.ZipInfo(name.encode().decode("cp437")) for name in names]
    for info in marked:
        info.flag_bits = 0x800

    assert zips._names(marked, Path("a.zip"), None)[0] == names
    assert zips._names(unmarked, Path("a.zip"), None)[0] == names
    assert zips._names(unmarked, Path("a.zip"), "utf-8")[0] == names


def deflate64(archive: Path, bad: int, good: int) -> Path:
    with zipfile.ZipFile(archive, "w") as zipped:
        for number in range(bad + good):
            zipped.writestr(f"cats/{number}.jpg", b"cat %d" % number)
        members = zipped.infolist()
    content = bytearray(archive.read_bytes())
    for info in members[:bad]:
        content[info.header_offset + 8 : info.header_offset + 10] = b"\x09\x00"
    place = content.index(b"PK\x01\x02")
    for info in members:
        if info in members[:bad]:
            content[place + 10 : place + 12] = b"\x09\x00"
        place += 46 + len(info.filename)
    archive.write_bytes(content)
    return archive


def test_an_import_that_brings_nothing_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"no images to import from .*d\.zip: 40 skipped: packed with Deflate64, which can't be read here: "
        r"unpack it and import the folder, such as cats/0\.jpg",
    ):
        import_images(deflate64(tmp_path / "d.zip", 40, 0), tmp_path / "data")


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_import_that_loses_more_than_it_brings_is_an_error_and_writes_nothing(
    tmp_path: Path, dry_run: bool
) -> None:
    with pytest.raises(
        DataError, match=r"21 images of .*d\.zip would be lost and only 19 come: 21 skipped: packed"
    ):
        import_images(
            deflate64(tmp_path / "d.zip", 21, 19), tmp_path / "data", options=ImportOptions(dry_run=dry_run)
        )
    assert not (tmp_path / "data").exists()


def test_an_import_that_brings_as_much_as_it_loses_tells_what_is_lost(tmp_path: Path) -> None:
    summary = import_images(deflate64(tmp_path / "d.zip", 20, 20), tmp_path / "data")

    assert summary.copied == 20
    assert sum(skip.lost for skip in summary.skipped) == 20


def test_what_damage_within_a_zip_left_is_taken_back_where_more_is_lost(tmp_path: Path) -> None:
    archive = tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for number in range(10):
            zipped.writestr(
                f"cats/{number}.jpg", b"these bytes change" if number % 3 else b"good %d" % number
            )
    archive.write_bytes(archive.read_bytes().replace(b"these bytes change", b"these bytes CHANGE"))
    there = tmp_path / "data" / "train" / "dogs" / "1.jpg"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"dog")

    with pytest.raises(DataError, match=r"6 images of .* would be lost and only 4 come: 6 skipped: damaged"):
        import_images(archive, tmp_path / "data")
    assert tree(tmp_path / "data") == {"train/dogs/1.jpg"}
    assert not (tmp_path / "data" / "train" / "cats").exists()


def test_notes_and_hidden_files_are_no_loss(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("cats/1.jpg", b"1")
        for number in range(5):
            zipped.writestr(f"cats/{number}.xml", b"box")
            zipped.writestr(f"__MACOSX/cats/._{number}.jpg", b"fork")

    assert import_images(tmp_path / "a.zip", tmp_path / "data").copied == 1


@pytest.mark.parametrize("pictures", ["heic", "CR2", "jxl"])
def test_pictures_of_a_kind_that_is_not_read_are_a_loss(tmp_path: Path, pictures: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("cats/1.jpg", b"1")
        for number in range(2):
            zipped.writestr(f"cats/{number}.{pictures}", b"picture")

    with pytest.raises(DataError, match=r"2 images of .* would be lost and only 1 come"):
        import_images(tmp_path / "a.zip", tmp_path / "data")


def test_a_zip_of_zips_says_what_to_unpack(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as zipped:
        zipped.writestr("train.zip", b"PK")
        zipped.writestr("test1.zip", b"PK")
        zipped.writestr("sampleSubmission.csv", b"id,label")

    with pytest.raises(
        DataError,
        match=r"no images to import from .*2 skipped: an archive within: unpack it and import what it holds, "
        r"such as train\.zip",
    ):
        import_images(tmp_path / "outer.zip", tmp_path / "data")
