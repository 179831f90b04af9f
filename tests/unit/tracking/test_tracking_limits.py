"""What a person says for the record, and names of ours, before MLflow's database refuses them halfway."""

import pytest
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModelTag
from mlflow.store.tracking.dbmodels.models import SqlRun
from mlflow.utils import validation
from tiny import TINY

from vggflow.errors import SettingsError, UsageError
from vggflow.settings import parse
from vggflow.tracking import limits
from vggflow.tracking.registry import champions
from vggflow.tracking.runs import metric_key


def test_the_limits_are_those_of_mlflow_s_tables() -> None:
    assert SqlRegisteredModelTag.__table__.c.value.type.length == limits.REGISTERED_MODEL_TAG
    assert SqlModelVersion.__table__.c.description.type.length == limits.DESCRIPTION
    assert SqlRun.__table__.c.name.type.length == limits.RUN_NAME
    assert validation.MAX_ENTITY_KEY_LENGTH == limits.KEY


@pytest.mark.parametrize(
    "text", ["worse on Mondays", "schlechter, 更差\n\tzweite Zeile 🙂", "x" * limits.REASON]
)
def test_a_reason_stays_as_it_was_given(text: str) -> None:
    assert limits.said(text, "--reason", limits.REASON) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x" * 2_001, "2,001 characters, at most 2,000"),
        (" \n", "is empty"),
        ("zero \0 byte", r"'\\x00'"),
        ("half \udce4", r"'\\udce4'"),
    ],
)
def test_a_reason_that_no_database_keeps_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        limits.said(text, "--reason", limits.REASON)


def test_the_longest_reason_of_quotes_by_the_longest_name_fits_into_the_tag_of_a_rollback() -> None:
    about = {
        "rollback.reason": '"' * limits.REASON,
        "rollback.by": "\\" * limits.PERSON,
        "rollback.by.kind": "authenticated",
        "rollback.run": "f" * 32,
        champions.TAKES_BACK: "1000000",
        champions.RETURNS: "1000000",
    }
    assert 4_400 < len(champions._written(about, at="2026-11-21T03:10:00.000Z")) < limits.REGISTERED_MODEL_TAG


def test_metrics_of_classes_with_long_names_in_another_script_stay_apart() -> None:
    keys = {metric_key(f"test/recall/{'猫' * 240}{end}") for end in ("一", "二")}
    assert len(keys) == 2
    for key in keys:
        validation._validate_metric(key, 1.0, 0, 0)
    assert metric_key("test/recall/c++") == "test/recall/c_2B_2B_"


@pytest.mark.parametrize(
    "registry", [{"name": "m" * 201, "experiment": "e"}, {"name": "m", "experiment": "e" * 251}]
)
def test_names_that_are_too_long_for_the_registry_are_refused_by_the_settings(
    registry: dict[str, str],
) -> None:
    with pytest.raises(SettingsError, match="at most"):
        parse(TINY | {"registry": registry})
