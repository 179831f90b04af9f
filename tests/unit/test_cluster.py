"""A cluster that is not there, or not one: told in a line, within seconds. What works is in test_cluster_nodes.py."""

import os
import socket
import subprocess
import sys
import time

import pytest

SECONDS = 25  # 10 to connect; Python, and Ray's import, take the rest on a busy machine


def _connect(address: str, before: str = "") -> tuple[int, str]:
    """How a program ends that joins the cluster, and what it says."""
    code = f"{before}\nfrom vggflow import cluster, errors\ntry:\n    cluster.connect()\n" + (
        "except errors.VggflowError as error:\n    import os, sys\n    print(error)\n    sys.stdout.flush()\n"
        "    os._exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr.strip() or "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    "address", ["local", "auto", "somewhere", "ray://", "127.0.0.1:", ":6379", "http://a:1/b"]
)
def test_what_is_no_address_of_a_cluster_is_refused(address: str) -> None:
    code, said = _connect(address)
    assert (code, said.count("\n")) == (2, 0)
    assert said.startswith(f"RAY_ADDRESS is '{address}': expected HOST:PORT")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_gone_is_told_in_a_line(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = form.format(taken.getsockname()[1])
    code, said = _connect(address)
    assert (code, said.count("\n")) == (1, 0)
    assert said.startswith(f"the cluster at {address} can't be reached (Connection refused)")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_hangs_is_told_in_a_line(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        address = form.format(hanging.getsockname()[1])
        began = time.monotonic()
        code, said = _connect(address)
        assert time.monotonic() - began < SECONDS
    assert (code, said.count("\n")) == (1, 0)
    assert said.startswith(f"the cluster at {address} can't be reached (")


def test_ray_that_is_not_installed_is_told_in_a_line() -> None:
    code, said = _connect("127.0.0.1:6379", "import sys; sys.modules['ray'] = None")
    assert code == 2
    assert said.startswith("RAY_ADDRESS is set, but Ray is not installed: `pip install 'vggflow[ray]'`")


def test_without_an_address_ray_is_not_imported() -> None:
    code = (
        "import sys; from vggflow import cluster; from vggflow.gate import judge; "
        "print(cluster.is_named(), 'ray' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
