"""Which process of which training this is, as the environment says."""

import pytest

from vggflow.errors import UsageError
from vggflow.processes import training_group
from vggflow.processes.training_group import Member

NAMES = (
    *("VGGFLOW_TRAINING_HOSTS", "VGGFLOW_TRAINING_INDEX", *training_group.COUNTED_BY),
    *(*training_group.COUNTED, *training_group.COUNTED_ON_HOST_BY),
)
HOSTS = "first:4000,second,second"


def member(monkeypatch: pytest.MonkeyPatch, **named: str) -> Member | None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return training_group.member()


def test_without_hosts_a_process_trains_alone_also_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert member(monkeypatch, SLURM_PROCID="1", SLURM_NTASKS="4", JOB_COMPLETION_INDEX="1") is None


@pytest.mark.parametrize(
    ("index", "first_on_host"), [("0", True), ("1", True), ("2", False)], ids=["first", "second", "third"]
)
def test_hosts_that_are_named(monkeypatch: pytest.MonkeyPatch, index: str, first_on_host: bool) -> None:
    found = member(monkeypatch, VGGFLOW_TRAINING_HOSTS=HOSTS, VGGFLOW_TRAINING_INDEX=index)
    assert found == Member(int(index), ("first:4000", "second", "second"), first_on_host, 3)
    assert found.leads == (index == "0")


def test_a_host_with_two_ports_is_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    found = member(monkeypatch, VGGFLOW_TRAINING_HOSTS="a:1,a:2", VGGFLOW_TRAINING_INDEX="1")
    assert found == Member(1, ("a:1", "a:2"), False, 2)


@pytest.mark.parametrize("name", training_group.COUNTED_BY)
def test_a_job_that_counts_its_processes_need_not_be_told_which_one_this_is(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = member(monkeypatch, VGGFLOW_TRAINING_HOSTS=HOSTS, **{name: "1"})
    assert found is not None and found.index == 1


def test_jax_finds_the_others_in_a_job_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    assert member(monkeypatch, VGGFLOW_TRAINING_HOSTS="auto", **given) == Member(5, (), False, 8)


def test_each_pod_is_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"VGGFLOW_TRAINING_HOSTS": "auto", "JOB_COMPLETION_INDEX": "1"}
    assert member(monkeypatch, **given) == Member(1, (), True, None)


@pytest.mark.parametrize(
    ("hosts", "index", "said"),
    [
        ("first,second", "0", "the first with its port"),
        ("first:port,second", "0", "the first with its port"),
        ("first:4000", "0", "a host for each process"),
        ("first:4000,,third", "0", "a host for each process"),
        (HOSTS, "3", "process 3 of a training, counted from 0, but VGGFLOW_TRAINING_HOSTS names 3"),
        (HOSTS, "two", "VGGFLOW_TRAINING_INDEX is two, expected which process"),
        (HOSTS, "-1", "VGGFLOW_TRAINING_INDEX is -1, expected which process"),
        (HOSTS, "", "set VGGFLOW_TRAINING_INDEX, from 0"),
        ("auto", "", "set VGGFLOW_TRAINING_INDEX, from 0"),
    ],
)
def test_what_names_no_process_is_one_line(
    monkeypatch: pytest.MonkeyPatch, hosts: str, index: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        member(monkeypatch, VGGFLOW_TRAINING_HOSTS=hosts, VGGFLOW_TRAINING_INDEX=index)
