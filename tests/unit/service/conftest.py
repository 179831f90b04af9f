"""Services in this process, with a model that needs no training."""

from collections.abc import Callable, Iterator

import pytest
from coloured_model import Start, write_graph

from vggflow.prediction.onnx_predictor import OnnxPredictor
from vggflow.service.served_model import Loaded


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Loaded]:
    folder = tmp_path_factory.mktemp("graphs")

    def made(version: int) -> Loaded:
        path = write_graph(folder / f"{version}.onnx", version)
        return Loaded(OnnxPredictor(path), "pets", version)

    return made


@pytest.fixture
def start(load: Callable[[int], Loaded]) -> Iterator[Start]:
    made = Start(load)
    yield made
    for client in made.running:
        client.__exit__(None, None, None)
