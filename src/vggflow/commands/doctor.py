"""What is wrong on this machine, and what to do about it: one finding per check."""

import base64
import os
import platform
import shutil
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

import typer

from vggflow import artifacts
from vggflow import workspace as workspaces
from vggflow.commands import ask_workers, findings, options, ray_checks
from vggflow.commands.findings import Finding, Health
from vggflow.console import out, table, tell
from vggflow.environment import SQLITE, state_folder, state_place, tracking_uri, user_name
from vggflow.errors import UsageError, VggflowError
from vggflow.processes import nvidia_smi, servers, stage_inputs
from vggflow.processes.work_place import WorkPlace
from vggflow.stack import log_ins
from vggflow.stack.choices import PASSWORDS, folder_of, known_choices
from vggflow.versioning import data_versions, git_state
from vggflow.workspace import Workspace

# What vggflow was tried with; another major version is another program.
TRIED = {"prefect": 3, "mlflow": 3, "dvc": 3, "tensorflow": 2, "keras": 3, "great-expectations": 1}
# Newer ones are allowed by Prefect 3.8 and break it: the first version that does, and how it shows.
BREAK_PREFECT = {"fastapi": ((0, 151), "deploying fails"), "sqlalchemy": ((2, 1), "no schedule fires")}
# By backend, the extra that gets a GPU going, and packages of which it brings one.
EXTRAS_FOR_GPUS = {
    "tensorflow": ("gpu", ("nvidia-cudnn-cu12",)),
    "jax": ("gpu-jax", ("jax-cuda12-plugin", "jax-cuda13-plugin")),
}
# A `Date` header counts whole seconds, and the answer takes its time as well.
MOST_SECONDS_APART = 5.0
SECONDS_TO_ANSWER = 5.0
OTHERS_WRITE = stat.S_IWOTH


def command(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Says what is wrong on this machine and in this workspace, and what to do about it."""
    try:
        workspace = options.workspace(context)
    except UsageError:
        workspace = None
    found = examine(workspace)
    if as_json:
        options.print_json([finding.to_dict() for finding in found])
    else:
        out.print(table("", ["", "what", "found"], findings.as_cells(found)))
        if workspace is None:
            tell("no workspace here: its settings, servers and remotes were not looked at")
    # Warnings end with 0, since what they name works.
    raise typer.Exit(1 if any(finding.health == "wrong" for finding in found) else 0)


def examine(workspace: Workspace | None) -> list[Finding]:
    """Looks at packages, programs, disk, GPU, permissions and Ray, and at the servers and remotes of a workspace."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        *(_packages, _programs, partial(_gpu, workspace), _caches, ray_checks.checks)
    ]
    if workspace is not None:
        here = workspace
        about_it = (
            _settings,
            _version,
            _pipeline,
            _line_ends,
            _git,
            _dvc_files,
            _dvc_remote,
            _mlflow,
            _prefect,
            _secrets,
        )
        # A default, since a lambda that looks at the loop's variable finds the last check each time.
        checks += [lambda check=check: check(here) for check in about_it]  # type: ignore[misc]
    folders = [state_place(), *([workspace.root] if workspace else [])]
    return [finding for check in checks for finding in check()] + [
        findings.disk(folder) for folder in folders
    ]


def _packages() -> Iterator[Finding]:
    # From the metadata: importing all of these would take twenty seconds.
    for name, major in TRIED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, "wrong", "not installed", f"install it: pip install '{name}>={major}'")
            continue
        known = int(found.partition(".")[0]) == major
        advice = "" if known else f"vggflow was tried with {name} {major}: install that, or expect surprises"
        yield Finding(name, "ok" if known else "warning", found, advice)
    for name, (limit, effect) in BREAK_PREFECT.items():
        with suppress(PackageNotFoundError):
            found = version(name)
            if tuple(int(part) for part in found.split(".")[:2]) >= limit:
                advice = f"with it {effect} in Prefect: pip install '{name}<{'.'.join(map(str, limit))}'"
                yield Finding(name, "wrong", found, advice)


def _programs() -> Iterator[Finding]:
    place = shutil.which("git")
    yield Finding(
        "git", "ok" if place else "wrong", place or "not on the PATH", "" if place else "install git"
    )
    yield Finding("Python", "ok", platform.python_version())


def _gpu(workspace: Workspace | None) -> Iterator[Finding]:
    try:
        found = nvidia_smi.gpus()
    except VggflowError as error:
        yield Finding("GPU", "wrong", str(error), "look at the NVIDIA driver")
        return
    if not found:
        yield Finding("GPU", "ok", "none found, training runs on the processor")
        return
    # One of the packages that each extra brings stands for all of them.
    backend = _backend(workspace)
    extra, brought = EXTRAS_FOR_GPUS[backend]
    missing = not any(_is_installed(name) for name in brought)
    advice = (
        f"pip install 'vggflow[{extra}]', unless CUDA's libraries are the system's own" if missing else ""
    )
    health: Health = "warning" if missing else "ok"
    yield Finding("GPU", health, f"{'; '.join(found)}; train.backend is {backend}", advice)


