"""Promotion, rollback, hold and override on real MLflow over SQLite and PostgreSQL, with models that really answer."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from database import KINDS, Databases, postgresql
from mlflow import MlflowClient
from tiny import TINY, draw_data

from vggflow import artifacts
from vggflow.commands import evaluate, models, promotion_acts, validate
from vggflow.commands import register as register_command
from vggflow.commands.promotion_acts import Request
from vggflow.errors import PromotionRefused, UsageError, VggflowError
from vggflow.tracking import connection, limits
from vggflow.tracking.registry import champions, decision_runs, model_versions
from vggflow.tracking.registry.champions import Rollback
from vggflow.tracking.registry.model_versions import Version
from vggflow.workspace import Workspace, find

pytestmark = pytest.mark.usefixtures("fast_scoring")
ASKED = Request("for the test", by="ann")


@dataclass(frozen=True)
class Crowned:
    """A workspace whose first candidate is champion, and the PostgreSQL that knows of it; else SQLite does."""

    root: Path
    databases: Databases | None = None


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[pytest.mark.slow] if kind != "sqlite" else []) for kind in KINDS],
)
def crowned(
    request: pytest.FixtureRequest, evaluated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crowned]:
    """Copy its workspace, and its database."""
    root = tmp_path_factory.mktemp("crowned") / "tiny"
    if request.param == "sqlite":
        shutil.copytree(evaluated, root)
        _crown(root)
        yield Crowned(root)
        return
    shutil.copytree(evaluated, root, ignore=shutil.ignore_patterns("mlflow.db"))
    with postgresql() as databases, pytest.MonkeyPatch.context() as patch:
        # A database that somebody is connected to can't be copied.
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        patch.setenv("MLFLOW_TRACKING_URI", databases.create("crowned"))
        place = root / artifacts.MLFLOW_ARTIFACTS
        for name in ("tiny", "tiny-promotions"):  # without a server nobody else says where files go
            connection.connect(find(root)).client.create_experiment(name, artifact_location=place.as_uri())
        _crown(root)
        yield Crowned(root, databases)


def _crown(root: Path) -> None:
    workspace = find(root)
    register_command.register(workspace)
    assert promotion_acts.promote(workspace, ASKED).outcome == "promoted"


@pytest.fixture
def here(crowned: Crowned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    root = tmp_path / "tiny"
    shutil.copytree(crowned.root, root)
    if crowned.databases:
        name = f"copy-{tmp_path.name}"[:60]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", crowned.databases.create(name, "crowned"))
    return find(root)


def settings(workspace: Workspace, **promotion: object) -> None:
    path = workspace.path(artifacts.PARAMS)
    content = yaml.safe_load(path.read_text())
    content["promotion"] = TINY["promotion"] | promotion
    path.write_text(yaml.safe_dump(content))


def change_model(workspace: Workspace, change: Callable[[list], list] | None = None, **info: object) -> None:
    """Puts another model in the place of the trained one: other last weights, or another description."""
    from vggflow.models import files

    path = workspace.path(artifacts.MODEL)
    model, found = files.load(path)
    if change:
        last = next(layer for layer in reversed(model.layers) if layer.weights)
        last.set_weights(change(last.get_weights()))
    files.save(model, replace(found, **info), path)


def register(workspace: Workspace) -> Version:
    evaluate.evaluate(workspace)
    version, new = register_command.register(workspace)
    assert new
    return version


def equal(weights: list) -> list:
    """Other bytes, the same answers."""
    return [weights[0] + 1e-7, *weights[1:]]


def went(done: Rollback) -> tuple[int, int]:
    return done.taken_back, done.to


def opposite(weights: list) -> list:
    return [-part for part in weights]


def stored_file(workspace: Workspace, version: Version) -> Path:
    """Where the bytes of a version lie."""
    place = connection.connect(workspace).client.get_model_version_download_uri(
        version.name, str(version.number)
    )
    return next(Path(str(place).removeprefix("file:")).rglob("model.keras"))


def evaluation_of(version: Version) -> str:
    """The folder of its run in which the evidence of a version's evaluation lies."""
    return f"{version.tags[model_versions.EVIDENCE]}/evaluation"


def book(workspace: Workspace) -> champions.Champions:
    return champions.read(connection.connect(workspace))


def champion(workspace: Workspace) -> int:
    """The champion's number; the alias and the ledger agree about it."""
    found = book(workspace)
    assert found.champion is not None
    assert [v.number for v in found.versions if champions.CHAMPION in v.aliases] == [found.champion.number]
    return found.champion.number


