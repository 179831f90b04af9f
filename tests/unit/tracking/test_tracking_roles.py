"""What each role may do with a workspace's models and experiments."""

import pytest

from vggflow.settings import RegistrySettings
from vggflow.tracking.users import roles
from vggflow.tracking.users.roles import EXPERIMENT, MODEL, Role

REGISTRY = RegistrySettings(name="pets", experiment="pets")
HELD = roles.models_and_experiments(REGISTRY)


def _levels(role: Role) -> dict[tuple[str, str], str]:
    return {(grant.kind, grant.name): grant.level for grant in roles.grants(role, HELD)}


def test_a_reader_changes_nothing_and_keeps_what_answers_were_like() -> None:
    levels = _levels("reader")
    assert levels.pop((EXPERIMENT, "pets-answers")) == "EDIT"
    assert set(levels.values()) == {"READ"}


@pytest.mark.parametrize("role", ["reader", "trainer"])
def test_only_a_promoter_changes_the_production_model(role: Role) -> None:
    assert _levels(role)[MODEL, "pets"] == "READ"
    assert _levels("promoter")[MODEL, "pets"] == "MANAGE"


def test_a_trainer_writes_and_deletes_nothing() -> None:
    assert "MANAGE" not in _levels("trainer").values()
    assert _levels("trainer")[MODEL, "pets-candidates"] == "EDIT"
    assert _levels("trainer")[EXPERIMENT, "pets"] == "EDIT"


def test_a_trainer_can_rehearse_the_whole_way_on_the_sample() -> None:
    for name in ("pets-sample", "pets-sample-candidates"):
        assert _levels("trainer")[MODEL, name] == "EDIT"
    for name in ("pets-sample", "pets-sample-promotions"):
        assert _levels("trainer")[EXPERIMENT, name] == "EDIT"


def test_every_grant_is_for_something_that_is_made_beforehand() -> None:
    """Who makes a model may do everything with it, so none is left to be made."""
    for role in roles.ROLES:
        for grant in roles.grants(role, HELD):
            made = (
                HELD.models
                if grant.kind == MODEL
                else (*HELD.experiments, HELD.answers, *HELD.rehearsal_experiments)
            )
            assert grant.name in made


def test_two_models_on_a_server_have_roles_of_their_own() -> None:
    other = RegistrySettings(name="birds", experiment="birds")
    assert roles.role_name(REGISTRY, "reader") != roles.role_name(other, "reader")
    assert not {grant.name for grant in roles.grants("promoter", roles.models_and_experiments(other))} & set(
        HELD.models
    )
