"""Accounts without a name and without a home, as containers have them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import Ran

from vggflow import environment
from vggflow.commands import doctor
from vggflow.errors import UsageError
from vggflow.tracking.registry import lineage


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "VGGFLOW_STATE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654)


@pytest.mark.usefixtures("nameless")
def test_a_number_without_a_name_is_named_by_its_number() -> None:
    assert environment.user_name() == "uid-987654"
    assert lineage.person().startswith("uid-987654@")


def test_a_name_of_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    assert environment.user_name() == "ann"


@pytest.mark.usefixtures("nameless")
def test_a_state_folder_that_can_not_be_made_is_one_line_and_not_tried_again(
    vggflow: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    ran = vggflow("cache")
    assert ran.code == 2
    assert ran.err.startswith(
        f"vggflow: {tmp_path}/file/.cache/vggflow, for checkpoints and features, can't be made"
    )
    assert "VGGFLOW_STATE" in ran.err
    with pytest.raises(UsageError) as raised:
        environment.state_folder()
    assert not raised.value.retry


@pytest.mark.usefixtures("nameless")
def test_doctor_sees_what_an_account_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    found = {finding.check: finding for finding in doctor.examine(None)}
    assert found["state (VGGFLOW_STATE)"].health == "wrong"
    assert found["home"].health == "warning"
    assert "uid-987654 has none" in found["home"].found
