"""Requests to a service and what comes back, bad ones above all."""

import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from coloured_model import BLUE, CLASSES, GREEN, RED, Start, picture

from vggflow.prediction.onnx_predictor import OnnxPredictor
from vggflow.service.served_model import Loaded


def _png_header(width: int, height: int) -> bytes:
    """A PNG that says it is large and is a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def test_an_image_is_answered_as_the_model_itself_answers(start: Start) -> None:
    started = start()
    answer = started.client.post("/predict", content=RED)
    assert answer.status_code == 200
    said = answer.json()
    assert said["model"] == {"name": "pets", "version": "1"}
    assert answer.headers["x-vggflow-model"] == "pets version 1"
    expected = started.service.current.loaded.predictor.predict([RED])[0]
    assert said["predictions"] == [
        {
            "label": "red",
            "probability": pytest.approx(expected.max(), abs=1e-12),
            "probabilities": pytest.approx(dict(zip(CLASSES, expected, strict=True)), abs=1e-12),
        }
    ]


def test_a_form_has_a_row_for_each_file_and_a_bad_one_costs_its_own(start: Start) -> None:
    files = [("images", ("a.png", RED)), ("images", ("b.jpg", RED[:40])), ("other", ("c.png", BLUE))]
    answer = start().client.post("/predict", files=files)
    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    assert [(row["file"], row.get("label")) for row in rows] == [
        ("a.png", "red"),
        ("b.jpg", None),
        ("c.png", "blue"),
    ]
    assert rows[1]["error"] and "label" not in rows[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image of a known format"),
        (RED[:60], "not a readable image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(start: Start, content: bytes, said: str) -> None:
    answer = start().client.post("/predict", content=content)
    assert answer.status_code == 422
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(start: Start) -> None:
    client = start(body_bytes=1000).client
    announced = client.post("/predict", content=bytes(1001))
    assert announced.status_code == 413 and "limit of 1,000 bytes" in announced.json()["error"]
    sent = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            sent.append(number)
            yield bytes(100)

    unannounced = client.post("/predict", content=pieces())
    assert unannounced.status_code == 413
    assert unannounced.headers["connection"] == "close"


def test_a_picture_that_says_it_is_huge_is_not_decoded(start: Start) -> None:
    client = start(image_pixels=1_000_000).client
    answer = client.post("/predict", content=_png_header(1001, 1000))
    assert answer.status_code == 422
    assert "1001 × 1000 pixels, more than the limit of 1,000,000" in answer.json()["error"]
    # One pixel less is looked at, and found to be damaged.
    assert "limit" not in client.post("/predict", content=_png_header(1000, 1000)).json()["error"]


def test_more_images_than_the_limit_are_refused(start: Start) -> None:
    client = start(images=2).client
    many = client.post("/predict", files=[("i", (f"{n}.png", RED)) for n in range(3)])
    # The form's parser counts first.
    assert many.status_code == 400 and "Too many files" in many.json()["error"]
    question = _question([3], ["x"] * 3)
    refused = client.post("/v2/models/pets/infer", json=question)
    assert refused.status_code == 413 and "3 images, more than the limit of 2" in refused.json()["error"]
    none = client.post("/v2/models/pets/infer", json=_question([0], []))
    assert none.status_code == 422 and "send at least one" in none.json()["error"]


class Slow(OnnxPredictor):
    """Waits until it may answer; counts how many images it was asked about at once."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded.predictor.path)
        self.may = threading.Event()
        self.batches: list[int] = []

    def _outputs(self, batch):
        self.batches.append(len(batch))
        self.may.wait(20)
        return super()._outputs(batch)


def _slow(start: Start) -> tuple[Slow, Loaded]:
    loaded = start.load(1)
    slow = Slow(loaded)
    return slow, Loaded(slow, "pets", 1)


def _until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_waits_goes_through_the_network_together(start: Start) -> None:
    slow, loaded = _slow(start)
    started = start(loaded=loaded)
    with ThreadPoolExecutor(21) as threads:
        first = threads.submit(started.client.post, "/predict", content=RED)
        _until(lambda: slow.batches == [1])
        others = [
            threads.submit(started.client.post, "/predict", content=each) for each in [GREEN, BLUE] * 10
        ]
        _until(lambda: started.service.current._batches._waiting.qsize() == 20)
        slow.may.set()
        labels = [future.result().json()["predictions"][0]["label"] for future in [first, *others]]
    assert labels == ["red", *["green", "blue"] * 10]
    assert slow.batches == [1, 20]


