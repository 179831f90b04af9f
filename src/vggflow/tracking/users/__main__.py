"""Gives people access to MLflow. Run by its administrator: `MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD`.

    python -m vggflow.tracking.users [-C WORKSPACE] apply USERS.json    roles, and users with their roles
    python -m vggflow.tracking.users [-C WORKSPACE] set NAME ROLE       one user; prints a new one's password
    python -m vggflow.tracking.users [-C WORKSPACE] password NAME       another password, printed once
    python -m vggflow.tracking.users [-C WORKSPACE] remove NAME
    python -m vggflow.tracking.users [-C WORKSPACE] list

A role is reader, trainer or promoter of the workspace's model; MLflow calls it `MODEL:reader` and so on. The server's
`default_permission` must be NO_PERMISSIONS, so that whoever has no role sees nothing.
"""

import argparse
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow

from vggflow.console import err, say
from vggflow.errors import UsageError, VggflowError
from vggflow.settings import RegistrySettings
from vggflow.tracking import connection
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.users.permissions import Server
from vggflow.tracking.users.roles import ROLES
from vggflow.workspace import find


def apply(server: Server, registry: RegistrySettings, users: Mapping[str, Mapping[str, str]]) -> None:
    """Makes the roles, and users with their roles: `{"ann": {"role": "trainer"}}`, with a `password` or a new one.

    Raises:
        UsageError: a role is unknown.
    """
    # All of them before the first user is made.
    wrong = {name: entry.get("role") for name, entry in users.items() if entry.get("role") not in ROLES}
    if wrong:
        name, role = next(iter(wrong.items()))
        raise UsageError(f"user {name!r} has role {role!r}: choose one of {', '.join(ROLES)}")
    server.ensure_roles(registry)
    for name, entry in users.items():
        chosen = next(role for role in ROLES if role == entry["role"])
        made = server.ensure_user(registry, name, chosen, entry.get("password"))
        say(f"{name}: {chosen} of {registry.name}" + (f", password {made}" if made else ""))


def _run(arguments: argparse.Namespace) -> None:
    workspace = find(arguments.workspace)
    opened = connection.connect(workspace)
    server, registry = Server(opened.client), opened.names
    if not mlflow.get_tracking_uri().startswith("http"):
        raise UsageError("MLFLOW_TRACKING_URI names no server: only a server knows users")
    if arguments.command == "apply":
        apply(server, registry, _wanted(arguments.file))
    elif arguments.command == "set":
        apply(server, registry, {arguments.name: {"role": arguments.role}})
    elif arguments.command == "password":
        made = secrets.token_urlsafe(15)
        server.set_password(arguments.name, made)
        say(f"{arguments.name}: password {made}")
    elif arguments.command == "remove":
        server.remove_user(arguments.name)
    else:
        for name, is_administrator in server.users():
            roles = ", ".join(server.roles_of(name))
            say(f"{name}: {'administrator' if is_administrator else roles or 'no role'}")


def _wanted(path: Path) -> dict[str, dict[str, str]]:
    """The users of a JSON file, or of stdin where it is `-`."""
    expected = 'expected JSON such as {"users": {"ann": {"role": "trainer"}}}'
    try:
        content = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read ({error}): {expected}") from error
    users = content.get("users") if isinstance(content, dict) else None
    if not isinstance(users, dict) or not all(isinstance(entry, dict) for entry in users.values()):
        raise UsageError(f"{path} names no users: {expected}")
    return users


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vggflow.tracking.users", description="Users of MLflow and their roles."
    )
    parser.add_argument("-C", "--workspace", type=Path, default=Path())
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apply", help="roles, and users from JSON").add_argument("file", type=Path)
    chosen = commands.add_parser("set", help="makes a user, or gives one another role")
    chosen.add_argument("name")
    chosen.add_argument("role", choices=ROLES)
    for name, text in (("password", "gives a user another password"), ("remove", "removes a user")):
        commands.add_parser(name, help=text).add_argument("name")
    commands.add_parser("list", help="users and their roles")
    return parser


def main() -> int:
    """The program; returns its exit code."""
    try:
        with mlflow_errors_as_one_line():
            _run(_parser().parse_args())
    except VggflowError as error:
        err.print(f"vggflow: {error}", markup=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
