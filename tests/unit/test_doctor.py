"""`vggflow doctor` names what will fail, and what to do about it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_params

from vggflow import artifacts, doctor
from vggflow.workspace import find


def unwell(workspace: Path) -> dict[str, str]:
    """The checks that are not ok, and how they are."""
    return {f.check: f.health for f in doctor.examine(find(workspace)) if f.health != "ok"}


def test_a_fresh_workspace_lacks_nothing_but_a_git_remote(workspace: Path, vggflow: Callable) -> None:
    # A test may run on a full disk, or where others made DVC's shared cache: that is not this workspace.
    found = set(unwell(workspace)) - {"disk", "DVC's site cache"}
    assert found == {"git remote"}
    assert vggflow("-C", workspace, "doctor").code == 0


def test_wrong_settings_are_named(workspace: Path, vggflow: Callable) -> None:
    write_params(workspace, train={"learning_rte": 1})
    assert unwell(workspace)["params.yaml"] == "wrong"
    ran = vggflow("-C", workspace, "doctor")
    assert ran.code == 1
    assert "learning_rte" in ran.out


def test_servers_that_do_not_answer_are_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = unwell(workspace)
    assert (found["MLflow"], found["MLflow user"], found["Prefect"]) == ("wrong", "wrong", "wrong")


@pytest.mark.slow
def test_a_dvc_remote_that_is_gone_is_named(workspace: Path) -> None:
    find(workspace).dvc("remote", "modify", "local", "url", str(workspace / "params.yaml" / "nowhere"))
    assert unwell(workspace)["DVC remote"] == "wrong"


@pytest.mark.slow
def test_another_version_of_vggflow_is_a_warning(workspace: Path) -> None:
    (workspace / artifacts.VERSION).write_text("0.0.1 sha256:0\n")
    assert unwell(workspace)["vggflow.version"] == "warning"


@pytest.mark.slow
def test_a_cache_that_everybody_can_write_is_a_warning(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    monkeypatch.setenv("VGGFLOW_STATE", str(state))
    assert unwell(workspace)["state (VGGFLOW_STATE)"] == "warning"


@pytest.mark.slow
def test_passwords_that_others_can_read_are_wrong(workspace: Path) -> None:
    kept = workspace / artifacts.STATE / "stack" / "passwords.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    kept.chmod(0o600)
    assert "passwords" not in unwell(workspace)
    kept.chmod(0o644)
    assert unwell(workspace)["passwords"] == "wrong"


def test_without_a_workspace_the_machine_is_looked_at(tmp_path: Path, vggflow: Callable) -> None:
    ran = vggflow("-C", tmp_path, "doctor")
    assert "no workspace here" in ran.err
    assert "tensorflow" in ran.out
