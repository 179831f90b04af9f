"""Users and roles in MLflow's basic-auth app, as vggflow wants them; for the server's administrator."""

import secrets
import warnings
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from vggflow.errors import UsageError
from vggflow.settings import RegistrySettings
from vggflow.tracking import connection
from vggflow.tracking.registry.model_versions import ensure_registered_model
from vggflow.tracking.users.roles import EXPERIMENT, ROLES, Role, grants, models_and_experiments, role_name

WORKSPACE = "default"  # MLflow's word for a tenant; a server without tenants has all in this one


class Server:
    """MLflow's own client for users and roles, and what vggflow asks of it."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._users = _auth_client(client.tracking_uri)

    def ensure_roles(self, registry: RegistrySettings) -> None:
        """Makes models, experiments and roles, and gives each role exactly its grants."""
        held = models_and_experiments(registry)
        for name in held.models:
            ensure_registered_model(self._client, name)
        ids = {
            name: connection.experiment_id(self._client, name)
            for name in (*held.experiments, held.answers, *held.rehearsal_experiments)
        }
        there = self._role_numbers()
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

    def users(self) -> list[tuple[str, bool]]:
        """The names of all users, and whether each is an administrator."""
        from mlflow.server.auth.routes import LIST_USERS

        # The one request that the client has no method for.
        found = self._users._request(LIST_USERS, "GET")["users"]
        return [(str(user["username"]), bool(user["is_admin"])) for user in found]

    def ensure_user(
        self, registry: RegistrySettings, name: str, role: Role, password: str | None
    ) -> str | None:
        """Makes a user, or gives one another role; returns the password of a new one, if none was given."""
        is_known = name in dict(self.users())
        made = None if is_known or password else secrets.token_urlsafe(15)
        if not is_known:
            self._users.create_user(name, password or made)
        elif password:
            self.set_password(name, password)
        has = self.roles_of(name)
        wanted = role_name(registry, role)
        # The new role before the other goes: a kill in between locks nobody out.
        if wanted not in has:
            self._users.assign_role(name, self._role_numbers()[wanted])
        for other in ROLES:
            if other != role and (number := has.get(role_name(registry, other))):
                self._users.unassign_role(name, number)
        return made

    def roles_of(self, name: str) -> dict[str, int]:
        """The roles of a user: names and MLflow's numbers."""
        return {role.name: role.id for role in self._users.list_user_roles(name)}

    def set_password(self, name: str, password: str) -> None:
        """Gives a user another password."""
        self._users.update_user_password(name, password)

    def remove_user(self, name: str) -> None:
        """Removes a user; what they made stays, in the name that they had."""
        self._users.delete_user(name)

    def _role_numbers(self) -> dict[str, int]:
        return {role.name: role.id for role in self._users.list_roles(WORKSPACE)}

    def _make_role(self, name: str) -> int:
        description = f"Made by vggflow: {name.rpartition(':')[2]} of {name.rpartition(':')[0]}"
        return int(self._users.create_role(WORKSPACE, name, description).id)

    def _set_grants(self, number: int, wanted: Mapping[tuple[str, str], str]) -> None:
        there = {
            (entry.resource_type, entry.resource_pattern): entry
            for entry in self._users.list_role_permissions(number)
        }
        for key, entry in there.items():
            if wanted.get(key) != entry.permission:
                self._users.remove_role_permission(entry.id)
        for (kind, name), level in wanted.items():
            if (kind, name) not in there or there[kind, name].permission != level:
                self._users.add_role_permission(number, kind, name, level)


def _auth_client(uri: str) -> Any:
    """MLflow's client for users, whose module brings its web server along.

    Raises:
        UsageError: what that needs is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the server about itself
            from mlflow.server.auth.client import AuthServiceClient
    except ImportError as error:
        raise UsageError(
            "giving access needs MLflow's server on this machine too, of which a package is missing: "
            "pip install 'vggflow[server]'"
        ) from error
    return AuthServiceClient(uri)
