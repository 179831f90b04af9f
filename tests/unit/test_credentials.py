"""No password gets into what is said, logged, raised or kept; users and addresses stay."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import Ran

from vggflow import console
from vggflow.commands import local_runs
from vggflow.credentials import hidden_from_logs, hide, print_openly, without_password
from vggflow.errors import VggflowError
from vggflow.files import read_json
from vggflow.processes import stage
from vggflow.processes.stage import Outcome
from vggflow.workspace import Workspace

HUNTED = "s3cr3t-Pa55"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"at http://ann:{HUNTED}@ml.example:5000/x: no", "at http://ann:***@ml.example:5000/x: no"),
        (f"postgresql+psycopg2://vgg:{HUNTED}@db/mlflow", "postgresql+psycopg2://vgg:***@db/mlflow"),
        ("https://ann:p%40ss%2Fw@host/a.git", "https://ann:***@host/a.git"),
        ("https://ann:p@ss/w@host/a.git", "https://ann:***@host/a.git"),
        (f"'https://:{HUNTED}@host', 'next'", "'https://:***@host', 'next'"),
        ("https://ghp_16C7e42F292c69@github.com/a/b", "https://***@github.com/a/b"),
        ("https://ghp_16C7e42F292c69:x-oauth-basic@github.com/a/b", "https://***:***@github.com/a/b"),
        ("a http://u:one@h, http://v:two@k", "a http://u:***@h, http://v:***@k"),
        ("http://h/x?access_token=abc&page=2", "http://h/x?access_token=***&page=2"),
        ("https://s3/x?X-Amz-Signature=0a1&X-Amz-Date=2", "https://s3/x?X-Amz-Signature=***&X-Amz-Date=2"),
        ("AccountName=me;AccountKey=Zm9v==;x", "AccountName=me;AccountKey=***;x"),
        ("{'Authorization': 'Basic YW5uOnB3'}", "{'Authorization': 'Basic ***'}"),
    ],
)
def test_a_secret_in_an_address_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert hide(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/api?page=2",
        "http://a-service-with-quite-a-long-name:5000/#/experiments/1",
        "https://host:8080/path?to=a@b",
        "git@git.example.com:team/pets.git",
        "sqlite:////srv/pets/.vggflow/mlflow.db",
        "token sha256:0123456789abcdef 25%",
        '{"address":"http://h:5000","by":"ann@laptop"}',
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert hide(text) == text


def test_secrets_of_the_environment_are_hidden_wherever_and_however_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:pass%2Fw0rd%40@ml.example")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:Ge-heim-1")
    assert hide("login pass/w0rd@ and pass%2Fw0rd%40") == "login *** and ***"
    assert hide("admin:Ge-heim-1 or Ge-heim-1") == "*** or ***"
    assert hide("Basic YWRtaW46R2UtaGVpbS0x") == "Basic ***"  # base64 of admin:Ge-heim-1


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (f"https://ann:{HUNTED}@host:8443/a.git", "https://host:8443/a.git"),
        (f"ssh://git:{HUNTED}@host/a.git", "ssh://git@host/a.git"),
        ("https://ann:p/w@host/a.git", "https://host/a.git"),
        ("git@host:a.git", "git@host:a.git"),
        ("/srv/a@b.git", "/srv/a@b.git"),
    ],
)
def test_an_address_without_its_password_can_still_be_asked(url: str, kept: str) -> None:
    assert without_password(url) == kept


def test_an_error_says_no_password_wherever_it_is_written_down(tmp_path: Path) -> None:
    here = Workspace(tmp_path)

    def work() -> Outcome:
        raise VggflowError(f"MLflow at http://ann:{HUNTED}@host does not answer")

    with pytest.raises(VggflowError) as raised:
        stage.run_stage(here, "train", work)
    assert str(raised.value) == "MLflow at http://ann:***@host does not answer"
    assert HUNTED not in stage.outcome_path(here, "train").read_text()


def test_the_outcome_of_a_bug_and_the_history_hold_no_password(tmp_path: Path) -> None:
    from datetime import datetime

    here = Workspace(tmp_path)
    address = f"http://ann:{HUNTED}@host"

    def work() -> Outcome:
        raise RuntimeError(address)

    with pytest.raises(RuntimeError):
        stage.run_stage(here, "train", work)
    assert "http://ann:***@host" in read_json(stage.outcome_path(here, "train"))["message"]
    local_runs.add(here, "by hand", "Failed", address, datetime.now().astimezone())
    assert local_runs.runs(here)[0]["message"] == "http://ann:***@host"


def test_what_a_library_logs_or_raises_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    address = f"http://ann:{HUNTED}@host"
    with pytest.raises(RuntimeError) as raised, hidden_from_logs():
        logging.getLogger("urllib3").warning("retrying %s after %r", address, ConnectionError(address))
        cause = ConnectionError(ConnectionError(address))
        logging.getLogger("mlflow").error("no", exc_info=cause)
        raise RuntimeError("no") from cause
    assert HUNTED not in caplog.text
    assert "retrying http://ann:***@host" in caplog.text
    assert str(raised.value.__cause__) == "http://ann:***@host"


def test_tables_hide_before_they_break_lines(capfd: pytest.CaptureFixture[str]) -> None:
    cell = f"x http://ann:{HUNTED * 9}@host"
    console.out.print(console.table("", ["a"], [[cell]]))
    assert capfd.readouterr().out.split() == ["a", "x", "http://ann:***@host"]


def test_all_that_a_command_prints_is_looked_through(
    vggflow: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vggflow import cli

    def prints(_context: object = None) -> None:
        sys.stdout.write(f"http://ann:{HUNTED}@host\n")
        sys.stderr.write(f"http://ann:{HUNTED}@host\n")
        print_openly("asked for by name: http://ann:open@host")

    monkeypatch.setattr(cli, "app", lambda standalone_mode: prints())
    ran = vggflow("status")
    assert ran.out.splitlines() == ["http://ann:***@host", "asked for by name: http://ann:open@host"]
    assert ran.err == "http://ann:***@host\n"
