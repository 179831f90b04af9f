import re
import shutil
from pathlib import Path

import vggflow
from vggflow import version


def test_the_stamp_names_version_and_digest() -> None:
    assert re.fullmatch(rf"{re.escape(vggflow.__version__)} sha256:[0-9a-f]{{16}}", version.stamp())


def test_another_source_gives_another_digest(tmp_path: Path) -> None:
    copy = tmp_path / "vggflow"
    shutil.copytree(Path(vggflow.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = version.digest(copy)
    assert before == version.digest(Path(vggflow.__file__).parent)
    (copy / "data" / "images.py").write_text("# other\n")
    assert version.digest(copy) != before
