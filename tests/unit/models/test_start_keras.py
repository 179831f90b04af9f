"""Keras is what vggflow means by it, whatever a user set for other programs of theirs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked_programs import interpreter

from vggflow.models import start_keras

DEFAULTS = {
    "backend": "tensorflow",
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "max_epochs": None,
    "max_steps_per_epoch": None,
    "nnx": False,
}
OF_ANOTHER_PROGRAM = {
    "floatx": "float16",
    "epsilon": 0.5,
    "backend": "torch",
    "image_data_format": "channels_first",
    "nnx_enabled": True,
}
LIMITS = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1", "KERAS_NNX_ENABLED": "true"}
ASKED = """
import json, keras
config = keras.config
values = {name: getattr(config, name)() for name in
          ("backend", "floatx", "epsilon", "image_data_format", "max_epochs", "max_steps_per_epoch")}
print(json.dumps(values | {"nnx": config.is_nnx_enabled()}))
"""
BUILT = """
import numpy as np
from vggflow.models.builder import build
from vggflow.settings import ModelSettings
settings = ModelSettings(image_size_px=32, weights="none", width=0.0625, builder="sequential")
model = build(settings, ["cats", "dogs"])
print(json.dumps([str(model.predict_on_batch(np.zeros((2, 32, 32, 3))).dtype), list(model.input_shape)]))
"""


Ran = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def python_with_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An interpreter that has TensorFlow imported, which takes longest, but not Keras."""
    with interpreter(tmp_path_factory.mktemp("python"), "-c") as path:
        yield path


