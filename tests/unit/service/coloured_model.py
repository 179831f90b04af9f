"""A model that is real and small: mean colours, in an ONNX graph of four operators."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from starlette.testclient import TestClient

from vggflow.models.files import INFO_MEMBER, ModelInfo
from vggflow.service import app
from vggflow.service.limits import Limits
from vggflow.service.served_model import Loaded, Service

CLASSES = ("blue", "green", "red")
# Of an image's mean red, green and blue to the classes; another version answers with other classes.
WEIGHTS = {1: np.eye(3)[:, ::-1], 2: np.eye(3)}


def write_graph(path: Path, version: int) -> Path:
    weights = numpy_helper.from_array(WEIGHTS[version].astype(np.float32) / 64, "weights")
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["answers"], axis=1),
    ]
    taken = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 8, 8, 3])
    given = helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "colours", [taken], [given], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(
        model, {INFO_MEMBER: json.dumps(ModelInfo(CLASSES, 8, "stretch", "none").to_dict())}
    )
    onnx.save(model, path)
    return path


def picture(red: int, green: int, blue: int, size: tuple[int, int] = (20, 10), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(file, kind)
    return file.getvalue()


RED, GREEN, BLUE = picture(250, 10, 10), picture(10, 250, 10), picture(10, 10, 250)


@dataclass
class Started:
    """A service in this process, and a client for it."""

    service: Service
    client: TestClient


@dataclass
class Start:
    """Starts services with other limits, tokens or models."""

    load: Callable[[int], Loaded]
    running: list[TestClient] = field(default_factory=list)

    def __call__(self, token: str | None = None, loaded: Loaded | None = None, **limits: float) -> Started:
        service = Service(loaded or self.load(1), Limits(**limits))  # type: ignore[arg-type]
        client = TestClient(app.create(service, token), base_url="http://127.0.0.1")
        client.__enter__()
        self.running.append(client)
        return Started(service, client)
