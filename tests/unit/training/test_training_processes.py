"""Several devices of JAX, in one process or in many: the same bytes, and what happens where a process is lost."""

import pytest
from processes_of_a_training import model, train
from tiny_training import HEAD, TOP, comparable

pytestmark = pytest.mark.slow

# A phase from cached features and one that trains convolutions; batches of 8, 8, 8 and 4 in both.
TWO = {"train": {"devices": 2, "phases": [HEAD, TOP]}, "model": {"dropout": 0.4}}
STEPS_OF_AN_EPOCH = 4


@pytest.fixture(scope="module")
def one_process(pictures, tmp_path_factory):
    """A training with two devices of one process."""
    folder = tmp_path_factory.mktemp("one")
    (ended,) = train(folder, pictures, 1, TWO)
    assert ended.code == 0, ended.said
    assert ended.found["facts"]["devices"] == 2
    return folder, ended


def test_two_processes_end_in_the_bytes_of_one_with_two_devices(one_process, pictures, tmp_path):
    folder, alone = one_process
    both = train(tmp_path, pictures, 2, TWO)
    assert [ended.code for ended in both] == [0, 0], both
    assert model(tmp_path) == model(folder)
    for ended in both:
        assert comparable(ended.found["history"]) == comparable(alone.found["history"])
        assert ended.found["facts"] | {"training": ""} == alone.found["facts"] | {"training": ""}
    # The first process writes the checkpoint, and no other one.
    assert list(tmp_path.glob("0/state/checkpoints/*/checkpoint.npz"))
    assert not list(tmp_path.glob("1/state/checkpoints/*"))


@pytest.mark.parametrize(
    ("victim", "epochs_kept", "again_in"),
    [pytest.param(1, 2, 2, id="another"), pytest.param(0, 3, 1, id="the first")],
)
def test_a_killed_process_ends_the_others_and_the_retry_ends_as_if_nothing_had_been(
    one_process, pictures, tmp_path, victim, epochs_kept, again_in
):
    """The retry may be on one host: on how many the devices lie changes nothing."""
    in_an_epoch = STEPS_OF_AN_EPOCH * epochs_kept + 2
    ended = train(tmp_path, pictures, 2, TWO, {victim: {"killed_at": in_an_epoch}})
    assert ended[victim].code == -9
    assert ended[1 - victim].code == 1
    (line,) = ended[1 - victim].said.splitlines()
    assert line.startswith("another process of this training was lost: its checkpoint is kept")
    again = train(tmp_path, pictures, again_in, TWO)
    assert [each.code for each in again] == [0] * again_in, again
    assert [each.found["resumed"] for each in again] == [["run-1", epochs_kept]] * again_in
    assert model(tmp_path) == model(one_process[0])
    assert comparable(again[0].found["history"]) == comparable(one_process[1].found["history"])


def test_four_devices_end_in_the_same_bytes_in_one_process_and_in_two(pictures, tmp_path):
    """JAX's own sum over devices adds up in another order between processes than within one."""
    four = {"train": {"devices": 4, "phases": [HEAD, TOP | {"epochs": 1}]}}
    found = []
    for count in (1, 2):
        ended = train(tmp_path / str(count), pictures, count, four)
        assert [each.code for each in ended] == [0] * count, ended
        found.append(model(tmp_path / str(count)))
    assert found[0] == found[1]


def test_pixels_are_changed_at_random_alike_wherever_the_devices_lie(pictures, tmp_path):
    changes = {"horizontal_flip": True, "rotation": 0.05, "brightness": 0.1}
    phases = [TOP | {"epochs": 1}]
    what = {
        "train": {"devices": 2, "phases": phases, "augmentation": changes, "features": {"cache": "off"}},
        "model": {"dropout": 0.4},
    }
    found = []
    for count in (1, 2):
        ended = train(tmp_path / str(count), pictures, count, what)
        assert [each.code for each in ended] == [0] * count, ended
        found.append(model(tmp_path / str(count)))
    assert found[0] == found[1]


def test_two_devices_learn_what_one_learns_to_the_last_digits(pictures, tmp_path):
    """Without dropout, of which each device draws its own."""
    found = []
    for devices in (1, 2):
        what = {"train": {"devices": devices, "class_weights": "balanced", "phases": [HEAD, TOP]}}
        (ended,) = train(tmp_path / str(devices), pictures, 1, what)
        assert ended.code == 0, ended.said
        found.append(ended.found["history"])
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        one, two = ([row[name] for row in history] for history in found)
        assert two == pytest.approx(one, abs=1e-4), name


def test_settings_that_differ_are_refused_by_name_in_every_process(pictures, tmp_path):
    other = TWO["train"] | {"batch_size": 16, "phases": [HEAD, TOP | {"learning_rate": 0.5}]}
    ended = train(tmp_path, pictures, 2, TWO, {1: {"train": other}})
    assert [each.code for each in ended] == [2, 2]
    for each in ended:
        assert each.said.count("\n") == 0
        assert "train.batch_size is 8 in process 0 and 16 in process 1" in each.said
        assert "train.phases.1.learning_rate is 0.001 in process 0 and 0.5 in process 1" in each.said
    assert not list(tmp_path.glob("*/state/checkpoints/*"))


def test_other_numbers_of_devices_are_told_before_anybody_waits_for_them(pictures, tmp_path):
    ended = train(tmp_path, pictures, 2, TWO, {1: {"train": TWO["train"] | {"devices": 4}}})
    assert [each.code for each in ended] == [2, 2]
    assert "train.devices is 2 in process 0 and 4 in process 1" in ended[0].said


def test_devices_that_processes_cannot_share_are_refused(pictures, tmp_path):
    ended = train(tmp_path, pictures, 2, {"train": {"devices": 3, "batch_size": 6}})
    assert [each.code for each in ended] == [2, 2]
    assert "train.devices is 3, expected as many for each of the 2 processes" in ended[0].said
