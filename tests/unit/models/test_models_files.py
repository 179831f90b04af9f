"""Model files: equal bytes, no code."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from vggflow.models import builder, files, heads
from vggflow.models.files import ModelFileError, ModelInfo
from vggflow.settings import ModelSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
INFO = ModelInfo(("cats", "dogs"), 32, "stretch", "imagenet", 1.5)


def tiny(**changes) -> keras.Model:
    common = {
        "image_size_px": 32,
        "weights": "none",
        "width": 0.0625,
        "builder": "sequential",
        "dropout": 0.2,
    }
    return builder.build(ModelSettings(**{**common, **changes}), ["cats", "dogs"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    files.save(tiny(), INFO, path)
    return path


def rewritten(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """A copy of the archive with members replaced or left out."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = changes.get(name, before.read(name))
            if content is not None:
                after.writestr(name, content)
    return target


def config_with(source: Path, layer: dict) -> bytes:
    with zipfile.ZipFile(source) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].append(layer)
    return json.dumps(config).encode()


def test_two_saves_a_second_apart_are_the_same_bytes(saved, tmp_path):
    time.sleep(1.1)
    files.save(tiny(), INFO, tmp_path / "again.keras")
    assert (tmp_path / "again.keras").read_bytes() == saved.read_bytes()


@pytest.mark.slow
def test_a_compiled_and_trained_model_saves_without_its_optimizer_and_date(saved, tmp_path):
    model = tiny()
    model.compile("adam", "binary_crossentropy", jit_compile=False)  # XLA would compile for half a minute
    model.fit(PIXELS, np.array([0, 1, 0]), verbose=0)
    files.save(model, INFO, tmp_path / "trained.keras")
    assert (tmp_path / "trained.keras").stat().st_size == pytest.approx(saved.stat().st_size, rel=0.1)
    with zipfile.ZipFile(tmp_path / "trained.keras") as archive:
        assert "date_saved" not in json.loads(archive.read("metadata.json"))
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"adam" not in archive.read("config.json")


