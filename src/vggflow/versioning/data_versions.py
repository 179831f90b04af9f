"""Which version a tracked folder is: what it holds, what DVC's cache and git's history know, what it was last seen as.

`data/` and `weights/` are sets of files. A version is DVC's: the hash of a listing of paths and MD5s.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from vggflow import artifacts, files
from vggflow.errors import DataError, UsageError, VggflowError
from vggflow.git_and_dvc import dvc_file
from vggflow.git_and_dvc.dvc_file import DvcFile
from vggflow.git_and_dvc.run import NoRepository
from vggflow.versioning.three_way_merge import Listing
from vggflow.workspace import Workspace

TRACKED = ("data", "weights")


@dataclass(frozen=True)
class Version:
    """A listing and its hash."""

    md5: str
    files: dict[str, str]


@dataclass(frozen=True)
class LastSeen:
    """What a folder was last known to be equal to, and what it was before that in git's history.

    `restoring` tells that the folder was being filled again when this was written, so what lacks is no decision.
    """

    seen: Version | None = None
    agreed: Version | None = None
    restoring: bool = False


def entry(workspace: Workspace, tracked: str) -> DvcFile | None:
    """The version that the workspace's `.dvc` file of a folder names."""
    return dvc_file.read(workspace.root / f"{tracked}.dvc")


def version_of(listing: Listing) -> str:
    """What DVC calls a folder of these files."""
    # Byte for byte as DVC writes a listing, or the hash is another: sorted rows, sorted keys, ASCII.
    rows = [{"md5": listing[path], "relpath": path} for path in sorted(listing)]
    text = json.dumps(rows, sort_keys=True)
    # MD5 is DVC's choice; where security standards forbid it, this tells Python that it protects nothing.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


class Cache:
    """DVC's cache of a workspace, which holds every file and every listing under its MD5."""

    def __init__(self, workspace: Workspace) -> None:
        configs = (workspace.root / ".dvc" / name for name in ("config", "config.local"))
        self._folder = _cache_folder(workspace, tuple(_content(path) for path in configs)) / "files" / "md5"

    def path(self, md5: str) -> Path:
        """Where the bytes of a hash lie."""
        return self._folder / md5[:2] / md5[2:]

    def listing(self, md5: str) -> dict[str, str] | None:
        """The files of a version; none where the cache lacks it or holds something else under its name."""
        try:
            content = self.path(md5).read_bytes()
        except OSError:
            return None
        # A damaged listing would look like files that somebody took away.
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            return None
        return {row["relpath"]: row["md5"] for row in json.loads(content)}

    def drop_half(self, md5: str) -> bool:
        """Removes a listing that is not whole; tells whether the cache lacks it now.

        A killed DVC may leave half of one, and the next DVC believes that it is there.
        """
        if self.listing(md5) is not None:
            return False
        self.path(md5).unlink(missing_ok=True)
        return True

    def lacks(self, listing: Listing) -> list[str]:
        """The paths whose bytes are not here."""
        return sorted(path for path, md5 in listing.items() if not self.path(md5).is_file())


@lru_cache(maxsize=64)
def _cache_folder(workspace: Workspace, configs: tuple[bytes | None, ...]) -> Path:
    """Where DVC keeps a workspace's cache: asking is a process, so once for as long as its `configs` say the same."""
    del configs
    return Path(workspace.dvc("cache", "dir").strip())


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def files_now(workspace: Workspace, tracked: str, theirs: Listing) -> dict[str, str]:
    """The listing of a folder as it is, without what `.dvcignore` names; only what is new or changed is read."""
    report = json.loads(workspace.dvc("data", "status", "--granular", "--json") or "{}").get(
        "uncommitted", {}
    )
    if f"{tracked}/" in report.get("unknown", []):
        raise VggflowError(f"DVC can't tell what {tracked}/ is: `dvc fetch {tracked}.dvc`, then try again")
    root = workspace.root / tracked

    def below(paths: Iterable[str]) -> list[str]:
        # DVC names folders too, with a slash at their end.
        inside = (path.removeprefix(f"{tracked}/") for path in paths if path.startswith(f"{tracked}/"))
        return [path for path in inside if path and not path.endswith("/")]

    renamed = report.get("renamed", [])
    # What was moved is one entry of two paths, and in neither of the other lists.
    away = {*below(report.get("deleted", [])), *below(pair["old"] for pair in renamed)}
    kept = {path: md5 for path, md5 in theirs.items() if path not in away}
    others = [*report.get("added", []), *report.get("modified", []), *(pair["new"] for pair in renamed)]
    return kept | md5s(root, below(others))