def _backend(workspace: Workspace | None) -> str:
    """What the workspace computes with; TensorFlow where there is none, or its settings can't be read."""
    with suppress(VggflowError):
        return workspace.settings().train.backend if workspace else "tensorflow"
    return "tensorflow"


def _is_installed(name: str) -> bool:
    with suppress(PackageNotFoundError):
        return bool(version(name))
    return False


def _caches() -> Iterator[Finding]:
    """Whoever can write into a cache can put something there that others load."""
    try:
        state_folder()
    except VggflowError as error:
        yield Finding("state (VGGFLOW_STATE)", "wrong", str(error), "training and the cache need it")
        shared = {"DVC's site cache": Path("/var/tmp/dvc")}  # noqa: S108
    else:
        shared = {"state (VGGFLOW_STATE)": state_place(), "DVC's site cache": Path("/var/tmp/dvc")}  # noqa: S108
    yield from _home()
    for name, folder in shared.items():
        if not folder.exists():
            continue
        # What lies there is loaded again, from DVC's cache even as pickles, which run code (CVE-2025-69872).
        open_to_all = folder.stat().st_mode & OTHERS_WRITE
        if open_to_all:
            advice = f"chmod o-w {folder}" + (
                "" if name.startswith("state") else " (vggflow uses a place of its own)"
            )
            yield Finding(name, "warning", f"{folder} is writable by everybody", advice)
        elif name.startswith("state"):
            yield Finding(name, "ok", str(folder))


