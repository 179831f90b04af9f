from pathlib import Path

import pytest
from made_pictures import grow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two classes in all splits, two pictures in each."""
    return grow(tmp_path / "data")
