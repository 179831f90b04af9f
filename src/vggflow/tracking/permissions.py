"""Users and roles in MLflow's basic-auth app, as vggflow wants them; for the server's administrator."""

import secrets
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from vggflow.settings import RegistrySettings
from vggflow.tracking import connection
from vggflow.tracking.model_versions import ensure_registered_model
from vggflow.tracking.roles import EXPERIMENT, ROLES, Role, grants, holdings, role_name

WORKSPACE = "default"  # MLflow's word for a tenant; a server without tenants has all in this one


class Server:
    """The part of MLflow's API that knows users and roles."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._credentials = get_default_host_creds(client.tracking_uri)  # type: ignore[no-untyped-call]

    def ask(self, method: str, path: str, version: str = "3.0", **content: Any) -> Any:
        """Sends a request and returns the answer's JSON."""
        place = f"/api/{version}/mlflow/{path}"
        how = "params" if method == "GET" else "json"
        answer = http_request(self._credentials, place, method, **{how: content})  # type: ignore[no-untyped-call]
        verify_rest_response(answer, place)
        return answer.json() if answer.content else {}

    def ensure_roles(self, registry: RegistrySettings) -> None:
        """Makes models, experiments and roles, and gives each role exactly its grants."""
        held = holdings(registry)
        for name in held.models:
            ensure_registered_model(self._client, name)
        ids = {
            name: connection.experiment_id(self._client, name)
            for name in (*held.experiments, *held.rehearsal_experiments)
        }
        there = {role["name"]: role["id"] for role in self.roles()}
        for role in ROLES:
            name = role_name(registry, role)
            number = there.get(name) or self._make_role(name)
            wanted = {
                (
                    each.kind,
                    ids.get(each.name, each.name) if each.kind == EXPERIMENT else each.name,
                ): each.level
                for each in grants(role, held)
            }
            self._set_grants(number, wanted)

    def roles(self) -> list[dict[str, Any]]:
        """All roles."""
        return list(self.ask("GET", "roles/list", workspace=WORKSPACE)["roles"])

    def users(self) -> list[dict[str, Any]]:
        """All users."""
        return list(self.ask("GET", "users/list", "2.0")["users"])

    def ensure_user(
        self, registry: RegistrySettings, name: str, role: Role, password: str | None
    ) -> str | None:
        """Makes a user, or gives one another role; returns the password of a new one, if none was given."""
        known = {user["username"] for user in self.users()}
        made = None if name in known or password else secrets.token_urlsafe(15)
        if name not in known:
            self.ask("POST", "users/create", "2.0", username=name, password=password or made)
        elif password:
            self.set_password(name, password)
        has = {entry["name"]: entry["id"] for entry in self.roles_of(name)}
        wanted = role_name(registry, role)
        if wanted not in has:
            number = next(entry["id"] for entry in self.roles() if entry["name"] == wanted)
            self.ask("POST", "roles/assign", username=name, role_id=number)
        for other in ROLES:
            if other != role and (number := has.get(role_name(registry, other))):
                self.ask("DELETE", "roles/unassign", username=name, role_id=number)
        return made

    def roles_of(self, name: str) -> list[dict[str, Any]]:
        """The roles of a user."""
        return list(self.ask("GET", "users/roles/list", username=name)["roles"])

    def set_password(self, name: str, password: str) -> None:
        """Gives a user another password."""
        self.ask("PATCH", "users/update-password", "2.0", username=name, password=password)

    def remove_user(self, name: str) -> None:
        """Removes a user; what they made stays, in the name that they had."""
        self.ask("DELETE", "users/delete", "2.0", username=name)

    def _make_role(self, name: str) -> int:
        description = f"Made by vggflow: {name.rpartition(':')[2]} of {name.rpartition(':')[0]}"
        made = self.ask("POST", "roles/create", name=name, workspace=WORKSPACE, description=description)
        return int(made["role"]["id"])

    def _set_grants(self, number: int, wanted: Mapping[tuple[str, str], str]) -> None:
        there = {
            (entry["resource_type"], entry["resource_pattern"]): entry
            for entry in self.ask("GET", "roles/permissions/list", role_id=number)["role_permissions"]
        }
        for key, entry in there.items():
            if wanted.get(key) != entry["permission"]:
                self.ask("DELETE", "roles/permissions/remove", role_permission_id=entry["id"])
        for (kind, name), level in wanted.items():
            if (kind, name) not in there or there[kind, name]["permission"] != level:
                grant = {"resource_type": kind, "resource_pattern": name, "permission": level}
                self.ask("POST", "roles/permissions/add", role_id=number, **grant)