def test_too_much_that_waits_is_refused_and_what_waited_is_answered(start: Start) -> None:
    slow, loaded = _slow(start)
    started = start(loaded=loaded, waiting_images=2)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(started.client.post, "/predict", content=RED) for _ in range(2)]
        _until(lambda: sum(slow.batches) + started.service.current._batches._waiting.qsize() >= 2)
        refused = started.client.post("/predict", content=RED)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        slow.may.set()
        assert [future.result().status_code for future in waiting] == [200, 200]
    # What they held is free again.
    assert started.client.post("/predict", content=RED).status_code == 200


def test_an_answer_that_takes_too_long_is_not_waited_for(start: Start) -> None:
    slow, loaded = _slow(start)
    started = start(loaded=loaded, seconds=0.3)
    late = started.client.post("/predict", content=RED)
    assert late.status_code == 503 and "not done within 0.3 s" in late.json()["error"]
    slow.may.set()
    assert started.client.post("/predict", content=RED).status_code == 200


def test_a_network_of_nans_is_told_in_one_line(start: Start) -> None:
    class Broken(OnnxPredictor):
        def _outputs(self, batch):
            return np.full((len(batch), 3), np.nan, np.float32), None

    loaded = start.load(1)
    client = start(loaded=Loaded(Broken(loaded.predictor.path), "pets", 1)).client
    for _ in range(2):  # the thread that asks it lives on
        answer = client.post("/predict", content=RED)
        assert answer.status_code == 503 and "not finite" in answer.json()["error"]


def test_a_token_is_asked_for_everywhere_but_at_health_and_page(start: Start) -> None:
    client = start(token="secret").client  # noqa: S106
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    for send in (
        lambda **how: client.post("/predict", content=RED, **how),
        lambda **how: client.post("/explain", content=b"x", **how),
        lambda **how: client.post("/v2/models/pets/infer", json=_question([1], ["x"]), **how),
        lambda **how: client.get("/v2/models/pets", **how),
        lambda **how: client.get("/v2", **how),
        lambda **how: client.get("/metrics", **how),
    ):
        for wrong in ({}, {"authorization": "Bearer secre"}, {"authorization": "secret"}):
            assert send(headers=wrong).status_code == 401
        assert send(headers={"authorization": "Bearer secret"}).status_code != 401


def test_without_a_token_only_this_machine_s_own_names_are_answered(start: Start) -> None:
    client = start().client
    assert client.post("/predict", content=RED, headers={"host": "localhost:8000"}).status_code == 200
    assert client.post("/predict", content=RED, headers={"host": "evil.example"}).status_code == 400


def test_what_is_not_there_is_one_line(start: Start) -> None:
    client = start().client
    answer = client.get("/nothing")
    assert answer.status_code == 404 and answer.json()["error"].startswith("GET /nothing: not found")
    assert client.get("/predict").status_code == 405


def test_metrics_count_requests_answers_and_versions(start: Start) -> None:
    started = start()
    for content in (RED, RED, BLUE, b"none"):
        started.client.post("/predict", content=content)
    for number in range(3):
        started.client.get(f"/scanner/{number}")
    text = started.client.get("/metrics").text
    for line in (
        'vggflow_requests_total{path="/predict",status="200"} 3.0',
        'vggflow_requests_total{path="/predict",status="422"} 1.0',
        # However many addresses somebody tries, they are one line.
        'vggflow_requests_total{path="other",status="404"} 3.0',
        'vggflow_predictions_total{label="red"} 2.0',
        'vggflow_predictions_total{label="blue"} 1.0',
        "vggflow_unreadable_images_total 1.0",
        "vggflow_confidence_count 3.0",
        'vggflow_model_version{name="pets"} 1.0',
    ):
        assert line in text, line


def _question(shape: list[int], data: list, datatype: str = "BYTES") -> dict:
    return {"inputs": [{"name": "image", "shape": shape, "datatype": datatype, "data": data}]}


def test_a_large_picture_and_a_small_one_of_one_colour_have_one_answer(start: Start) -> None:
    client = start().client
    small, large = (
        client.post("/predict", content=picture(250, 10, 10, size, kind)).json()["predictions"][0]["label"]
        for size, kind in (((3, 3), "BMP"), ((3000, 2000), "JPEG"))
    )
    assert small == large == "red"
