"""`mlflow models serve` of a registered model: every form of a question over HTTP."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from team import answers, wait

from vggflow import artifacts
from vggflow.commands import register
from vggflow.prediction.predictor import Predictor
from vggflow.processes import servers
from vggflow.workspace import Workspace, find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def registered(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("registered") / "tiny"
    shutil.copytree(evaluated, root)
    register.register(find(root))
    return find(root)


@pytest.fixture(scope="module")
def served(registered: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server, once it says that it is well."""
    (port,) = servers.free_ports(1)
    name = registered.settings().registry.candidates
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}/1", "-p", str(port)]
    database = registered.path(artifacts.STATE) / "mlflow.db"
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "-h", "127.0.0.1"],
            env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: answers(f"{address}/ping") or process.poll() is not None, 180, "the server answers")
        assert process.poll() is None, log.read_text()[-3000:]
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def pictures(registered: Workspace) -> list[Path]:
    return [registered.root / "data/test" / name for name in ("blue/0.png", "red/0.png")]


def ask(served: str, question: dict[str, Any]) -> tuple[int, Any]:
    answer = httpx.post(f"{served}/invocations", json=question, timeout=60, trust_env=False)
    return answer.status_code, answer.json()


def test_every_form_of_a_question_has_the_file_s_answer(
    served: str, registered: Workspace, pictures: list[Path]
) -> None:
    expected = Predictor(registered.path(artifacts.MODEL)).predict(pictures)
    text = [base64.b64encode(path.read_bytes()).decode() for path in pictures]
    pixels = [np.asarray(Image.open(path).convert("RGB")).tolist() for path in pictures]
    for question in (
        {"dataframe_split": {"columns": ["image"], "data": [[each] for each in text]}},
        {"dataframe_records": [{"image": each} for each in text]},
        {"inputs": {"image": text}},
        {"inputs": text},
        {"instances": text},
        {"instances": [{"image": each} for each in text]},
        {"instances": [{"b64": each} for each in text]},
        {"instances": [{"image": {"b64": each}} for each in text]},
        {"inputs": pixels},
        {"instances": pixels},
        {"instances": [{"image": each} for each in pixels]},
        {"dataframe_records": [{"image": each} for each in pixels]},
    ):
        code, answer = ask(served, question)
        assert code == 200, (list(question), answer)
        found = [[row["p:blue"], row["p:red"]] for row in answer["predictions"]]
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=str(list(question)))


def test_a_bad_image_is_a_row_with_its_reason_in_json_that_others_read(
    served: str, pictures: list[Path]
) -> None:
    good = base64.b64encode(pictures[0].read_bytes()).decode()
    bad = base64.b64encode(b"no image").decode()
    answer = httpx.post(
        f"{served}/invocations", json={"inputs": [good, bad, "%%%", good]}, timeout=60, trust_env=False
    )

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    rows = json.loads(answer.text, parse_constant=refuse)["predictions"]
    assert [row["error"] for row in rows[::3]] == [None, None]
    assert rows[0]["p:blue"] == rows[3]["p:blue"]
    assert (rows[1]["error"], rows[1]["p:blue"]) == ("not an image of a known format", None)
    assert "base64" in rows[2]["error"]


@pytest.mark.parametrize(
    "question", [{"inputs": {"picture": ["a"]}}, {"dataframe_records": [{"picture": "a"}]}]
)
def test_what_asks_nothing_is_refused_without_a_path_of_the_server(
    served: str, question: dict[str, Any]
) -> None:
    code, answer = ask(served, question)
    assert code == 400
    assert "image" in answer["message"]
    assert "Traceback" not in json.dumps(answer)
    assert "site-packages" not in json.dumps(answer)
