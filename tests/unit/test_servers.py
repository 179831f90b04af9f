"""Where people look: servers that are named are used, not served a second time."""

from collections.abc import Callable
from pathlib import Path

import pytest


def test_the_user_interfaces_of_named_servers_are_named_and_nothing_is_started(
    workspace: Path, vggflow: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    ran = vggflow("-C", workspace, "ui")
    assert ran.code == 0, ran.err
    assert ran.out.split() == ["MLflow", "http://127.0.0.1:9", "Prefect", "https://prefect.example.org"]
    assert "starting" not in ran.err
