"""A registered model answers where vggflow is not installed, and nothing but what the model says that it requires."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vggflow.tracking.registry import served_code

ANSWERS = """
import json, sys
sys.path[:0] = {paths}
import pandas as pd
from vggflow.prediction.pyfunc import _load_pyfunc
table = pd.DataFrame({{"image": [open({image!r}, "rb").read()]}})
answer = _load_pyfunc({model!r}).predict(table).iloc[0].to_dict()
foreign = sorted(name for name in sys.modules if name.partition(".")[0] in ("mlflow", "pydantic", "filelock"))
print(json.dumps([answer, foreign, sys.modules["vggflow"].__file__]))
"""


def required(names: tuple[str, ...]) -> set[str]:
    """The packages, and all that they require in turn, as pip would install them here."""
    found: set[str] = set()
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # for another system or an extra
        if package.name in found:
            continue
        found.add(package.name)
        rows = map(Requirement, package.requires or [])
        wanted += [row.name for row in rows if row.marker is None or row.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a model requires, and no more."""
    folder = tmp_path_factory.mktemp("installation")
    for name in required(served_code.REQUIREMENTS):
        package = distribution(name)
        tops = {file.parts[0] for file in package.files or [] if file.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            target = folder / top
            if not target.exists():
                target.symlink_to(Path(str(package.locate_file(top))))
    return folder


def test_a_model_answers_with_what_it_carries_and_requires(
    installation: Path, tmp_path: Path, model_and_image: tuple[Path, Path]
) -> None:
    model, image = model_and_image
    code = served_code.copy(tmp_path / "code")
    text = ANSWERS.format(paths=[str(code.parent), str(installation)], image=str(image), model=str(model))
    # Without the site module nothing of this environment is on the path.
    command = [sys.executable, "-I", "-S", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer, foreign, place = json.loads(done.stdout.splitlines()[-1])
    assert abs(sum(value for name, value in answer.items() if name.startswith("p:")) - 1) < 1e-5
    assert answer["error"] is None
    assert foreign == []
    assert place == str(code / "__init__.py")


def test_what_it_carries_is_small_and_has_nothing_of_training() -> None:
    carried = served_code.modules()
    assert served_code.LOADER in carried
    assert len(carried) < 40
    packages = {name.split(".")[1] for name in carried if "." in name}
    assert not packages & {
        "commands",
        "training",
        "tracking",
        "gate",
        "promotion",
        "report",
        "workspace",
        "cli",
    }


def test_modules_that_functions_import_are_carried_too() -> None:
    # `models.files` imports it where a model is loaded.
    assert "vggflow.models.finite" in served_code.modules()
