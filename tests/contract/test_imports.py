"""Each of the big five is imported in one place only."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWNERS = {
    "mlflow": "src/vggflow/tracking/",
    "great_expectations": "src/vggflow/gate/great_expectations_suites.py",
    "prefect": "flows/",
    "ray": "src/vggflow/cluster.py",
    "dvc": "src/vggflow/git_and_dvc/remote_contents.py",
    "git": "nowhere",
}


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])


@pytest.mark.parametrize("package", OWNERS)
def test_a_package_is_imported_by_its_owner_only(package: str) -> None:
    users = [path.relative_to(ROOT).as_posix() for path in SOURCES if package in _imported(path)]
    assert [user for user in users if not user.startswith(OWNERS[package])] == []


@pytest.mark.parametrize("package", ["mlflow", "great_expectations", "prefect", "ray", "dvc"])
def test_an_owner_really_imports_its_package(package: str) -> None:
    assert any(package in _imported(path) for path in SOURCES)


def test_nothing_loads_pickles_or_lambda_layers() -> None:
    forbidden = ("pickle", "cloudpickle", "joblib", "dill")
    users = [path.name for path in SOURCES if _imported(path) & set(forbidden)]
    assert users == []
    assert [path.name for path in SOURCES if "layers.Lambda(" in path.read_text()] == []


BREACHES = {
    "MLflow only in tracking": ("src/vggflow/commands/doctor.py", "import mlflow"),
    "Great Expectations only in gate.great_expectations_suites": (
        "src/vggflow/gate/rules.py",
        "import great_expectations",
    ),
    "Optuna only in search.study": ("src/vggflow/commands/search.py", "import optuna"),
    "Ray only in cluster": ("src/vggflow/gate/scan.py", "import ray"),
    "Prefect only in flows": ("src/vggflow/gate/rules.py", "import prefect"),
    "vggflow does not know the flows": ("src/vggflow/gate/rules.py", "import flows"),
    "the gate imports no TensorFlow": ("src/vggflow/data/manifest.py", "import tensorflow"),
    "DVC is run as a program": ("src/vggflow/data/layout.py", "import dvc"),
    "flows > command line > stages and verbs > packages > settings": (
        "src/vggflow/errors.py",
        "import vggflow.cli",
    ),
}


def test_every_import_contract_breaks_where_it_is_breached(tmp_path: Path) -> None:
    for folder in ("src", "flows"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for module, line in BREACHES.values():
        path = tmp_path / module
        path.write_text(f"{path.read_text()}\n{line}\n")
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'src'}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    told = dict(re.findall(r"^(.+?) (KEPT|BROKEN)", found.stdout, re.MULTILINE))

    assert told == dict.fromkeys(BREACHES, "BROKEN")
    assert found.returncode != 0


def test_the_command_line_answers_before_anything_heavy_is_imported() -> None:
    heavy = {
        "numpy",
        "pandas",
        "PIL",
        "mlflow",
        "keras",
        "tensorflow",
        "jax",
        "prefect",
        "great_expectations",
        "ray",
        "dvc",
    }
    code = f"import sys, vggflow.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
