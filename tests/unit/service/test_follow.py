"""Another champion while requests go on."""

import asyncio
import threading
import time
from functools import partial

import pytest
from coloured_model import RED
from starlette.testclient import TestClient

from vggflow.errors import VggflowError
from vggflow.service import app
from vggflow.service.follow import follow
from vggflow.service.limits import Limits
from vggflow.service.served_model import Service

# What version 1 and version 2 say of a red picture.
LABELS = {"1": "red", "2": "blue"}


def test_every_answer_is_of_the_version_that_it_names_while_versions_change(load) -> None:
    service = Service(load(1), Limits())
    models = {1: load(2), 2: load(1)}
    follows = partial(follow, look=lambda number: models[number], seconds=0.02)
    seen: list[str] = []
    ended = threading.Event()
    with TestClient(app.create(service, None, follows), base_url="http://127.0.0.1") as client:

        def ask() -> None:
            while not ended.is_set():
                said = client.post("/predict", content=RED).json()
                assert said["predictions"][0]["label"] == LABELS[said["model"]["version"]]
                seen.append(said["model"]["version"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while (seen.count("1") < 30 or seen.count("2") < 30) and time.monotonic() < deadline:
            time.sleep(0.02)
        ended.set()
        for thread in threads:
            thread.join()
        assert seen.count("1") >= 30 and seen.count("2") >= 30
        assert 'vggflow_requests_total{path="/predict",status="200"}' in client.get("/metrics").text
        assert 'status="5' not in client.get("/metrics").text


def test_a_request_under_way_ends_on_the_model_that_it_began_on(load) -> None:
    async def changed() -> str:
        service = Service(load(1), Limits())
        service.begin()
        model = service.current
        waiting = asyncio.create_task(model.answers([RED]))
        await asyncio.sleep(0)
        service.replace(load(2))
        answer = (await waiting)[0]
        assert service.current.loaded.number == 2
        await service.end()
        return model.loaded.predictor.info.class_names[int(answer.probabilities.argmax())]

    assert asyncio.run(changed()) == LABELS["1"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(VggflowError("MLflow is away"), "MLflow is away"), (KeyError("a\nbug"), "KeyError('a\\nbug')")],
)
def test_while_the_registry_is_away_the_model_goes_on_and_it_is_said_once(
    load, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    looks = []

    def look(number: int | None) -> None:
        looks.append(number)
        if len(looks) < 6:
            raise error

    async def followed() -> None:
        service = Service(load(1), Limits())
        service.begin()
        following = asyncio.create_task(follow(service, look, 0.01))
        while len(looks) < 9:
            await asyncio.sleep(0.01)
        assert service.current.loaded.number == 1
        assert b"vggflow_follow_errors_total 5.0" in service.metrics.text()
        following.cancel()
        await service.end()

    asyncio.run(followed())
    assert capsys.readouterr().err.splitlines() == [
        f"{said}; pets version 1 goes on answering",
        "the registry answers again",
    ]