def last_decision(workspace: Workspace) -> dict[str, str]:
    client = connection.connect(workspace).client
    place = connection.experiment_id(client, decision_runs.experiment(workspace.settings().registry))
    return dict(
        client.search_runs([place], order_by=["attributes.start_time DESC"], max_results=1)[0].data.tags
    )


@pytest.mark.slow
def test_a_version_has_a_card_and_its_summary_as_description(here: Workspace) -> None:
    found = book(here).champion
    assert found is not None
    assert found.description.startswith("Tells blue and red apart")
    client = connection.connect(here).client
    kept = client.list_artifacts(found.run_id, found.tags[model_versions.EVIDENCE])
    assert "model_card.md" in [Path(file.path).name for file in kept]


def test_a_tie_keeps_the_champion_is_an_error_for_a_person_and_recorded(here: Workspace) -> None:
    change_model(here, equal)
    candidate = register(here)
    with pytest.raises(PromotionRefused, match="not shown to be better") as refused:
        promotion_acts.promote(here, ASKED)
    assert refused.value.exit_code == 3
    assert champion(here) == 1
    tags = last_decision(here)
    assert (tags[decision_runs.OUTCOME], tags["by"], tags["candidate"]) == (
        "kept",
        "ann",
        str(candidate.number),
    )
    assert tags["git.commit"] == candidate.tags["git.commit"]


@pytest.mark.slow
def test_a_candidate_whose_graph_is_another_network_s_is_not_promoted(here: Workspace) -> None:
    """Whoever registers can put any graph beside a model, with its right digest: that is what would answer people."""
    change_model(here, opposite)
    other = register(here)
    change_model(here, lambda weights: [weight * 1.5 for weight in opposite(weights)])
    candidate = register(here)
    registry = connection.connect(here)
    with model_versions.graph_file(other) as graph:
        place = f"{candidate.tags[model_versions.EVIDENCE]}/{Path(model_versions.GRAPH).parent}"
        registry.client.log_artifact(candidate.run_id, str(graph), place)
    for name in ("sha256.onnx", "onnx.difference"):
        registry.client.set_model_version_tag(
            candidate.name, str(candidate.number), name, other.tags.get(name, "")
        )
    with pytest.raises(VggflowError, match="the exported graph answers otherwise"):
        promotion_acts.promote(here, ASKED)
    assert champion(here) == 1


@pytest.mark.slow
def test_a_flow_is_told_no_without_an_error_and_asks_once(here: Workspace) -> None:
    change_model(here, equal)
    register(here)
    automatic = Request("retrained", automatic=True)
    first, second = promotion_acts.promote(here, automatic), promotion_acts.promote(here, automatic)
    assert (first.outcome, second.outcome) == ("kept", "kept")
    assert "already decided" in second.message


@pytest.mark.slow
def test_a_refusal_by_a_broken_machine_is_asked_again_on_the_mended_one(here: Workspace) -> None:
    """To the gate, a machine that computes otherwise and another record of the answers look alike."""
    settings(here, rule="not_worse", margin=0.9)
    change_model(here, equal)
    candidate = register(here)
    recorded = here.path(artifacts.PREDICTIONS)
    kept, answers = recorded.read_bytes(), model_versions.recorded_predictions(candidate)
    for name in ("p:blue", "p:red"):
        answers[name] = 1 - answers[name]
    answers.to_parquet(recorded, index=False)
    client = connection.connect(here).client
    client.log_artifact(candidate.run_id, str(recorded), evaluation_of(candidate))
    automatic = Request("retrained", automatic=True)
    for _ in range(2):
        refused = promotion_acts.promote(here, automatic)
        assert (refused.outcome, refused.lasts, champion(here)) == ("kept", False, 1)
        assert "otherwise than in its evaluation" in refused.message and "already" not in refused.message
    recorded.write_bytes(kept)
    client.log_artifact(candidate.run_id, str(recorded), evaluation_of(candidate))
    mended = promotion_acts.promote(here, automatic)
    assert (mended.outcome, mended.lasts, champion(here)) == ("promoted", True, 2)