def _home() -> Iterator[Finding]:
    """Where libraries keep their own settings; in containers there often is none."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home() raises where there is none)
    if home == Path("/") or not home.is_dir() or not os.access(home, os.W_OK):
        advice = "set HOME to a folder of this user's own"
        yield Finding("home", "warning", f"{user_name()} has none that can be written ({home})", advice)


def _settings(workspace: Workspace) -> Iterator[Finding]:
    try:
        workspace.settings()
    except VggflowError as error:
        yield Finding("params.yaml", "wrong", str(error), "mend it: docs/settings.md explains every key")
    else:
        yield Finding("params.yaml", "ok", "every key is known")


def _version(workspace: Workspace) -> Iterator[Finding]:
    try:
        workspaces.check_version(workspace)
    except VggflowError as error:
        yield Finding("vggflow.version", "warning", str(error), "`vggflow retrain` follows by itself")
    else:
        yield Finding("vggflow.version", "ok", workspace.path(artifacts.VERSION).read_text("utf-8").strip())


def _pipeline(workspace: Workspace) -> Iterator[Finding]:
    name = artifacts.PIPELINE.name
    if stage_inputs.depends_on(workspace, "validate", str(artifacts.REFERENCE)):
        yield Finding(name, "ok", "names what every stage depends on")
        return
    advice = "`vggflow init .` follows where nobody changed the file; else take the stages over from a new workspace"
    yield Finding(name, "warning", f"validate does not depend on {artifacts.REFERENCE}", advice)


def _line_ends(workspace: Workspace) -> Iterator[Finding]:
    path = workspace.root / ".gitattributes"
    if path.exists() and set(workspaces.GIT_ATTRIBUTES) <= set(path.read_text("utf-8").splitlines()):
        yield Finding("line ends", "ok", "the same on every machine")
        return
    advice = "`vggflow init .` makes .gitattributes; commit it"
    yield Finding("line ends", "warning", "git may write others elsewhere, and stages run again", advice)


def _git(workspace: Workspace) -> Iterator[Finding]:
    try:
        remotes = git_state.remotes(workspace)
        branch = git_state.branch(workspace)
        # Of all branches: a version may come from another than the one that is checked out.
        ahead = workspace.git("log", "--branches", "--not", "--remotes", "--oneline").splitlines()
    except VggflowError as error:
        yield Finding("git repository", "wrong", str(error), "until then no version knows its commit")
        return
    if not branch:
        advice = "`git switch main` (or another branch): what is committed now would belong to none"
        yield Finding("git branch", "warning", "none is checked out (detached HEAD)", advice)
    if not remotes:
        advice = "`git remote add origin URL && git push`: workers and other machines clone from there"
        yield Finding("git remote", "warning", "none", advice)
        return
    advice = "`git push`: a version whose commit is only here can't be reproduced elsewhere" if ahead else ""
    found = f"{remotes[0]}, {len(ahead)} commits not pushed" if ahead else remotes[0]
    yield Finding("git remote", "warning" if ahead else "ok", found, advice)


def _dvc_files(workspace: Workspace) -> Iterator[Finding]:
    """Nothing works while git's conflict marks, or anything else that DVC can't read, stand in these files."""
    for tracked in data_versions.TRACKED:
        name = f"{tracked}.dvc"
        with suppress(
            VggflowError
        ):  # without git nothing waits for a merge, and that is a finding of its own
            if data_versions.conflicting(workspace, tracked):
                advice = "`vggflow data accept` puts both sides together, then go on with git"
                yield Finding(name, "wrong", "git waits for a merge of it", advice)
                continue
        try:
            data_versions.entry(workspace, tracked)
        except VggflowError as error:
            found, _, advice = str(error).partition(": ")
            yield Finding(name, "wrong", found, advice)


def _dvc_remote(workspace: Workspace) -> Iterator[Finding]:
    if not any(_dvc_files(workspace)):  # DVC reads them all, whichever it is asked about
        yield findings.dvc_remote(workspace)


def _mlflow(workspace: Workspace) -> Iterator[Finding]:
    uri = tracking_uri(workspace.root)
    if uri.startswith(SQLITE):
        advice = "for a team: set MLFLOW_TRACKING_URI to a server, or run `vggflow up`"
        yield Finding("MLflow", "ok", "SQLite in this workspace, for one user", advice)
        return
    if not uri.startswith(("http://", "https://")):
        advice = "set MLFLOW_TRACKING_URI to the http(s) address of a server, or to sqlite:///FILE"
        yield Finding("MLflow", "wrong", f"MLFLOW_TRACKING_URI={uri} is no address of a server", advice)
        return
    yield from _server("MLflow", uri, "/health")
    from vggflow.tracking import connection
    from vggflow.tracking.users import access

    try:
        user = access.current_user(connection.connect(workspace).client)
    except VggflowError as error:
        yield Finding("MLflow user", "wrong", str(error), "ask who runs the server for a log-in")
    else:
        advice = (
            "" if user else "everybody who reaches the server may change everything: see docs/operating.md"
        )
        found = user.name if user else "the server knows no users"
        yield Finding("MLflow user", "ok" if user else "warning", found, advice)


def _prefect(workspace: Workspace) -> Iterator[Finding]:
    uri = os.environ.get("PREFECT_API_URL")
    if not uri:
        found = "its own server per run, on SQLite and for one person; no schedules"
        yield Finding("Prefect", "ok", found, "for a team: set PREFECT_API_URL, or run `vggflow up`")
        return
    login = os.environ.get("PREFECT_API_AUTH_STRING")
    header = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    answers = list(_server("Prefect", uri, "/version", header))  # /health answers everybody
    yield from answers
    if all(finding.health != "wrong" for finding in answers):
        yield from _workers(workspace)
    choices = known_choices(workspace)
    if choices and f":{choices.ports['prefect']}/" in uri and not choices.prefect_in_postgresql:
        yield Finding("Prefect's database", "warning", "SQLite", choices.limits()[0])


def _workers(workspace: Workspace) -> Iterator[Finding]:
    """Whether somebody works on what this workspace has deployed."""
    try:
        found = servers.ask_flows(workspace, "status")
    except VggflowError as error:
        yield Finding("Prefect's workers", "wrong", str(error), "look at the server's log")
        return
    for place in (WorkPlace(**each) for each in found["unserved"]):
        told = f"none serves {place}: what is due there waits"
        yield Finding("Prefect's workers", "warning", told, place.how_to_serve)
    if not found["unserved"]:
        yield Finding("Prefect's workers", "ok", f"{found['workers']} online")
    yield from ask_workers.ask(workspace, found["served"])


VARIABLES = {"MLflow": "MLFLOW_TRACKING_URI", "Prefect": "PREFECT_API_URL"}
LOGINS = {
    "MLflow": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "Prefect": "PREFECT_API_AUTH_STRING to NAME:PASSWORD of the server",
}


def _server(
    name: str, uri: str, path: str, header: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Finding]:
    """Whether a server answers and takes our log-in, and whether its clock is ours."""
    asked = time.time()
    # A proxy that the environment names can't reach this machine's own address.
    here = urllib.request.ProxyHandler({}) if "127.0.0.1" in uri else urllib.request.ProxyHandler()
    try:
        request = urllib.request.Request(uri.rstrip("/") + path, headers=dict(header))  # noqa: S310
        with urllib.request.build_opener(here).open(request, timeout=SECONDS_TO_ANSWER) as answer:
            date = answer.headers.get("Date")
    # Before OSError, of which it is one.
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        found = f"{uri} does not take this log-in" if refused else f"{uri} answers HTTP {error.code}"
        yield Finding(name, "wrong", found, f"set {LOGINS[name]}" if refused else "look at the server's log")
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        yield Finding(name, "wrong", f"{uri}: {reason}", f"start the server, or mend {VARIABLES[name]}")
        return
    yield Finding(name, "ok", uri)
    if date:
        apart = abs(parsedate_to_datetime(date).timestamp() - asked)
        if apart > MOST_SECONDS_APART:
            yield Finding(
                f"clock of {name}", "warning", f"{apart:.0f} s from ours", "let NTP set both clocks"
            )


def _secrets(workspace: Workspace) -> Iterator[Finding]:
    kept = [folder_of(workspace) / name for name in (PASSWORDS, log_ins.FILE)]
    loose = [path for path in kept if path.exists() and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]
    if loose:
        advice = f"chmod 600 {loose[0]}, and change the passwords in it"
        yield Finding("passwords", "wrong", f"{loose[0].name} is readable by others", advice)
