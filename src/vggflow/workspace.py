"""A workspace: a git and DVC folder. git and DVC are run as programs, never imported."""

import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

from vggflow import artifacts, settings, version
from vggflow.errors import UsageError, VggflowError
from vggflow.files import text_sha256, write_text
from vggflow.git_and_dvc import dvc_file, dvc_locks, killed_push, moved_remote
from vggflow.git_and_dvc.run import NoRepository, run

COMMITTED = (
    *(".gitignore", ".gitattributes", ".dvcignore", ".dvc/config", ".dvc/.gitignore"),
    *("params.yaml", "dvc.yaml", "prefect.yaml", "vggflow.version", "weights.dvc"),
)
# DVC digests bytes: with other line ends on one machine, two of a team would run every stage in turns.
GIT_ATTRIBUTES = tuple(
    f"{name} text eol=lf"
    for name in (
        "params.yaml",
        "dvc.yaml",
        "dvc.lock",
        "*.dvc",
        "vggflow.version",
        "prefect.yaml",
        "columns.csv",
    )
)
GIT_IGNORED = ("/data", "/weights", "/validation", "/model", "/evaluation", "/.vggflow/", "__pycache__/")
DEFAULT = "(default)"  # what `dvc remote list` says behind one
DVC_IGNORED = ("__pycache__/", ".DS_Store", "/data/sample", "/.vggflow", "/.venv")
WEIGHTS_README = """Start weights lie here and are versioned by DVC: after a change run `dvc add weights`.
`model.weights` in params.yaml names the file that training starts from, for example `weights/mine.h5`.
"""


# Of every dvc.yaml that `vggflow init` has written before: who changed theirs keeps it.
FORMER_PIPELINES = (
    "1bf29633e82ca5aa0c91b6f9c1998fe76d4d1721f46e43b5fc9d9dcc1609a9f3",
    "249dd40ca56d18db3e8ebf8026979ea602e8cee2c712d339a71c9ee3f9f825a5",
    "2cf489033387c5a435f113117126b64534f58d9154aff7ebbbdb8ff1647fa6b2",
    "40398fb17737cec5b775cf6cae8fa27e00847217a004796299c42dcbc14e228f",
    "ba4424ade96eda25ff3c67aeee7aedad5be61e6d249fd35fb4fb1778ede034c3",
)


@dataclass(frozen=True)
class Workspace:
    """The folder that holds `params.yaml`, `dvc.yaml`, data and results."""

    root: Path

    def path(self, artifact: PurePosixPath) -> Path:
        """Where a file named in `artifacts` lies."""
        return self.root / artifact

    @property
    def name(self) -> str:
        """The folder's name, for people."""
        return self.root.name

    def settings(self) -> settings.Settings:
        """`params.yaml`, checked."""
        return settings.load(self.path(artifacts.PARAMS))

    def git(self, *arguments: str, none: int | None = None) -> str:
        """Runs git here and returns what it printed; `none` is the exit code that means that there is nothing.

        Raises:
            NoRepository: the workspace is in no git repository.
            VggflowError: git failed, for whatever other reason.
        """
        return run(["git", *arguments], self.root, os.environ | self._identity(), none=none)

    def dvc(self, *arguments: str) -> str:
        """Runs DVC here and returns what it printed.

        Raises:
            VggflowError: DVC failed, with its reason in one line.
        """
        # DVC folds its tables at the width of a terminal, long addresses in the middle, also where it prints to none.
        environment = self.environment() | {"COLUMNS": "10000"}
        command = dvc_command(*arguments)
        try:
            return run(command, self.root, environment)
        except VggflowError as error:
            # Left by a push that was killed, maybe on a clone that never comes back to mend it.
            half = arguments[0] == "push" and killed_push.CORRUPTED in str(error)
            if not half or not killed_push.remove_empty(self.root):
                raise
        return run(command, self.root, environment)

    def dvc_remote(self) -> str | None:
        """The address of the default DVC remote, else of the first; None where there is none.

        Raises:
            VggflowError: DVC failed.
        """
        return self.named_dvc_remote()[1] or None

    def named_dvc_remote(self) -> tuple[str, str]:
        """Its name and its address; both are empty where there is none."""
        listed = self.dvc("remote", "list").splitlines()
        line = next((each for each in listed if each.endswith(DEFAULT)), listed[0] if listed else "")
        # Not split at every blank: an address may hold some, a name can't.
        name, _, address = line.removesuffix(DEFAULT).strip().partition(" ")
        return name, address.strip()

    def environment(self) -> dict[str, str]:
        """The environment in which DVC and its stages run: this vggflow first on the path.

        DVC's site cache is world-writable by default and holds pickles (CVE-2025-69872), so it gets a private place.
        Locks that a dead DVC left are released first.
        """
        dvc_locks.release_dead(self.root)
        private = self.path(artifacts.STATE) / "dvc-site-cache"
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return os.environ | {"PATH": programs, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(private)}

    def _identity(self) -> dict[str, str]:
        """A committer for machines on which nobody told git who they are."""
        if "GIT_AUTHOR_EMAIL" in os.environ or _asked(self.root, "config", "--get", "user.email"):
            return {}
        return {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "vggflow"), ("EMAIL", "vggflow@localhost"))
        }


