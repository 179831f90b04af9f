"""What a cluster costs: `python -m benchmarks.cluster [--images N] [--json]`, as root on Linux, extra `ray` installed.

Photographs of `$VGGFLOW_PHOTOS`, repeated with changed bytes, are looked at by this machine's own processes, and by two
Ray nodes of one core each in a network of their own: from the same folder, and from an S3 store (moto) by their hash.
CPU seconds are those of all processes but the store's. Costs an image are between a quarter of the images and all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.gate_rows import Row
from benchmarks.gate_scan import multiply
from tests.ray_nodes import Cluster, cluster, wait_for
from vggflow.importing import packing

STORE = "http://127.0.0.1:5000"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
TURNS = 3
PART = 4
SHARD_BYTES = 16 * 2**20
BUCKET = f"import boto3; boto3.client('s3', endpoint_url='{STORE}').create_bucket(Bucket='dvc')"


@dataclass(frozen=True)
class Scan:
    """A scan: what it found, how long it took, and the CPU seconds of all that worked on it."""

    digest: str
    seconds: float
    connecting: float
    cpu_seconds: float


def scan(data: Path) -> None:
    """What the program of a scan does: tells at a third, and at the end."""
    from vggflow import cluster as clusters
    from vggflow.data import manifest
    from vggflow.gate import scan as scans

    began = time.perf_counter()
    if clusters.is_named():
        clusters.connect()
    connected = time.perf_counter()
    told: list[int] = []

    def progress(done: int, total: int) -> None:
        if not told and 3 * done >= total:
            told.append(done)
            print("a third", flush=True)

    found = scans.scan(data, progress)
    seconds = time.perf_counter() - connected
    print(json.dumps([manifest.digest(found), seconds, connected - began]))


class CpuSeconds:
    """The CPU seconds of this process and all that it starts, also of what has ended: of a control group of its own.

    Times of processes do not do: nobody waits for what a killed worker had started, so what that took is lost.
    """

    def __init__(self) -> None:
        first = Path("/sys/fs/cgroup/cpuacct")
        self._root = first if first.exists() else Path("/sys/fs/cgroup")
        self._group = self._root / f"vggflow-benchmark-{os.getpid()}"
        self._group.mkdir()
        (self._group / "cgroup.procs").write_text(str(os.getpid()))

    def so_far(self) -> float:
        """What they have used."""
        old = self._group / "cpuacct.usage"
        if old.exists():
            return int(old.read_text()) / 1e9
        return int((self._group / "cpu.stat").read_text().split()[1]) / 1e6

    def leave_out(self, process: psutil.Process) -> None:
        """A process, and what it has started, no longer counts."""
        for each in [process, *process.children(recursive=True)]:
            (self._root / "cgroup.procs").write_text(str(each.pid))

    def end(self) -> None:
        """Removes the group, whose processes have ended."""
        self.leave_out(psutil.Process())
        self._group.rmdir()


def alone(data: Path, cpu: CpuSeconds) -> Scan:
    """By the processes of this machine."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    before = cpu.so_far()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cluster", "--scan", str(data)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return Scan(*json.loads(done.stdout.splitlines()[-1]), cpu.so_far() - before)


def spread(nodes: Cluster, data: Path, cpu: CpuSeconds, *, kill: int | None = None) -> Scan:
    """By the nodes, one of which may be killed when a third is done."""
    name, before = "driver", cpu.so_far()
    driver = nodes.network.start(
        *(sys.executable, "-m", "benchmarks.cluster", "--scan", str(data)),
        name=name,
        RAY_ADDRESS=nodes.address,
    )
    while kill is not None and "a third" not in nodes.network.said(name):
        time.sleep(0.02)
    if kill is not None:
        nodes.kill(kill)
    if driver.wait():
        raise SystemExit(nodes.network.said(name, "err"))
    found = json.loads(nodes.network.said(name).splitlines()[-1])
    return Scan(*found, cpu.so_far() - before)


def _start(stack: ExitStack, folder: Path, hidden: Sequence[Path] = ()) -> Cluster:
    temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray")))
    said = folder / f"said{len(hidden)}"
    said.mkdir()
    nodes = stack.enter_context(cluster(said, temporary, hidden))
    for _ in range(2):
        nodes.add(wait=False)
    for number, node in enumerate(nodes.nodes, start=2):
        wait_for(nodes.network, f"node{number}", node)
    return nodes


