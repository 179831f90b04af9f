"""The Open Inference Protocol: its own forms, and what is none of them."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from coloured_model import BLUE, CLASSES, RED, Start

INFER = "/v2/models/pets/infer"
TEXT = [base64.b64encode(each).decode() for each in (RED, BLUE)]
PIXELS = np.zeros((2, 4, 5, 3), np.uint8)
PIXELS[0, ..., 0] = PIXELS[1, ..., 2] = 250


def tensor(shape: list[int], data: Any, datatype: str = "BYTES", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "shape": shape, "datatype": datatype, "data": data} | more]}


def binary(
    shape: list[int], datatype: str, rest: bytes, size: int | None = None
) -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data_size": len(rest) if size is None else size}
    head = json.dumps(
        {"inputs": [{"name": "image", "shape": shape, "datatype": datatype, "parameters": parameters}]}
    ).encode()
    return head + rest, {"Inference-Header-Content-Length": str(len(head))}


ELEMENTS = b"".join(len(each).to_bytes(4, "little") + each for each in (RED, BLUE))


@pytest.mark.parametrize(
    "sent",
    [
        {"json": tensor([2], TEXT)},
        {"json": tensor([2, 1], [[each] for each in TEXT])},
        {"json": tensor([2, 4, 5, 3], PIXELS.tolist(), "UINT8")},
        {"json": tensor([2, 4, 5, 3], PIXELS.ravel().tolist(), "UINT8")},
        dict(zip(("content", "headers"), binary([2], "BYTES", ELEMENTS), strict=True)),
        dict(zip(("content", "headers"), binary([2, 4, 5, 3], "UINT8", PIXELS.tobytes()), strict=True)),
    ],
    ids=["base64", "column", "pixels", "flat-pixels", "bytes", "pixel-bytes"],
)
def test_every_form_has_the_model_s_answer(start: Start, sent: dict[str, Any]) -> None:
    started = start()
    answer = started.client.post(INFER, **sent)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["model_name"], said["model_version"]) == ("pets", "1")
    outputs = {each["name"]: each for each in said["outputs"]}
    assert outputs["label"]["data"] == ["red", "blue"]
    assert outputs["error"]["data"] == ["", ""]
    assert outputs["probabilities"]["shape"] == [2, 3]
    images = [RED, BLUE] if "BYTES" in str(sent) else list(PIXELS)
    expected = started.service.current.loaded.predictor.predict(images)
    np.testing.assert_allclose(np.reshape(outputs["probabilities"]["data"], (2, 3)), expected, atol=1e-12)


def test_one_picture_of_pixels_needs_no_fourth_dimension(start: Start) -> None:
    answer = start().client.post(INFER, json=tensor([4, 5, 3], PIXELS[1].tolist(), "UINT8"))
    assert answer.json()["outputs"][0]["data"] == ["blue"]


def test_a_bad_row_has_its_reason_and_the_good_ones_their_answers(start: Start) -> None:
    answer = start().client.post(INFER, json=tensor([3], [TEXT[0], "no base64!", TEXT[1]]) | {"id": "7"})
    said = answer.json()
    assert said["id"] == "7"
    outputs = {each["name"]: each["data"] for each in said["outputs"]}
    assert outputs["label"] == ["red", "", "blue"]
    assert outputs["error"][0] == outputs["error"][2] == "" and "base64" in outputs["error"][1]
    assert outputs["probabilities"][3:6] == [0, 0, 0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "has to be a JSON object"),
        (b"{}", "`inputs` has to be a list of one tensor"),
        (json.dumps({"inputs": [1]}), "the tensor has to be a JSON object"),
        (json.dumps(tensor([2], TEXT[:1])), "its shape [2] says another number"),
        (json.dumps(tensor([-1], TEXT)), "list of whole numbers"),
        (json.dumps(tensor([True], TEXT[:1])), "list of whole numbers"),
        (json.dumps(tensor([1], "text")), "no `data`"),
        (json.dumps(tensor([1], [1.5], "FP32")), "datatype FP32"),
        (json.dumps(tensor([2, 4, 5, 3], [1, 2], "UINT8")), "not as many numbers"),
        (json.dumps(tensor([10**9, 10**9, 10**9, 3], [1, 2], "UINT8")), "not as many numbers"),
        (json.dumps(tensor([2, 4, 5, 4], [0] * 160, "UINT8")), "expected (N, height, width, 3)"),
        (json.dumps(tensor([0, 4, 5, 3], [], "UINT8")), "expected (N, height, width, 3)"),
    ],
)
def test_what_is_no_question_is_refused_in_one_line(start: Start, content: bytes | str, said: str) -> None:
    answer = start().client.post(INFER, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"] and len(answer.json()["error"]) < 250


@pytest.mark.parametrize("length", ["-1", "x", "99999999999999", "²", "100000"])
def test_a_json_part_of_no_length_is_refused(start: Start, length: str) -> None:
    content, _ = binary([2], "BYTES", ELEMENTS)
    answer = start().client.post(
        INFER, content=content, headers={"Inference-Header-Content-Length": length.encode()}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("rest", [ELEMENTS[:-1], ELEMENTS + b"\0", b"\xff\xff\xff\xff"])
def test_elements_that_are_cut_are_refused(start: Start, rest: bytes) -> None:
    content, headers = binary([2], "BYTES", rest)
    assert start().client.post(INFER, content=content, headers=headers).status_code == 400
    content, headers = binary([2], "BYTES", ELEMENTS, size=3)
    assert "differs from" in start().client.post(INFER, content=content, headers=headers).json()["error"]


def test_another_model_and_another_version_are_not_here(start: Start) -> None:
    client = start().client
    assert client.get("/v2/models/pets").json()["parameters"] == {
        "classes": list(CLASSES),
        "image_size_px": 8,
    }
    for path in ("/v2/models/pets", "/v2/models/pets/versions/1"):
        assert client.get(f"{path}/ready").json() == {"name": "pets", "ready": True}
        assert client.post(f"{path}/infer", json=tensor([1], TEXT[:1])).status_code == 200
    for path in ("/v2/models/other", "/v2/models/pets/versions/2"):
        refused = client.post(f"{path}/infer", json=tensor([1], TEXT[:1]))
        assert refused.status_code == 404 and "pets version 1 answers" in refused.json()["error"]


def test_pixels_that_are_none_are_rows_with_a_reason(start: Start) -> None:
    values = [300.0] * 12 + [1] * 12
    answer = start().client.post(INFER, json=tensor([2, 2, 2, 3], values, "UINT8"))
    errors = answer.json()["outputs"][2]["data"]
    assert "whole numbers from 0 to 255" in errors[0] and errors[1] == ""
