"""Labels in doubt that can be told at once: by the last audit or by kept features, and else not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny import draw, draw_data, write_params

from vggflow.audit import record
from vggflow.commands import audit, suspects_at_hand
from vggflow.commands.suspects_at_hand import images_to_learn_from
from vggflow.data import manifest as manifests
from vggflow.features import limit
from vggflow.features.batches import examples
from vggflow.gate.judge import look
from vggflow.models import builder, files
from vggflow.report.page import Doubts
from vggflow.settings import ValidateSettings
from vggflow.training.start_features import start_features
from vggflow.workspace import Workspace

Look = Callable[[], Doubts | None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, start weights that tell light from dark, and no features yet."""
    root = tmp_path_factory.mktemp("at-hand") / "tiny"
    write_params(root, model={"weights": "start.keras"})
    data = draw_data(root / "data")
    shutil.move(data / "train" / "blue" / "0.png", data / "train" / "red" / "of another \u732b kind.png")
    draw(data / "test" / "unknown" / "what.png", (200, 60, 40), 77)
    # With random weights too colours can be told apart: what is red differs from what is blue in every feature.
    settings = yaml.safe_load((root / "params.yaml").read_text())["model"] | {"weights": "none"}
    model = builder.build(Workspace(root).settings().model.model_validate(settings), ["blue", "red"], None, 3)
    (root / "weights").mkdir()
    files.save(
        model, files.ModelInfo(("blue", "red"), 32, "stretch", "rescale"), root / "weights" / "start.keras"
    )
    manifests_folder = root / "validation"
    manifests_folder.mkdir()
    manifests.write(look(data, ValidateSettings()).manifest, manifests_folder / "manifest.parquet")
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / "state"))
    shutil.copytree(made, tmp_path / "tiny")
    return Workspace(tmp_path / "tiny")


def manifest(here: Workspace) -> pd.DataFrame:
    return manifests.read(here.root / "validation" / "manifest.parquet")


def told(here: Workspace) -> Doubts:
    found = suspects_at_hand.doubts(here, here.settings(), manifest(here))
    assert found is not None
    return found


def compute(here: Workspace, *splits: str) -> None:
    """Features of the start weights, as a training or an audit would leave them."""
    table = manifest(here)
    names = manifests.class_names(table)
    job = audit.job_for_features(here, here.settings(), table)
    start_features(
        job, [examples(table, split, names, here.root / "data") for split in splits], lambda *_: None
    )


def change(here: Workspace, section: str, **values: object) -> None:
    content = yaml.safe_load((here.root / "params.yaml").read_text())
    content[section] |= values
    (here.root / "params.yaml").write_text(yaml.safe_dump(content))


def test_nothing_is_computed_for_it_where_nothing_is_kept(here: Workspace) -> None:
    assert told(here) == Doubts("", None)
    assert not (here.root.parent / "state").exists()
    compute(here, "valid", "test")
    assert told(here).audit is None, "without train nobody can be taught"
    assert limit.contents(here.root.parent / "state")[0].images == 20


def test_kept_features_tell_of_the_splits_that_are_whole_and_the_gate_gets_to_know(here: Workspace) -> None:
    compute(here, "train", "valid")
    found = told(here)
    assert found.looked_at == "train and valid"
    assert found.audit is not None
    assert found.audit.images == 24
    assert found.audit.suspects["path"].tolist() == ["train/red/of another \u732b kind.png"]
    kept = record.read(record.place(here.root.parent / "state", "tiny"))
    assert kept is not None
    assert (len(kept), int(kept["suggested"].notna().sum())) == (24, 1)
    compute(here, "train", "valid", "test")
    assert told(here).looked_at == "train and valid and test"


def test_features_that_another_precision_computed_do_as_well(here: Workspace) -> None:
    change(here, "train", precision="mixed")
    compute(here, "train")
    change(here, "train", precision="float32")
    assert told(here).looked_at == "train"


def test_features_of_other_weights_say_nothing(here: Workspace) -> None:
    compute(here, "train", "valid", "test")
    other = here.settings().model.model_copy(update={"weights": "none"})
    model = builder.build(other, ["blue", "red"], None, 4)
    info = files.ModelInfo(("blue", "red"), 32, "stretch", "rescale")
    files.save(model, info, here.root / "weights" / "start.keras")
    assert told(here).audit is None
    (here.root / "weights" / "start.keras").unlink()
    assert told(here).audit is None


def test_an_audit_that_saw_all_is_told_again_without_a_feature(here: Workspace) -> None:
    found = audit.look(here).audit
    limit.clear(here.root.parent / "state")
    again = told(here)
    assert again.looked_at == "all labelled images, as the last audit saw them"
    assert again.audit is not None
    assert again.audit.images == 36
    assert again.audit.suspects["path"].tolist() == found.suspects["path"].tolist()
    change(here, "model", weights="weights/start.keras")
    assert told(here).audit is None, "other start weights, for all that anybody knows"
    change(here, "model", weights="start.keras")
    table = manifest(here)
    table.loc[table["path"] == "train/blue/1.png", "sha256"] = "f" * 64
    manifests.write(table, here.root / "validation" / "manifest.parquet")
    assert told(here).audit is None, "one image is another since"


def test_what_knows_less_does_not_replace_what_knows_more(here: Workspace) -> None:
    audit.look(here)
    path = record.place(here.root.parent / "state", "tiny")
    before = path.read_bytes()
    change(here, "model", weights="weights/start.keras")
    (here.root / "data" / "test" / "blue" / "0.png").unlink()
    limit.clear(here.root.parent / "state")
    compute(here, "train")
    assert told(here).looked_at == "train"
    assert path.read_bytes() == before


def test_random_start_weights_are_not_asked(here: Workspace) -> None:
    compute(here, "train")
    change(here, "model", weights="none")
    assert suspects_at_hand.doubts(here, here.settings(), manifest(here)) is None


def test_left_out_images_are_not_asked(here: Workspace) -> None:
    compute(here, "train")
    table = manifest(here)
    table.loc[table["path"].str.contains("of another"), "excluded"] = "image"
    manifests.write(table, here.root / "validation" / "manifest.parquet")
    found = told(here).audit
    assert found is not None
    assert (found.images, len(found.suspects)) == (15, 0)


def test_a_state_folder_that_takes_nothing_costs_nothing(here: Workspace) -> None:
    compute(here, "train")
    (here.root.parent / "state" / record.FOLDER).write_text("a file in its place")
    assert told(here).looked_at == "train"


@pytest.mark.parametrize(
    ("images", "channels", "classes", "expected"),
    [
        (20_000, 512, 2, 2_000),
        (1_400, 128, 2, 2_000),
        (20_000, 512, 10, 1_953),
        (300, 512, 30, 651),
        (5_000, 512, 100, 0),
        (20_000, 512, 1_000, 0),
        (600, 512, 90, 0),
    ],
)
def test_what_would_take_long_is_left_to_an_audit(
    images: int, channels: int, classes: int, expected: int
) -> None:
    assert images_to_learn_from((images, channels), classes) == expected


def test_more_images_than_a_moment_allows_are_left_to_an_audit(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(here, "train")
    assert told(here).audit is not None
    (here.root.parent / "state" / record.FOLDER / "tiny.parquet").unlink()
    table = manifest(here)
    one = table[table["path"] == "train/red/1.png"]
    many = pd.concat([table, *[one] * suspects_at_hand.MOST_IMAGES], ignore_index=True)
    manifests.write(many, here.root / "validation" / "manifest.parquet")
    assert told(here).audit is None
