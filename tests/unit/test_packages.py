"""Which packages can change a result, and what this machine has of them."""

import subprocess
import sys

import keras
import numpy
import PIL
from PIL import features

from vggflow import packages

LIGHT = """
import sys
from vggflow import packages
packages.of_results("jax")
print([name for name in ("tensorflow", "keras", "jax", "numpy", "pandas") if name in sys.modules])
"""


def test_what_decodes_and_computes_is_named_with_its_version() -> None:
    found = packages.of_results()
    assert found["pillow"] == PIL.__version__
    assert found["libjpeg-turbo"] == features.version("libjpeg_turbo")
    assert (found["keras"], found["numpy"]) == (keras.__version__, numpy.__version__)
    assert list(found) == sorted(found)


def test_what_only_carries_tables_or_draws_is_not_named() -> None:
    assert not {"pandas", "pyarrow", "matplotlib", "mlflow", "dvc", "prefect"} & packages.of_results().keys()


def test_jax_counts_where_it_computes() -> None:
    assert "jaxlib" not in packages.of_results("tensorflow")
    assert {"jax", "jaxlib", "tensorflow"} <= packages.of_results("jax").keys()


def test_a_package_that_is_not_installed_is_none() -> None:
    assert packages.installed("no-such-package") == ""


def test_the_name_for_decoding_holds_the_version_of_pillow() -> None:
    assert packages.decoding().startswith(f"pillow-{PIL.__version__}-")


def test_looking_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
