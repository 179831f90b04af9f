"""The champion's exported graph: made at registration, kept in the workspace, asked without MLflow and Keras."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from champion import another_champion
from tiny import Ran

from vggflow import artifacts, files
from vggflow.commands import champion_copy, register
from vggflow.prediction import exported_graph
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.tracking.registry import model_versions
from vggflow.workspace import Workspace, find

Command = Callable[..., Ran]
# What `vggflow predict` imports, when it has answered.
PREDICT = """
import json, sys
from vggflow import cli
code = cli.run()
heavy = [name for name in ("mlflow", "keras", "tensorflow", "pandas", "sqlalchemy") if name in sys.modules]
print(json.dumps([code, heavy]), file=sys.stderr)
"""


def _pictures(here: Workspace) -> list[Path]:
    return sorted((here.root / "data" / "test").rglob("*.png"))[:6]


def _rows(ran: Ran) -> list[dict]:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def _copies(here: Workspace) -> list[str]:
    folder = here.path(champion_copy.FOLDER)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_candidate_carries_its_graph_and_a_champion_inherits_it(here: Workspace) -> None:
    registry = connection.connect(here)
    for name, alias in ((registry.names.candidates, "challenger"), (registry.names.name, "champion")):
        version = model_versions.version_of(registry.client, name, None, alias)
        with model_versions.graph_file(version) as graph:
            assert files.sha256(graph) == version.tags["sha256.onnx"]
        assert float(version.tags["onnx.difference"]) < exported_graph.TOLERANCE
        assert int(version.tags["onnx.images"]) > 0


def test_a_second_prediction_imports_neither_mlflow_nor_keras_and_says_the_same(
    vggflow: Command, here: Workspace
) -> None:
    pictures = _pictures(here)
    first = vggflow("-C", here.root, "predict", *pictures, "--json")
    rows = _rows(first)
    assert first.err == ""
    command = [sys.executable, "-c", PREDICT, "-C", str(here.root), "predict", *map(str, pictures), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]
    assert json.loads(done.stdout) == rows
    table = pd.read_parquet(here.path(artifacts.PREDICTIONS)).set_index("path")
    for row in rows:
        recorded = table.loc[str(Path(row["path"]).relative_to(here.root / "data"))]
        for name, value in row["probabilities"].items():
            assert value == pytest.approx(recorded[f"p:{name}"], abs=1e-5)
    assert _copies(here) == sorted(["champion.json", f"{files.sha256(_graph(here))}.onnx"])


def _graph(here: Workspace) -> Path:
    return next(here.path(champion_copy.FOLDER).glob("*.onnx"))


@pytest.mark.parametrize("named", ["1", "candidate:1", "challenger"])
def test_any_version_answers_by_its_graph_without_keras(
    vggflow: Command, here: Workspace, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _rows(vggflow("-C", here.root, "predict", *_pictures(here), "--json"))
    monkeypatch.setattr(
        "vggflow.models.start_keras.start", lambda *_: pytest.fail("Keras was about to start")
    )
    rows = _rows(vggflow("-C", here.root, "predict", *_pictures(here), "--json", "--model", named))
    assert rows == expected
    assert _copies(here) == sorted(["champion.json", _graph(here).name])  # only the champion's is kept


def test_another_champion_is_seen_at_once(vggflow: Command, here: Workspace) -> None:
    picture = _pictures(here)[0]
    assert "version 1" in vggflow("-C", here.root, "predict", picture).err
    another_champion(here, graph=True)
    assert "version 2" in vggflow("-C", here.root, "predict", picture).err
    assert files.read_json(here.path(champion_copy.FOLDER) / "champion.json")["number"] == 2
    registry = connection.connect(here)
    registry.client.set_registered_model_alias(registry.names.name, "champion", "1")
    assert "version 1" in vggflow("-C", here.root, "predict", picture).err


def test_a_champion_without_a_graph_answers_through_keras(vggflow: Command, here: Workspace) -> None:
    pictures = _pictures(here)
    expected = _rows(vggflow("-C", here.root, "predict", *pictures, "--json"))
    another_champion(here, graph=False)
    ran = vggflow("-C", here.root, "predict", *pictures, "--json")
    for row, before in zip(_rows(ran), expected, strict=True):
        assert row["probabilities"] == pytest.approx(before["probabilities"], abs=1e-5)
    assert "version 2" in vggflow("-C", here.root, "predict", pictures[0]).err


def test_while_the_registry_is_locked_the_copy_answers_and_says_so(
    vggflow: Command, here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggflow.tracking.registry.champion_alias.SECONDS", 1)
    pictures = _pictures(here)
    rows = _rows(vggflow("-C", here.root, "predict", *pictures, "--json"))
    with closing(sqlite3.connect(here.path(artifacts.MLFLOW_DATABASE), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ran = vggflow("-C", here.root, "predict", *pictures, "--json")
    assert _rows(ran) == rows
    assert len(ran.err.splitlines()) == 1
    assert "is locked by another program: tiny version 1 answers, the champion when last asked" in ran.err


@pytest.mark.slow
def test_a_server_that_hangs_and_one_that_is_gone_cost_seconds_and_no_answer(
    vggflow: Command, here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = _pictures(here)[0]
    server = servers.mlflow(here, servers.free_ports(1)[0])
    with servers.running(here, server):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        rows = _rows(vggflow("-C", here.root, "predict", picture, "--json"))
        assert vggflow("-C", here.root, "predict", picture).err == "tiny version 1\n"
        started = [
            each
            for each in psutil.Process().children(recursive=True)
            if "mlflow" in " ".join(each.cmdline()) or "uvicorn" in " ".join(each.cmdline())
        ]
        assert started
        for each in started:
            each.suspend()
        try:
            began = time.monotonic()
            hanging = vggflow("-C", here.root, "predict", picture, "--json")
            assert time.monotonic() - began < 10
        finally:
            for each in started:
                each.resume()
        assert _rows(hanging) == rows
        assert "does not answer within 5 s: tiny version 1 answers" in hanging.err
        assert len(hanging.err.splitlines()) == 1
    gone = vggflow("-C", here.root, "predict", picture, "--json")
    assert _rows(gone) == rows
    assert "can't be reached: tiny version 1 answers" in gone.err


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "postgresql+psycopg2://ann:secret@127.0.0.1:9/db"])
def test_the_copy_of_another_registry_answers_for_none(
    vggflow: Command, here: Workspace, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    picture = _pictures(here)[0]
    _rows(vggflow("-C", here.root, "predict", picture, "--json"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    ran = vggflow("-C", here.root, "predict", picture)
    assert (ran.code, ran.out) == (1, "")
    assert "can't be reached" in ran.err
    assert "secret" not in ran.err
    # Of this registry there is one: then it answers.
    kept = champion_copy.Copy(**files.read_json(here.path(champion_copy.FOLDER) / "champion.json"))
    moved = asdict(kept) | {"registry": champion_copy._digest(address)}
    files.write_json(here.path(champion_copy.FOLDER) / "champion.json", moved)
    ran = vggflow("-C", here.root, "predict", picture)
    assert ran.code == 0, ran.err
    assert "the champion when last asked" in ran.err
    assert "secret" not in ran.err


@pytest.mark.parametrize("harm", ["graph", "names", "gone", "in the way"])
def test_a_copy_that_is_harmed_is_fetched_again(vggflow: Command, here: Workspace, harm: str) -> None:
    pictures = _pictures(here)
    rows = _rows(vggflow("-C", here.root, "predict", *pictures, "--json"))
    graph, names = _graph(here), here.path(champion_copy.FOLDER) / "champion.json"
    whole = _copies(here)
    if harm == "graph":
        graph.write_bytes(graph.read_bytes()[:-100] + bytes(100))
    elif harm == "names":
        names.write_text('{"number": ')
    elif harm == "gone":
        graph.unlink()
    else:
        shutil.rmtree(graph.parent)
        graph.parent.write_text("a file in the way")
    ran = vggflow("-C", here.root, "predict", *pictures, "--json")
    assert (_rows(ran), ran.err) == (rows, "")
    assert _copies(here) == ([] if harm == "in the way" else whole)


def test_a_stored_graph_that_is_damaged_is_told(vggflow: Command, here: Workspace) -> None:
    for stored in here.path(artifacts.MLFLOW_ARTIFACTS).rglob("exported/model.onnx"):
        stored.write_bytes(stored.read_bytes()[:-7])
    ran = vggflow("-C", here.root, "predict", _pictures(here)[0])
    assert (ran.code, ran.out) == (1, "")
    assert "the stored graph of tiny version 1 is damaged" in ran.err
    assert _copies(here) == []


@pytest.mark.slow
def test_a_model_that_can_t_be_exported_is_registered_all_the_same(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    # Python imports it at its start: a machine on which the converter can't be imported.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['tf2onnx'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shutil.rmtree(root / artifacts.GRAPHS)
    version, new = register.register(find(root))
    said = capfd.readouterr().err
    assert new
    assert "sha256.onnx" not in version.tags
    assert "model.keras has no exported graph" in said
    assert "start Keras" in said


def test_a_file_of_rows_is_written_by_the_graph_too(
    vggflow: Command, here: Workspace, tmp_path: Path
) -> None:
    pictures = _pictures(here)
    rows = _rows(vggflow("-C", here.root, "predict", *pictures, "--json"))
    ran = vggflow("-C", here.root, "predict", *pictures, "-o", tmp_path / "out.parquet")
    assert ran.code == 0, ran.err
    table = pd.read_parquet(tmp_path / "out.parquet")
    names = list(rows[0]["probabilities"])
    expected = [[row["probabilities"][name] for name in names] for row in rows]
    np.testing.assert_allclose(table[[f"p:{name}" for name in names]], expected, atol=1e-6)
    assert set(table["model"]) == {"tiny version 1"}
