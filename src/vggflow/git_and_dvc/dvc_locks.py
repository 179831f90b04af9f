"""Locks that DVC left behind: it believes a number of a process that another program has by now, and an empty file."""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from vggflow.console import tell
from vggflow.files import write_text

FILE = Path(".dvc") / "tmp" / "rwlock"
SECONDS_OF_DOUBT = 2.0  # between what a file system and the kernel call now


def release_dead(root: Path) -> None:
    """Takes out of DVC's `rwlock` what processes hold that are gone, and says so; another DVC at work keeps its own."""
    path = root / FILE
    if not path.is_file():
        return
    # DVC itself locks this file while it edits the other one.
    guard = os.open(path.with_name("rwlock.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept, dead = sift(path)
        if dead:
            write_text(path, json.dumps(kept))
            tell(f"DVC's lock was left behind ({', '.join(sorted(dead))}): released")
    except BlockingIOError:  # another DVC is writing it at this moment, so it is well
        return
    finally:
        os.close(guard)


def sift(path: Path) -> tuple[dict[str, Any], set[str]]:
    """What the file holds without the dead, and who or what was wrong."""
    try:
        found = json.loads(path.read_text("utf-8"))
    # DVC empties the file before it writes: killed in between it leaves this.
    except ValueError:
        return {}, {"the file is damaged"}
    written, dead = path.stat().st_mtime, set[str]()

    def lives(holder: dict[str, Any]) -> bool:
        alive = _is_dvc(int(holder["pid"]), written)
        dead.update(() if alive else {f"process {holder['pid']}"})
        return alive

    # One writer of a place, several readers.
    kept = {
        "write": {place: holder for place, holder in found.get("write", {}).items() if lives(holder)},
        "read": {
            place: alive
            for place, holders in found.get("read", {}).items()
            if (alive := [holder for holder in holders if lives(holder)])
        },
    }
    return {kind: places for kind, places in kept.items() if places}, dead


def _is_dvc(pid: int, written: float) -> bool:
    """Whether the process that has this number can be the one that took the lock."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        with suppress(psutil.AccessDenied):  # another user's: believed
            # Who took the lock was there before it was written down.
            return process.create_time() <= written + SECONDS_OF_DOUBT and any(
                "dvc" in part for part in process.cmdline()
            )
        return True
    return False