def test_under_mixed_precision_too_two_models_are_the_same_bytes(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        for name in ("one", "two"):
            files.save(tiny(), INFO, tmp_path / f"{name}.keras")
    finally:
        keras.config.set_dtype_policy(before)
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    model, _ = files.load(tmp_path / "one.keras")
    assert model.get_layer("block1_conv1").compute_dtype == "float16"


def test_a_loaded_model_gives_the_same_outputs_and_saves_the_same_bytes(saved, tmp_path):
    model, info = files.load(saved)
    assert info == INFO
    np.testing.assert_array_equal(model.predict(PIXELS, verbose=0), tiny().predict(PIXELS, verbose=0))
    files.save(model, info, tmp_path / "again.keras")
    assert (tmp_path / "again.keras").read_bytes() == saved.read_bytes()


def test_plain_keras_reads_the_file_in_safe_mode_with_its_temperature(tmp_path):
    model = tiny()
    heads.set_temperature(model, 3.0)
    files.save(model, INFO, tmp_path / "warm.keras")
    plain = keras.saving.load_model(tmp_path / "warm.keras", safe_mode=True)
    np.testing.assert_array_equal(plain.predict(PIXELS, verbose=0), model.predict(PIXELS, verbose=0))
    assert heads.temperature(plain) == pytest.approx(3.0)


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    files.save(tiny(), INFO, path)
    assert files.read_info(path) == INFO
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        files.save(tiny(), ModelInfo(("cats", "dogs"), 32, object(), "imagenet"), path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.keras", b"old")]


def test_the_information_is_read_without_keras(saved):
    program = (
        "import sys; from pathlib import Path; from vggflow.models import files; "
        f"print(files.read_info(Path({str(saved)!r})).class_names); print('keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["('cats', 'dogs')", "False"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_file_gives_the_same_outputs_on_every_backend(saved, tmp_path, backend):
    np.save(tmp_path / "pixels.npy", PIXELS)
    program = (
        "import numpy as np; from pathlib import Path; from vggflow.models import files; "
        f"model, _ = files.load(Path({str(saved)!r})); "
        "np.save('outputs.npy', model.predict(np.load('pixels.npy'), verbose=0))"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
    here, _ = files.load(saved)
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), here.predict(PIXELS, verbose=0), rtol=1e-5)


def test_a_lambda_layer_is_refused_in_one_line_before_keras_sees_it(saved, tmp_path):
    layer = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {},
        "name": "sneaky",
        "inbound_nodes": [],
    }
    path = rewritten(saved, tmp_path / "lambda.keras", {"config.json": config_with(saved, layer)})
    with pytest.raises(ModelFileError, match=r"lambda\.keras: a Lambda of keras\.layers may run code"):
        files.load(path)


@pytest.mark.parametrize(
    ("module", "name"), [("os", "Dense"), ("builtins", "function"), ("keras.layers", "TFSMLayer")]
)
def test_classes_from_elsewhere_are_refused(saved, tmp_path, module, name):
    layer = {"module": module, "class_name": name, "config": {}, "name": "sneaky", "inbound_nodes": []}
    path = rewritten(saved, tmp_path / "foreign.keras", {"config.json": config_with(saved, layer)})
    with pytest.raises(ModelFileError, match="may run code"):
        files.load(path)


@pytest.mark.parametrize("name", [["Dense"], {"a": 1}, 3])
def test_a_class_whose_name_is_no_text_is_refused_in_one_line(saved, tmp_path, name):
    layer = {"module": "keras.layers", "class_name": name, "config": {}, "name": "odd", "inbound_nodes": []}
    path = rewritten(saved, tmp_path / "odd.keras", {"config.json": config_with(saved, layer)})
    with pytest.raises(ModelFileError, match="may run code"):
        files.load(path)


def test_damaged_missing_and_foreign_files_are_refused_in_one_line(saved, tmp_path):
    cut = tmp_path / "cut.keras"
    cut.write_bytes(saved.read_bytes()[:-5000])
    foreign = rewritten(saved, tmp_path / "foreign.keras", {"vggflow.json": None})
    newer = rewritten(saved, tmp_path / "newer.keras", {"vggflow.json": b'{"format": 2}'})
    listed = rewritten(saved, tmp_path / "listed.keras", {"vggflow.json": b"[1]"})
    odd = rewritten(saved, tmp_path / "odd.keras", {"vggflow.json": b'{"format": 1, "colour": 2}'})
    empty = rewritten(saved, tmp_path / "empty.keras", {"model.weights.h5": b""})
    for path, words in [
        (tmp_path / "absent.keras", "no model file"),
        (cut, "damaged"),
        (foreign, "not written by vggflow"),
        (newer, "format 2, expected 1"),
        (listed, "format None, expected 1"),
        (odd, "incomplete or foreign"),
        (empty, "damaged"),
    ]:
        with pytest.raises(ModelFileError, match=words) as caught:
            files.load(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


def test_what_cannot_be_opened_is_refused_in_one_line(saved, tmp_path):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "below").mkdir()
    locked = tmp_path / "locked.keras"
    locked.write_bytes(_encrypted(saved))
    nested = rewritten(saved, tmp_path / "nested.keras", {"vggflow.json": b"[" * 100_000})
    for path, words in [
        (tmp_path / "folder.keras", "can't be read"),
        (saved / "below.keras", "can't be read"),
        (locked, "encrypted"),
        (nested, "damaged"),
    ]:
        with pytest.raises(ModelFileError, match=words) as caught:
            files.load(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)


def _encrypted(path: Path) -> bytes:
    """The archive with every member marked as encrypted, in both of its lists."""
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(signature, place + 4)
    return bytes(content)


def test_a_file_that_this_account_may_not_read_is_refused_in_one_line(saved, tmp_path):
    path = tmp_path / "secret.keras"
    path.write_bytes(saved.read_bytes())
    path.chmod(0)
    program = (
        "import os, sys; from pathlib import Path; from vggflow.models import files\n"
        "os.getuid() == 0 and os.setuid(65534)\n"
        "try: files.read_info(Path(sys.argv[1]))\n"
        "except files.ModelFileError as error: print(error)"
    )
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert "secret.keras can't be read (Permission denied)" in done.stdout


def test_a_bit_flipped_in_the_weights_is_noticed(saved, tmp_path):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.keras").write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        files.load(tmp_path / "flipped.keras")


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_a_network_with_one_number_that_is_not_finite_is_neither_written_nor_loaded(tmp_path, spoilt):
    """Written by hand, as by a version of vggflow that did not look."""
    model = tiny()
    files.save(model, INFO, tmp_path / "model.keras")
    bias = np.zeros(model.get_layer("block3_conv2").bias.shape, np.float32)
    bias[-1] = spoilt
    model.get_layer("block3_conv2").bias.assign(bias)
    with pytest.raises(ModelFileError, match=r"other\.keras: layer block3_conv2 holds numbers that are not"):
        files.save(model, INFO, tmp_path / "other.keras")
    assert not (tmp_path / "other.keras").exists()

    model.save_weights(tmp_path / "model.weights.h5")
    weights = {files.WEIGHTS_MEMBER: (tmp_path / "model.weights.h5").read_bytes()}
    rewritten(tmp_path / "model.keras", tmp_path / "spoilt.keras", weights)
    with pytest.raises(ModelFileError, match=r"spoilt\.keras: layer block3_conv2 holds .* learning_rate$"):
        files.load(tmp_path / "spoilt.keras")


@pytest.mark.parametrize("temperature", [np.nan, np.inf, 0.0, -1.0])
def test_a_temperature_that_divides_nothing_is_refused(saved, tmp_path, temperature):
    info = INFO.to_dict() | {"temperature": temperature}
    path = rewritten(saved, tmp_path / "model.keras", {files.INFO_MEMBER: json.dumps(info).encode()})
    with pytest.raises(ModelFileError, match=r"temperature .* expected a finite number above 0"):
        files.read_info(path)
