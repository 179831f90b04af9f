"""Trying the whole way on a small copy of a workspace's own data, before launching it on all of it."""

import shutil

import yaml

from vggflow import artifacts, settings
from vggflow import workspace as workspaces
from vggflow.data.sample import take_sample
from vggflow.files import write_text
from vggflow.versioning import verified_pull
from vggflow.workspace import Workspace

PER_CLASS = 20


def workspace_of_sample(workspace: Workspace, per_class: int = PER_CLASS) -> Workspace:
    """A workspace of its own inside `.vggflow/`, made anew, that holds a workspace's sample as its data.

    All that is done there is done for real, but with a remote, an experiment and registered models of its own.
    """
    data = workspace.path(artifacts.DATA)
    sample = workspace.path(artifacts.SAMPLE_DATA)
    for tracked in (artifacts.DATA, artifacts.WEIGHTS):
        entry = workspace.path(tracked.with_suffix(".dvc"))
        if not workspace.path(tracked).exists() and entry.exists():
            verified_pull.pull(workspace, str(tracked))
    if not sample.is_dir():
        take_sample(data, per_class)
    root = workspace.path(artifacts.STATE) / "sample"
    remote = workspace.path(artifacts.STATE) / "sample.dvc-remote"
    # Made anew each time: with what an earlier try left, stages would be up to date and tried no more.
    for old in (root, remote):
        shutil.rmtree(old, ignore_errors=True)
    root.mkdir(parents=True)
    write_text(root / artifacts.PARAMS, _params(workspace))
    for name in (artifacts.DATA, artifacts.WEIGHTS):
        source = sample if name == artifacts.DATA else workspace.path(name)
        if source.exists():
            # Copied, though it costs disk: DVC keeps no folder behind a link.
            shutil.copytree(source, root / name)
    return workspaces.init(root, remote=remote)


def _params(workspace: Workspace) -> str:
    """The workspace's settings with `-sample` behind the names of its experiment and model."""
    content = yaml.safe_load(workspace.path(artifacts.PARAMS).read_text("utf-8"))
    registry = workspace.settings().registry
    content["registry"] = {
        "name": f"{registry.name}-sample",
        "experiment": f"{registry.experiment}-sample",
    }
    text = yaml.safe_dump(content, sort_keys=False)
    # The longer names may be over the limit for names.
    settings.parse(yaml.safe_load(text))
    return text
