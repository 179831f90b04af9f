"""Checkpoints that are written while the next epoch trains."""

import threading
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from tiny_training import HEAD, TOP, Listener

from vggflow.errors import VggflowError
from vggflow.features import array_files
from vggflow.training import fitting
from vggflow.training.checkpoint_writer import CheckpointWriter
from vggflow.training.checkpoints import Checkpoints, Progress
from vggflow.training.fitting import fit

ARRAYS = {"a": np.ones(2)}


class Waiting(Checkpoints):
    """Writes when it is let."""

    def __init__(self, folder):
        super().__init__(folder)
        self.let = threading.Event()

    def save(self, progress, arrays):
        assert self.let.wait(30)
        super().save(progress, arrays)


@pytest.fixture
def place(tmp_path):
    return Waiting(tmp_path / "one")


def test_nobody_waits_for_a_checkpoint_and_its_news_come_when_it_is_on_disk(place):
    told = []
    with CheckpointWriter(place) as writer:
        writer.begin(Progress(phase=1), ARRAYS, None, lambda: told.append(place.load()[0].phase))
        writer.tell()
        assert told == []
        place.let.set()
        writer.finish()
        assert told == [1]
        writer.finish()
    assert told == [1]


def test_a_checkpoint_is_of_the_moment_when_it_was_begun(place):
    progress = Progress()
    progress.add({"epoch": 1}, [])
    with CheckpointWriter(place) as writer:
        writer.begin(progress, ARRAYS, None, lambda: None)
        progress.add({"epoch": 2}, [])
        progress.next_phase()
        place.let.set()
    assert [place.load()[0].rows, place.load()[0].phase] == [[{"epoch": 1}], 0]


def test_the_one_after_it_waits(place):
    told = []
    place.let.set()
    with CheckpointWriter(place) as writer:
        for phase in (1, 2):
            writer.begin(
                Progress(phase=phase, best_epoch=phase),
                ARRAYS,
                ARRAYS,
                lambda phase=phase: told.append(phase),
            )
        assert told == [1]
    assert told == [1, 2]
    assert place.load()[0].best_epoch == 2


@pytest.mark.parametrize(("free", "waits"), [(127, True), (129, False)])
def test_where_memory_is_short_the_next_epoch_waits_for_it(place, monkeypatch, free, waits):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    told = []
    with CheckpointWriter(place) as writer:
        threading.Timer(0.3, place.let.set).start()
        writer.begin(Progress(), {"a": np.ones(1)}, {"a": np.ones(1)}, lambda: told.append(1))
        assert bool(told) is waits


def test_what_interrupts_a_training_leaves_the_checkpoint_that_is_being_written(place):
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(place) as writer:
        writer.begin(Progress(phase=1), ARRAYS, None, pytest.fail)
        threading.Timer(0.3, place.let.set).start()
        raise KeyboardInterrupt
    assert place.load()[0].phase == 1


def test_a_checkpoint_that_could_not_be_written_ends_the_training(tmp_path):
    class Full(Checkpoints):
        def save(self, progress, arrays):
            raise VggflowError("no room")

    told = []
    with pytest.raises(VggflowError, match="no room"), CheckpointWriter(Full(tmp_path)) as writer:
        writer.begin(Progress(), ARRAYS, None, lambda: told.append(1))
    assert told == []


def test_steps_go_on_while_a_checkpoint_is_written(make_job, monkeypatch):
    """Held until the second epoch has begun: a training that waited for the first one's checkpoint would never end.

    It is told of once it is on disk, not at the end of the second epoch.
    """
    begun, writers = threading.Event(), []
    write = array_files.write

    class Known(CheckpointWriter):
        def __init__(self, place):
            super().__init__(place)
            writers.append(self)

    def slow(path, arrays):
        if any(name.startswith("optimizer/") for name in arrays):
            assert begun.wait(30)
        write(path, arrays)

    class Order(Listener):
        def __init__(self):
            super().__init__()
            self.order = []

        def on_step(self, done, total, row):
            self.order.append(("step", row["epoch"]))
            if (row["epoch"], done) == (2, 1):
                begun.set()
                writers[0]._under_way[0].result(30)

        def on_epoch(self, row):
            self.order.append(("epoch", row["epoch"]))

    monkeypatch.setattr(array_files, "write", slow)
    monkeypatch.setattr(fitting, "CheckpointWriter", Known)
    listener = Order()
    fit(make_job({"phases": [HEAD]}), listener)
    first, second = listener.order.index(("step", 2)), listener.order.index(("epoch", 1))
    assert second == first + 1
    assert [name for name in listener.order if name[0] == "epoch"] == [("epoch", 1), ("epoch", 2)]


def test_at_the_end_of_a_phase_only_what_it_learnt_is_kept(make_job):
    class Stopped(BaseException):
        pass

    class Second(Listener):
        def on_step(self, done, total, row):
            if row["phase"] == "top":
                raise Stopped

    job = make_job({"phases": [HEAD, TOP]})
    with pytest.raises(Stopped):
        fit(job, Second())
    (folder,) = (job.state_folder / "checkpoints").iterdir()
    progress, arrays = Checkpoints(folder).load()
    assert (progress.phase, progress.epoch, len(progress.rows)) == (1, 0, 2)
    assert arrays and all(name.startswith("layer/") for name in arrays)
    assert not list(folder.glob("best-*"))
