"""The data that validate compares with: the champion's, else the newest candidate's.

Which ones these are is asked before the stage, and written into a small file that DVC digests. So a verdict that comes
from a cache was given against the same data, and a server that does not answer ends the stage instead of deciding it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vggflow import artifacts, console, files
from vggflow.commands import options
from vggflow.errors import EvidenceLost, UsageError, VggflowError
from vggflow.processes import stage_inputs
from vggflow.processes.stage import Outcome
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from vggflow.tracking.registry.model_versions import Version

FOLDER = artifacts.STATE / "reference"
OF_CHAMPION, OF_CANDIDATE = "the champion's data", "the newest candidate's data"


def command(context: typer.Context) -> None:
    """Asks the registry which data validate compares with: the champion's, else a candidate's."""
    options.run_stage(options.workspace(context), "reference", reference)


def reference(workspace: Workspace) -> Outcome:
    """Asks whose data validate compares with; DVC does this every time, before validate.

    Raises:
        VggflowError: the tracking server does not answer.
    """
    return Outcome(0, fetch(workspace))


def fetch(workspace: Workspace) -> str:
    """Asks whose data are compared with, and keeps their manifest; returns it in one line.

    Raises:
        VggflowError: the tracking server does not answer, so nobody can tell.
    """
    found = look(workspace)
    path = workspace.path(artifacts.REFERENCE)
    if not path.exists() or files.read_json(path) != found:
        files.write_json(path, found)
    if found["missing"]:
        console.tell(f"not compared with {found['of']}: {found['missing']}")
    return f"compared with {found['of']}" if found["manifest"] else "nothing to compare with"


def look(workspace: Workspace) -> dict[str, str]:
    """What `fetch` writes: whose data (`of`), the digest of their `manifest`, or why that is `missing`.

    Raises:
        VggflowError: the tracking server does not answer.
    """
    from vggflow.tracking import connection
    from vggflow.tracking.registry import champions, model_versions

    try:
        registry = connection.connect(workspace)
        champion = champions.read(registry).champion
        candidates = registry.names.candidates
        version = champion or next(iter(model_versions.newest(registry.client, candidates, 1)), None)
        found = {"of": OF_CHAMPION if champion else OF_CANDIDATE, "manifest": "", "missing": ""}
        return found | ({"manifest": _keep(workspace, version)} if version else {"of": "nothing"})
    except EvidenceLost as error:
        # Only `_keep` raises this, so `found` is there.
        return found | {"missing": str(error)}
    except UsageError:  # says itself what to do, and trying again helps nobody
        raise
    except VggflowError as error:
        raise VggflowError(f"nobody can tell which data to compare with: {error}") from error


def read(workspace: Workspace) -> "tuple[pd.DataFrame | None, str]":
    """The manifest that the file names, and whose it is; none where there is none.

    Raises:
        VggflowError: it is not here, and the server has another one by now.
    """
    from vggflow.data import manifest as manifests

    named = files.read_json(workspace.path(artifacts.REFERENCE))
    if not named["manifest"]:
        return None, str(named["of"])
    path = _path(workspace, named["manifest"])
    # It lies in `.vggflow`, which may be gone: asking again brings it, unless the answer is another by now.
    if not path.exists() and look(workspace)["manifest"] != named["manifest"]:
        raise VggflowError(f"{named['of']} changed meanwhile: run the same command again")
    return manifests.read(path), str(named["of"])


def given_by_dvc(workspace: Workspace) -> bool:
    """Whether DVC runs this stage and has digested what to compare with, so that it may not change any more."""
    # DVC sets this for every command that it runs.
    return "DVC_STAGE" in os.environ and stage_inputs.depends_on(
        workspace, "validate", str(artifacts.REFERENCE)
    )


def _keep(workspace: Workspace, version: "Version") -> str:
    """Keeps the manifest of a version here, in place of another one; returns its digest."""
    from vggflow.data import manifest as manifests
    from vggflow.tracking.registry import model_versions

    # Versions of before carry no digest, so theirs is fetched each time.
    digest = version.tags.get("manifest.digest", "")
    if digest and _path(workspace, digest).exists():
        return digest
    manifest = model_versions.training_manifest(version)
    digest = manifests.digest(manifest)
    for old in workspace.path(FOLDER).glob("*.parquet"):
        old.unlink(missing_ok=True)
    manifests.write(manifest, _path(workspace, digest))
    return digest


def _path(workspace: Workspace, digest: str) -> Path:
    return workspace.path(FOLDER) / f"{digest}.parquet"
