"""The section `automations` of `prefect.yaml`: what happens when a run fails, dies, comes late or promotes."""

import os
from typing import Any

from prefect.automations import AutomationCore
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import PrefectClient

from flows.identity import Identity

NOTIFY_URL = "VGGFLOW_NOTIFY_URL"
BLOCK = "vggflow-notify"
BODY = "{{ flow_run.name }}: {{ flow_run.state.name }}\n{{ flow_run.state.message or '' }}\n{{ flow_run|ui_url }}"


async def apply(client: PrefectClient, here: Identity, wanted: list[dict[str, Any]]) -> list[str]:
    """Makes the workspace's automations be exactly these; returns their names.

    Those that notify are left out where `VGGFLOW_NOTIFY_URL` does not say whom.
    """
    block = await _notification_block() if NOTIFY_URL in os.environ else None
    ours = f" @{here.name}"  # a deployment's own triggers are called otherwise: Prefect takes care of them
    before = {each.name: each for each in await client.read_automations() if each.name.endswith(ours)}
    made = [automation(spec, here, block) for spec in wanted if block or "actions" in spec]
    for each in made:
        if each.name in before:
            await client.update_automation(before.pop(each.name).id, each)
        else:
            await client.create_automation(each)
    for left in before.values():
        await client.delete_automation(left.id)
    return [each.name for each in made]


def automation(spec: dict[str, Any], here: Identity, block: str | None) -> AutomationCore:
    """An automation as Prefect knows it, for the runs of this workspace only."""
    tag = {"prefect.resource.id": f"prefect.tag.{here.tag}", "prefect.resource.role": "tag"}
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    actions = spec.get("actions") or [
        {
            "type": "send-notification",
            "block_document_id": block,
            "subject": f"{here.name}: {spec['notify']}",
            "body": BODY,
        }
    ]
    return AutomationCore.model_validate(
        {
            "name": f"{spec['name']} @{here.name}",
            "description": spec.get("description", ""),
            "trigger": {"type": "event", "match": runs, "match_related": tag, **spec["trigger"]},
            "actions": actions,
        }
    )


async def _notification_block() -> str:
    """Whom to tell, from the environment of whoever deploys, since the address is a secret; returns the block's id."""
    url = os.environ[NOTIFY_URL]
    if url.startswith(("http://", "https://")):
        text = {"subject": "{{subject}}", "text": "{{body}}"}
        block: Any = CustomWebhookNotificationBlock(name=BLOCK, url=url, json_data=text)
    else:
        block = SlackWebhook(url=url)  # takes any address that Apprise knows
    name = f"{BLOCK}-{'webhook' if url.startswith('http') else 'apprise'}"
    return str(await block.asave(name, overwrite=True))
