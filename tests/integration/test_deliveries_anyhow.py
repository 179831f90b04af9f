"""Two clones in any order of deliveries, pulls, accidents and kills: no picture is ever lost that nobody let go."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from vggflow import accept, data_versions, pipeline
from vggflow import workspace as workspaces
from vggflow.data.importers import ImportOptions
from vggflow.errors import VggflowError
from vggflow.workspace import Workspace

WRITES = ("os.rename", "os.remove", "subprocess.Popen")
CLONES = st.sampled_from(["ann", "bob"])
KILLS = st.none() | st.integers(1, 40)


class Deliveries(RuleBasedStateMachine):
    """Names of pictures tell their bytes, so a set of names says what there is."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="deliveries-"))
        self.delivered: set[str] = set()
        self.count = 0
        self.let_go: set[str] = set()

    @initialize()
    def start(self) -> None:
        shutil.copytree(self.template, self.folder / "team", symlinks=True)
        self.root = self.folder / "team"
        self.delivered |= self.names("ann")

    def here(self, clone: str) -> Workspace:
        return workspaces.find(self.root / clone)

    def names(self, clone: str) -> set[str]:
        """The pictures that lie in a clone's data."""
        found = (self.root / clone / "data").glob("*/*/*.png")
        return {path.relative_to(self.root / clone / "data").as_posix() for path in found}

    @rule(clone=CLONES, kill=KILLS)
    def deliver(self, clone: str, kill: int | None) -> None:
        name = self.new_name(clone)
        picture = self.root / "delivery" / f"{name}d" / "train" / "red" / name
        picture.parent.mkdir(parents=True)
        picture.write_bytes(name.encode())
        source = picture.parents[2]
        self.step(clone, kill, lambda: pipeline.import_data(self.here(clone), source, ImportOptions()))

    @rule(clone=CLONES)
    def put(self, clone: str) -> None:
        name = self.new_name(clone)
        folder = self.root / clone / "data/train/red"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
        self.step(clone, None, lambda: pipeline.prepare(self.here(clone)))

    @rule(clone=CLONES, kill=KILLS)
    def prepare(self, clone: str, kill: int | None) -> None:
        self.step(clone, kill, lambda: pipeline.prepare(self.here(clone)))

    @rule(clone=CLONES, kill=KILLS)
    def check(self, clone: str, kill: int | None) -> None:
        def look() -> None:
            here = self.here(clone)
            if workspaces.status(here, "data") in ("changed", "untracked"):
                pipeline.prepare(here)
                here.dvc("push", "data.dvc", "weights.dvc")

        self.step(clone, kill, look)

    @rule(clone=CLONES, rebase=st.booleans())
    def pull(self, clone: str, rebase: bool) -> None:
        self.git(clone, "pull", "--quiet", "--rebase" if rebase else "--no-rebase")

    @rule(clone=CLONES)
    def commit(self, clone: str) -> None:
        """As a flow says at its end."""
        if not data_versions.conflicting(self.here(clone), "data"):
            self.git(clone, "commit", "--quiet", "--all", "--message", "Data")

    @rule(clone=CLONES)
    def give_up(self, clone: str) -> None:
        """Back to what the others have, as people do when git is in their way."""
        for command in (("rebase", "--abort"), ("merge", "--abort"), ("fetch", "--quiet")):
            self.git(clone, *command)
        self.git(clone, "reset", "--quiet", "--hard", "origin/main")

    @rule(clone=CLONES, seed=st.integers(0, 1000))
    def accident(self, clone: str, seed: int) -> None:
        for name in random.Random(seed).sample(sorted(self.names(clone)), k=min(2, len(self.names(clone)))):
            (self.root / clone / "data" / name).unlink()

    @rule(clone=CLONES, kill=KILLS)
    def restore(self, clone: str, kill: int | None) -> None:
        self.step(clone, kill, lambda: accept.restore(self.here(clone)))

    @rule(clone=CLONES, kill=KILLS)
    def accept(self, clone: str, kill: int | None) -> None:
        told: list[str] = []
        conflict = data_versions.conflicting(self.here(clone), "data") is not None
        if self.ends_well(
            None, lambda: told.extend(accept.accept(self.here(clone), dry_run=True)[0][0].gone)
        ):
            self.let_go |= set(told)
            self.step(clone, kill, lambda: accept.accept(self.here(clone)))
        if conflict:
            self.finish(clone)

    def finish(self, clone: str) -> None:
        """Ends what git waits for, where nothing conflicts any more."""
        self.git(clone, "commit", "--quiet", "--no-edit")
        self.git(clone, "-c", "core.editor=true", "rebase", "--continue")

    def git(self, clone: str, *arguments: str) -> None:
        """Git may refuse, as it does to people."""
        subprocess.run(["git", *arguments], cwd=self.root / clone, capture_output=True, check=False)

    def step(self, clone: str, kill: int | None, work: Callable[[], Any]) -> bool:
        """Does it, or dies at a write; tells whether it ended well, and then what is there counts as delivered.

        Only errors in one line are expected.
        """
        ended = self.ends_well(kill, work)
        if ended:
            self.delivered |= self.names(clone)
        return ended

    def new_name(self, clone: str) -> str:
        self.count += 1
        return f"{self.count}-{clone}.png"

    def ends_well(self, kill: int | None, work: Callable[[], Any]) -> bool:
        if kill is None:
            try:
                work()
            except VggflowError as error:
                assert "\n" not in str(error)
                return False
            return True
        child = os.fork()
        if child == 0:
            _die_at_write(kill, work)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) in (0, 1), status
        return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0

    def teardown(self) -> None:
        """Everybody brings all to an end: then both have everything that nobody let go."""
        if not hasattr(self, "root"):
            return
        try:
            for clone in ("ann", "bob", "ann", "bob"):
                self.settle(clone)
            kept = self.delivered - self.let_go
            for clone in ("ann", "bob"):
                assert kept <= self.names(clone), f"{clone} lacks {kept - self.names(clone)}"
                version = data_versions.committed(self.here(clone), "data")
                named = data_versions.Cache(self.here(clone)).listing(version or "") or {}
                assert kept <= set(named), f"data.dvc of {clone} lacks {kept - set(named)}"
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def settle(self, clone: str) -> None:
        here = self.here(clone)
        if data_versions.conflicting(here, "data"):
            accept.accept(here)
            self.finish(clone)
        accept.restore(here)
        pipeline.prepare(here)
        self.git(clone, "commit", "--quiet", "--all", "--message", "Data")
        self.git(clone, "pull", "--quiet", "--no-rebase")
        if data_versions.conflicting(here, "data"):
            accept.accept(here)
            self.finish(clone)
        accept.restore(here)
        pipeline.prepare(here)
        self.git(clone, "commit", "--quiet", "--all", "--message", "Data")
        here.dvc("push", "data.dvc", "weights.dvc")
        here.git("push", "--quiet", "origin", "HEAD:main")


