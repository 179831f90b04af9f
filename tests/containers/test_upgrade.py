"""From the images of the commit before to these: nothing is lost."""

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from stack import ROOT, Stack
from tiny import draw_data, write_params

from vggflow import workspace as workspaces

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def before(docker: Mapping[str, str], base_images: Mapping[str, str], tmp_path: Path) -> Iterator[Stack]:
    """The stack as the commit before has it."""
    checkout = tmp_path / "vggflow"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    subprocess.run(["git", "checkout", "--quiet", "HEAD~1"], cwd=checkout, check=True)
    if "AS server\n" not in (checkout / "infra" / "Dockerfile").read_text():
        pytest.skip("the commit before has other images")
    root = tmp_path / "pets"
    write_params(root, registry={"name": "pets", "experiment": "pets"})
    workspaces.init(root)
    made = Stack(checkout, root, f"vggflow-test-{uuid.uuid4().hex[:8]}", docker)
    try:
        yield made
    finally:
        if (made.infra / ".env").exists():
            made.compose("--profile", "serve", "down", "--volumes", "--timeout", "20")


def test_an_upgrade_keeps_models_log_ins_and_deployments(before: Stack) -> None:
    before.up()
    image = draw_data(before.root.parent / "delivery") / "test" / "red" / "0.png"
    before.vggflow("data", "import", str(before.root.parent / "delivery"))
    before.vggflow("retrain", seconds=900)
    rows, env = before.rows(), before.env
    assert ("pets", 1, "champion") in rows
    subprocess.run(["git", "checkout", "--quiet", "-"], cwd=before.checkout, check=True)
    before.up()
    assert before.rows() == rows
    assert {name: value for name, value in before.env.items() if name in env} == env
    before.extra["VGGFLOW_STATE"] = str(before.root.parent / "another-state")
    assert "red" in json.dumps(json.loads(before.vggflow("predict", str(image), "--json")))