def _slope(part: Scan, whole: Scan, images: int) -> float:
    return (whole.cpu_seconds - part.cpu_seconds) / (images - images // PART)


def _least(turns: Sequence[Sequence[Scan]], place: int) -> Scan:
    """The one of several equal scans that took least CPU."""
    return min((turn[place] for turn in turns), key=lambda scan: scan.cpu_seconds)


def _folders(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Data folders with a part of the images, and with all."""
    made = []
    for count, name in ((options.images // PART, "part"), (options.images, "whole")):
        data = folder / name / "data"
        multiply(Path(options.photos), data, count)
        made.append(data)
    return made[0], made[1]


def _put_into_store(nodes: Cluster, data: Path) -> None:
    """The folder becomes DVC's, its bytes go to the store."""
    root, dvc = data.parent, (sys.executable, "-m", "dvc", "--cd", str(data.parent))
    begin = (
        ("git", "init", "-q", str(root)),
        (*dvc, "init"),
        (*dvc, "remote", "add", "-d", "s3", f"s3://dvc/{root.name}"),
        (*dvc, "remote", "modify", "s3", "endpointurl", STORE),
    )
    for command in (*(() if (root / ".dvc").exists() else begin), (*dvc, "add", "data"), (*dvc, "push")):
        done = nodes.network.run(*command, timeout=3600)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def rows(options: argparse.Namespace, folder: Path, cpu: CpuSeconds) -> Iterator[Row]:
    """CPU seconds an image and once, and what a killed node costs."""
    part, whole = _folders(options, folder)
    count = options.images
    yield Row("cluster", "photographs", count)
    with ExitStack() as stack:
        nodes = _start(stack, folder)
        # In turns, so that a machine that slows down slows both.
        turns = [
            (alone(part, cpu), alone(whole, cpu), spread(nodes, part, cpu), spread(nodes, whole, cpu))
            for _ in range(TURNS)
        ]
        ours, found = (_least(turns, 0), _least(turns, 1)), (_least(turns, 2), _least(turns, 3))
        own = _slope(*ours, count)
        yield Row("cluster", "own processes", own * 1000, "CPU ms/image")
        yield Row("cluster", "connecting", found[1].connecting, "s", most=10)
        yield Row("cluster", "nodes, same folder", _slope(*found, count) * 1000, "CPU ms/image")
        yield Row("cluster", "nodes to own processes", _slope(*found, count) / own, most=1.1)
        once = found[1].cpu_seconds - _slope(*found, count) * count
        yield Row("cluster", "a run on the cluster, once", once, "CPU s")
        killed = spread(nodes, whole, cpu, kill=0)
        ratio = killed.seconds / found[1].seconds
        yield Row("cluster", "one of two nodes killed at a third", ratio, most=2)
        same = {each.digest for each in (ours[1], found[1], killed)}
        yield Row("cluster", "manifests, different ones", len(same), most=1)
    with ExitStack() as stack:
        nodes = _start(stack, folder, (part.parent, whole.parent))
        store = nodes.network.start(
            sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "5000", name="store"
        )
        time.sleep(5)
        cpu.leave_out(psutil.Process(store.pid))
        nodes.network.run(sys.executable, "-c", BUCKET)
        for kind in ("files", "shards"):
            for data in (part, whole):
                if kind == "shards":
                    packing.pack(data, SHARD_BYTES)
                _put_into_store(nodes, data)
            turns = [(spread(nodes, part, cpu), spread(nodes, whole, cpu)) for _ in range(TURNS)]
            found = _least(turns, 0), _least(turns, 1)
            yield Row(
                "cluster", f"nodes, {kind} from the store", _slope(*found, count) * 1000, "CPU ms/image"
            )
            same = found[1].digest == ours[1].digest
            yield Row("cluster", f"{kind} from the store, same manifest", float(same), least=1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--images", type=int, default=16000)
    parser.add_argument("--photos", default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan:
        scan(options.scan)
        return
    if not options.photos:
        raise SystemExit("VGGFLOW_PHOTOS names no folder of photographs")
    os.environ.update(KEYS)
    cpu = CpuSeconds()
    try:
        with tempfile.TemporaryDirectory(prefix="vggflow-cluster-") as folder:
            for row in rows(options, Path(folder), cpu):
                print(json.dumps(row.to_dict()) if options.json else row.to_line(), flush=True)
    finally:
        cpu.end()


if __name__ == "__main__":
    main()