@pytest.fixture
def ran(python_with_tensorflow: str) -> Ran:
    """Runs a program of a user with this home and these variables, and nothing of Keras' else."""

    def run(code: str, home: Path, python: str = python_with_tensorflow, **environment: str):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
        return subprocess.run(
            [python, "-c", code],
            env=kept | {"HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of somebody whose Keras is set up for something else."""
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(OF_ANOTHER_PROGRAM))
    return tmp_path


def test_nothing_of_a_users_keras_reaches_vggflow(ran: Ran, home: Path) -> None:
    before = (home / ".keras" / "keras.json").read_text()
    done = ran("from vggflow.models import start_keras; start_keras.start()" + ASKED + BUILT, home, **LIMITS)
    assert done.returncode == 0, done.stderr[-2000:]
    values, built = map(json.loads, done.stdout.splitlines())
    assert values == DEFAULTS
    assert built == ["float32", [None, 32, 32, 3]]
    assert (home / ".keras" / "keras.json").read_text() == before
    assert [path.name for path in (home / ".keras").iterdir()] == ["keras.json"]


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        ('{"floatx": "bfloat16", "epsilon": 1, "image_data_format": "rows"}', {}),
        ('["no settings"]', {"KERAS_MAX_EPOCHS": "many", "KERAS_MAX_STEPS_PER_EPOCH": ""}),
    ],
)
def test_what_keras_itself_would_stumble_over_is_not_read(
    ran: Ran, tmp_path: Path, content: str, limits: dict[str, str]
) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(content)
    done = ran(
        "from vggflow.models import start_keras; start_keras.start('tensorflow')" + ASKED,
        tmp_path,
        KERAS_HOME=str(tmp_path / "keras"),
        KERAS_BACKEND="",
        **limits,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == DEFAULTS


def test_keras_that_was_imported_before_is_set_right(ran: Ran, home: Path) -> None:
    (home / ".keras" / "keras.json").write_text(
        json.dumps(OF_ANOTHER_PROGRAM | {"backend": "tensorflow", "nnx_enabled": False})
    )
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    done = ran(
        "import keras\nfrom vggflow.models import start_keras; start_keras.start()" + ASKED, home, **limits
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == DEFAULTS


def test_a_default_backend_is_not_handed_on_to_programs_with_settings_of_their_own(
    ran: Ran, tmp_path: Path
) -> None:
    start = "from vggflow.models import start_keras; start_keras.start()"
    code = f"import os; {start}; print(os.environ.get('KERAS_BACKEND'))"
    assert ran(code, tmp_path).stdout == "None\n"


@pytest.mark.slow
def test_starting_imports_no_package_that_only_wrappers_want_and_keeps_none_from_being_imported(
    ran: Ran, tmp_path: Path
) -> None:
    code = (
        "import sys; from vggflow.models import start_keras; start_keras.start()\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'jax', 'sklearn'} or 'neither')\n"
        "import sklearn.metrics; print(sklearn.metrics.accuracy_score([1], [1]))"
    )
    done = ran(code, tmp_path, sys.executable)
    assert done.stdout.splitlines() == ["neither", "1.0"], done.stderr[-2000:]


@pytest.mark.slow
def test_a_training_on_jax_imports_no_tensorflow(ran: Ran, tmp_path: Path) -> None:
    code = (
        "import sys; from vggflow.models import start_keras; start_keras.start('jax')\n"
        "import keras, numpy as np; keras.utils.set_random_seed(3)\n"
        "layers = [keras.layers.RandomFlip(seed=1), keras.layers.Conv2D(2, 3), keras.layers.GlobalMaxPooling2D()]\n"
        "model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(1)])\n"
        "model.compile('adam', 'mse'); model.fit(np.ones((4, 8, 8, 3)), np.ones(4), verbose=0)\n"
        f"model.save({str(tmp_path / 'm.keras')!r}); keras.models.load_model({str(tmp_path / 'm.keras')!r})\n"
        "print('tensorflow' in sys.modules); import tensorflow; print(tensorflow.constant(1).numpy())"
    )
    done = ran(code, tmp_path, sys.executable)
    assert done.stdout.splitlines() == ["False", "1"], done.stderr[-2000:]


@pytest.mark.parametrize("backend", ["torch", "numpy", "tensorflo"])
def test_a_backend_that_vggflow_does_not_know_is_one_line(ran: Ran, tmp_path: Path, backend: str) -> None:
    code = (
        "import sys; from vggflow.models import start_keras; from vggflow.errors import UsageError\n"
        "try: start_keras.start()\nexcept UsageError as error: print(error, error.exit_code)\n"
        "assert 'keras' not in sys.modules"
    )
    done = ran(code, tmp_path, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"KERAS_BACKEND is {backend}, expected tensorflow or jax: set it to one of them 2\n"


@pytest.mark.slow
def test_a_served_model_answers_the_same_in_every_home(
    ran: Ran, home: Path, tmp_path: Path, model_and_image
) -> None:
    """MLflow calls the loader in a program that vggflow did not start."""
    model, image = model_and_image
    code = (
        "import json, pathlib; import pandas as pd\nfrom vggflow.prediction.pyfunc import _load_pyfunc\n"
        f"table = pd.DataFrame({{'image': [pathlib.Path({str(image)!r}).read_bytes()]}})\n"
        f"print(json.dumps(_load_pyfunc({str(model)!r}).predict(table).iloc[0].to_dict()))"
    )
    other = tmp_path / "other"
    other.mkdir()
    answers = []
    for place, variables in ((other, {}), (home, LIMITS)):
        done = ran(code, place, **variables)
        assert done.returncode == 0, done.stderr[-2000:]
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_heat_maps_are_drawn_in_every_home(ran: Ran, home: Path, model_and_image) -> None:
    model, image = model_and_image
    code = (
        "import sys; from vggflow.evaluation import heat; from pathlib import Path\n"
        f"(looked,) = heat.heat_maps_in_process(Path({str(model)!r}))([(Path({str(image)!r}), 'cats')])\n"
        "print(looked.heat.dtype, looked.heat.shape)"
    )
    done = ran(code, home, **LIMITS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "float" in done.stdout


NO_GARBAGE = """
import gc, json, sys
from vggflow.models import start_keras
during = []
imported = start_keras.import_keras
def watched(*arguments, **named):
    during.append(gc.isenabled())
    imported(*arguments, **named)
start_keras.import_keras = watched
(gc.enable if sys.argv[1] == "on" else gc.disable)()
before = gc.get_freeze_count()
start_keras.start()
first, after = gc.get_freeze_count(), gc.isenabled()
since = [[] for _ in range(10_000)]
start_keras.start()
print(json.dumps([during[0], after, first - before > 100_000, gc.get_freeze_count() - first < len(since)]))
"""


@pytest.mark.parametrize("enabled", ["on", "off"])
def test_no_garbage_is_looked_for_among_imports_and_all_that_follows_is_as_before(
    python_with_tensorflow: str, enabled: str
) -> None:
    command = [python_with_tensorflow, "-c", NO_GARBAGE, enabled]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, enabled == "on", True, True]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "found"), [(None, "1 True"), ("0", "0 False")])
def test_tensorflow_computes_with_onednn_on_every_processor_unless_told_otherwise(
    given: str | None, found: str
) -> None:
    unset = (start_keras.ONEDNN, start_keras.BACKEND)
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    asked = (
        "from vggflow.models import start_keras; start_keras.start('tensorflow'); import os\n"
        "from tensorflow.python.util import _pywrap_util_port\n"
        "print(os.environ.get(start_keras.ONEDNN), _pywrap_util_port.IsMklEnabled())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", asked],
        env=environment | ({start_keras.ONEDNN: given} if given else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == found


@pytest.mark.parametrize(
    ("given", "imported", "found"), [(None, False, "1"), ("0", False, "0"), (None, True, None)]
)
def test_onednn_is_asked_for_before_tensorflow_is_imported_and_by_nobody_else(
    given: str | None, imported: bool, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if imported:
        monkeypatch.setitem(sys.modules, "tensorflow", sys)
    else:
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv(start_keras.ONEDNN, given or "")
    if given is None:
        monkeypatch.delenv(start_keras.ONEDNN)
    start_keras._set_up_tensorflow()
    assert os.environ.get(start_keras.ONEDNN) == found