@pytest.mark.slow
def test_a_model_is_not_promoted_on_test_data_that_it_was_not_evaluated_on(here: Workspace) -> None:
    change_model(here, opposite)
    register(here)
    shutil.rmtree(here.root / "data")
    draw_data(here.root / "data", train=9, valid=5, test=0)
    draw_data(here.root / "more", train=0, valid=0, test=40)
    for folder in (here.root / "more/test").iterdir():
        (here.root / "data/test" / folder.name).mkdir(parents=True)
        for image in [path for path in folder.iterdir() if int(path.stem) >= 30]:
            shutil.move(image, here.root / "data/test" / folder.name / image.name)
    shutil.rmtree(here.root / "more")
    validate.validate(here)
    with pytest.raises(PromotionRefused, match="evaluate it on this data"):
        promotion_acts.promote(here, replace(ASKED, override=True))
    assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")


@pytest.mark.slow
def test_a_dirty_tree_is_refused_where_that_is_forbidden(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9, allow_dirty_tree=False)
    change_model(here, equal)
    tags = register(here).tags  # trained from committed settings, and measured after they were changed
    assert (tags["git.dirty"], tags["evaluation.git.dirty"]) == ("false", "true")
    with pytest.raises(PromotionRefused, match="not from committed code"):
        promotion_acts.promote(here, ASKED)
    assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")


@pytest.mark.slow
def test_without_users_nobody_is_the_second_person_and_no_override_makes_them_one(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9, two_person=True)
    change_model(here, equal)
    trainer = register(here).tags["trained_by"]
    for by in (trainer, "ann", None):
        for override in (False, True):
            with pytest.raises(PromotionRefused, match=r"only claimed here.*knows users"):
                promotion_acts.promote(here, Request("mine", by=by, override=override))
            assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")
    waiting = promotion_acts.promote(here, Request("retrained", automatic=True))
    assert (waiting.outcome, champion(here)) == ("kept", 1)
    settings(here, rule="not_worse", margin=0.9)
    assert promotion_acts.promote(here, Request("looked at it", by="ann")).outcome == "promoted"


@pytest.mark.slow
def test_an_override_is_recorded_as_one_and_can_be_switched_off(here: Workspace) -> None:
    change_model(here, opposite)
    register(here)
    settings(here, allow_override=False)
    with pytest.raises(UsageError, match="allow_override"):
        promotion_acts.promote(here, replace(ASKED, override=True))
    assert champion(here) == 1
    settings(here)
    done = promotion_acts.promote(here, replace(ASKED, override=True))
    assert done.outcome == "promoted"
    assert "against the gate, by ann" in done.message
    assert champion(here) == 2
    tags = book(here).versions[-1].tags
    assert (tags["promotion.override"], tags["promotion.by"], tags["promotion.by.kind"]) == (
        "true",
        "ann",
        "claimed",
    )


@pytest.mark.slow
def test_a_rollback_holds_the_flow_until_a_person_releases_it(here: Workspace) -> None:
    promote_another(here)
    assert went(promotion_acts.rollback(here, "worse on Mondays")) == (2, 1)
    assert champion(here) == 1
    assert promotion_acts.promote(here, Request("retrained", automatic=True)).outcome == "on hold"
    assert promotion_acts.release(here, "mended", by="ann").taken_back == 2
    assert promotion_acts.promote(here, Request("retrained", automatic=True)).outcome != "on hold"


@pytest.mark.slow
def test_rolling_back_pops_the_stack_and_holds_the_flow_until_it_is_released(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9)
    for _ in range(2):
        change_model(here, equal)
        register(here)
        assert promotion_acts.promote(here, ASKED).outcome == "promoted"
    assert champion(here) == 3
    assert went(promotion_acts.rollback(here, "worse on Mondays")) == (3, 2)
    assert champion(here) == 2
    assert went(promotion_acts.rollback(here, "worse on Tuesdays")) == (2, 1)
    assert champion(here) == 1
    with pytest.raises(UsageError, match="only one"):
        promotion_acts.rollback(here, "worse every day")
    change_model(here, equal)
    register(here)
    automatic = Request("retrained", automatic=True)
    for _ in range(2):
        held = promotion_acts.promote(here, automatic)
        assert (held.outcome, champion(here)) == ("on hold", 1)
        assert held.command is not None
    held = promotion_acts.promote(here, automatic)
    assert held.decision is not None and "not_worse" in held.evidence and "experiment" in held.evidence
    assert promotion_acts.release(here, "mended", by="ann").taken_back == 2
    assert promotion_acts.promote(here, automatic).outcome == "promoted"
    newest = champion(here)
    assert [(reign.number, reign.until is None) for reign in book(here).periods_in_use()] == [
        (1, False),
        (2, False),
        (3, False),
        (2, False),
        (1, False),
        (newest, True),
    ]
    assert last_decision(here)["to"] == str(newest)
    with pytest.raises(UsageError, match="not on hold"):
        promotion_acts.release(here, "again")


