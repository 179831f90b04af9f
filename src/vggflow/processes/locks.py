"""Locks that the kernel frees however their holder ends: one at a time on a workspace, one training on a device."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vggflow.environment import LOCKS

# `NoDevFiles` is what Slurm writes where a job has no GPU.
NO_GPU = ("", "-1", "none", "NoDevFiles")


@contextmanager
def exclusive(path: Path, what: str, *, shared: bool = False) -> Iterator[None]:
    """Holds a lock file, waiting for whoever has it; those who hold it `shared` only keep out who wants it alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = _open(path)
        try:
            if not _took(descriptor, kind):
                print(f"waiting: another vggflow process is at work on {what}", file=sys.stderr, flush=True)  # noqa: T201
                fcntl.flock(descriptor, kind)
            # Whoever had it may have removed the file meanwhile: then this is a lock that nobody else meets.
            if _is_at(descriptor, path):
                yield
                return
        finally:
            # Frees the lock. The file stays: others may wait for it, and a new one would be another lock.
            os.close(descriptor)


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Holds a lock file if nobody has it, and says so, without waiting. Only who got it may remove the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    try:
        # In this order: only who holds the lock may remove the file, so after `_took` it stays where it is.
        yield _took(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, path)
    finally:
        os.close(descriptor)


def _took(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one that lies there."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def alone_on_devices() -> Iterator[None]:
    """One training at a time on each GPU of this machine, whatever its workspace, its state folder and its user.

    Who names GPUs in `CUDA_VISIBLE_DEVICES` takes those, and who names none takes all. They are told apart by what
    they are called there: on one machine, all by number or all by UUID.
    """
    folder = device_locks()
    named = _visible_devices()
    with ExitStack() as held:
        held.enter_context(exclusive(folder / "all", "this machine's devices", shared=bool(named)))
        # In one order for all: two that took the same devices in different orders would wait for each other.
        for name in sorted(named):
            held.enter_context(exclusive(folder / name, f"device {name}"))
        yield


def device_locks() -> Path:
    """Where devices are locked: `VGGFLOW_LOCKS`, else one place for all users of the machine."""
    given = os.environ.get(LOCKS)
    folder = Path(given) if given else Path("/tmp/vggflow-locks")  # noqa: S108 (not TMPDIR: one place for all)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        # Whoever made it has set its mode; nobody else may.
        return folder
    # Not by `mkdir`, whose mode the umask cuts.
    folder.chmod(0o1777)  # everybody makes locks, nobody removes another's
    return folder


def _visible_devices() -> set[str]:
    """What `CUDA_VISIBLE_DEVICES` names, up to the first that means none; empty where it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return set()
    named: set[str] = set()
    for name in (part.strip() for part in given.split(",")):
        if name in NO_GPU:
            break
        # Slices of a GPU (MIG) can have slashes in their names.
        named.add(name.replace("/", "_"))
    # Without a GPU one training at a time too, beside those that have one.
    return named or {"cpu"}


def _open(path: Path) -> int:
    """A lock file that another user may have made: reading is enough, and it is never followed or cut short."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        # Without O_CREAT where it is there: in a sticky folder Linux refuses that for another user's file.
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                continue
            # The umask may have kept others from reading it, and so from locking it.
            os.fchmod(descriptor, 0o644)
            return descriptor
