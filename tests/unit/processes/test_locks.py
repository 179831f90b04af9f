import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vggflow.processes import locks

TRAINING = """
import sys, time
from pathlib import Path
from vggflow.processes.locks import alone_on_devices
with alone_on_devices():
    Path(sys.argv[1]).write_text("trains")
    time.sleep(60)
"""


@contextmanager
def _training(mark: Path, gpus: str | None, state: str) -> Iterator[None]:
    environment = {**os.environ, "VGGFLOW_LOCKS": str(mark.parent / "locks"), "VGGFLOW_STATE": state}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, mark], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _appears(path: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.exists()


@pytest.mark.parametrize(
    ("first", "second"), [(None, "0"), ("0", None), ("0", "0,1"), ("1,0", "0"), (None, None), ("", "-1")]
)
def test_two_trainings_never_share_a_device_whatever_their_state_folders(
    tmp_path: Path, first: str | None, second: str | None
) -> None:
    with _training(tmp_path / "second", second, "/state/2"):
        assert _appears(tmp_path / "second", 30)
        with _training(tmp_path / "first", first, "/state/1"):
            assert not _appears(tmp_path / "first", 1.5)


@pytest.mark.parametrize(("first", "second"), [("0", "1"), ("2,3", "0,1"), ("", "0"), ("GPU-a", "GPU-b")])
def test_trainings_on_other_devices_run_at_once(tmp_path: Path, first: str, second: str) -> None:
    with (
        _training(tmp_path / "first", first, "/state"),
        _training(tmp_path / "second", second, "/state"),
    ):
        assert _appears(tmp_path / "first", 30)
        assert _appears(tmp_path / "second", 30)


def test_devices_are_locked_in_one_place_that_all_users_can_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VGGFLOW_LOCKS", raising=False)
    default = locks.device_locks()
    monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert locks.device_locks() == default
    monkeypatch.setenv("VGGFLOW_LOCKS", str(tmp_path / "locks"))
    assert locks.device_locks().stat().st_mode & 0o7777 == 0o1777


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locks.exclusive(tmp_path / "lock", "this"):
        pass
    assert not (tmp_path / "elsewhere").exists()
