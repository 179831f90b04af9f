"""Each of the big five is imported in one place only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWNERS = {
    "mlflow": "src/vggflow/tracking/",
    "great_expectations": "src/vggflow/data/expectations.py",
    "prefect": "flows/",
    "dvc": "nowhere",
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


@pytest.mark.parametrize("package", ["mlflow", "great_expectations", "prefect"])
def test_an_owner_really_imports_its_package(package: str) -> None:
    assert any(package in _imported(path) for path in SOURCES)


def test_nothing_loads_pickles_or_lambda_layers() -> None:
    forbidden = ("pickle", "cloudpickle", "joblib", "dill")
    users = [path.name for path in SOURCES if _imported(path) & set(forbidden)]
    assert users == []
    assert [path.name for path in SOURCES if "layers.Lambda(" in path.read_text()] == []
