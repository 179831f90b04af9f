"""Start weights: every spelling loads by layer, what doesn't fit says why."""

import functools
import hashlib
import http.server
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from vggflow.errors import WeightsError, WeightsUnreachable
from vggflow.models import builder, files, imagenet_weights, start_weights, vgg16, weight_files
from vggflow.models.files import ModelInfo
from vggflow.models.imagenet_weights import Published
from vggflow.settings import ModelSettings

WIDTH = 0.03125  # 2 to 16 filters, 128 fc units
Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def settings(weights: str = "start.h5", **changes) -> ModelSettings:
    common = {"image_size_px": 32, "width": WIDTH, "builder": "sequential", "head": "flatten"}
    return ModelSettings(**{**common, "weights": weights, **changes})


def random_weights(top: bool = True, classes: int = 10) -> Weights:
    model = vgg16.sequential(classes if top else None, 32, WIDTH)
    generator = np.random.default_rng(0)
    return {
        layer.name: tuple(
            generator.normal(size=value.shape).astype(np.float32) for value in layer.get_weights()
        )
        for layer in model.layers
        if layer.weights
    }


def keras_1(layer: str) -> tuple[str, str]:
    return f"{layer}/{layer}_W_1:0", f"{layer}/{layer}_b_1:0"


def keras_2(layer: str) -> tuple[str, str]:
    return f"{layer}/{layer}/kernel:0", f"{layer}/{layer}/bias:0"


def keras_2_renamed(layer: str) -> tuple[str, str]:
    return f"{layer}/{layer}_3/kernel:0", f"{layer}/{layer}_3/bias:0"


def keras_2_nested_in_a_whole_model(layer: str) -> tuple[str, str]:
    return f"model_weights/vgg16/{layer}/kernel:0", f"model_weights/vgg16/{layer}/bias:0"


def write_classic(path: Path, weights: Weights, spelling: Callable[[str], tuple[str, str]] = keras_2) -> Path:
    with h5py.File(path, "w") as file:
        # Bytes, as h5py wrote them before version 3.
        file.attrs["layer_names"] = [name.encode() for name in weights]
        for name, values in weights.items():
            for address, value in zip(spelling(name), values, strict=True):
                file[address] = value
        for name in weights:
            if name in file:
                file[name].attrs["weight_names"] = [
                    n.removeprefix(f"{name}/").encode() for n in spelling(name)
                ]
    return path


