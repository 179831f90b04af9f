"""Two workspaces on one MLflow: each knows its own models, wherever it lies, and leaves another's alone."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_params

from vggflow.errors import UsageError
from vggflow.tracking import connection
from vggflow.tracking.registry import ownership
from vggflow.workspace import Workspace, registry_name

NAME = "tiny-candidates"


@pytest.fixture(autouse=True)
def _shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")


def make(folder: Path) -> Workspace:
    """A workspace with a commit of its own."""
    write_params(folder)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "name").write_text(folder.name)
    workspace = Workspace(folder)
    for command in (("init", "--quiet", "-b", "main"), ("add", "."), ("commit", "--quiet", "-m", "First")):
        workspace.git(*command)
    return workspace


def clone(source: Path, folder: Path, *options: str) -> Workspace:
    subprocess.run(["git", "clone", "--quiet", *options, source.as_uri(), folder], check=True)
    return Workspace(folder)


def register(workspace: Workspace, **tags: str) -> bool:
    """As registering does, without a model."""
    registry = connection.connect(workspace)
    client = registry.client
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    client.create_model_version(NAME, "/stored/model", tags=tags)
    return ownership.claim(registry, workspace)


def refused(workspace: Workspace) -> str:
    with pytest.raises(UsageError) as caught:
        connection.connect(workspace)
    return str(caught.value)


def test_a_second_workspace_of_the_same_name_is_refused_and_both_are_named(
    tmp_path: Path, vggflow: Callable
) -> None:
    first, second = make(tmp_path / "cats"), make(tmp_path / "dogs")
    assert register(first)
    for command in (("models",), ("rollback", "--reason", "why not"), ("promote", "--reason", "why not")):
        ran = vggflow("-C", second.root, *command)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert f"'tiny' on this MLflow are those of {first.root}" in ran.err
        assert f"this workspace is {second.root}" in ran.err and "registry.name" in ran.err
    assert vggflow("-C", first.root, "models").code == 0


def test_another_name_gives_a_workspace_models_of_its_own(tmp_path: Path) -> None:
    register(make(tmp_path / "cats"))
    second = make(tmp_path / "dogs")
    write_params(second.root, registry={"name": "dogs"})
    connection.connect(second)


def test_a_moved_a_cloned_and_a_published_workspace_are_the_same(tmp_path: Path) -> None:
    first = make(tmp_path / "cats")
    register(first)
    connection.connect(clone(first.root, tmp_path / "clone"))
    moved = Workspace(Path(shutil.move(first.root, tmp_path / "moved")))
    connection.connect(moved)
    moved.git("remote", "add", "origin", "https://ann:secret@git.example.com/team/cats.git")
    connection.connect(moved)
    (moved.root / "more").write_text("more")
    moved.git("add", ".")
    moved.git("commit", "--quiet", "-m", "Second")
    connection.connect(moved)
    assert not register(moved)


def test_a_worker_s_shallow_clone_is_known_by_its_remote(tmp_path: Path) -> None:
    bare = tmp_path / "cats.git"
    first = make(tmp_path / "cats")
    first.git("clone", "--quiet", "--bare", ".", str(bare))
    (first.root / "more").write_text("more")
    first.git("add", ".")
    first.git("commit", "--quiet", "-m", "Second")
    first.git("remote", "add", "origin", str(bare))
    first.git("push", "--quiet", "origin", "main")
    worker = clone(bare, tmp_path / "worker", "--depth", "1")
    assert register(worker)
    connection.connect(first)
    assert not ownership.claim(connection.connect(first), first)  # it only learns the first commit
    other = make(tmp_path / "dogs")
    other.git("remote", "add", "origin", str(tmp_path / "dogs.git"))
    assert str(bare) in refused(other)
    tags = connection.connect(first).client.get_registered_model(NAME).tags
    assert json.loads(tags[ownership.OWNER])["first"] == ownership.owner(first).first != ""


def test_two_folders_of_one_repository_are_two_workspaces(tmp_path: Path) -> None:
    outer = make(tmp_path / "all")
    for name in ("cats", "dogs"):
        write_params(outer.root / name)
    register(Workspace(outer.root / "cats"))
    connection.connect(Workspace(outer.root / "cats"))
    refused(Workspace(outer.root / "dogs"))


def test_models_of_an_earlier_vggflow_are_adopted_by_who_has_their_commit_and_by_a_person(
    tmp_path: Path, vggflow: Callable
) -> None:
    first, second = make(tmp_path / "cats"), make(tmp_path / "dogs")
    client = connection.connect(first).client
    client.create_registered_model(NAME)
    commit = first.git("rev-parse", "HEAD").strip()
    client.create_model_version(NAME, "/stored/model", tags={"git.commit": commit})
    assert commit[:12] in refused(second)
    connection.connect(first)
    ran = vggflow("-C", second.root, "models", "--adopt")
    assert (ran.code, f"are this workspace's now: {second.root}" in ran.out) == (0, True)
    connection.connect(second)
    assert str(second.root) in refused(first)


def test_models_that_say_nothing_are_anybody_s_and_folders_without_git_too(tmp_path: Path) -> None:
    bare = tmp_path / "exported"
    write_params(bare)
    (bare / "dvc.yaml").write_text("stages: {}\n")
    first = make(tmp_path / "cats")
    assert register(first)
    connection.connect(Workspace(bare))
    client = connection.connect(first).client
    client.delete_registered_model_tag(NAME, ownership.OWNER)
    connection.connect(make(tmp_path / "dogs"))


def test_a_rehearsal_belongs_to_the_workspace_that_it_rehearses(tmp_path: Path) -> None:
    first = make(tmp_path / "cats")
    rehearsals = [make(first.root / ".vggflow" / "sample")]
    register(rehearsals[0])
    shutil.rmtree(rehearsals[0].root)
    connection.connect(make(first.root / ".vggflow" / "sample"))


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("git@host.org:team/pets.git", "host.org/team/pets"),
        ("https://host.org/team/pets", "host.org/team/pets"),
        ("ssh://git@host.org:2222/team/pets.git", "host.org/team/pets"),
        ("/srv/git/pets.git", "/srv/git/pets"),
        ("file:///srv/git/pets.git/", "/srv/git/pets"),
    ],
)
def test_a_remote_is_one_however_it_is_reached(url: str, plain: str) -> None:
    assert ownership._plain(url) == plain


def test_models_are_named_for_the_folder_in_every_script() -> None:
    assert registry_name("cats_and-dogs") == "cats_and-dogs"
    names = [registry_name(name) for name in ("猫", "犬", "my pets", "my-pets", "-", "x" * 250)]
    assert len(set(names)) == 6
    assert names[0].startswith("workspace-") and names[2].startswith("my-pets-") and names[3] == "my-pets"
    assert max(map(len, names)) <= 110