def md5s(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    """The MD5s of files."""
    names = list(paths)
    # Threads suffice: hashing lets go of the interpreter.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(lambda name: md5_of(folder / name), names), strict=True))


def md5_of(path: Path) -> str:
    """The MD5 of a file's bytes, which is what DVC calls it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}; DVC can't keep it: mend that") from error


def last_seen(workspace: Workspace, tracked: str) -> LastSeen:
    """What was remembered; nothing where that is not to be read, since then nothing is believed."""
    try:
        found = files.read_json(_record(workspace, tracked))
        versions = {key: Version(**found[key]) if found[key] else None for key in ("seen", "agreed")}
        return LastSeen(**versions, restoring=bool(found["restoring"]))
    except (OSError, ValueError, KeyError, TypeError):
        return LastSeen()


def remember(workspace: Workspace, tracked: str, md5: str, listing: Listing | None = None) -> None:
    """Writes down that the folder is this version now, unless nobody has its listing."""
    before = last_seen(workspace, tracked)
    # The record names every file: it is written only when it says something else.
    if before.seen and before.seen.md5 == md5 and not before.restoring:
        return
    known = listing if listing is not None else Cache(workspace).listing(md5)
    if known is None:
        return
    # Remembered before `seen` moves on: where both sides were one, as far as git knows.
    agreed = before.agreed
    if before.seen and before.seen.md5 in history(workspace, tracked):
        agreed = before.seen
    _write(workspace, tracked, LastSeen(Version(md5, dict(known)), agreed))


def remember_restoring(workspace: Workspace, tracked: str) -> None:
    """Writes down that the folder is being filled again."""
    before = last_seen(workspace, tracked)
    _write(workspace, tracked, LastSeen(before.seen, before.agreed, restoring=True))


def history(workspace: Workspace, tracked: str) -> list[str]:
    """The versions that the committed one comes from, itself among them, newest first.

    Git follows the side of a merge that a file was taken from, so what a merge threw away is not among them.
    """
    if not _has_commits(workspace):
        return []
    # Without `--cc` git shows no changes of a merge.
    log = workspace.git("log", "-p", "--cc", "--format=", "HEAD", "--", f"{tracked}.dvc")
    # In a merge a line has a mark for each parent: `++`, ` +` or `+ `.
    return re.findall(r"^[ +]*\+[ +]*- md5: ([0-9a-f]{32}\.dir)$", log, re.MULTILINE)


def committed(workspace: Workspace, tracked: str) -> str | None:
    """The version that HEAD names."""
    # Not `HEAD:data.dvc`: that is a path from the root of the repository, which may lie above.
    listed = workspace.git("ls-tree", "HEAD", "--", f"{tracked}.dvc") if _has_commits(workspace) else ""
    if not listed:
        return None
    try:
        text = workspace.git("cat-file", "blob", listed.split()[2])
        return dvc_file.parse(Path(f"HEAD:{tracked}.dvc"), text).md5
    except UsageError:  # somebody committed conflict marks: no version
        return None


def conflicting(workspace: Workspace, tracked: str) -> tuple[str | None, ...] | None:
    """The text of a `.dvc` file that both sides come from and of the sides, while git waits for a merge of it."""
    try:
        listed = workspace.git("ls-files", "--unmerged", "--", f"{tracked}.dvc")
    except NoRepository:
        return None
    # Rows are `MODE BLOB SIDE<TAB>PATH`; side 1 is where both come from, 2 ours, 3 theirs.
    blobs = {row.split()[2]: row.split()[1] for row in listed.splitlines()}
    if not blobs:
        return None
    return tuple(workspace.git("cat-file", "blob", blobs[side]) if side in blobs else None for side in "123")


def refuse_link(workspace: Workspace, tracked: str) -> None:
    """DVC keeps nothing behind a link.

    Raises:
        DataError: the folder is a link.
    """
    folder = workspace.root / tracked
    if folder.is_symlink():
        raise DataError(
            f"{folder} is a link to {folder.readlink()}: DVC keeps no folder behind a link; "
            f"move the folder itself here, or mount it at {tracked}/"
        )


def _has_commits(workspace: Workspace) -> bool:
    try:
        return bool(workspace.git("rev-parse", "--verify", "--quiet", "HEAD", none=1))
    except NoRepository:
        return False


def _record(workspace: Workspace, tracked: str) -> Path:
    return workspace.path(artifacts.STATE) / f"{tracked}-last-seen.json"


def _write(workspace: Workspace, tracked: str, record: LastSeen) -> None:
    files.write_text(_record(workspace, tracked), json.dumps(asdict(record), ensure_ascii=False) + "\n")
