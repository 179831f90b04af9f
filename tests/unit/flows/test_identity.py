"""Who a workspace is for everybody who asks the same server."""

import subprocess
from pathlib import Path

import pytest

from flows.identity import identity, without_secret
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


def test_a_password_in_the_address_of_a_remote_is_not_told_to_the_server(tmp_path: Path) -> None:
    url = "https://ann:secret@git.example.com:8443/team/pets.git"
    here = identity(_repository(tmp_path, ("origin", url)))
    assert here.place == "https://git.example.com:8443/team/pets.git"


@pytest.mark.parametrize(
    "url", ["git@git.example.com:team/pets.git", "/srv/git/pets.git", "file:///srv/pets"]
)
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert without_secret(url) == url
