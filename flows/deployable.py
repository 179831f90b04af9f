"""What is looked at before a deployment, since Prefect would find it out at night: branch, entrypoints, parameters."""

import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.exceptions import PrefectException
from prefect.flows import load_flow_from_entrypoint
from pydantic import TypeAdapter, ValidationError

from flows.identity import Identity
from vggflow.errors import UsageError
from vggflow.versioning import git_state
from vggflow.workspace import Workspace

FILE = "prefect.yaml"
# Prefect's own, https://docs.prefect.io/v3/how-to-guides/deployments/prefect-yaml
KEYS = (
    *("name", "description", "version", "tags", "entrypoint", "parameters", "enforce_parameter_schema"),
    *(
        "schedule",
        "schedules",
        "triggers",
        "concurrency_limit",
        "work_pool",
        "build",
        "push",
        "pull",
        "paused",
    ),
)


def check_branch(workspace: Workspace, here: Identity) -> None:
    """Workers can clone what is deployed.

    Raises:
        UsageError: no branch is checked out, or the remote does not have it.
        VggflowError: the remote does not answer.
    """
    if not here.repository:
        return
    if not here.branch:
        raise UsageError(
            "no branch is checked out (detached HEAD), so workers would not know what to clone: "
            "`git switch main`, or another branch, then deploy again"
        )
    remote = git_state.remotes(workspace)[0]
    # The whole name: `main` alone would be found in `feature/main`.
    if not workspace.git("ls-remote", "--heads", remote, f"refs/heads/{here.branch}").strip():
        raise UsageError(
            f"{here.place} has no branch {here.branch!r}, so workers could not clone it: "
            f"`git push --set-upstream {remote} {here.branch}`, then deploy again"
        )


def not_pushed(workspace: Workspace, here: Identity) -> str:
    """What workers will not see, in words; empty where they see all."""
    if not here.repository:
        return ""
    remote = git_state.remotes(workspace)[0]
    count = int(workspace.git("rev-list", "--count", "HEAD", "--not", f"--remotes={remote}"))
    return f"{count} commits are not pushed: workers run without them until `git push`" if count else ""


def check_file(content: dict[str, Any], root: Path) -> None:
    """Every deployment names a flow, and gives it only what that takes.

    Raises:
        UsageError: a key, an entrypoint, a parameter's name or its value is none.
    """
    for deployment in content.get("deployments") or []:
        _check_keys(deployment)
        found = _flow(deployment, root)
        for where, parameters in _given(deployment):
            _check_parameters(f"{deployment.get('name')}, {where}", found, parameters)


def _check_keys(deployment: dict[str, Any]) -> None:
    """Prefect leaves out what it does not know; only what looks like a slip is refused."""
    for key in deployment:
        meant = difflib.get_close_matches(key, KEYS, 1, 0.8) if key not in KEYS else []
        if meant:
            raise UsageError(
                f"{FILE}, {deployment.get('name')}: unknown key {key!r}, did you mean {meant[0]!r}?"
            )


def _flow(deployment: dict[str, Any], root: Path) -> "Flow[..., Any]":
    named = str(deployment.get("entrypoint") or "")
    try:
        # With a colon it names a file of the workspace, else a module. Without a placeholder, which Prefect
        # would make of a file that it can't import.
        return load_flow_from_entrypoint(
            str(root / named) if ":" in named else named, use_placeholder_flow=False
        )
    except (PrefectException, ImportError, AttributeError, OSError, ValueError) as error:
        raise UsageError(
            f"{FILE}, {deployment.get('name')}: entrypoint {named!r} is no flow ({error}): expected one such as "
            "flows.retrain.retrain"
        ) from error


def _given(deployment: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "parameters", deployment.get("parameters") or {}
    for kind in ("schedules", "triggers"):
        for each in deployment.get(kind) or []:
            yield f"{kind}: parameters", each.get("parameters") or {}


def _check_parameters(where: str, found: "Flow[..., Any]", given: dict[str, Any]) -> None:
    taken = inspect.signature(found.fn, eval_str=True).parameters
    for name, value in given.items():
        if name not in taken:
            raise UsageError(f"{FILE}, {where}: {found.name} takes no {name!r}, only {', '.join(taken)}")
        if isinstance(value, str) and "{{" in value:  # filled in when the event comes
            continue
        try:
            TypeAdapter(taken[name].annotation).validate_python(value)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise UsageError(
                f"{FILE}, {where}: {name}={value!r} is not what {found.name} takes: {said}"
            ) from error
