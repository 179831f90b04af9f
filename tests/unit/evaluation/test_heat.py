import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vggflow.data.thumbnails import thumbnail
from vggflow.errors import VggflowError
from vggflow.evaluation.heat import heat_maps, heat_maps_in_process
from vggflow.report.pictures import heat_map


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    from vggflow.models import files
    from vggflow.models.builder import build
    from vggflow.models.files import ModelInfo
    from vggflow.settings import ModelSettings

    names, size = ("cats", "dogs"), 32
    settings = ModelSettings(
        image_size_px=size, weights="none", width=0.0625, builder="sequential", preprocessing="rescale"
    )
    path = tmp_path_factory.mktemp("heat") / "model.keras"
    model = build(settings, names, None, seed=1)
    files.save(model, ModelInfo(names, size, "crop", "rescale"), path)
    return path


def test_each_image_has_its_picture_as_the_network_sees_it_and_a_heat_map(model_path, tmp_path):
    half = Image.new("RGB", (300, 100), "black")
    half.paste("white", (100, 0, 200, 100))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8))
    for name, image in (("half", half), ("noise", noise)):
        image.save(tmp_path / f"{name}.png")
    asked = [(tmp_path / "half.png", "cats"), (tmp_path / "noise.png", "dogs")]
    looked = heat_maps(model_path)(asked)
    assert [seen.picture.shape for seen in looked] == [(160, 160, 3)] * 2
    assert looked[0].picture.min() > 200, "cropped to the white middle, as for the network"
    for seen in looked:
        assert seen.heat.ndim == 2 and seen.heat.min() >= 0 and seen.heat.max() <= 1
        assert heat_map(seen).startswith("data:image/jpeg;base64,")


@pytest.mark.slow
def test_a_process_of_its_own_sees_the_same_and_says_why_it_cannot(model_path, tmp_path):
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "sea.png")
    (here,), (apart,) = (
        look(model_path)([(tmp_path / "sea.png", "dogs")]) for look in (heat_maps, heat_maps_in_process)
    )
    assert np.array_equal(here.picture, apart.picture)
    assert np.allclose(here.heat, apart.heat, atol=1e-5)
    with pytest.raises(VggflowError, match=r"no heat maps of .*gone"):
        heat_maps_in_process(tmp_path / "gone.keras")([(tmp_path / "sea.png", "dogs")])


def test_a_heat_map_changes_the_picture_where_it_is_hot(tmp_path):
    import base64
    import io

    from vggflow.evaluation.heat import HeatMap

    heat = np.zeros((4, 4))
    heat[:, 3] = 1.0
    address = heat_map(HeatMap(np.full((160, 160, 3), 100, np.uint8), heat))
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))), dtype=float)
    assert drawn[:, 150].mean() > drawn[:, 10].mean() + 50


def test_a_thumbnail_is_small_and_upright_and_a_lost_file_has_none(tmp_path):
    Image.new("RGB", (800, 400)).save(tmp_path / "wide.jpg")
    assert len(thumbnail(tmp_path / "wide.jpg", 160)) < 5000
    assert thumbnail(tmp_path / "none.jpg", 160) is None
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert thumbnail(tmp_path / "broken.jpg", 160) is None


def test_the_page_does_not_import_keras_by_itself():
    code = "import sys, vggflow.report.write; print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