def promote_another(workspace: Workspace) -> None:
    """A second champion, so that there is one to go back to."""
    settings(workspace, rule="not_worse", margin=0.9)
    change_model(workspace, equal)
    register(workspace)
    assert promotion_acts.promote(workspace, ASKED).outcome == "promoted"


@pytest.mark.slow
def test_a_long_reason_is_refused_before_anything_is_written(here: Workspace, vggflow: Callable) -> None:
    promote_another(here)
    before, records = book(here), last_decision(here)
    for command in (("rollback",), ("promote",), ("promote", "--release")):
        ran = vggflow("-C", here.root, *command, "--reason", "worse on Mondays " * 300)
        assert (ran.code, "5,100 characters, at most 2,000" in ran.err) == (2, True)
    assert (book(here), last_decision(here)) == (before, records)


@pytest.mark.slow
def test_the_longest_reason_is_kept_whole_by_every_act(here: Workspace) -> None:
    reason = '"' * limits.REASON
    settings(here, rule="not_worse", margin=0.9)
    change_model(here, equal)
    register(here)
    assert promotion_acts.promote(here, Request(reason, by="ann")).outcome == "promoted"
    assert promotion_acts.rollback(here, reason, by="\\" * limits.PERSON).facts["reason"] == reason
    promotion_acts.release(here, reason)
    assert book(here).rollbacks[0].release is not None
    assert book(here).versions[-1].tags["promotion.reason"] == reason


@pytest.mark.slow
def test_a_claim_that_the_database_never_completes_is_lost_and_the_next_act_is_done(here: Workspace) -> None:
    """As a rollback with 5,200 characters by an earlier vggflow left it behind."""
    registry = connection.connect(here)
    client, names = registry.client, registry.names
    if client.tracking_uri.startswith("sqlite"):
        pytest.skip("SQLite completes claims of any length")
    promote_another(here)
    found = book(here)
    assert found.champion is not None
    about = {champions.STATE: found.state, champions.TAKES_BACK: "2", champions.RETURNS: "1"}
    tags = about | {"rollback.reason": "x" * 5_200}
    client.create_model_version(names.name, found.champion.uri, run_id=found.champion.run_id, tags=tags)
    assert went(promotion_acts.rollback(here, "worse on Mondays")) == (2, 1)
    assert [each.facts["reason"] for each in book(here).rollbacks] == ["worse on Mondays"]
    assert (champion(here), book(here).claims, book(here).lost) == (1, (), ())


@pytest.mark.slow
def test_a_deleted_version_is_skipped_by_rollback(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9)
    for _ in range(2):
        change_model(here, equal)
        register(here)
        promotion_acts.promote(here, ASKED)
    connection.connect(here).client.delete_model_version("tiny", "2")
    assert went(promotion_acts.rollback(here, "back")) == (3, 1)
    assert champion(here) == 1
    rows = models.history(here)
    assert [(row["version"], row["stored"]) for row in rows] == [
        (1, "yes"),
        (3, "yes"),
        (2, "deleted"),
        (1, "yes"),
    ]
    assert rows[2]["why"] == "for the test"


@pytest.mark.slow
def test_required_approval_waits_for_a_person_with_the_command(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9, approval="required")
    change_model(here, equal)
    candidate = register(here)
    waiting = promotion_acts.promote(here, Request("retrained", automatic=True))
    assert (waiting.outcome, champion(here)) == ("awaiting approval", 1)
    assert waiting.command == f'vggflow promote {candidate.number} --reason "WHY"'
    assert promotion_acts.promote(here, replace(ASKED, number=candidate.number)).outcome == "promoted"


@pytest.mark.slow
def test_a_flipped_byte_in_the_store_is_refused_and_recorded(here: Workspace) -> None:
    change_model(here, equal)
    candidate = register(here)
    file = stored_file(here, candidate)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PromotionRefused, match="is damaged"):
        promotion_acts.promote(here, replace(ASKED, override=True))
    assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")


