"""Bad input: one clear line, the right exit code, no traceback, nothing registered, the data untouched."""

import hashlib
import shutil
import sqlite3
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tiny import COLOURS, Ran, draw, write_params

from vggflow import workspace as workspaces
from vggflow.processes.stage import read_outcome

Command = Callable[..., Ran]


def _fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _registered(root: Path) -> int:
    """How many models and versions the workspace's own tracking database has; none where there is no database."""
    database = root / ".vggflow/mlflow.db"
    if not database.exists():
        return 0
    query = "select (select count(*) from registered_models) + (select count(*) from model_versions)"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


@pytest.fixture
def vggflow(vggflow: Command) -> Command:
    """The command line, which here never touches data, nor registers anything."""

    def run(*arguments: str | Path) -> Ran:
        root = Path(arguments[1]) if arguments[0] == "-C" else None
        before = _fingerprint(root / "data") if root else {}
        ran = vggflow(*arguments)
        if root:
            assert _fingerprint(root / "data") == before
            assert _registered(root) == 0
        return ran

    return run


def _ends(ran: Ran, code: int, *words: str) -> None:
    """It ended with `code`, and its last line holds the words."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    last = ran.err.strip().splitlines()[-1]
    assert last.startswith("vggflow: "), ran.err
    for word in words:
        assert word in last


def _validate(vggflow: Command, root: Path) -> Ran:
    return vggflow("-C", root, "validate")


def test_good_data_passes(vggflow: Command, workspace: Path) -> None:
    assert _validate(vggflow, workspace).code == 0
    outcome = read_outcome(workspaces.Workspace(workspace), "validate")
    assert outcome is not None
    assert outcome.verdict == "passed"


def test_no_data_folder(vggflow: Command, workspace: Path) -> None:
    shutil.rmtree(workspace / "data")
    _ends(vggflow("-C", workspace, "validate"), 2, "no data folder", "vggflow data import")


def test_no_workspace(vggflow: Command, tmp_path: Path) -> None:
    _ends(vggflow("-C", tmp_path, "validate"), 2, "no workspace", "vggflow init")


def test_an_empty_class(vggflow: Command, workspace: Path) -> None:
    (workspace / "data/train/green").mkdir()
    _ends(_validate(vggflow, workspace), 3, "train/green")


def test_a_class_missing_in_one_split(vggflow: Command, workspace: Path) -> None:
    shutil.rmtree(workspace / "data/valid/red")
    _ends(_validate(vggflow, workspace), 3, "valid/red")


def test_a_truncated_image(vggflow: Command, workspace: Path) -> None:
    path = workspace / "data/train/red/0.png"
    path.write_bytes(path.read_bytes()[:-200])
    _ends(_validate(vggflow, workspace), 3, "train/red/0.png")


def test_a_zero_byte_image(vggflow: Command, workspace: Path) -> None:
    (workspace / "data/train/red/0.png").write_bytes(b"")
    _ends(_validate(vggflow, workspace), 3, "train/red/0.png", "the file is empty")


def test_a_text_file_named_jpg(vggflow: Command, workspace: Path) -> None:
    (workspace / "data/train/red/notes.jpg").write_text("buy milk")
    _ends(_validate(vggflow, workspace), 3, "train/red/notes.jpg", "not an image of a known format")


def test_the_same_image_in_train_and_test(vggflow: Command, workspace: Path) -> None:
    shutil.copy(workspace / "data/test/red/0.png", workspace / "data/train/red/copy.png")
    ran = _validate(vggflow, workspace)
    _ends(ran, 3)
    assert "train/red/copy.png" in ran.err
    assert "test/red/0.png" in ran.err


def test_training_on_refused_data_is_refused(vggflow: Command, workspace: Path) -> None:
    (workspace / "data/train/red/notes.jpg").write_text("buy milk")
    vggflow("-C", workspace, "validate")
    _ends(vggflow("-C", workspace, "train"), 3, "refused")
    assert not (workspace / "model").exists()


def test_training_before_validation(vggflow: Command, workspace: Path) -> None:
    _ends(vggflow("-C", workspace, "train"), 2, "vggflow validate")


def test_training_on_a_picture_that_changed_since(vggflow: Command, workspace: Path) -> None:
    vggflow("-C", workspace, "validate")
    draw(workspace / "data/train/red/0.png", COLOURS["blue"], 77)
    _ends(vggflow("-C", workspace, "train"), 2, "changed since", "0.png")


@pytest.mark.parametrize(
    ("section", "changed", "words"),
    [
        ("train", {"learning_rte": 1}, ["`train.learning_rte`", "unknown"]),
        ("train", {"batch_size": "many"}, ["`train.batch_size`", "'many'"]),
        ("model", {"weights": "imagenet", "head": "fc", "width": 1.0, "image_size_px": 64}, ["224", "64"]),
    ],
)
def test_wrong_settings(
    vggflow: Command, workspace: Path, section: str, changed: dict[str, object], words: list[str]
) -> None:
    write_params(workspace, **{section: changed})
    _ends(vggflow("-C", workspace, "validate"), 2, *words)


def _validated(vggflow: Command, root: Path, **sections: dict[str, object]) -> None:
    write_params(root, **sections)
    assert vggflow("-C", root, "validate").code == 0


def test_an_unknown_layer_to_freeze(vggflow: Command, workspace: Path) -> None:
    _validated(vggflow, workspace, train={"phases": [{"name": "top", "freeze_through": "block9_conv1"}]})
    _ends(vggflow("-C", workspace, "train"), 2, "block9_conv1", "block5_pool")


def test_start_weights_that_are_not_there(vggflow: Command, workspace: Path) -> None:
    _validated(vggflow, workspace, model={"weights": "weights/mine.h5"})
    _ends(vggflow("-C", workspace, "train"), 2, "weights/mine.h5")


def test_start_weights_that_do_not_fit(vggflow: Command, workspace: Path) -> None:
    import keras

    from vggflow.models import builder
    from vggflow.settings import ModelSettings

    other = ModelSettings(image_size_px=32, width=0.25, weights="none", builder="sequential")
    keras.Model.save_weights(builder.build(other, ["a", "b"]), workspace / "weights/wide.weights.h5")
    _validated(vggflow, workspace, model={"weights": "weights/wide.weights.h5"})
    _ends(vggflow("-C", workspace, "train"), 2, "block1_conv1", "16", "8")


def test_imagenet_weights_that_can_not_be_downloaded(
    vggflow: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keras' cache is empty and there is no way out: the proxy is a port that nobody listens on."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    # urllib remembers the proxies of its first call for all later ones.
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    _validated(vggflow, workspace, model={"weights": "imagenet", "width": 1.0, "builder": "keras"})
    _ends(vggflow("-C", workspace, "train"), 2, "weights", "dvc add weights")


def test_a_version_that_does_not_exist(vggflow: Command, workspace: Path) -> None:
    _ends(vggflow("-C", workspace, "predict", workspace / "data/test/red"), 2, "champion", "vggflow models")
    _ends(vggflow("-C", workspace, "promote", "7", "--reason", "why not"), 2, "version 7")
    _ends(vggflow("-C", workspace, "rollback", "--reason", "why not"), 2, "no champion")


def test_registering_before_evaluating(vggflow: Command, workspace: Path) -> None:
    _ends(vggflow("-C", workspace, "register"), 2, "vggflow retrain")


def test_an_unknown_recipe(vggflow: Command, tmp_path: Path) -> None:
    _ends(vggflow("init", tmp_path / "new", "--recipe", "three-phase"), 2, "two-phase", "quick")
    assert not (tmp_path / "new").exists()


def test_another_version_of_vggflow(vggflow: Command, workspace: Path) -> None:
    (workspace / "vggflow.version").write_text("0.0.1 sha256:0\n")
    _ends(vggflow("-C", workspace, "validate"), 2, "0.0.1", "vggflow init .")


def test_a_tracking_server_that_is_not_there(
    vggflow: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _ends(vggflow("-C", workspace, "models"), 1, "127.0.0.1:9")


def test_another_version_of_vggflow_leaves_an_outcome_that_is_not_tried_again(
    vggflow: Command, workspace: Path
) -> None:
    (workspace / "vggflow.version").write_text("0.0.1 sha256:0\n")
    vggflow("-C", workspace, "train")
    outcome = read_outcome(workspaces.Workspace(workspace), "train")
    assert outcome is not None
    assert (outcome.exit_code, outcome.retry) == (2, False)


def test_a_prefect_server_that_is_not_there(
    vggflow: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    ran = vggflow("-C", workspace, "retrain")
    _ends(ran, 1, "http://127.0.0.1:9/api", "PREFECT_API_URL")


@pytest.mark.slow
def test_an_empty_class_is_refused_by_the_flow_too(vggflow: Command, workspace: Path) -> None:
    (workspace / "data/train/green").mkdir()
    ran = vggflow("-C", workspace, "retrain")
    assert ran.code == 3, ran.err
    assert ran.out.splitlines()[-1].startswith("Refused: data refused: no images in train/green")
    assert "Traceback" not in ran.out + ran.err
