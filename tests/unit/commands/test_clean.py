"""What `vggflow clean` leaves of the DVC cache."""

from pathlib import Path

from tiny import COLOURS, draw

from vggflow import workspace as workspaces
from vggflow.commands import clean


def objects(folder: Path) -> set[str]:
    """What a cache or a remote holds, by name."""
    return {f"{path.parent.name}{path.name}" for path in folder.glob("files/md5/*/*")}


def test_what_the_workspace_uses_stays_and_an_old_version_goes_once_it_is_pushed(workspace: Path) -> None:
    here = workspaces.find(workspace)
    cache, remote = here.root / ".dvc/cache", here.root.with_name("remote")
    here.dvc("remote", "modify", "local", "url", str(remote))
    draw(here.root / "data/train/red/new.png", COLOURS["red"], 99)
    here.dvc("add", "data")
    workspaces.commit(here, ["data.dvc", ".dvc/config"], "A new picture, not pushed")
    with_new = objects(cache)
    (here.root / "data/train/red/new.png").unlink()
    here.dvc("add", "data")
    here.dvc("push")  # what the workspace uses is on the remote: it stays all the same
    workspaces.commit(here, ["data.dvc"], "Without it")
    used = objects(remote)

    (counted,) = clean._dvc_cache(here, dry_run=True)
    assert counted.count == len(objects(cache) - used)
    (removed,) = clean._dvc_cache(here, dry_run=False)
    assert removed.count == counted.count >= 2  # the picture, and the list that names it
    assert used <= objects(cache)
    assert with_new <= objects(remote), "nothing that somebody committed is lost"
    assert workspaces.status(here, "data") == "same"


def test_a_version_that_is_lost_already_does_not_keep_the_others_here(workspace: Path) -> None:
    here = workspaces.find(workspace)
    here.dvc("remote", "modify", "local", "url", str(here.root.with_name("remote")))
    cache = here.root / ".dvc/cache"
    for number in (1, 2):
        draw(here.root / "data/train/red/new.png", COLOURS["red"], number)
        here.dvc("add", "data")
        workspaces.commit(here, ["data.dvc", ".dvc/config"], f"Picture {number}")
        if number == 1:
            lost = objects(cache)
    draw(here.root / "data/train/red/new.png", COLOURS["red"], 3)
    here.dvc("add", "data")
    here.dvc("push")
    used = objects(here.root.with_name("remote"))
    gone = next(name for name in lost - used if not name.endswith(".dir"))
    (cache / "files/md5" / gone[:2] / gone[2:]).unlink()

    (removed,) = clean._dvc_cache(here, dry_run=False)

    assert removed.count >= 2
    assert objects(cache) == used
