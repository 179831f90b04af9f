"""The ledger on a real MLflow over SQLite: who wins, what a rollback leaves, what nobody can undo by accident."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from vggflow.errors import UsageError
from vggflow.settings import RegistrySettings
from vggflow.tracking.registry import champions, decision_runs, model_versions
from vggflow.tracking.registry.champions import Champions, Rollback
from vggflow.tracking.registry.model_versions import Version
from vggflow.tracking.registry.registry import Registry

NAMES = RegistrySettings(name="tiny", experiment="tiny")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow: making its tables takes seconds, so it is made once and copied."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").create_experiment("tiny", artifact_location=path.parent.as_uri())
    return path


@pytest.fixture
def registry(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    path = tmp_path / "mlflow.db"
    path.write_bytes(database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    client = MlflowClient(f"sqlite:///{path}", registry_uri=f"sqlite:///{path}")
    client.create_registered_model(NAMES.candidates)
    yield Registry(client, NAMES)


def candidate(registry: Registry, **tags: str) -> Version:
    """A candidate without a file: the ledger never looks at one."""
    place = registry.client.get_experiment_by_name("tiny")
    assert place is not None
    run = registry.client.create_run(place.experiment_id).info
    registry.client.create_model_version(NAMES.candidates, run.artifact_uri, run_id=run.run_id, tags=tags)
    return model_versions.versions(registry.client, NAMES.candidates)[-1]


def promoted(registry: Registry, **tags: str) -> int:
    won = champions.claim(registry, candidate(registry, **tags), champions.read(registry).state, {})
    assert won is not None
    return won.number


def rolled_back(registry: Registry) -> Rollback:
    done = champions.roll_back(registry, champions.read(registry), {"rollback.reason": "worse"})
    assert done is not None
    return done


def alias(book: Champions) -> list[int]:
    return [version.number for version in book.versions if champions.CHAMPION in version.aliases]


def now(registry: Registry) -> int:
    """The champion's number; the alias says the same."""
    book = champions.read(registry)
    assert book.champion is not None
    assert alias(book) == [book.champion.number]
    return book.champion.number


def test_a_rollback_leaves_no_version_behind_and_holds_until_it_is_released(registry: Registry) -> None:
    first, second = promoted(registry), promoted(registry)
    done = rolled_back(registry)
    assert (done.taken_back, done.to, now(registry)) == (second, first, first)
    book = champions.read(registry)
    assert [version.number for version in book.versions] == [first, second]
    assert book.hold == done and done.facts["reason"] == "worse"
    assert champions.release(registry, {"reason": "mended"}) == done
    book = champions.read(registry)
    assert book.hold is None
    assert book.rollbacks[0].release == {"reason": "mended"}
    with pytest.raises(UsageError, match="not on hold"):
        champions.release(registry, {})


def test_a_release_says_nothing_about_a_later_rollback(registry: Registry) -> None:
    promoted(registry), promoted(registry), promoted(registry)
    rolled_back(registry)
    champions.release(registry, {})
    later = rolled_back(registry)
    assert champions.read(registry).hold == later


def test_deleting_the_bad_version_keeps_its_hold_and_brings_no_state_back(registry: Registry) -> None:
    promoted(registry)
    before = champions.read(registry).state
    bad = promoted(registry)
    rolled_back(registry)
    registry.client.delete_model_version(NAMES.name, str(bad))
    book = champions.read(registry)
    assert book.hold is not None and book.hold.taken_back == bad
    assert book.state != before
    assert champions.claim(registry, candidate(registry), before, {}) is None


def test_a_promotion_that_came_first_leaves_a_rollback_nothing_to_do(registry: Registry) -> None:
    promoted(registry), promoted(registry)
    looked_at = champions.read(registry)
    third = promoted(registry)
    assert champions.roll_back(registry, looked_at, {}) is None
    assert now(registry) == third
    book = champions.read(registry)
    assert (book.hold, len(book.versions)) == (None, 3)


def test_a_rollback_that_came_first_refuses_a_promotion_judged_before(registry: Registry) -> None:
    first = promoted(registry)
    promoted(registry)
    judged_against = champions.read(registry).state
    rolled_back(registry)
    assert champions.claim(registry, candidate(registry), judged_against, {}) is None
    assert now(registry) == first


def test_of_a_promotion_and_a_rollback_of_one_state_only_the_first_is_done(registry: Registry) -> None:
    first, second = promoted(registry), promoted(registry)
    state = champions.read(registry).state
    model = candidate(registry)
    mark = {champions.STATE: state, champions.TAKES_BACK: str(second), champions.RETURNS: str(first)}
    registry.client.create_model_version(NAMES.name, model.uri, run_id=model.run_id, tags=mark)
    assert champions.claim(registry, model, state, {}) is None
    assert now(registry) == first
    assert [version.number for version in champions.read(registry).versions] == [first, second]


