"""Who a workspace is for everybody who asks the same server."""

import subprocess
from pathlib import Path

import pytest

from flows.identity import identity
from vggflow.credentials import without_password
from vggflow.workspace import Workspace


def _repository(folder: Path, *remotes: tuple[str, str]) -> Workspace:
    subprocess.run(["git", "init", "--quiet", "-b", "main", folder], check=True)
    for name, url in remotes:
        subprocess.run(["git", "-C", folder, "remote", "add", name, url], check=True)
    return Workspace(folder)


def test_without_a_remote_a_workspace_is_its_folder(tmp_path: Path) -> None:
    here = identity(_repository(tmp_path / "my pets"))
    assert (here.name, here.place, here.repository) == ("my-pets", str(tmp_path / "my pets"), "")
    assert here.limit == "vggflow-my-pets"
    assert here.resource == "vggflow.workspace.my-pets"


def test_with_a_remote_every_clone_is_the_same_workspace(tmp_path: Path) -> None:
    url = "git@git.example.com:team/pets.git"
    first = identity(_repository(tmp_path / "a", ("backup", "/elsewhere"), ("origin", url)))
    second = identity(_repository(tmp_path / "b", ("origin", url)))
    assert first == second
    assert (first.name, first.place, first.folder) == ("pets", url, "")


@pytest.mark.parametrize("url", ["../pets.git", "./../pets.git", "inside.git"])
def test_a_relative_remote_is_told_as_a_path_that_workers_can_clone(tmp_path: Path, url: str) -> None:
    here = identity(_repository(tmp_path / "work", ("origin", url)))
    assert here.repository == str((tmp_path / "work" / url).resolve())
    assert identity(_repository(tmp_path / "clone", ("origin", here.repository))) == here


def test_a_password_in_the_address_of_a_remote_is_not_told_to_the_server(tmp_path: Path) -> None:
    url = "https://ann:secret@git.example.com:8443/team/pets.git"
    here = identity(_repository(tmp_path, ("origin", url)))
    assert here.place == "https://git.example.com:8443/team/pets.git"


@pytest.mark.parametrize(
    "url", ["git@git.example.com:team/pets.git", "/srv/git/pets.git", "file:///srv/pets"]
)
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert without_password(url) == url


@pytest.mark.parametrize(
    "url", ["git@git.example.com:team/pets.git", "/srv/pets.git", "file:///srv/pets.git"]
)
def test_addresses_that_hold_everywhere_are_told_as_they_are(tmp_path: Path, url: str) -> None:
    assert identity(_repository(tmp_path, ("origin", url))).place == url
