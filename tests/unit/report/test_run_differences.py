"""What two trainings were made from: what differs is told, what a run does not say is not taken for a difference."""

from vggflow.report.run_differences import Difference, differences, with_images

SETTINGS = {"model.head": "fc", "train.batch_size": "32", "train.phases.top.learning_rate": "0.001"}
DATA = {"data.hash": "a1.dir", "data.files": "10", "train_images": "8", "classes": "2"}
CODE = {"git.commit": "c1", "git.dirty": "false", "sha256.vggflow": "5ource", "device": "GPU"}
RUN = {**SETTINGS, **DATA, **CODE, "package.keras": "3.15.1", "inputs": "same"}


def test_equal_trainings_differ_in_nothing():
    found = differences(RUN, dict(RUN))
    assert [part.name for part in found.parts] == ["settings", "data", "code"]
    assert not any(part.differences or part.unrecorded or part.differs for part in found.parts)
    assert found.same_inputs is True


def test_settings_that_differ_are_named_and_those_that_one_alone_has():
    other = RUN | {"train.phases.top.learning_rate": "0.01", "train.phases.extra.epochs": "2"}
    del other["train.batch_size"]
    assert differences(RUN, other).settings.differences == (
        Difference("train.batch_size", "32", None),
        Difference("train.phases.extra.epochs", None, "2"),
        Difference("train.phases.top.learning_rate", "0.001", "0.01"),
    )


def test_what_a_training_only_found_out_is_no_setting():
    found = differences(
        RUN | {"parameters": "5", "training": "x"}, RUN | {"parameters": "6", "training": "y"}
    )
    assert not any(part.differences for part in found.parts)


def test_data_and_code_differ_by_their_own_facts():
    found = differences(
        RUN, RUN | {"data.hash": "b2.dir", "train_images": "9", "device": "CPU", "package.keras": "3.16"}
    )
    assert not found.settings.differs
    assert [each.name for each in found.data.differences] == ["data.hash", "train_images"]
    assert found.code.differences == (
        Difference("device", "GPU", "CPU"),
        Difference("package.keras", "3.15.1", "3.16"),
    )


def test_a_package_that_one_alone_has_differs_unless_the_other_names_none():
    assert differences(RUN, RUN | {"package.jax": "0.9"}).code.differences == (
        Difference("package.jax", None, "0.9"),
    )
    without = {name: value for name, value in RUN.items() if not name.startswith("package.")}
    assert not differences(without, RUN).code.differences


def test_a_commit_alone_is_told_and_is_no_reason():
    code = differences(RUN, RUN | {"git.commit": "c2", "git.dirty": "true"}).code
    assert [each.name for each in code.differences] == ["git.commit", "git.dirty"]
    assert not code.differs
    assert differences(RUN, RUN | {"sha256.vggflow": "other"}).code.differs


def test_what_an_older_run_does_not_say_is_not_recorded_and_no_difference():
    found = differences({}, RUN)
    assert [part.unrecorded for part in found.parts] == [("A",)] * 3
    assert not any(part.differences for part in found.parts)
    assert [part.unrecorded for part in differences({}, {}).parts] == [("A", "B")] * 3
    assert [part.unrecorded for part in differences(RUN, SETTINGS).parts] == [(), ("B",), ("B",)]
    assert found.same_inputs is None


def test_images_that_were_looked_at_decide_about_the_data():
    assert not with_images(differences({}, RUN), differ=False).data.unrecorded
    assert with_images(differences(RUN, RUN), differ=True).data.differs


def test_other_inputs_are_seen_where_nothing_that_is_listed_differs():
    assert differences(RUN, RUN | {"inputs": "others"}).same_inputs is False
