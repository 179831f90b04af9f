"""What a person decided about images, in the column `decision` of a table that `vggflow audit -o` wrote."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggflow.data import csv_table
from vggflow.data.contents import Contents
from vggflow.data.layout import SPLITS, UNLABELLED, class_folders
from vggflow.errors import DataError, UsageError

NEEDED = ("decision", "path", "sha256")
EXPECTED = "expected keep, exclude or move CLASS"


@dataclass(frozen=True)
class Decision:
    """About one image: `target` is its new class, empty where it is left out.

    `line` is where it stands in the table, from 1.
    """

    line: int
    path: str
    sha256: str
    target: str


def read(table: Path) -> list[Decision]:
    """The decisions to move or to leave out; `keep` and empty ones ask for nothing.

    Raises:
        DataError: that is no such table.
        UsageError: a decision is none that is known, or an image has two lines.
    """
    header, *cells = csv_table.rows(table, None, "save it as UTF-8")
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise DataError(f"{table} has no column {', '.join(missing)}: expected a table of `vggflow audit -o`")
    # A row that is too short lacks what stands last.
    rows = [(line, dict(zip(header, row, strict=False))) for line, row in enumerate(cells, start=2)]
    decisions = [_decision(table, line, row) for line, row in rows if row.get("decision", "").strip()]
    lines: dict[str, int] = {}
    for line, row in rows:
        if (first := lines.setdefault(row.get("path", ""), line)) != line:
            raise UsageError(
                f"{table}: lines {first} and {line} are about one image, {row.get('path')}: leave one"
            )
    return [each for each in decisions if each]


def _decision(table: Path, line: int, row: Mapping[str, str]) -> Decision | None:
    word, _, target = (row["decision"] or "").strip().partition(" ")
    path, digest = row.get("path", ""), row.get("sha256", "")
    word = word.lower()
    if word == "move" and target.strip():
        return Decision(line, path, digest, target.strip())
    if target.strip() or word not in ("keep", "exclude"):
        raise UsageError(f"{table}, line {line}: decision {row['decision']!r} is not known, {EXPECTED}")
    return Decision(line, path, digest, "") if word == "exclude" else None


def moves(
    table: Path, decisions: Collection[Decision], data: Path, excluded: Collection[str] = ()
) -> dict[str, str]:
    """Where each image goes, by where it lies, both below the data folder; looks at all before it says anything.

    Args:
        table: For messages.
        decisions: What was decided.
        data: The data folder.
        excluded: Images that are left out already, by their SHA-256.

    Raises:
        UsageError: an image is not there or has other bytes, a class is unknown, a class would have no image left, or
            a new place is taken.
    """
    contents = Contents(data)
    classes = {folder.class_name for folder in class_folders(data) if folder.split == "train"}
    found: dict[str, str] = {}
    for each in decisions:
        _refuse_unknown(table, each, contents)
        if not each.target:
            continue
        if each.target not in classes:
            raise UsageError(
                f"{table}, line {each.line}: no class {each.target}: expected one of {', '.join(sorted(classes))}"
            )
        split, label, *rest = PurePosixPath(each.path).parts
        if label == each.target:
            raise UsageError(
                f"{table}, line {each.line}: {each.path} is labelled {label} already: write keep"
            )
        target = PurePosixPath(split, each.target, *rest)
        if contents.has(str(target)) or str(target) in found.values():
            # The name is somebody else's: its own bytes make another.
            target = target.with_name(f"{target.stem}-{each.sha256[:8]}{target.suffix}")
        if contents.has(str(target)) or str(target) in found.values():
            raise UsageError(f"{table}, line {each.line}: {target} is there already: write exclude, or keep")
        found[each.path] = str(target)
    _refuse_emptied(table, decisions, found, contents, excluded)
    return found


def _refuse_unknown(table: Path, decision: Decision, contents: Contents) -> None:
    where = f"{table}, line {decision.line}: {decision.path}"
    parts = PurePosixPath(decision.path).parts
    inside = (
        len(parts) >= 3 and parts[0] in SPLITS and not {".", ".."} & set(parts) and "\\" not in decision.path
    )
    if not inside or parts[1] == UNLABELLED or not contents.has(decision.path):
        raise UsageError(
            f"{where} is no labelled image of {contents.folder.name}/: run `vggflow audit` again"
        )
    is_link = (contents.folder / decision.path).is_symlink()
    if is_link or contents.place(decision.path).sha256() != decision.sha256:
        raise UsageError(f"{where} has other bytes than it had: run `vggflow audit` again")


def _refuse_emptied(
    table: Path,
    decisions: Collection[Decision],
    moved: Mapping[str, str],
    contents: Contents,
    excluded: Collection[str],
) -> None:
    """A class that nothing is left of can't be learned or measured."""
    out = {each.path for each in decisions if not each.target}
    # By hash, so that copies of them are left out too.
    excluded = {*excluded, *(each.sha256 for each in decisions if not each.target)}
    sizes = contents.sizes()
    for split, label in sorted({PurePosixPath(each.path).parts[:2] for each in decisions}):
        here = (path for path in sizes if path.startswith(f"{split}/{label}/"))
        staying = [path for path in here if path not in out and path not in moved]
        arriving = [target for target in moved.values() if PurePosixPath(target).parts[:2] == (split, label)]
        if not arriving and all(contents.place(path).sha256() in excluded for path in staying):
            raise UsageError(f"{table}: {split}/{label} would have no image left: keep at least one")