def assert_holds(model: keras.Model, weights: Weights, names: tuple[str, ...]) -> None:
    for name in names:
        for found, expected in zip(model.get_layer(name).get_weights(), weights[name], strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("spelling", [keras_1, keras_2, keras_2_renamed, keras_2_nested_in_a_whole_model])
def test_the_classic_layout_loads_by_layer_in_every_spelling(tmp_path, spelling, top):
    weights = random_weights(top)
    write_classic(tmp_path / "start.h5", weights, spelling)
    model = builder.build(settings(), ["cats", "dogs"], tmp_path)
    assert_holds(model, weights, vgg16.CONVOLUTION_NAMES)


def test_the_sequential_of_the_articles_takes_every_layer_with_its_thousand_classes(tmp_path):
    weights = random_weights(classes=1000)
    write_classic(tmp_path / "start.h5", weights, keras_1)
    model = vgg16.sequential(1000, 32, WIDTH, padding="explicit")
    loaded = start_weights.assign(model, tmp_path / "start.h5", tuple(weights))
    assert loaded == {*vgg16.CONVOLUTION_NAMES, "fc1", "fc2", "predictions"}
    assert_holds(model, weights, tuple(weights))


@pytest.mark.parametrize("builder_name", ["keras", "sequential"])
def test_both_builders_take_the_same_full_width_file(tmp_path, builder_name):
    source = vgg16.sequential(None)
    weights = {layer.name: tuple(layer.get_weights()) for layer in source.layers if layer.weights}
    write_classic(tmp_path / "start.h5", weights, keras_1)
    model = builder.build(settings(width=1.0, builder=builder_name), ["cats", "dogs"], tmp_path)
    assert_holds(model, weights, vgg16.CONVOLUTION_NAMES)


def test_head_fc_keeps_fc1_and_fc2_and_starts_predictions_anew(tmp_path):
    weights = random_weights(classes=2)
    write_classic(tmp_path / "start.h5", weights)
    model = builder.build(settings(head="fc", two_class_output="softmax"), ["cats", "dogs"], tmp_path)
    assert_holds(model, weights, (*vgg16.CONVOLUTION_NAMES, "fc1", "fc2"))
    assert not np.array_equal(model.get_layer("predictions").get_weights()[0], weights["predictions"][0])


def test_head_fc_without_fc_weights_says_that_they_start_random(tmp_path, caplog):
    write_classic(tmp_path / "start.h5", random_weights(top=False))
    builder.build(settings(head="fc"), ["cats", "dogs"], tmp_path)
    assert "start.h5 has no fc1 and fc2: random values there, so let a phase train them" in caplog.text


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_files_that_todays_keras_saves_load_by_layer(tmp_path, suffix):
    source = vgg16.sequential(10, 32, WIDTH)
    path = tmp_path / f"start{suffix}"
    source.save_weights(path) if suffix == ".weights.h5" else source.save(path)
    model = builder.build(settings(path.name, head="fc"), ["cats", "dogs"], tmp_path)
    weights = {layer.name: tuple(layer.get_weights()) for layer in source.layers if layer.weights}
    assert_holds(model, weights, (*vgg16.CONVOLUTION_NAMES, "fc1", "fc2"))


def test_weights_of_a_network_nested_in_another_load_by_layer(tmp_path):
    nested = vgg16.sequential(None, 32, WIDTH)
    before = [keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)]
    outer = keras.Sequential([*before, nested, keras.layers.Flatten(), keras.layers.Dense(1)])
    outer.compile("adam", "mse")
    outer.fit(np.ones((1, 32, 32, 3)), np.ones((1, 1)), verbose=0)
    outer.save_weights(tmp_path / "start.weights.h5")
    model = builder.build(settings("start.weights.h5"), ["cats", "dogs"], tmp_path)
    weights = {layer.name: tuple(layer.get_weights()) for layer in nested.layers if layer.weights}
    assert_holds(model, weights, vgg16.CONVOLUTION_NAMES)


