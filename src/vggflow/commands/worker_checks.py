"""What a worker reaches of all that a run needs, looked at where it works: no run need begin to find out at night."""

import ipaddress
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from vggflow import cluster
from vggflow.commands import ray_checks
from vggflow.commands.findings import Finding, disk, dvc_remote
from vggflow.credentials import without_password
from vggflow.environment import MLFLOW_URL, SQLITE, state_folder, state_place, tracking_uri
from vggflow.errors import VggflowError
from vggflow.tracking.within import within
from vggflow.versioning import git_state
from vggflow.workspace import Workspace

GIT, DVC, MLFLOW, RAY = "git", "DVC remote", "MLflow", "Ray"
# A remote behind a firewall says nothing for minutes, and whoever asked is waiting.
SECONDS_AT_MOST = 30.0


def examine(workspace: Workspace, *, retrains: bool) -> list[Finding]:
    """What a run of this workspace needs from elsewhere, once the pull step has brought it.

    Args:
        workspace: As it was brought.
        retrains: Whether retrainings run here: they ask more of MLflow's user than anything else.
    """
    return [in_time(DVC, lambda: _dvc(workspace)), in_time(MLFLOW, lambda: _mlflow(workspace, retrains))]


def git(workspace: Workspace) -> Finding:
    """Which commit was brought."""
    try:
        commit = git_state.commit_of(workspace)
    except VggflowError as error:
        return Finding(GIT, "wrong", str(error))
    if not commit.digest:
        return Finding(GIT, "warning", commit.missing, "until then no version knows its commit")
    where = "" if commit.remote else f" in {workspace.root}"
    return Finding(GIT, "ok", f"commit {commit.digest[:7]}{where}")


def machine(asker: str) -> Iterator[Finding]:
    """What the worker's machine has, and the addresses that its runs tell people.

    Args:
        asker: The machine of who asks, whose browser will open them.
    """
    from vggflow.tracking import gate_pages

    named = bool(os.environ.get(MLFLOW_URL))
    yield from links(gate_pages.address_for_people(), asker, platform.node(), named=named)
    try:
        state_folder()
    except VggflowError as error:
        yield Finding("state (VGGFLOW_STATE)", "wrong", str(error))
    for folder in (state_place(), Path.cwd()):
        yield disk(folder)
    yield from _ray()


def _ray() -> Iterator[Finding]:
    """What is not well with the cluster that runs here would use, or that it is."""
    try:
        found = within(SECONDS_AT_MOST, lambda: list(ray_checks.checks()))
    except TimeoutError:
        told = f"no answer within {SECONDS_AT_MOST:.0f} s"
        found = [Finding(RAY, "wrong", told, "check address and network of the worker")]
    yield from (each for each in found if each.health != "ok" or (each.check == RAY and cluster.is_named()))


def in_time(check: str, look: Callable[[], Finding], seconds: float = SECONDS_AT_MOST) -> Finding:
    """What a check finds, or that it found nothing in time; what it started is ended then."""
    here = psutil.Process()
    before = here.children(recursive=True)
    try:
        return within(seconds, look)
    except TimeoutError:
        for program in set(here.children(recursive=True)) - set(before):
            with suppress(psutil.NoSuchProcess):
                program.terminate()
        told = f"no answer within {seconds:.0f} s"
        return Finding(check, "wrong", told, "check address, credentials and network of the worker")


def links(address: str, asker: str, here: str, *, named: bool) -> Iterator[Finding]:
    """Whether a browser opens what run pages link to; nothing where there is no server, thus no link.

    Args:
        address: MLflow's, as links have it.
        asker: The machine of who asks.
        here: This machine.
        named: Whether somebody chose the address for browsers, who knows why it is this machine's own.
    """
    if not address.startswith(("http://", "https://")):
        return
    host = urlsplit(address).hostname or ""
    advice = f"set {MLFLOW_URL} on the worker to the address that people use"
    if _is_own(host):
        told = f"links in run pages go to {address}, which only browsers on {here} can open"
        elsewhere = not named and asker and asker != here
        yield Finding("links", "warning", told, advice) if elsewhere else Finding("links", "ok", address)
    elif "." not in host and ":" not in host:
        told = f"links in run pages go to {address}, which browsers can't open"
        yield Finding("links", "warning", told, advice)
    else:
        yield Finding("links", "ok", address)


def _is_own(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _dvc(workspace: Workspace) -> Finding:
    # Data that git names was pushed with the weights before git was told of it.
    return dvc_remote(workspace, pushed=(workspace.root / "data.dvc").exists())


def _mlflow(workspace: Workspace, retrains: bool) -> Finding:
    uri = tracking_uri(workspace.root)
    if uri.startswith(SQLITE):
        return Finding(MLFLOW, "ok", "SQLite in the workspace")
    from vggflow.tracking import connection, reachable
    from vggflow.tracking.users import access

    try:
        with reachable.impatient():
            registry = connection.connect(workspace)
            user = access.current_user(registry.client)
            if retrains:
                promotes = workspace.settings().promotion.by_itself
                access.refuse_unfit_role(registry, promotes=promotes)
    except VggflowError as error:
        return Finding(MLFLOW, "wrong", str(error))
    return Finding(MLFLOW, "ok", without_password(uri) + (f" as `{user.name}`" if user else ""))
