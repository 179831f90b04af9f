"""Promotions, rollbacks and releases that are killed after each single write, on SQLite and on PostgreSQL."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from database import KINDS, over, postgresql
from mlflow import MlflowClient

from vggflow import artifacts
from vggflow.commands import evaluate, promotion_acts, promotion_evidence, register
from vggflow.commands.promotion_acts import Request
from vggflow.commands.promotion_evidence import Judged
from vggflow.models import files as models
from vggflow.processes import servers
from vggflow.settings import Settings
from vggflow.tracking import connection
from vggflow.tracking.registry import champions, decision_runs, model_versions
from vggflow.workspace import Workspace, find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
WRITES = (
    *(
        "create_experiment",
        "create_run",
        "log_metric",
        "log_batch",
        "set_tag",
        "log_artifact",
        "log_text",
        "set_terminated",
    ),
    *("create_registered_model", "create_model_version", "set_model_version_tag", "delete_model_version"),
    *("set_registered_model_alias", "set_registered_model_tag"),
)
ASKED = Request("for the test", by="ann")
MOST_STEPS = 200
# This process has threads, which do not survive a fork; the server of clean processes has none.
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["vggflow.commands.promote"])


@pytest.fixture(scope="module", params=KINDS)
def served(
    request: pytest.FixtureRequest, evaluated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A workspace on a real server, with a champion and a second candidate that the gate would promote."""
    root = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(evaluated, root, ignore=shutil.ignore_patterns("mlflow.db"))
    workspace = find(root)
    path = workspace.path(artifacts.PARAMS)
    content = yaml.safe_load(path.read_text())
    content["promotion"] |= {"rule": "not_worse", "margin": 0.9}
    path.write_text(yaml.safe_dump(content))
    with ExitStack() as stack:
        database = stack.enter_context(postgresql()) if request.param == "postgresql" else None
        server = servers.mlflow(workspace, servers.free_ports(1)[0])
        server = over(server, database.create("mlflow")) if database else server
        os.environ["MLFLOW_TRACKING_URI"] = stack.enter_context(servers.running(workspace, server)).url
        try:
            register.register(workspace)
            assert promotion_acts.promote(workspace, ASKED).outcome == "promoted"
            model, info = models.load(workspace.path(artifacts.MODEL))
            last = next(layer for layer in reversed(model.layers) if layer.weights)
            kernel, *rest = last.get_weights()
            last.set_weights([kernel + 1e-7, *rest])
            models.save(model, info, workspace.path(artifacts.MODEL))
            evaluate.evaluate(workspace)
            register.register(workspace)
            yield workspace
        finally:
            del os.environ["MLFLOW_TRACKING_URI"]


@dataclass(frozen=True)
class Again:
    """A judge who says the same each time."""

    judged: Judged

    def __call__(
        self, _workspace: Workspace, _settings: Settings, _case: promotion_evidence.JudgeRequest
    ) -> Judged:
        return self.judged


@pytest.fixture(scope="module")
def judge(served: Workspace) -> promotion_acts.Judge:
    """The real judgement of the second candidate, made once: scoring it again would change nothing."""
    registry = connection.connect(served)
    client, names = registry.client, registry.names
    case = promotion_evidence.JudgeRequest(
        model_versions.version_of(client, names.candidates, 2, model_versions.CHALLENGER),
        champions.read(registry).champion,
        "ann",
    )
    judged = promotion_evidence.judge(served, served.settings(), case)
    assert judged.decision.promoted
    # Heat maps take Keras, which a fork of this process can't load at every step.
    judged = replace(judged, page=replace(judged.page, heat_maps=None))

    return Again(judged)


def book(workspace: Workspace) -> champions.Champions:
    return champions.read(connection.connect(workspace))


def alias(workspace: Workspace) -> list[int]:
    return [v.number for v in book(workspace).versions if champions.CHAMPION in v.aliases]


