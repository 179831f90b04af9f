"""What a file of predictions says on the whole, in each of its forms."""

from pathlib import Path

import pytest

from vggflow.prediction import answer_counts
from vggflow.prediction.batch import Batch
from vggflow.prediction.predictor import Predictor


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_classes_and_unreadable_images_are_counted(
    model_path: Path, images: list[Path], tmp_path: Path, kind: str
) -> None:
    broken = tmp_path / 'broken, "so".png'
    broken.write_bytes(b"none")
    output = tmp_path / f"answers.{kind}"
    paths = [*images, broken]
    Batch(Predictor(model_path), "007", "0" * 64, paths, output).run(lambda *_: None)
    found = answer_counts.count(output)
    assert (found.images, found.unreadable, found.model) == (len(paths), 1, "007")
    assert found.labels.total() == len(images)
    assert found.examples == [(str(broken), "not an image of a known format")]