def dvc_command(*arguments: str) -> list[str]:
    """DVC's command line, in this Python's environment."""
    return [sys.executable, "-m", "dvc", *arguments]


def find(folder: Path) -> Workspace:
    """The workspace at `folder`.

    Raises:
        UsageError: there is no `params.yaml` and `dvc.yaml`.
    """
    root = folder.resolve()
    missing = [name for name in (artifacts.PARAMS, artifacts.PIPELINE) if not (root / name).is_file()]
    if missing:
        raise UsageError(
            f"{root} is no workspace (no {missing[0]}): go to one, or make one with `vggflow init`"
        )
    moved_remote.follow_remote(root)
    return Workspace(root)


def init(folder: Path, recipe: str = "two-phase", remote: Path | None = None) -> Workspace:
    """Makes a workspace: git, DVC, a local DVC remote beside it, and the files to start from.

    Files that are there already are kept; only `vggflow.version` follows the vggflow that is installed.

    Raises:
        UsageError: the recipe is unknown, or `folder` is a file.
    """
    template = recipe_text(recipe)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected a folder: give another name")
    folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(folder.resolve())
    _start_repositories(workspace, remote or default_remote(workspace.root))
    named = template.replace(": image-classifier\n", f": {registry_name(workspace.name)}\n")
    _write_new(workspace.path(artifacts.PARAMS), named)
    for name in (artifacts.PIPELINE, PurePosixPath("prefect.yaml")):
        _write_new(workspace.path(name), (files("vggflow") / "template" / name.name).read_text("utf-8"))
    _write_new(workspace.path(artifacts.WEIGHTS) / "README.md", WEIGHTS_README)
    follow_pipeline(workspace)
    follow_version(workspace)
    if not (workspace.root / "weights.dvc").exists():
        workspace.dvc("add", "weights")
    commit(workspace, COMMITTED, f"Workspace made by vggflow, recipe {recipe}")
    return workspace


def registry_name(folder: str) -> str:
    """A folder's name as that of its models: letters, digits, `_` and `-`; two folders' names don't become one."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", folder).strip("-_")[:100]
    if plain == folder:
        return plain
    # A name that was typed on a Mac may be spelt in another form of Unicode: it is one name all the same.
    digest = hashlib.sha256(unicodedata.normalize("NFC", folder).encode()).hexdigest()[:6]
    return f"{plain or 'workspace'}-{digest}"


def recipe_text(recipe: str) -> str:
    """The `params.yaml` of a recipe."""
    if recipe not in recipes():
        raise UsageError(f"unknown recipe {recipe!r}: choose one of {', '.join(recipes())}")
    return (files("vggflow") / "template" / "recipes" / f"{recipe}.yaml").read_text("utf-8")


def recipes() -> tuple[str, ...]:
    """The names that `vggflow init --recipe` takes."""
    found = (entry.name for entry in (files("vggflow") / "template" / "recipes").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


def default_remote(root: Path) -> Path:
    """The DVC remote of a single machine: a folder beside the workspace."""
    return root.with_name(f"{root.name}.dvc-remote")


def follow_pipeline(workspace: Workspace) -> bool:
    """Puts this vggflow's `dvc.yaml` in place of one that nobody changed since an earlier wrote it; tells if it did."""
    path = workspace.path(artifacts.PIPELINE)
    if not path.exists() or text_sha256(path) not in FORMER_PIPELINES:
        return False
    write_text(path, (files("vggflow") / "template" / path.name).read_text("utf-8"))
    return True


