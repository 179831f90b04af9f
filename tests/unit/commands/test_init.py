"""`vggflow init` starts from a recipe that the machine can follow."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import Ran

from vggflow.processes import nvidia_smi
from vggflow.workspace import find


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts an `nvidia-smi` that does something before all others."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def put(does: str) -> None:
        place = tmp_path / "programs" / "nvidia-smi"
        place.parent.mkdir()
        place.write_text(f"#!/bin/sh\n{does}\n")
        place.chmod(0o755)
        monkeypatch.setenv("PATH", str(place.parent), prepend=":")

    return put


def test_without_a_gpu_it_takes_the_recipe_for_laptops_and_says_so(tmp_path, vggflow, program) -> None:
    program("echo 'no devices were found' >&2; exit 6")
    ran: Ran = vggflow("init", tmp_path / "pets")
    assert ran.code == 0
    assert "nvidia-smi: no devices were found" in ran.err
    assert "no GPU here, so recipe laptop" in ran.err
    assert "--recipe two-phase" in ran.err
    made = find(tmp_path / "pets").settings()
    assert (made.model.image_size_px, made.model.head, made.model.weights) == (128, "pooling", "imagenet")
    assert [phase.name for phase in made.train.phases] == ["head", "top"]
    again: Ran = vggflow("init", tmp_path / "pets")
    assert again.code == 0
    assert "laptop" not in again.out + again.err


def test_with_a_gpu_it_takes_vgg16_whole(tmp_path, vggflow, program) -> None:
    program("echo 'NVIDIA H100, 81000 MiB'")
    ran: Ran = vggflow("init", tmp_path / "pets")
    assert (ran.code, "laptop" in ran.out + ran.err) == (0, False)
    assert find(tmp_path / "pets").settings().model.image_size_px == 224


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_may_not_be_used_is_none(monkeypatch, program, hidden) -> None:
    program("echo 'NVIDIA H100, 81000 MiB'")
    assert nvidia_smi.gpus() == ["NVIDIA H100, 81000 MiB"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert nvidia_smi.gpus() == []
