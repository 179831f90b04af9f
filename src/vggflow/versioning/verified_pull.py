"""What comes from the DVC remote is checked against its name, which is the MD5 of its bytes."""

from vggflow.errors import VggflowError
from vggflow.git_and_dvc import dvc_file, dvc_remotes
from vggflow.versioning.data_versions import Cache
from vggflow.versioning.three_way_merge import Listing
from vggflow.workspace import Workspace

SHOWN = 3


def pull(workspace: Workspace, tracked: str) -> None:
    """Brings a tracked folder here as its `.dvc` file names it, where it is not here at all.

    Raises:
        VggflowError: the remote lacks a file, or delivers other bytes than its name says.
    """
    fetch(workspace, tracked)
    workspace.dvc("checkout", f"{tracked}.dvc")


def fetch(workspace: Workspace, tracked: str) -> dict[str, str]:
    """Brings the files of a version into DVC's cache and returns its listing.

    Raises:
        VggflowError: the remote lacks a file, or delivers other bytes than its name says.
    """
    version = dvc_file.read(workspace.root / f"{tracked}.dvc")
    if version is None:
        raise VggflowError(f"there is no {tracked}.dvc in {workspace.root}")
    verify_remotes(workspace)
    cache, failed = Cache(workspace), ""
    cache.drop_half(version.md5)
    # DVC fails as a whole for one file; which ones are missing is looked up in its cache.
    try:
        workspace.dvc("fetch", f"{tracked}.dvc")
    except VggflowError as error:
        failed = str(error)
    listing = cache.listing(version.md5)
    missing = cache.lacks(listing) if listing is not None else []
    refuse_missing(tracked, {path: (listing or {})[path] for path in missing}, failed)
    if listing is None:
        refuse_missing(tracked, {"its listing": version.md5}, failed)
    return listing or {}


def refuse_missing(tracked: str, missing: Listing, failed: str = "") -> None:
    """Names what did not come.

    Raises:
        VggflowError: there is such a file. Trying again helps only where something `failed` on the way.
    """
    if not missing:
        return
    shown = ", ".join(f"{path} (files/md5/{md5[:2]}/{md5[2:]})" for path, md5 in [*missing.items()][:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    lost = VggflowError(
        f"the DVC remote lacks files of {tracked}.dvc, or holds other bytes under their names, and nothing was "
        f"taken: {shown}{more}; `dvc push` where they are whole, after removing damaged ones from the remote"
        + (f" ({failed})" if failed else "")
    )
    lost.retry = bool(failed)
    raise lost


def verify_remotes(workspace: Workspace) -> None:
    """Tells DVC to check what this workspace's remotes deliver, where nobody decided about that."""
    for remote in dvc_remotes.remotes(workspace.root):
        if not remote.decided:
            # `--local`: the committed configuration is everybody's.
            workspace.dvc("remote", "modify", "--local", remote.name, "verify", "true")