@pytest.mark.slow
def test_a_model_that_needs_code_to_load_is_refused_and_recorded(here: Workspace) -> None:
    import keras

    from vggflow import files as written

    path = here.path(artifacts.MODEL)
    evaluate.evaluate(here)
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Lambda(lambda x: x / 255.0)(inputs))
    keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(pooled)).save(path)
    registry = connection.connect(here)
    client, names = registry.client, registry.names
    first = model_versions.versions(client, names.candidates)[0]
    made = client.create_run(client.get_run(first.run_id).info.experiment_id)
    logged = _log_foreign(client, made.info.run_id, path)
    tags = {**first.tags, model_versions.KEY: "foreign", "sha256.model": written.sha256(path)}
    foreign = client.create_model_version(names.candidates, logged, run_id=first.run_id, tags=tags)
    with pytest.raises(PromotionRefused, match="could not be scored"):
        promotion_acts.promote(here, replace(ASKED, number=int(foreign.version), override=True))
    assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")


@pytest.mark.slow
def test_a_registered_model_with_weights_that_are_no_numbers_is_refused_and_recorded(here: Workspace) -> None:
    """As an older vggflow may have registered it: this one writes no such file."""
    import zipfile

    import numpy as np

    from vggflow import files as written
    from vggflow.models import files

    path, spoilt = here.path(artifacts.MODEL), here.root / "spoilt" / artifacts.MODEL.name
    spoilt.parent.mkdir()
    model, _ = files.load(path)
    first = next(layer for layer in model.layers if layer.weights)
    first.set_weights([np.full(values.shape, np.nan) for values in first.get_weights()])
    model.save_weights(here.root / "spoilt.weights.h5")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(spoilt, "w") as after:
        for name in before.namelist():
            weights = (here.root / "spoilt.weights.h5").read_bytes()
            after.writestr(name, weights if name == files.WEIGHTS_MEMBER else before.read(name))
    registry = connection.connect(here)
    client, names = registry.client, registry.names
    known = model_versions.versions(client, names.candidates)[0]
    made = client.create_run(client.get_run(known.run_id).info.experiment_id)
    logged = _log_foreign(client, made.info.run_id, spoilt)
    tags = {**known.tags, model_versions.KEY: "spoilt", "sha256.model": written.sha256(spoilt)}
    version = client.create_model_version(names.candidates, logged, run_id=known.run_id, tags=tags)
    with pytest.raises(PromotionRefused, match=f"layer {first.name} holds numbers that are not finite"):
        promotion_acts.promote(here, replace(ASKED, number=int(version.version), override=True))
    assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")


def _log_foreign(client: MlflowClient, run_id: str, path: Path) -> str:
    client.log_artifact(run_id, str(path), "model/data")
    return f"{client.get_run(run_id).info.artifact_uri}/model"


@pytest.mark.slow
def test_a_model_whose_classes_changed_their_order_is_refused(here: Workspace) -> None:
    change_model(here, class_names=("red", "blue"))
    register(here)
    with pytest.raises(PromotionRefused, match="another order"):
        promotion_acts.promote(here, ASKED)
    assert (champion(here), last_decision(here)[decision_runs.OUTCOME]) == (1, "kept")


@pytest.mark.slow
def test_a_missing_test_image_is_no_fault_of_the_candidate_and_answers_nothing_later(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9)
    change_model(here, equal)
    register(here)
    image = next((here.path(artifacts.DATA) / "test").rglob("*.png"))
    content = image.read_bytes()
    image.unlink()
    automatic = Request("retrained", automatic=True)
    with pytest.raises(UsageError, match="could not be scored"):
        promotion_acts.promote(here, automatic)
    assert last_decision(here)["reason"] == "for the test"
    image.write_bytes(content)
    assert promotion_acts.promote(here, automatic).outcome == "promoted"


@pytest.mark.slow
def test_a_damaged_only_champion_is_replaced_by_who_overrides_and_not_otherwise(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9)
    first = book(here).champion
    assert first is not None
    change_model(here, equal)
    register(here)
    file = stored_file(here, first)
    kept = file.read_bytes()
    file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(VggflowError, match="--override"):
            promotion_acts.promote(here, ASKED)
        done = promotion_acts.promote(here, replace(ASKED, override=True))
    finally:  # all copies of the workspace share their store
        file.write_bytes(kept)
    assert (done.outcome, champion(here)) == ("promoted", 2)
    assert "champion_fit" in done.evidence and last_decision(here)["override"] == "true"


