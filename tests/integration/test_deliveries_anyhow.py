"""Two clones in any order of deliveries, pulls, accidents and kills: no picture is ever lost that nobody let go.

A kill ends vggflow, or the DVC that it started, at its n-th write. `pytest -m slow -rP` prints how many steps and kills
of which kind there were; the tests ask for a number of them.
"""

import os
import random
import shutil
import subprocess
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from forked_programs import COUNTDOWN, Countdown
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from vggflow import workspace as workspaces
from vggflow.commands import data
from vggflow.commands import data_accept as accept
from vggflow.commands import prepare as prepare_command
from vggflow.errors import VggflowError
from vggflow.importing.import_images import ImportOptions
from vggflow.versioning import data_versions
from vggflow.workspace import Workspace

CLONES = st.sampled_from(["ann", "bob"])
# After how many writes a step is killed, if it has so many: one that finds nothing to do has 8 to 24, others 60 to 100.
KILLS = st.integers(0, 110)
NEVER = 1 << 40
# No accident takes these: a class without any picture is refused, whoever let it go.
OF_EVERY_CLASS = {"train/red/a.png", "valid/red/c.png"}
# Flushing to a disk takes most of the time, and a kill loses nothing that the kernel has.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 (a folder of its own below it)


class Deliveries(RuleBasedStateMachine):
    """Names of pictures tell their bytes, so a set of names says what there is."""

    template: Path
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="deliveries-", dir=IN_MEMORY))
        self.delivered: set[str] = set()
        self.count = 0
        self.let_go: set[str] = set()
        self.last: dict[str, Path] = {}

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
    def deliver(self, clone: str, kill: int) -> None:
        name = self.new_name(clone)
        picture = self.root / "delivery" / f"{name}d" / "train" / "red" / name
        picture.parent.mkdir(parents=True)
        picture.write_bytes(name.encode())
        self.last[clone] = picture
        self.bring(clone, kill, picture)

    @rule(clone=CLONES, kill=KILLS)
    def deliver_again(self, clone: str, kill: int) -> None:
        """As people do after a kill."""
        if clone in self.last:
            self.bring(clone, kill, self.last[clone])

    def bring(self, clone: str, kill: int, picture: Path) -> None:
        source, name = picture.parents[2], f"train/red/{picture.name}"
        if self.step(clone, kill, lambda: data.import_data(self.here(clone), source, ImportOptions())):
            assert name in self.names(clone)

    @rule(clone=CLONES)
    def put(self, clone: str) -> None:
        name = self.new_name(clone)
        folder = self.root / clone / "data/train/red"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
        self.step(clone, None, lambda: prepare_command.prepare(self.here(clone)))

    @rule(clone=CLONES, kill=KILLS)
    def prepare(self, clone: str, kill: int) -> None:
        self.step(clone, kill, lambda: prepare_command.prepare(self.here(clone)))

    @rule(clone=CLONES, kill=KILLS)
    def check(self, clone: str, kill: int) -> None:
        def look() -> None:
            here = self.here(clone)
            if workspaces.status(here, "data") in ("changed", "untracked"):
                prepare_command.prepare(here)
                here.dvc("push", "data.dvc", "weights.dvc")

        self.step(clone, kill, look)

    @rule(clone=CLONES, way=st.sampled_from(["commit", "pull", "pull and rebase", "give up"]))
    def use_git(self, clone: str, way: str) -> None:
        if way == "give up":
            self.give_up(clone)
        elif way != "commit":
            self.git(clone, "pull", "--quiet", "--no-rebase" if way == "pull" else "--rebase")
        elif not data_versions.conflicting(self.here(clone), "data"):  # as a flow says at its end
            self.git(clone, "commit", "--quiet", "--all", "--message", "Data")

    def give_up(self, clone: str) -> None:
        """Back to what the others have, as people do when git is in their way."""
        for command in (("rebase", "--abort"), ("merge", "--abort"), ("fetch", "--quiet")):
            self.git(clone, *command)
        self.git(clone, "reset", "--quiet", "--hard", "origin/main")

    @rule(clone=CLONES, seed=st.integers(0, 1000))
    def accident(self, clone: str, seed: int) -> None:
        names = sorted(self.names(clone) - OF_EVERY_CLASS)
        for name in random.Random(seed).sample(names, k=min(2, len(names))):
            (self.root / clone / "data" / name).unlink()

    @rule(clone=CLONES, kill=KILLS)
    def restore(self, clone: str, kill: int) -> None:
        self.step(clone, kill, lambda: accept.restore(self.here(clone)))

    @rule(clone=CLONES, kill=KILLS)
    def accept(self, clone: str, kill: int) -> None:
        conflict = data_versions.conflicting(self.here(clone), "data") is not None
        with suppress(VggflowError):
            (folder, *_), _ = accept.accept(self.here(clone), dry_run=True)
            self.let_go |= set(folder.gone)
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
        """Does it in a process of its own, since a kill ends that."""
        countdown = Countdown.start(self.root / "countdown", NEVER if kill is None else kill)
        child = os.fork()
        if child == 0:
            _do(self.root / "countdown", work)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        cut = countdown.left < 0
        assert code in (0, 1) or (cut and code < 0), code
        kind = {0: "ended well", 1: "DVC killed" if cut else "refused"}.get(code, "vggflow killed")
        self.seen["steps"] += 1
        self.seen[kind] += 1
        event(kind)
        return code == 0

    def teardown(self) -> None:
        """Everybody brings all to an end: then both have everything that nobody let go."""
        if not hasattr(self, "root"):
            return
        try:
            for clone in ("ann", "bob", "ann"):  # the last brings what the second sent
                self.settle(clone)
            kept = self.delivered - self.let_go
            for clone in ("ann", "bob"):
                self.hold_what_they_are_called(clone)
                assert kept <= self.names(clone), f"{clone} lacks {kept - self.names(clone)}"
                version = data_versions.committed(self.here(clone), "data")
                named = data_versions.Cache(self.here(clone)).listing(version or "") or {}
                assert kept <= set(named), f"data.dvc of {clone} lacks {kept - set(named)}"
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def hold_what_they_are_called(self, clone: str) -> None:
        for name in self.names(clone):
            path = self.root / clone / "data" / name
            assert path.read_bytes() == path.name.encode(), f"{path} is not whole"

    def settle(self, clone: str) -> None:
        here = self.here(clone)
        if data_versions.conflicting(here, "data"):
            accept.accept(here)
            self.finish(clone)
        accept.restore(here)
        prepare_command.prepare(here)
        self.git(clone, "commit", "--quiet", "--all", "--message", "Data")
        self.git(clone, "pull", "--quiet", "--no-rebase")
        if data_versions.conflicting(here, "data"):
            accept.accept(here)
            self.finish(clone)
        accept.restore(here)
        prepare_command.prepare(here)
        self.git(clone, "commit", "--quiet", "--all", "--message", "Data")
        here.dvc("push", "data.dvc", "weights.dvc")
        here.git("push", "--quiet", "origin", "HEAD:main")