def _die_at_write(number: int, work: Callable[[], Any]) -> None:
    """Ends this process at its n-th write or start of a program, as the kernel would."""
    left = [number]

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in WRITES or (
            event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        )
        left[0] -= writes
        if writes and left[0] < 0:  # the signal is an event of its own
            os.kill(os.getpid(), signal.SIGKILL)

    code = 7  # a bug: told apart by its exit code
    try:
        sys.addaudithook(count)
        work()
        code = 0
    except VggflowError:
        code = 1
    finally:
        os._exit(code)  # whatever happened: the child is never to go on with the tests of its parent


@pytest.fixture(scope="module")
def machine(versioned: Path, tmp_path_factory: pytest.TempPathFactory) -> type[Deliveries]:
    """Starts from two equal clones of three small files; what a file holds is its name."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(versioned, folder / "ann", symlinks=True)
    ann = workspaces.find(folder / "ann")
    shutil.rmtree(ann.root / "data")
    for name in ("train/red/a.png", "train/red/b.png", "valid/red/c.png"):
        (ann.root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (ann.root / "data" / name).write_bytes(name.encode())
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder / "team.git"], check=True)
    ann.git("remote", "add", "origin", "../team.git")
    ann.dvc("remote", "modify", "local", "url", "../../team.dvc")
    ann.dvc("add", "data")
    ann.dvc("push", "data.dvc", "weights.dvc")
    ann.git("commit", "--quiet", "--all", "--message", "Small data")
    ann.git("push", "--quiet", "--set-upstream", "origin", "main")
    subprocess.run(["git", "clone", "--quiet", "team.git", "bob"], cwd=folder, check=True)
    for name in ("ann", "bob"):
        here = workspaces.find(folder / name)
        here.git("config", "user.email", f"{name}@example.org")
        here.git("config", "user.name", name)
        here.git("remote", "set-url", "origin", "../team.git")
        pipeline.prepare(here)
    Deliveries.template = folder
    return Deliveries


def _run(machine: type[Deliveries], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


@pytest.mark.slow
def test_nothing_is_lost_in_a_few_orders(machine: type[Deliveries]) -> None:
    _run(machine, examples=2, steps=6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_lost_in_many_orders(machine: type[Deliveries]) -> None:
    _run(machine, examples=40, steps=14)