def killed_after(step: int, act: Callable[..., object], *arguments: object) -> bool:
    """Calls `act` in a process that kills itself after its n-th write; tells whether it came to that."""
    child = CLEAN.Process(target=_act_until, args=(step, dict(os.environ), act, *arguments))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode == -signal.SIGKILL


def _act_until(
    step: int, environment: dict[str, str], act: Callable[..., object], *arguments: object
) -> None:
    os.environ.update(environment)
    _kill_after(step)
    act(*arguments)


def _kill_after(step: int) -> None:
    written = 0

    def counting(name: str) -> Callable[..., object]:
        original = getattr(MlflowClient, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal written
            result = original(*arguments, **named)
            written += 1
            if written == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in WRITES:
        setattr(MlflowClient, name, counting(name))


def unconcluded(workspace: Workspace) -> list[str]:
    """The records that have no outcome or are still open, whether anything names them or not."""
    client = connection.connect(workspace).client
    place = client.get_experiment_by_name(decision_runs.experiment(workspace.settings().registry))
    found = client.search_runs([place.experiment_id], max_results=1000) if place else []
    return [
        run.info.run_name
        for run in found
        if decision_runs.OUTCOME not in run.data.tags or run.info.status == "RUNNING"
    ]


def concluded(workspace: Workspace, number: int) -> bool:
    """Whether the rollback of a version is done to its last write: then there is nothing to go on with."""
    done = [each for each in book(workspace).rollbacks if each.taken_back == number]
    return bool(done) and not unconcluded(workspace)


def test_a_promotion_killed_after_any_write_ends_well_when_it_is_run_again(
    served: Workspace, judge: promotion_acts.Judge
) -> None:
    steps = 0
    for step in range(1, MOST_STEPS):
        before = book(served)
        assert before.champion is not None
        killed = killed_after(step, promotion_acts.promote, served, ASKED, judge)
        between = book(served)
        assert between.champion is not None
        new = max(v.number for v in between.versions)
        assert alias(served) in ([before.champion.number], [new])
        assert between.champion.number in (before.champion.number, new)
        promotion_acts.promote(served, ASKED, judge)
        after = book(served)
        assert after.champion is not None
        assert alias(served) == [after.champion.number]
        assert after.champion.tags[champions.CANDIDATE] == "2"
        assert len(after.stack) == len(before.stack) + 1
        assert not after.claims and not after.lost
        assert unconcluded(served) == []
        promotion_acts.rollback(served, "the next step")
        assert alias(served) == [before.champion.number]
        steps += 1
        if not killed:
            break
    assert 8 < steps < MOST_STEPS - 1


def test_a_rollback_killed_after_any_write_goes_back_once_when_it_is_run_again(
    served: Workspace, judge: promotion_acts.Judge
) -> None:
    steps = 0
    for step in range(1, MOST_STEPS):
        first = book(served).champion
        promotion_acts.promote(served, ASKED, judge)
        second = book(served).champion
        assert first is not None and second is not None and first.number < second.number
        killed = killed_after(step, promotion_acts.rollback, served, "worse")
        assert alias(served) in ([first.number], [second.number])
        assert (book(served).champion or first).number in (first.number, second.number)
        if killed and not concluded(served, second.number):
            done = promotion_acts.rollback(served, "worse")
            assert (done.taken_back, done.to) == (second.number, first.number)
        assert alias(served) == [first.number]
        assert unconcluded(served) == []
        steps += 1
        if not killed:
            break
    assert 5 < steps < MOST_STEPS - 1


def test_a_release_killed_after_any_write_lets_go_when_it_is_run_again(
    served: Workspace, judge: promotion_acts.Judge
) -> None:
    steps = 0
    for step in range(1, MOST_STEPS):
        promotion_acts.promote(served, ASKED, judge)
        promotion_acts.rollback(served, "worse")
        killed = killed_after(step, promotion_acts.release, served, "mended")
        if book(served).hold or unconcluded(served):
            promotion_acts.release(served, "mended")
        assert book(served).hold is None
        assert unconcluded(served) == []
        steps += 1
        if not killed:
            break
    assert 3 < steps < MOST_STEPS - 1