def _do(countdown: Path, work: Callable[[], Any]) -> None:
    """The work of a child: 0 ended well, 1 an error in one line, 7 a bug."""
    code = 7
    try:
        os.environ[COUNTDOWN] = str(countdown)
        Countdown(countdown).watch()
        work()
        code = 0
    except VggflowError as error:
        code = 1 if "\n" not in str(error) else 7
    finally:
        if code == 7:
            traceback.print_exc()
        os._exit(code)  # whatever happened: the child is never to go on with the tests of its parent


@pytest.fixture(scope="module")
def machine(versioned: Path, tmp_path_factory: pytest.TempPathFactory) -> type[Deliveries]:
    """Starts from two equal clones of three small files; what a file holds is its name."""
    return _template(versioned, tmp_path_factory.mktemp("template"))


def _template(versioned: Path, folder: Path) -> type[Deliveries]:
    shutil.copytree(versioned, folder / "ann", symlinks=True)
    ann = workspaces.find(folder / "ann")
    shutil.rmtree(ann.root / "data")
    for name in ("train/red/a.png", "train/red/b.png", "valid/red/c.png"):
        (ann.root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (ann.root / "data" / name).write_bytes(Path(name).name.encode())
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
        prepare_command.prepare(here)
    Deliveries.template = folder
    return Deliveries


def _run(machine: type[Deliveries], examples: int, steps: int) -> Counter[str]:
    """Some orders; where one fails its steps are printed as they are, since making them fewer takes too long."""
    machine.seen = Counter()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=[Phase.generate],
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
    print(dict(machine.seen))  # noqa: T201 (counts, for who asks with -rP)
    return machine.seen


@pytest.mark.slow
def test_nothing_is_lost_in_a_few_orders(machine: type[Deliveries]) -> None:
    seen = _run(machine, examples=5, steps=8)
    assert seen["vggflow killed"] + seen["DVC killed"] > 3, seen


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_lost_in_many_orders(machine: type[Deliveries]) -> None:
    seen = _run(machine, examples=12, steps=12)
    assert seen["vggflow killed"] + seen["DVC killed"] > 20, seen
