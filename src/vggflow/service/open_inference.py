"""The Open Inference Protocol, version 2, as KServe's clients speak it: tensors in JSON, or in bytes after it.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md, and KServe's binary tensor data
extension.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from vggflow.prediction.predictor import Source
from vggflow.prediction.sent_image import sent_image
from vggflow.service.limits import RequestRefused
from vggflow.service.served_model import Answer, Loaded

# The length of the JSON part, where bytes follow.
JSON_LENGTH = "inference-header-content-length"
PIXEL_DIMENSIONS = 3  # of an image: height, width, 3
LENGTH_BYTES = 4


@dataclass(frozen=True)
class Question:
    """What was asked, an image or the reason why it is none for each row, and the request's id."""

    sent: list[Source | str]
    id: str | None


def read(body: bytes, json_length: str | None) -> Question:
    """The images of a request.

    Raises:
        RequestRefused: it is not what the protocol asks for.
    """
    length = _length(json_length, len(body))
    question = _object(parse_json(body[:length]), "the body")
    inputs = question.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise _wrong("`inputs` has to be a list of one tensor, of images")
    identity = question.get("id")
    return Question(
        _images(_object(inputs[0], "the tensor"), body[length:]),
        identity if isinstance(identity, str) else None,
    )


def answer(loaded: Loaded, answers: Sequence[Answer], identity: str | None) -> dict[str, Any]:
    """The response: label, probabilities and error of each row; a row with an error has probabilities of 0."""
    names = loaded.predictor.info.class_names
    nothing = [0.0] * len(names)
    rows = [nothing if each.probabilities is None else each.probabilities.tolist() for each in answers]
    labels = [
        "" if each.error else names[int(np.argmax(row))] for each, row in zip(answers, rows, strict=True)
    ]
    count = len(answers)
    response: dict[str, Any] = {
        "model_name": loaded.name,
        "model_version": loaded.version,
        "outputs": [
            _tensor("label", "BYTES", [count], labels),
            _tensor("probabilities", "FP64", [count, len(names)], [value for row in rows for value in row]),
            _tensor("error", "BYTES", [count], [each.error for each in answers]),
        ],
    }
    return response if identity is None else response | {"id": identity}


def metadata(loaded: Loaded) -> dict[str, Any]:
    """Of the model: its tensors, its classes in the order of their probabilities."""
    names = loaded.predictor.info.class_names
    return {
        "name": loaded.name,
        "versions": [loaded.version] if loaded.version else [],
        "platform": "vggflow",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, len(names)]},
            {"name": "error", "datatype": "BYTES", "shape": [-1]},
        ],
        "parameters": {"classes": list(names), "image_size_px": loaded.predictor.info.image_size_px},
    }


def parse_json(content: bytes) -> Any:
    """What JSON says.

    Raises:
        RequestRefused: it is none.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise _wrong("the JSON is nested too deep") from None
    except ValueError as error:  # bytes that are no UTF-8 among them
        raise _wrong(f"the body is no JSON ({str(error)[:100]})") from None


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _length(said: str | None, body_length: int) -> int:
    if said is None:
        return body_length
    # "0" to "9" only: isdigit() also takes digits such as "²", which int() refuses.
    if not (said.isascii() and said.isdigit() and len(said) < 12 and int(said) <= body_length):
        raise _wrong("Inference-Header-Content-Length has to be the length of the JSON part")
    return int(said)


def _images(tensor: dict[str, Any], rest: bytes) -> list[Source | str]:
    shape, datatype = tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or not shape or not all(type(each) is int and each >= 0 for each in shape):
        raise _wrong("the tensor's `shape` has to be a list of whole numbers")
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and (type(size) is not int or size != len(rest)):
        raise _wrong(
            f"binary_data_size {str(size)[:20]} differs from the {len(rest)} bytes after the JSON part"
        )
    if datatype == "BYTES":
        return _encoded(shape, tensor.get("data"), rest if size is not None else None)
    if datatype == "UINT8":
        return _pixels(shape, tensor.get("data"), rest if size is not None else None)
    raise _wrong(
        f"datatype {str(datatype)[:20]} of the tensor: send BYTES (encoded images) or UINT8 (pixels)"
    )


def _encoded(shape: list[int], data: Any, rest: bytes | None) -> list[Source | str]:
    found = _elements(rest) if rest is not None else data
    if not isinstance(found, list):
        raise _wrong("the tensor has no `data`: send the images in base64")
    # Shapes (N,) and (N, 1) are both in use.
    found = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in found]
    if math.prod(shape) != len(found):
        raise _wrong(f"the tensor has {len(found)} elements, its shape {str(shape)[:60]} says another number")
    return [each if isinstance(each, bytes) else sent_image(each) for each in found]


def _elements(rest: bytes) -> list[bytes]:
    """Each is its length, four bytes, the lowest first, and as many bytes."""
    found, at = [], 0
    while at < len(rest):
        length = int.from_bytes(rest[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES
        if at + length > len(rest):
            raise _wrong("an element of the tensor is longer than the bytes that are left")
        found.append(rest[at : at + length])
        at += length
    return found


def _pixels(shape: list[int], data: Any, rest: bytes | None) -> list[Source | str]:
    if len(shape) == PIXEL_DIMENSIONS:
        shape = [1, *shape]
    if len(shape) != PIXEL_DIMENSIONS + 1 or shape[-1] != 3 or math.prod(shape) == 0:
        raise _wrong(f"shape {str(shape)[:60]} of pixels: expected (N, height, width, 3)")
    try:
        values = np.frombuffer(rest, np.uint8) if rest is not None else np.asarray(data)
        pixels = values.reshape(shape)
    except (ValueError, TypeError):
        raise _wrong(f"the tensor has not as many numbers as its shape {str(shape)[:60]} says") from None
    return [sent_image(each) for each in pixels]


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{what} has to be a JSON object")
    return value


def _wrong(message: str) -> RequestRefused:
    return RequestRefused(HTTPStatus.BAD_REQUEST, message)
