"""What a service's answers were like is written down by the hour, at a switch and at the end."""

import asyncio
from pathlib import Path

import pytest
from coloured_model import BLUE, CLASSES, GREEN, RED, write_graph

from vggflow.errors import VggflowError
from vggflow.prediction.onnx_predictor import OnnxPredictor
from vggflow.service.keep import Keeping
from vggflow.service.limits import Limits
from vggflow.service.served_model import Loaded, Service


def loaded(folder: Path, version: int, number: int | None) -> Loaded:
    graph = write_graph(folder / f"{version}.onnx", version)
    return Loaded(OnnxPredictor(graph), "pets", number)


class Written:
    """Where answers are kept; it may be away."""

    def __init__(self):
        self.found = []
        self.away = False

    def __call__(self, title, observations):
        if self.away:
            raise VggflowError("MLflow is away")
        self.found.append((title, observations.counts.tolist()))


@pytest.fixture
def written():
    return Written()


async def ask(service, *pictures):
    answers = await service.current.answers(pictures)
    assert [each.error for each in answers] == [""] * len(pictures)


def test_at_the_end_what_came_is_written(tmp_path, written):
    async def work():
        service = Service(loaded(tmp_path, 1, 3), Limits())
        keeping = Keeping(service, written)
        service.begin()
        await ask(service, RED, RED, BLUE)
        await service.end()
        await keeping.end()

    asyncio.run(work())
    assert written.found == [("pets version 3", [1, 0, 2])]
    assert CLASSES == ("blue", "green", "red")


def test_every_so_often_what_came_since_is_written(tmp_path, written):
    async def work():
        service = Service(loaded(tmp_path, 1, 3), Limits())
        running = asyncio.create_task(Keeping(service, written, seconds=0.02).run())
        service.begin()
        for pictures in ((RED,), (GREEN, GREEN)):
            await ask(service, *pictures)
            await asyncio.sleep(0.3)
        running.cancel()
        await service.end()

    asyncio.run(work())
    assert written.found == [("pets version 3", [0, 0, 1]), ("pets version 3", [0, 2, 0])]


def test_each_version_keeps_its_own_answers(tmp_path, written):
    async def work():
        service = Service(loaded(tmp_path, 1, 3), Limits())
        keeping = Keeping(service, written)
        service.begin()
        await ask(service, RED)
        service.replace(loaded(tmp_path, 2, 4))
        await ask(service, RED, RED)
        await asyncio.sleep(0.2)
        await service.end()
        await keeping.end()

    asyncio.run(work())
    # The second one takes red for blue.
    assert sorted(written.found) == [("pets version 3", [0, 0, 1]), ("pets version 4", [2, 0, 0])]


def test_while_the_server_is_away_nothing_is_lost_and_it_is_said_once(tmp_path, written, capsys):
    async def work():
        service = Service(loaded(tmp_path, 1, 3), Limits())
        keeping = Keeping(service, written, seconds=0.02)
        running = asyncio.create_task(keeping.run())
        service.begin()
        written.away = True
        await ask(service, RED)
        await asyncio.sleep(0.2)
        await ask(service, BLUE)
        await asyncio.sleep(0.2)
        written.away = False
        await asyncio.sleep(0.2)
        running.cancel()
        await service.end()
        assert b"vggflow_keep_errors_total 0.0" not in service.metrics.text()

    asyncio.run(work())
    assert written.found == [("pets version 3", [1, 0, 1])]
    assert capsys.readouterr().err.count("MLflow is away") == 1


def test_a_server_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    from vggflow.service import keep

    monkeypatch.setattr(keep, "SECONDS_AT_THE_END", 0.2)
    release = []

    def hang(_title, _found):
        import time

        while not release:
            time.sleep(0.02)

    async def work():
        service = Service(loaded(tmp_path, 1, 3), Limits())
        keeping = Keeping(service, hang)
        service.begin()
        await ask(service, RED)
        await service.end()
        began = asyncio.get_running_loop().time()
        await keeping.end()
        took = asyncio.get_running_loop().time() - began
        release.append(True)
        return took

    assert asyncio.run(work()) < 5


def test_the_answers_of_a_file_are_nobody_s(tmp_path, written):
    async def work():
        service = Service(loaded(tmp_path, 1, None), Limits())
        keeping = Keeping(service, written)
        service.begin()
        await ask(service, RED)
        await service.end()
        await keeping.end()

    asyncio.run(work())
    assert written.found == []
