"""What all tests share: no network, no state outside the temporary folder, small real workspaces."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

os.environ |= {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
}
for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "VGGFLOW_DRIVER_PID"):
    os.environ.pop(name, None)

TINY = {
    "model": {
        "image_size_px": 32,
        "preprocessing": "rescale",
        "weights": "none",
        "width": 0.125,
        "head": "pooling",
        "builder": "sequential",
    },
    "validate": {"min_images_per_class": 2},
    "train": {
        "batch_size": 8,
        "phases": [
            {"name": "all", "learning_rate": 0.002, "epochs": 2},
            {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.001, "epochs": 1},
        ],
    },
    "registry": {"name": "tiny", "experiment": "tiny"},
}
COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def _state(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["VGGFLOW_STATE"] = str(tmp_path_factory.mktemp("state"))
    os.environ["DVC_SITE_CACHE_DIR"] = str(tmp_path_factory.mktemp("dvc"))


@pytest.fixture
def vggflow(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs the command line in this process, as its own program would run it."""
    from vggflow import cli

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vggflow", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        seen = capfd.readouterr()
        return Ran(code, seen.out, seen.err)

    return run


def write_params(folder: Path, **sections: dict[str, object]) -> None:
    """Writes `params.yaml` of a tiny workspace with some keys changed: `model={"head": "fc"}`."""
    content = {name: dict(section) for name, section in TINY.items()}
    for name, changed in sections.items():
        content[name] = content.get(name, {}) | changed
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def draw(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    """A noisy picture of one colour, 40×32 pixels; another seed gives another picture."""
    noise = np.random.default_rng(seed).integers(-40, 40, (32, 40, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def draw_data(folder: Path, train: int = 8, valid: int = 4, test: int = 6) -> Path:
    """Red and blue pictures as a data folder."""
    counts = {"train": train, "valid": valid, "test": test}
    for number, (split, count) in enumerate(counts.items()):
        for colour, (name, rgb) in enumerate(COLOURS.items()):
            for index in range(count):
                draw(folder / split / name / f"{index}.png", rgb, 10_000 * number + 1000 * colour + index)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """A workspace with pictures, versioned, nothing computed yet."""
    from vggflow import workspace as workspaces

    root = tmp_path / "tiny"
    write_params(root)
    made = workspaces.init(root)
    draw_data(root / "data")
    made.dvc("add", "--quiet", "data")
    workspaces.commit(made, ["data.dvc"], "Data")
    yield root


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that went through validate, train and evaluate; don't change it: copy it with `copied`."""
    from vggflow import pipeline
    from vggflow import workspace as workspaces

    root = tmp_path_factory.mktemp("evaluated") / "tiny"
    write_params(root)
    made = workspaces.init(root)
    draw_data(root / "data")
    made.dvc("add", "--quiet", "data")
    workspaces.commit(made, ["data.dvc"], "Data")
    for stage in (pipeline.validate, pipeline.train, pipeline.evaluate):
        stage(made)
    return root
