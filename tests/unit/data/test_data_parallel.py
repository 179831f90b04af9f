"""Work shared out to worker processes: in order, bounded, and gone with the parent."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from vggflow.data.parallel import FEW, for_each
from vggflow.errors import VggflowError

MANY = [f"/nowhere/{number}.jpg" for number in range(FEW + 100)]


def test_results_come_in_the_order_of_the_items():
    assert list(for_each(os.path.basename, MANY, processes=2)) == [f"{n}.jpg" for n in range(FEW + 100)]


def test_few_items_start_no_process():
    results = for_each(lambda item: item.upper(), ["a", "b"], processes=2)

    assert list(results) == ["A", "B"]


def test_workers_are_ended_when_nobody_wants_more():
    results = for_each(os.path.basename, MANY, processes=2)
    next(results)
    assert len(_workers()) == 2
    results.close()

    assert _workers() == []


def test_a_worker_that_dies_is_told_with_the_files_that_it_had():
    results = for_each(os.path.basename, MANY * 20, processes=2)
    next(results)
    for worker in _workers():
        worker.kill()

    with pytest.raises(VggflowError, match=r"ended early .* at one of 32 files from /nowhere/\d+\.jpg on"):
        list(results)
    assert _workers() == []


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """A function that takes its process down at items that end in `77.jpg`, in a module that workers find."""
    (tmp_path / "fragile.py").write_text(
        "import os, signal\n"
        "def look(name):\n"
        "    if name.endswith('77.jpg'):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return name\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("fragile").look


def test_an_item_that_crashes_its_worker_gets_the_result_for_that_and_the_others_theirs(fragile):
    items = [f"{number}.jpg" for number in range(FEW + 10)]
    results = list(for_each(fragile, items, 2, lambda name: f"{name} crashed"))

    assert results == [f"{name} crashed" if name.endswith("77.jpg") else name for name in items]
    assert _workers() == []


def test_an_item_that_crashes_its_worker_is_named_where_there_is_no_result_for_that(fragile):
    items = [f"{number}.png" for number in range(FEW)] + ["77.jpg"]

    with pytest.raises(VggflowError, match=r"^77\.jpg crashes the process that looks at it"):
        list(for_each(fragile, items, 2))


def test_a_program_read_from_stdin_can_share_out_work():
    program = (
        "import os\n"
        "from vggflow.data.parallel import for_each\n"
        f"print(len(list(for_each(os.path.basename, ['a'] * {FEW}, processes=2))))\n"
    )
    said = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)

    assert said.stdout == f"{FEW}\n"


def test_workers_end_with_a_parent_that_is_killed():
    program = (
        "import os, time\n"
        "from vggflow.data.parallel import for_each\n"
        f"results = for_each(os.path.basename, ['a'] * {FEW}, processes=2)\n"
        "next(results)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    parent.stdout.readline()
    workers = _workers(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _workers(parent: int | None = None) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if child.status() != psutil.STATUS_ZOMBIE and "vggflow.data.parallel" in child.cmdline()
    ]


class _Numbers(Sequence[int]):
    """As places are: made when they are asked for, a part of them too."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return _Numbers(self._numbers[place]) if isinstance(place, slice) else self._numbers[place]


def test_items_may_be_made_as_they_are_needed() -> None:
    count = FEW + 7
    assert list(for_each(abs, _Numbers(range(count)), 2)) == list(range(count))


def test_items_that_no_process_can_be_told_are_an_error_and_no_endless_wait() -> None:
    with pytest.raises(TypeError, match="JSON"):
        list(for_each(abs, [object()] * FEW * 2, 2))


def test_a_process_ends_soon_when_its_parent_is_killed_in_the_middle_of_a_batch() -> None:
    code = (
        "import time; from vggflow.data.parallel import for_each\n"
        f"next(for_each(time.sleep, [0.01] + [60] * {FEW}, 2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + 20
        while len(children := psutil.Process(parent.pid).children()) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(1)  # until they are at work
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs(children, 5)[1] == []
