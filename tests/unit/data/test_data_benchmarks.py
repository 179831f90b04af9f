"""The benchmarks of the gate run, and its aims on planted faults are met."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def rows(*arguments: str) -> dict[str, dict[str, object]]:
    command = [sys.executable, "-m", "benchmarks.gate", *arguments, "--json"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in said.stderr, said.stderr
    found = [json.loads(line) for line in said.stdout.splitlines()]
    return {row["what"]: row for row in found}


@pytest.mark.slow
@pytest.mark.skipif("VGGFLOW_PHOTOS" not in os.environ, reason="needs photographs")
def test_planted_faults_are_found_and_little_else():
    found = rows("planting")

    assert {what: row["value"] for what, row in found.items() if row["meets_aim"] is False} == {}
    assert found["all near duplicates"]["value"] >= 19
    assert found["same bytes"]["value"] == 5
    assert found["known pair of the photographs"]["value"] == 1


@pytest.mark.slow
def test_search_finds_every_planted_pair():
    assert rows("near", "--rows", "20000")["planted pairs found"]["meets_aim"]


@pytest.mark.slow
def test_a_large_manifest_is_validated():
    assert rows("validate", "--rows", "20000")["files named in problems"]["value"] > 100


@pytest.mark.slow
@pytest.mark.skipif("VGGFLOW_PHOTOS" not in os.environ, reason="needs photographs")
def test_a_scan_leaves_the_photographs_as_they_were():
    found = rows("scan", "--images", "640")

    assert found["data folder as it was"]["meets_aim"]
    assert found["second scan to first"]["value"] < 0.3
    assert found["scanning process, all images to a tenth"]["meets_aim"]