def test_who_read_an_old_ledger_deletes_nothing_that_was_crowned_since(registry: Registry) -> None:
    """A process that stood still between its look and its deletion looks again at what it deletes."""
    model = candidate(registry)
    state = champions.read(registry).state
    registry.client.create_registered_model(NAMES.name)
    registry.client.create_model_version(
        NAMES.name, model.uri, run_id=model.run_id, tags={champions.STATE: state}
    )
    seen = champions.read(registry).versions[0]
    champions.settle(registry)
    champions._delete_lost(registry.client, seen)
    assert now(registry) == seen.number


def test_a_claim_that_somebody_deleted_is_no_error(registry: Registry) -> None:
    promoted(registry)
    model, state = candidate(registry), champions.read(registry).state
    registry.client.create_model_version(
        NAMES.name, model.uri, run_id=model.run_id, tags={champions.STATE: state}
    )
    seen = champions.read(registry).claims[0]
    registry.client.delete_model_version(NAMES.name, str(seen.number))
    champions._do(registry.client, seen)
    champions._delete_lost(registry.client, seen)
    assert now(registry) == 1


def test_tags_that_a_trainer_set_crown_nothing_and_are_not_copied(registry: Registry) -> None:
    promoted(registry)
    forged = {champions.PROMOTED_AT: "2020-01-01T00:00:00.000Z", "rollback.version": "1", "accuracy": "0.9"}
    model = candidate(registry, **forged)
    assert champions.claim(registry, model, "another state", {}) is None
    assert now(registry) == 1
    won = champions.claim(registry, model, champions.read(registry).state, {"promotion.by": "ann"})
    assert won is not None
    assert "rollback.version" not in won.tags
    assert (won.tags["accuracy"], won.tags["promotion.by"]) == ("0.9", "ann")
    assert won.tags[champions.PROMOTED_AT] != forged[champions.PROMOTED_AT]


def test_history_names_deleted_champions_and_those_that_came_back(registry: Registry) -> None:
    first, second, third = promoted(registry), promoted(registry), promoted(registry)
    at = {version.number: version.created_ms for version in champions.read(registry).versions}
    registry.client.delete_model_version(NAMES.name, str(second))
    rolled_back(registry)
    deleted = {second: champions.time_of(at[second])}
    periods_in_use = champions.read(registry).periods_in_use(deleted)
    assert [reign.number for reign in periods_in_use] == [first, second, third, first]
    assert [reign.until is None for reign in periods_in_use] == [False, False, False, True]


def test_what_a_gone_process_left_open_is_abandoned_and_what_is_at_work_is_not(registry: Registry) -> None:
    place = registry.client.create_experiment(decision_runs.experiment(NAMES))
    mine = decision_runs.record(registry, "candidate 1", {decision_runs.TESTS: "t"})
    tags = {
        decision_runs.PROCESS: decision_runs._process().rpartition(" ")[0] + " 1",
        decision_runs.TESTS: "t",
    }
    gone = registry.client.create_run(place, run_name="candidate 2", tags=tags).info.run_id
    assert decision_runs.conclude_open(registry, champions.read(registry)) == {gone: decision_runs.ABANDONED}
    assert registry.client.get_run(gone).data.tags[decision_runs.OUTCOME] == "abandoned"
    assert registry.client.get_run(mine).info.status == "RUNNING"
    half = registry.client.create_run(place, tags={**tags, decision_runs.OUTCOME: "kept"}).info.run_id
    assert decision_runs.conclude_open(registry, champions.read(registry)) == {half: "kept"}
    assert decision_runs.served(registry, "t") == 1
    decision_runs.conclude(registry, mine, "kept")
    assert decision_runs.served(registry, "t") == 2


def test_no_experiment_is_made_by_asking_about_decisions(registry: Registry) -> None:
    assert decision_runs.served(registry, "t") == 0
    assert registry.client.get_experiment_by_name(decision_runs.experiment(NAMES)) is None


@pytest.mark.parametrize("name", ["c++", "cats & dogs", "r&b", "dog (small)", "plain name", "été"])
def test_any_class_name_makes_a_metric_that_mlflow_takes(registry: Registry, name: str) -> None:
    run_id = decision_runs.record(registry, "candidate 1", {}, numbers={f"class_drop/gain/{name}": 0.5})
    (key,) = registry.client.get_run(run_id).data.metrics
    assert name in key or "_" in key


@pytest.mark.parametrize("classes", [2, 1_000])
def test_each_number_of_a_decision_is_recorded_however_many_classes_there_are(
    registry: Registry, classes: int
) -> None:
    numbers = {f"class_drop/{what}/c{n}": n / classes for n in range(classes) for what in ("gain", "p")}
    run_id = decision_runs.record(registry, "candidate 1", {}, numbers=numbers)
    assert registry.client.get_run(run_id).data.metrics == numbers