@pytest.mark.slow
def test_a_dry_run_writes_nothing(here: Workspace) -> None:
    change_model(here, equal)
    candidate = register(here)
    registry = connection.connect(here)
    client, names = registry.client, registry.names
    begun = {champions.STATE: book(here).state, champions.CANDIDATE: "1"}
    client.create_model_version(names.name, candidate.uri, run_id=candidate.run_id, tags=begun)
    before, place = book(here), client.get_experiment_by_name(decision_runs.experiment(names))
    assert place is not None
    runs = len(client.search_runs([place.experiment_id]))
    assert promotion_acts.promote(here, replace(ASKED, dry_run=True)).outcome == "would keep"
    assert book(here) == before
    assert len(client.search_runs([place.experiment_id])) == runs


@pytest.mark.slow
def test_a_decision_keeps_both_tables_the_rules_and_what_the_challenger_looked_at(here: Workspace) -> None:
    change_model(here, opposite)
    register(here)
    settings(here, rule="not_worse", margin=0.9)
    promotion_acts.promote(here, replace(ASKED, override=True))
    client = connection.connect(here).client
    place = client.get_experiment_by_name(decision_runs.experiment(here.settings().registry))
    assert place is not None
    run = client.search_runs([place.experiment_id], max_results=1)[0]
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {
        "challenger.parquet",
        "champion.parquet",
        "decision.json",
        "decision.txt",
        "report.html",
    }
    assert run.data.tags["params.yaml as committed"] == "no, changed here"
    assert len(run.data.tags["sha256.promotion"]) == 64
    page = Path(client.download_artifacts(run.info.run_id, "report.html")).read_text()
    assert "no, changed here" in page and "Grad-CAM" in page


@pytest.mark.slow
def test_a_candidate_made_by_hand_is_refused_in_one_line(here: Workspace) -> None:
    registry = connection.connect(here)
    client, names = registry.client, registry.names
    first = model_versions.versions(client, names.candidates)[0]
    made = client.create_model_version(names.candidates, first.uri, run_id=first.run_id)
    client.delete_model_version_tag(names.name, "1", model_versions.KEY)
    for request in (ASKED, Request("retrained", automatic=True)):
        asked = replace(request, number=int(made.version))
        if request.automatic:
            assert "vggflow register" in promotion_acts.promote(here, asked).message
        else:
            with pytest.raises(PromotionRefused, match="vggflow register"):
                promotion_acts.promote(here, asked)


@pytest.mark.slow
def test_damaged_recorded_predictions_are_told_in_one_line(here: Workspace, vggflow: Callable) -> None:
    change_model(here, equal)
    candidate = register(here)
    client = connection.connect(here).client
    here.path(artifacts.PREDICTIONS).write_bytes(b"no table")
    damaged = str(here.path(artifacts.PREDICTIONS))
    client.log_artifact(candidate.run_id, damaged, evaluation_of(candidate))
    ran = vggflow("-C", here.root, "promote", "--reason", "why not", "--by", "ann")
    assert ran.code == 1 and "is damaged in the artifact store" in ran.err and "Traceback" not in ran.err


@pytest.mark.slow
def test_version_0_is_no_name_for_the_newest(here: Workspace, vggflow: Callable) -> None:
    for arguments in (("lineage", "0"), ("promote", "0", "--reason", "why not")):
        ran = vggflow("-C", here.root, *arguments)
        assert (ran.code, "has no version 0" in ran.err) == (2, True)


@pytest.mark.slow
def test_the_files_of_a_version_say_where_it_came_from(here: Workspace, vggflow: Callable) -> None:
    ran = vggflow("-C", here.root, "lineage")
    assert ran.code == 0, ran.err
    commit = here.git("rev-parse", "HEAD").strip()
    for part in (
        "models:/tiny/1",
        commit,
        "data.hash",
        "package.tensorflow",
        "promotion.reason",
        "for the test",
    ):
        assert part in ran.out, part
    for arguments in (("models",), ("models", "--history")):
        assert f"{datetime.now():%Y}-" in vggflow("-C", here.root, *arguments).out
    ran = vggflow("-C", here.root, "models", "--history", "--json")
    assert (ran.code, '"until": null' in ran.out) == (0, True)


@pytest.mark.slow
def test_rolling_back_needs_no_tensorflow(here: Workspace) -> None:
    settings(here, rule="not_worse", margin=0.9)
    change_model(here, equal)
    register(here)
    promotion_acts.promote(here, ASKED)
    program = (
        "import sys; sys.modules |= dict.fromkeys(('tensorflow', 'keras', 'jax')); "
        "from vggflow import cli; sys.argv[0] = 'vggflow'; sys.exit(cli.run())"
    )
    arguments = ["-C", str(here.root), "rollback", "--reason", "no TensorFlow here"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert champion(here) == 1
