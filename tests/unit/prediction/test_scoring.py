import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from vggflow.data import manifest as manifests
from vggflow.errors import DataError
from vggflow.gate.scan import scan
from vggflow.models.files import WEIGHTS_MEMBER
from vggflow.prediction import scoring, table
from vggflow.prediction.predictor import Predictor
from vggflow.prediction.scoring import UNFIT, score


@pytest.fixture
def data_folder(tmp_path, images):
    for split, classes in {
        "train": ("cats", "dogs"),
        "valid": ("cats", "dogs"),
        "test": ("cats", "dogs", "unknown"),
    }.items():
        for name, path in zip(classes, images, strict=False):
            target = tmp_path / "data" / split / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path / "data"


def test_a_clean_process_gives_the_same_table_as_this_one(model_path, data_folder, tmp_path):
    manifest = scan(data_folder)
    manifests.write(manifest, tmp_path / "manifest.parquet")
    arguments = [model_path, tmp_path / "manifest.parquet", data_folder, tmp_path / "out.parquet"]
    program = [sys.executable, "-m", "vggflow.prediction.scoring", *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    here = score(Predictor(model_path), manifests.labelled(manifest, "test"), data_folder)
    there = table.read(tmp_path / "out.parquet")
    assert list(there["path"]) == ["test/cats/image.0.png", "test/dogs/image.1.png"]
    assert list(there["truth"]) == ["cats", "dogs"]
    names = table.class_names(there)
    np.testing.assert_allclose(table.probabilities(there, names), table.probabilities(here, names), atol=1e-6)
    facts = json.loads(done.stdout)
    assert facts["images"] == 2 and facts["manifest"] == manifests.digest(manifest)


def test_a_model_that_is_missing_ends_the_program_with_one_line(tmp_path, data_folder, capfd):
    manifests.write(scan(data_folder), tmp_path / "manifest.parquet")
    arguments = [
        tmp_path / "none.keras",
        tmp_path / "manifest.parquet",
        data_folder,
        tmp_path / "out.parquet",
    ]
    assert scoring.main(list(map(str, arguments))) == UNFIT
    told = capfd.readouterr().err
    assert len(told.strip().splitlines()) == 1 and "none.keras" in told
    assert not (tmp_path / "out.parquet").exists()


def test_a_split_without_usable_images_is_an_error(model_path, data_folder):
    nothing = manifests.labelled(scan(data_folder), "valid").iloc[:0]
    with pytest.raises(DataError, match="no usable images to score"):
        score(Predictor(model_path), nothing, data_folder)


def test_labels_are_the_most_probable_classes(model_path, data_folder):
    images = manifests.labelled(scan(data_folder), "test")
    predictions = table.make(images, np.array([[0.4, 0.6], [0.7, 0.3]]), ("cats", "dogs"))
    assert list(table.labels(predictions)) == ["dogs", "cats"]


def test_probabilities_of_a_class_that_the_table_lacks_are_refused(model_path, data_folder):
    images = manifests.labelled(scan(data_folder), "test")
    predictions = table.make(images, np.full((2, 2), 0.5), ("cats", "dogs"))
    with pytest.raises(DataError, match="no class hens"):
        table.probabilities(predictions, ("cats", "hens"))


@pytest.mark.parametrize(
    ("spoil", "words"), [("weight", "holds numbers"), ("answer", "answers with numbers")]
)
def test_a_model_that_does_not_answer_with_numbers_is_unfit(
    model_path, data_folder, tmp_path, capfd, spoil, words
):
    """A weight that is NaN, in a file that an older version wrote; or weights so large that answers are none."""
    import keras

    model = keras.saving.load_model(model_path, compile=False)
    if spoil == "weight":
        kernel, bias = model.get_layer("block1_conv1").get_weights()
        model.get_layer("block1_conv1").set_weights([np.full(kernel.shape, np.nan), bias])
    else:
        signs = np.resize([1e38, -1e38], (kernel := model.get_layer("predictions").get_weights()[0]).shape)
        model.get_layer("predictions").set_weights([signs.astype(kernel.dtype), np.zeros(1)])
        kernel, bias = model.get_layer("block5_conv3").get_weights()
        model.get_layer("block5_conv3").set_weights([kernel, np.full(bias.shape, 1e38)])
    model.save_weights(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(model_path) as before, zipfile.ZipFile(tmp_path / "model.keras", "w") as after:
        for name in before.namelist():
            weights = (tmp_path / "model.weights.h5").read_bytes()
            after.writestr(name, weights if name == WEIGHTS_MEMBER else before.read(name))
    manifests.write(scan(data_folder), tmp_path / "manifest.parquet")
    arguments = [tmp_path / name for name in ("model.keras", "manifest.parquet", "data", "out.parquet")]
    capfd.readouterr()
    code, told = scoring.main(list(map(str, arguments))), capfd.readouterr().err
    assert code == UNFIT, told
    assert len(told.strip().splitlines()) == 1 and words in told
    assert not (tmp_path / "out.parquet").exists()
