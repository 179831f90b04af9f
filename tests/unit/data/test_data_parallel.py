"""Work shared out to worker processes: in order, bounded, and gone with the parent."""

import os
import signal
import subprocess
import sys
import time

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
