"""What a registered model carries of vggflow: the module that loads it and all that this imports, nothing else.

So a server answers without an installation of vggflow, and needs no package that only training or tracking need.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
LOADER = "vggflow.prediction.pyfunc"
REQUIREMENTS = ("tensorflow", "keras", "numpy", "pandas", "pillow")


def copy(folder: Path) -> Path:
    """Copies the modules below `folder`, as a package of the same name; returns where."""
    for source in modules().values():
        target = folder / PACKAGE.name / source.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder / PACKAGE.name


def modules() -> dict[str, Path]:
    """The loader and what it imports, also within functions, by name; with the packages that they lie in."""
    found: dict[str, Path] = {}
    wanted = [LOADER]
    while wanted:
        name = wanted.pop()
        source = _source(name)
        if source is None or name in found:
            continue
        found[name] = source
        parent = name.rpartition(".")[0]
        wanted += [parent, *_imported(source)]
    return found


def _imported(source: Path) -> Iterator[str]:
    # Read and not imported: that would start TensorFlow, and not show what functions import.
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # In `from a import b`, b may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _source(name: str) -> Path | None:
    """The file of a module of vggflow; nothing where the name is another package's, or a function's."""
    package, *parts = name.split(".")
    if package != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*parts)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