def follow_version(workspace: Workspace) -> str:
    """Writes what this vggflow and its packages are into the workspace; says what was another before, and whose.

    Empty where nothing was, and where there was no such file.
    """
    path = workspace.path(artifacts.VERSION)
    now = version.text(_backend(workspace))
    # Bytes, not text: DVC digests them, so a clone whose git writes other line ends would run every stage again.
    before = path.read_bytes().decode("utf-8", "replace") if path.exists() else None
    if before == now:
        return ""
    differences = version.differences(before, now) if before is not None else []
    said = f"{', '.join(differences)} ({path.name} was {_recorded_by(workspace)})"
    write_text(path, now)
    return said if differences else ""


def check_version(workspace: Workspace) -> None:
    """Refuses to compute with another vggflow or other packages than DVC was told of: results would pass as current."""
    path = workspace.path(artifacts.VERSION)
    found = path.read_text("utf-8") if path.exists() else "none"
    if differences := version.differences(found, version.text(_backend(workspace))):
        raise UsageError(
            f"{path.name}, {_recorded_by(workspace)}, names others than this machine has: {', '.join(differences)}; "
            "install those, or run `vggflow retrain`, or `vggflow init .` to take the workspace over (its stages "
            "run again)"
        )


def _backend(workspace: Workspace) -> str:
    """What Keras computes with; whatever else is wrong with the settings is said by those who need them."""
    try:
        return workspace.settings().train.backend
    except UsageError:
        return "tensorflow"


def _recorded_by(workspace: Workspace) -> str:
    """Who recorded the packages: `committed by Ada on 2026-11-21`, or `written here` where git does not have that."""
    name = artifacts.VERSION.name
    try:
        changed = workspace.git("status", "--porcelain", "--", name).strip()
        who = (
            ""
            if changed
            else workspace.git("log", "-1", "--format=committed by %an on %as", "--", name).strip()
        )
    except NoRepository:
        return "written here"
    except VggflowError as error:  # the packages are the news; who recorded them only helps
        return f"recorded by somebody whom git can't name ({error})"
    return who or "written here"


def commit(workspace: Workspace, paths: Sequence[str], message: str) -> bool:
    """Commits what changed in `paths`, if anything did, leaving everything else as it is."""
    workspace.git("add", "--", *paths)
    if not workspace.git("status", "--porcelain", "--untracked-files=no", "--", *paths):
        return False
    # With the paths: what a person has staged beside them stays staged.
    workspace.git("commit", "--quiet", "--message", message, "--", *paths)
    return True


def status(workspace: Workspace, tracked: str) -> str:
    """How `data` or `weights` differs from its `.dvc` file: `same`, `changed`, `missing` or `untracked`."""
    there = (workspace.root / tracked).exists()
    for name in ("data", "weights"):
        dvc_file.read(workspace.root / f"{name}.dvc")  # DVC stops at any of them that is unreadable
    if not (workspace.root / f"{tracked}.dvc").exists():
        return "untracked" if there else "missing"
    if not there:
        return "missing"
    report = json.loads(workspace.dvc("status", "--json", f"{tracked}.dvc") or "{}")
    return "changed" if report else "same"


def _start_repositories(workspace: Workspace, remote: Path) -> None:
    root = workspace.root
    if not _is_repository(root):
        workspace.git("init", "--quiet", "--initial-branch", "main")
    _append_lines(root / ".gitignore", GIT_IGNORED)
    _append_lines(root / ".gitattributes", GIT_ATTRIBUTES)
    _append_lines(root / ".dvcignore", DVC_IGNORED)
    if not (root / ".dvc" / "config").exists():
        workspace.dvc("init")
        # As `dvc config` writes it, which takes a process for each.
        write_text(root / ".dvc" / "config", "[core]\n    analytics = false\n    autostage = false\n")
    if not workspace.dvc("remote", "list").strip():
        workspace.dvc("remote", "add", "--default", "local", str(remote))
        workspace.dvc("remote", "modify", "local", "verify", "true")


def _is_repository(root: Path) -> bool:
    """Whether this is the root of a git repository, not only somewhere in one."""
    try:
        return Path(_asked(root, "rev-parse", "--show-toplevel")) == root
    except NoRepository:
        return False


def _asked(folder: Path, *arguments: str) -> str:
    """What git answers to a question whose exit code 1 means that there is nothing."""
    return run(["git", *arguments], folder, dict(os.environ), none=1).strip()


def _append_lines(path: Path, lines: Sequence[str]) -> None:
    present = path.read_text("utf-8").splitlines() if path.exists() else []
    missing = [line for line in lines if line not in present]
    if missing:
        write_text(path, "\n".join([*present, *missing]) + "\n")


def _write_new(path: Path, text: str) -> None:
    if not path.exists():
        write_text(path, text)
