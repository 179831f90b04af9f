"""`prefect.yaml` and the flows fit together: Prefect would only say so when a run starts."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.automations import AutomationCore

from flows import automations, events
from flows.identity import Identity, identify

ROOT = Path(__file__).parents[2]
CONTENT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {entry["name"].partition("@")[0]: entry for entry in CONTENT["deployments"]}
HERE = Identity("pets", "https://git.example.com/pets.git", "main", "")


def _flow(deployment: dict[str, Any]) -> Flow[..., Any]:
    module, _, name = deployment["entrypoint"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, Flow)
    return found


def _step(steps: list[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    ((name, inputs),) = steps[0].items()
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function), inputs


def test_the_deployments_are_those_that_the_documentation_names() -> None:
    assert list(DEPLOYMENTS) == [
        "retrain-nightly",
        "retrain-on-new-data",
        "check-data",
        "promote",
        "rollback",
        "predict",
        "check-drift",
        "audit",
        "search",
        "retrain-on-drift",
    ]
    text = (ROOT / "docs" / "running.md").read_text()
    assert [name for name in DEPLOYMENTS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_says_everything_about_itself(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert deployment["name"] == f"{name}@{{{{ workspace_name }}}}"
    assert deployment["description"]
    assert deployment["tags"] == ["vggflow", "workspace:{{ workspace_name }}"]
    assert deployment["concurrency_limit"]["collision_strategy"] in ("ENQUEUE", "CANCEL_NEW")
    assert deployment["work_pool"]["name"] == "vggflow"
    assert deployment["work_pool"]["work_queue_name"] in ("cpu", "gpu")
    assert "schedules" in deployment


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_parameters_of_a_deployment_are_accepted_by_its_flow(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    flow = _flow(deployment)
    given = dict(deployment["parameters"])
    for trigger in deployment.get("triggers", []):
        given |= dict.fromkeys(trigger.get("parameters", ()), "0a1b2c")
    required = [
        key
        for key, parameter in inspect.signature(flow.fn).parameters.items()
        if parameter.default is inspect.Parameter.empty
    ]
    asked = dict.fromkeys(required, "because")  # what a person fills in
    if name == "predict":
        asked = {"images": "/archive", "output": "/archive.parquet"}
    flow.validate_parameters(given | asked)
    assert not required or name in ("promote", "rollback", "predict"), "nobody is there to fill in a form"
    with pytest.raises(Exception, match="nonsense"):
        flow.validate_parameters(given | asked | {"nonsense": 1})


@pytest.mark.parametrize("name", ["promote", "rollback"])
def test_forms_ask_for_a_reason_and_for_the_name_of_a_person(name: str) -> None:
    flow = _flow(DEPLOYMENTS[name])
    assert {"reason", "by"} <= set(flow.parameters.required or [])
    given = {"reason": "better on night shots", "by": "ann"}
    flow.validate_parameters(given)
    for key in given:
        with pytest.raises(Exception, match=key):
            flow.validate_parameters(given | {key: " "})


def test_nothing_retrains_on_drift_until_somebody_says_so() -> None:
    (trigger,) = DEPLOYMENTS["retrain-on-drift"]["triggers"]
    assert trigger["enabled"] is False
    assert trigger["expect"] == [events.DRIFT]


def test_every_schedule_names_its_time_zone() -> None:
    schedules = [each for entry in DEPLOYMENTS.values() for each in entry["schedules"]]
    assert len(schedules) == 4
    assert all(each["timezone"] and each["cron"] for each in schedules)


def test_the_pull_step_takes_what_the_build_step_gives() -> None:
    build, _ = _step(CONTENT["build"])
    assert build is identify
    pull, inputs = _step(CONTENT["pull"])
    assert set(inputs) == set(inspect.signature(pull).parameters)
    named = {match for value in inputs.values() for match in re.findall(r"{{ (\w+) }}", value)}
    assert named == {"workspace_name", "repository", "branch", "folder"}


@pytest.mark.parametrize("spec", CONTENT["automations"], ids=lambda spec: spec["name"])
def test_an_automation_is_one_that_prefect_takes(spec: dict[str, Any]) -> None:
    made = automations.automation(spec, HERE, "11111111-1111-1111-1111-111111111111")
    assert isinstance(made, AutomationCore)
    assert made.name == f"{spec['name']} @pets"


def test_a_trigger_is_not_taken_for_an_automation_that_is_no_longer_wanted() -> None:
    triggers = [each["name"] for entry in DEPLOYMENTS.values() for each in entry.get("triggers", [])]
    assert triggers
    assert [
        name for name in triggers if name.replace("{{ workspace_name }}", "pets").endswith(" @pets")
    ] == []


def test_times_and_places_stand_in_prefect_yaml_only() -> None:
    sources = [*(ROOT / "flows").glob("*.py"), *(ROOT / "src").rglob("*.py")]
    pattern = re.compile(r"\bcron\s*=|CronSchedule|timezone=\"|\d+ \* \* \*")
    assert [path.name for path in sources if pattern.search(path.read_text())] == []


@pytest.mark.parametrize("name", ["promote", "rollback"])
def test_a_form_says_how_long_a_text_may_be(name: str) -> None:
    fields = _flow(DEPLOYMENTS[name]).parameters.properties
    assert (fields["reason"]["minLength"], fields["reason"]["maxLength"]) == (3, 2_000)
    assert fields["by"]["maxLength"] == 200
