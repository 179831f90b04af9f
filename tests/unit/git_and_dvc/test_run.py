"""git and DVC as programs: their reasons in one line, and a failure is not an absence."""

import os
import re
from pathlib import Path

import pytest

from vggflow.errors import VggflowError
from vggflow.git_and_dvc.run import NoRepository, reason, run
from vggflow.workspace import find

ROOT = Path(__file__).parents[3]


def test_the_reason_of_dvc_is_told_without_its_chatter() -> None:
    said = """Everything is up to date.
ERROR: unexpected error - [Errno 28] No space left on device: '/mnt/dvc/files/md5/3f'

Having any troubles? Hit us up at https://dvc.org/support, we are always happy to help!
"""
    assert (
        reason(said)
        == "ERROR: unexpected error - [Errno 28] No space left on device: '/mnt/dvc/files/md5/3f'"
    )


def test_the_reason_of_git_is_told_without_its_hints() -> None:
    said = """remote: counting
To /srv/pets.git
 ! [rejected]        HEAD -> main (fetch first)
error: failed to push some refs to '/srv/pets.git'
hint: Updates were rejected because the remote contains work that you do not
"""
    assert (
        reason(said)
        == "! [rejected] HEAD -> main (fetch first) error: failed to push some refs to '/srv/pets.git'"
    )


def test_what_says_no_error_is_told_by_its_last_lines() -> None:
    assert reason("one\ntwo\nthree\nfour\n") == "two three four"


def test_a_dvc_remote_that_can_not_be_written_is_named_with_its_reason(workspace: Path) -> None:
    here = find(workspace)
    blocked = workspace / "params.yaml" / "remote"
    here.dvc("remote", "modify", "local", "url", str(blocked))
    with pytest.raises(
        VggflowError, match=r"`dvc push data.dvc` failed .*: ERROR: .*Not a directory.*remote"
    ):
        here.dvc("push", "data.dvc")


def test_a_push_of_bytes_that_are_nowhere_fails_although_dvc_only_warns(workspace: Path) -> None:
    here = find(workspace)
    entry = (workspace / "data.dvc").read_text()
    lost = re.sub(r"md5: \w+\.dir", "md5: " + 32 * "0" + ".dir", entry)
    (workspace / "data.dvc").write_text(lost)
    with pytest.raises(VggflowError, match="neither locally nor on remote"):
        here.dvc("push", "data.dvc")


def test_git_that_fails_is_told_from_a_repository_that_is_missing(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NoRepository, match=f"{empty} is in no git repository"):
        run(["git", "status"], empty, dict(os.environ))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(VggflowError, match=f"safe.directory {workspace}`") as raised:
        find(workspace).git("remote")
    assert not isinstance(raised.value, NoRepository)


def test_an_absence_is_told_from_a_failure_by_the_exit_code(workspace: Path) -> None:
    here = find(workspace)
    assert here.git("config", "--get", "remote.origin.url", none=1) == ""
    (workspace / ".git" / "config").write_text("[core\n")
    with pytest.raises(VggflowError, match="bad config"):
        here.git("config", "--get", "remote.origin.url", none=1)


@pytest.mark.parametrize("locale", ["de_DE.UTF-8", "C"])
def test_what_git_says_is_understood_in_every_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locale: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    with pytest.raises(NoRepository):
        run(["git", "status"], tmp_path, dict(os.environ))


def test_nobody_asks_dvc_to_keep_its_reasons_to_itself() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    quiet = re.compile(r'dvc\w*\(\s*"[^)]*"(--quiet|-q)"')
    assert [path.name for path in sources if quiet.search(path.read_text("utf-8"))] == []


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    from vggflow.errors import UsageError

    with pytest.raises(UsageError, match="`git` is not installed"):
        run(["git", "status"], tmp_path, {"PATH": str(tmp_path)})