def test_keras_3_files_too_old_to_name_their_layers_load_by_position(tmp_path):
    source = vgg16.sequential(10, 32, WIDTH)
    source.save_weights(tmp_path / "start.weights.h5")
    with h5py.File(tmp_path / "start.weights.h5", "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    model = builder.build(settings("start.weights.h5", head="fc"), ["cats", "dogs"], tmp_path)
    weights = {layer.name: tuple(layer.get_weights()) for layer in source.layers if layer.weights}
    assert_holds(model, weights, (*vgg16.CONVOLUTION_NAMES, "fc1", "fc2"))


@pytest.mark.parametrize(("classes", "kept"), [(("cats", "dogs"), True), (("cats", "hens"), False)])
def test_a_model_of_vggflow_passes_its_predictions_on_only_to_the_same_classes(tmp_path, classes, kept):
    source = builder.build(settings("none"), ["cats", "dogs"], seed=1)
    files.save(source, ModelInfo(("cats", "dogs"), 32, "stretch", "imagenet"), tmp_path / "champion.keras")
    model = builder.build(settings("champion.keras"), classes, tmp_path, seed=2)
    ours, theirs = (network.get_layer("predictions").get_weights()[0] for network in (model, source))
    assert np.array_equal(ours, theirs) == kept
    other_head = builder.build(settings("champion.keras", head="pooling"), classes, tmp_path)
    np.testing.assert_array_equal(other_head.get_weights()[0], source.get_weights()[0])


def test_a_model_trained_with_other_preprocessing_is_refused(tmp_path):
    source = builder.build(settings("none", preprocessing="rescale"), ["cats", "dogs"])
    files.save(source, ModelInfo(("cats", "dogs"), 32, "stretch", "rescale"), tmp_path / "champion.keras")
    with pytest.raises(WeightsError, match="trained with preprocessing rescale, not imagenet"):
        builder.build(settings("champion.keras"), ["cats", "dogs"], tmp_path)


def refusal(folder: Path, **changes) -> str:
    with pytest.raises(WeightsError) as caught:
        builder.build(settings(**changes), ["cats", "dogs"], folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_transposed_layer_is_refused_with_both_shapes_and_a_hint(tmp_path):
    weights = random_weights()
    kernel, bias = weights["block2_conv1"]
    write_classic(tmp_path / "start.h5", {**weights, "block2_conv1": (kernel.transpose(3, 2, 0, 1), bias)})
    message = refusal(tmp_path)
    assert "start.h5: layer block2_conv1 has a kernel of shape (4, 2, 3, 3), expected (3, 3, 2, 4)" in message
    assert "transpose to (height, width, in, out)" in message


def test_weights_of_another_width_say_which_width_it_is(tmp_path):
    write_classic(tmp_path / "start.h5", random_weights())
    message = refusal(tmp_path, width=0.0625)
    assert "layer block1_conv1 has a kernel of shape (3, 3, 3, 2), expected (3, 3, 3, 4)" in message
    assert "set model.width to 0.03125" in message


def test_weights_of_grey_images_say_so_and_no_width(tmp_path):
    weights = random_weights()
    kernel, bias = weights["block1_conv1"]
    write_classic(tmp_path / "start.h5", {**weights, "block1_conv1": (kernel[:, :, :1], bias)})
    message = refusal(tmp_path)
    assert "shape (3, 3, 1, 2), expected (3, 3, 3, 2): it learned with images of 1 channels" in message
    assert "model.width" not in message


def test_a_width_that_no_network_has_is_not_recommended(tmp_path):
    weights = random_weights()
    kernel, bias = weights["block1_conv1"]
    wide = np.repeat(kernel, 64, axis=3), np.repeat(bias, 64)
    write_classic(tmp_path / "start.h5", {**weights, "block1_conv1": wide})
    assert "model.width" not in refusal(tmp_path)


def test_fc_weights_of_another_image_size_say_so(tmp_path):
    write_classic(tmp_path / "start.h5", random_weights())
    message = refusal(tmp_path, head="fc", image_size_px=64)
    assert (
        "layer fc1 has a kernel of shape (16, 128), expected (64, 128): it was trained on another" in message
    )


def test_a_file_that_does_not_fit_changes_no_layer(tmp_path):
    weights = random_weights()
    write_classic(tmp_path / "start.h5", {**weights, "fc2": (weights["fc2"][0][:, :3], weights["fc2"][1])})
    model = vgg16.sequential(10, 32, WIDTH)
    before = model.get_weights()
    with pytest.raises(WeightsError, match="layer fc2"):
        start_weights.assign(model, tmp_path / "start.h5", start_weights.BODY)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_file_without_a_convolution_or_a_bias_is_refused(tmp_path):
    weights = random_weights()
    write_classic(tmp_path / "start.h5", {name: weights[name] for name in weights if name != "block4_conv2"})
    assert "has no layer block4_conv2, expected all 13 convolutions" in refusal(tmp_path)
    with h5py.File(write_classic(tmp_path / "start.h5", weights), "a") as file:
        del file["block1_conv2/block1_conv2/bias:0"]
    assert "layer block1_conv2 has no bias, expected one of shape (2,)" in refusal(tmp_path)


def test_values_that_are_not_finite_numbers_are_refused_before_a_layer_changes(tmp_path):
    weights = random_weights()
    weights["fc2"][1][0] = np.nan
    path = write_classic(tmp_path / "start.h5", weights)
    model = vgg16.sequential(10, 32, WIDTH)
    before = model.get_weights()
    with pytest.raises(WeightsError, match="the bias of layer fc2 holds values that are not finite"):
        start_weights.assign(model, path, start_weights.BODY)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_whole_numbers_are_refused_as_such(tmp_path):
    weights = random_weights()
    kernel, bias = weights["block3_conv1"]
    write_classic(tmp_path / "start.h5", {**weights, "block3_conv1": (kernel.astype(np.int8), bias)})
    message = refusal(tmp_path)
    assert "the kernel of layer block3_conv1 holds int8, expected floating-point numbers" in message


def test_a_truncated_file_is_refused(tmp_path):
    path = write_classic(tmp_path / "start.h5", random_weights())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "start.h5 is damaged or no Keras weight file" in refusal(tmp_path)


def test_foreign_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "start.h5", "w") as file:
        file["layer_0/param_0"] = np.ones(3)
    assert "holds no layer of VGG16, only layer_0" in refusal(tmp_path)
    (tmp_path / "start.h5").write_text("version https://git-lfs.github.com/spec/v1")
    assert "damaged or no Keras weight file" in refusal(tmp_path)
    with zipfile.ZipFile(tmp_path / "start.h5", "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n")
    assert "damaged or no Keras weight file" in refusal(tmp_path)


def test_a_dataset_stored_in_another_file_is_not_read(tmp_path):
    weights = random_weights()
    path = write_classic(tmp_path / "start.h5", weights)
    (tmp_path / "secret").write_bytes(weights["block1_conv1"][1].tobytes())
    with h5py.File(path, "a") as file:
        del file["block1_conv1/block1_conv1/bias:0"]
        group = file["block1_conv1/block1_conv1"]
        group.create_dataset("bias:0", (2,), "f4", external=[(str(tmp_path / "secret"), 0, 8)])
    assert "layer block1_conv1 has no bias" in refusal(tmp_path)


def test_a_missing_file_says_where_to_put_it_and_how_to_version_it(tmp_path):
    message = refusal(tmp_path / "weights", weights="weights/absent.h5")
    assert f"no start weights weights/absent.h5 in {tmp_path}" in message
    assert "`dvc add weights`" in message


def test_rescaled_pixels_for_weights_that_say_nothing_of_theirs_are_warned_of(tmp_path, caplog):
    write_classic(tmp_path / "start.h5", random_weights())
    builder.build(settings(preprocessing="rescale"), ["cats", "dogs"], tmp_path)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "preprocessing is rescale, but" in said and "start.h5 may have learned with ImageNet's" in said
    assert "linear probe" in said


def test_rescaled_pixels_for_imagenets_own_weights_are_warned_of(tmp_path, caplog):
    start_weights.ask_preprocessing(
        tmp_path / "vgg16.h5", settings("imagenet", preprocessing="rescale", width=1.0)
    )
    (said,) = [record.getMessage() for record in caplog.records]
    assert "learned with ImageNet's" in said and "may have" not in said


@pytest.mark.parametrize("kind", ["imagenet", "rescale"])
def test_weights_that_say_what_they_were_made_for_are_taken_for_that_only(tmp_path, caplog, kind):
    path = write_classic(tmp_path / "start.h5", random_weights())
    weight_files.say_preprocessing(path, kind)
    builder.build(settings(preprocessing=kind), ["cats", "dogs"], tmp_path)
    assert not caplog.records
    other = "rescale" if kind == "imagenet" else "imagenet"
    with pytest.raises(WeightsError, match=rf"start\.h5 was made for preprocessing {kind}, not {other}: set"):
        builder.build(settings(preprocessing=other), ["cats", "dogs"], tmp_path)


def test_the_usual_preprocessing_needs_no_word(tmp_path, caplog):
    write_classic(tmp_path / "start.h5", random_weights())
    builder.build(settings(preprocessing="imagenet"), ["cats", "dogs"], tmp_path)
    assert not caplog.records


@pytest.mark.parametrize("flips", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_start_weights_is_one_line_or_changes_a_number(tmp_path, flips):
    """In a process of its own: what HDF5 makes of changed bytes might end it."""
    write_classic(tmp_path / "start.h5", random_weights(top=False))
    command = [sys.executable, "-c", FLIPS, str(tmp_path), str(flips)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) < flips, "some flips change the file's structure, most a number only"


FLIPS = """
import random, sys
from pathlib import Path
from vggflow.errors import WeightsError, WeightsUnreachable
from vggflow.models import weight_files
path = Path(sys.argv[1]) / "start.h5"
whole, generator, refused = path.read_bytes(), random.Random(0), 0
# Half of the flips among the first bytes, where the structure of the file lies.
for number in range(int(sys.argv[2])):
    content = bytearray(whole)
    content[generator.randrange(len(whole) if number % 2 else 8192)] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
    try:
        with weight_files.opened(path) as layers:
            for layer in layers.values():
                for values in layer.values():
                    values[()]
    except WeightsError as error:
        assert "\\n" not in str(error)
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("name", ["weights/start.h5", "start.h5"])
def test_a_file_is_found_from_the_workspace_and_from_the_weights_folder(tmp_path, name):
    (tmp_path / "weights").mkdir()
    path = write_classic(tmp_path / "weights" / "start.h5", random_weights())
    assert start_weights.find(settings(name), tmp_path / "weights") == path
    assert start_weights.find(settings("none"), tmp_path / "weights") is None


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """A published file on a server of this machine."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "keras").mkdir()
    content = b"weights" * 1000
    (site / "vgg16.h5").write_bytes(content)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/vgg16.h5"
        yield Published(url, hashlib.md5(content, usedforsecurity=False).hexdigest())
        server.shutdown()


def test_fetching_puts_the_verified_file_into_the_folder_and_nothing_else(tmp_path, served, capsys):
    path = imagenet_weights.fetch(served, tmp_path / "weights")
    assert capsys.readouterr().out == "", "stdout is for results, such as --json"
    assert path == tmp_path / "weights" / "vgg16.h5"
    assert path.read_bytes() == b"weights" * 1000
    assert [file.name for file in path.parent.iterdir()] == ["vgg16.h5"]
    assert imagenet_weights.fetch(served, tmp_path / "weights") == path


def test_an_address_that_does_not_answer_is_told_once_with_the_reason(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/vgg16.h5"
        with pytest.raises(WeightsUnreachable) as raised:
            imagenet_weights.fetch(Published(address, "0" * 32), tmp_path / "weights")
    said = str(raised.value)
    assert said.count(address) == 1
    assert "(Connection refused): put vgg16.h5 from" in said.replace("[Errno 111] ", "")


def test_a_file_with_another_hash_is_refused_whether_fetched_or_found(tmp_path, served):
    other = Published(served.url, "0" * 32)
    with pytest.raises(WeightsError, match=r"can't fetch ImageNet's weights .*corrupted"):
        imagenet_weights.fetch(other, tmp_path / "weights")
    assert not list((tmp_path / "weights").glob("*"))
    path = imagenet_weights.fetch(served, tmp_path / "weights")
    path.write_bytes(b"weights")
    with pytest.raises(
        WeightsError, match=r"vgg16\.h5 has md5 \w+, expected \w+: it is damaged or incomplete"
    ):
        imagenet_weights.fetch(served, tmp_path / "weights")


def test_without_a_network_one_line_says_which_file_to_put_where(tmp_path, served):
    unreachable = Published("http://127.0.0.1:9/absent.h5", "0" * 32)
    with pytest.raises(WeightsError) as caught:
        imagenet_weights.fetch(unreachable, tmp_path / "weights")
    message = str(caught.value)
    assert "\n" not in message
    assert f"put absent.h5 from {unreachable.url} into {tmp_path / 'weights'} (md5 {'0' * 32})" in message
    assert "`dvc add weights`" in message


@pytest.mark.parametrize(("head", "published"), [("pooling", "WITHOUT_TOP"), ("fc", "WITH_TOP")])
def test_imagenet_weights_are_looked_for_in_the_weights_folder_first(tmp_path, head, published):
    name = getattr(imagenet_weights, published).file_name
    (tmp_path / name).write_bytes(b"not the published file")
    with pytest.raises(WeightsError, match=rf"{name} has md5"):
        start_weights.find(ModelSettings(head=head), tmp_path)
    with pytest.raises(WeightsError, match=rf"{name} has md5"):
        imagenet_weights.fetch_imagenet(tmp_path, with_top=head == "fc")


def test_the_published_files_are_those_of_keras():
    source = Path(keras.__path__[0], "src", "applications", "vgg16.py").read_text(encoding="utf-8")
    for published in (imagenet_weights.WITH_TOP, imagenet_weights.WITHOUT_TOP):
        assert published.file_name in source
        assert published.md5 in source
