"""The data are the same before and after: bytes, and the times that tell of a write."""

import hashlib
from pathlib import Path


def _fingerprint(folder: Path) -> dict[str, tuple[str, int, int]]:
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            path.stat().st_mode,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_validate_train_and_evaluate_change_no_file_of_the_data(versioned: Path, evaluated: Path) -> None:
    before = _fingerprint(versioned / "data")
    assert len(before) == 36
    assert _fingerprint(evaluated / "data") == before
