"""What would crash at night is found when it is deployed."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deployable
from flows.identity import identity
from vggflow.errors import UsageError
from vggflow.workspace import Workspace, find

TEMPLATE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "prefect.yaml").read_text())


def _changed(**changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(TEMPLATE)
    content["deployments"][0] |= changes
    return content


def test_the_file_that_init_writes_can_be_deployed(workspace: Path) -> None:
    deployable.check_file(TEMPLATE, workspace)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"parameters": {"time_limit_hour": 20}},
            r"retrain-nightly.*, parameters: retrain takes no 'time_limit_hour', only workspace, sample",
        ),
        ({"parameters": {"time_limit_hours": "soon"}}, r"time_limit_hours='soon' is not what retrain takes"),
        ({"schedules": [{"cron": "0 2 * * *", "parameters": {"smaple": True}}]}, r"takes no 'smaple'"),
        ({"triggers": [{"parameters": {"requested": "{{ event }}"}}]}, r"takes no 'requested'"),
        ({"entrypoint": "flows.retrain.retain"}, r"entrypoint 'flows.retrain.retain' is no flow"),
        ({"parmeters": {}}, r"unknown key 'parmeters', did you mean 'parameters'"),
    ],
)
def test_what_a_flow_does_not_take_is_named(workspace: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        deployable.check_file(_changed(**changes), workspace)


def test_a_flow_in_a_file_of_the_workspace_can_be_deployed(workspace: Path) -> None:
    (workspace / "mine.py").write_text("from prefect import flow\n@flow\ndef mine(a: int = 1): pass\n")
    deployable.check_file(_changed(entrypoint="mine.py:mine", parameters={"a": 2}), workspace)
    with pytest.raises(UsageError, match="mine takes no 'b', only a"):
        deployable.check_file(_changed(entrypoint="mine.py:mine", parameters={"b": 2}), workspace)


@pytest.fixture
def cloned(workspace: Path, tmp_path: Path) -> Workspace:
    here = find(workspace)
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "tiny.git"], check=True)
    here.git("remote", "add", "origin", str(tmp_path / "tiny.git"))
    here.git("push", "--quiet", "origin", "main")
    return here


def test_a_branch_that_only_this_machine_has_is_not_deployed(cloned: Workspace) -> None:
    deployable.check_branch(cloned, identity(cloned))
    cloned.git("switch", "--quiet", "--create", "try")
    with pytest.raises(UsageError, match=r"tiny.git has no branch 'try'.*git push --set-upstream origin try"):
        deployable.check_branch(cloned, identity(cloned))


def test_a_detached_head_is_not_deployed(cloned: Workspace) -> None:
    cloned.git("checkout", "--quiet", "--detach")
    with pytest.raises(UsageError, match="detached HEAD"):
        deployable.check_branch(cloned, identity(cloned))


def test_commits_that_workers_lack_are_counted(cloned: Workspace) -> None:
    assert deployable.not_pushed(cloned, identity(cloned)) == ""
    cloned.git("commit", "--quiet", "--allow-empty", "--message", "only here")
    assert deployable.not_pushed(cloned, identity(cloned)).startswith("1 commits are not pushed")


def test_a_workspace_without_a_remote_has_no_branch_to_look_for(workspace: Path) -> None:
    here = find(workspace)
    deployable.check_branch(here, identity(here))
    assert deployable.not_pushed(here, identity(here)) == ""


def test_a_forbidden_server_is_one_line(workspace: Path) -> None:
    environment = os.environ | {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(workspace), "retrain"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("vggflow: PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false forbids")
    assert len(done.stderr.strip().splitlines()) == 1
