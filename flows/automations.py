"""The section `automations` of `prefect.yaml`: what happens when a run fails, dies, comes late or promotes."""

import hashlib
import os
import re
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.blocks.fields import SecretDict
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from flows.identity import Identity
from vggflow.environment import NOTIFY_URL

BLOCK = "vggflow-notify"
BODY = "{{ flow_run.name }}: {{ flow_run.state.name }}\n{{ flow_run.state.message or '' }}\n{{ flow_run|ui_url }}"


async def apply(client: PrefectClient, here: Identity, wanted: list[dict[str, Any]]) -> list[str]:
    """Makes the workspace's automations be exactly these; returns their names.

    Those that notify are left out where nobody ever said whom; an empty `VGGFLOW_NOTIFY_URL` takes them away.
    """
    block = await _notification_block(client, here)
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


def title(name: str, here: Identity) -> str:
    """What an automation of the file is called on the server."""
    return f"{name} @{here.name}"


def automation(spec: dict[str, Any], here: Identity, block: str | None) -> AutomationCore:
    """An automation as Prefect knows it, for the runs of this workspace only."""
    tag = {"prefect.resource.id": f"prefect.tag.{here.tag}", "prefect.resource.role": "tag"}
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    trigger = dict(spec["trigger"])
    also = [trigger.pop("match_related")] if "match_related" in trigger else []
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
            "name": title(spec["name"], here),
            "description": spec.get("description", ""),
            "trigger": {"type": "event", "match": runs, "match_related": [tag, *also], **trigger},
            "actions": actions,
        }
    )


async def _notification_block(client: PrefectClient, here: Identity) -> str | None:
    """Whom to tell, from the environment of whoever deploys, since the address is a secret; returns the block's id.

    Who deploys without the variable leaves it as it was.
    """
    url, name = os.environ.get(NOTIFY_URL), block_name(here)
    if url is None:
        return next(iter(await _known_blocks(client, name)), None)
    if not url:
        return None
    if url.startswith(("http://", "https://")):
        text = {"subject": "{{subject}}", "text": "{{body}}"}
        # `url` is shown to everybody who reads blocks, `secrets` are not.
        block: Any = CustomWebhookNotificationBlock(
            name=name, url="{{address}}", json_data=text, secrets=SecretDict({"address": url})
        )
    else:
        block = SlackWebhook(url=url)  # takes any address that Apprise knows
    saved = str(await block.asave(name, overwrite=True))
    for other in await _known_blocks(client, name):
        if other != saved:  # the address before was of the other kind
            await client.delete_block_document(UUID(other))
    return saved


def block_name(here: Identity) -> str:
    """A name that only this workspace has; Prefect takes lower case letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", here.name.lower())
    digest = hashlib.sha256(here.name.encode()).hexdigest()[:6]
    return f"{BLOCK}-{plain}" if plain == here.name else f"{BLOCK}-{plain}-{digest}"


async def _known_blocks(client: PrefectClient, name: str) -> list[str]:
    """Ids of the blocks of this name: a webhook, or an address of Apprise."""
    found = []
    for kind in (CustomWebhookNotificationBlock, SlackWebhook):
        with suppress(ObjectNotFound):
            document = await client.read_block_document_by_name(name, kind.get_block_type_slug())
            found.append(str(document.id))
    return found
